//! Skills from the command line.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::server::{Server, stderr, stdout};

#[test]
fn a_folder_becomes_a_skill_and_gets_a_version() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let folder = home.join("counting");
    std::fs::create_dir(&folder).unwrap();
    let md = "---\nname: counting\ndescription: Counts.\n---\n";
    std::fs::write(folder.join("SKILL.md"), md).unwrap();
    let script = folder.join("count");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.to_str().unwrap();
    let server = Server::start(home);
    let run = |args: &[&str]| {
        let output = server.run(home, args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output).trim().to_owned()
    };
    let skill = run(&["skills", "upload", path, "--display-name", "Count things"]);
    let version = run(&["skills", "upload", path, "--skill", &skill]);
    assert!(skill.starts_with("skill_") && version.starts_with("skver_"));
    let listed: Value = serde_json::from_str(&run(&["skills", "list", "--json"])).unwrap();
    assert_eq!(listed[0]["id"], skill);
    assert_eq!(listed[0]["display_name"], "Count things");
    assert_eq!(listed[0]["latest_version_id"], version);
    assert!(run(&["skills", "list"]).contains("Count things"));
    assert_eq!(
        run(&["skills", "delete", &skill]),
        format!("deleted {skill}")
    );
    assert_eq!(run(&["skills", "list"]), "no skills");

    std::fs::write(folder.join("SKILL.md"), "# No front matter").unwrap();
    let refused = server.run(home, &["skills", "upload", path]);
    assert!(
        stderr(&refused).contains("front matter"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(refused.status.code(), Some(1));
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    let refused = server.run(home, &["skills", "upload", path]);
    assert!(stderr(&refused).contains("link"), "{}", stderr(&refused));
    let missing = server.run(home, &["skills", "delete", "skill_none"]);
    assert_eq!(missing.status.code(), Some(9));
}
