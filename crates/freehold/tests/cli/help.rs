//! Snapshots of the help texts. `FREEHOLD_BLESS=1` writes them anew.

use std::path::Path;

use crate::server::{freehold, stdout};

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a test may be told to write its snapshots"
)]
fn help_texts_are_as_reviewed() {
    let home = tempfile::tempdir().unwrap();
    let bless = std::env::var_os("FREEHOLD_BLESS").is_some();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for words in [
        &[][..],
        &["serve"],
        &["run"],
        &["sessions"],
        &["sessions", "list"],
        &["sessions", "show"],
        &["sessions", "tail"],
        &["sessions", "export"],
        &["sessions", "delete"],
        &["keys"],
        &["keys", "create"],
        &["keys", "list"],
        &["keys", "revoke"],
        &["environments"],
        &["environments", "keys"],
        &["environments", "keys", "create"],
        &["environments", "keys", "list"],
        &["environments", "keys", "revoke"],
        &["environments", "work"],
        &["environments", "work", "list"],
        &["environments", "work", "stats"],
        &["environments", "work", "stop"],
        &["tunnels"],
        &["tunnels", "create"],
        &["tunnels", "list"],
        &["tunnels", "show"],
        &["tunnels", "archive"],
        &["tunnels", "token"],
        &["tunnels", "token", "reveal"],
        &["tunnels", "token", "rotate"],
        &["tunnels", "certificates"],
        &["tunnels", "certificates", "add"],
        &["tunnels", "certificates", "list"],
        &["tunnels", "certificates", "archive"],
        &["gateway"],
        &["gateway", "run"],
        &["gateway", "status"],
        &["gateway", "doctor"],
        &["gateway", "setup"],
        &["gateway", "setup", "init"],
        &["gateway", "setup", "renew-cert"],
        &["mcp"],
        &["mcp", "servers"],
        &["mcp", "tools"],
        &["mcp", "diff"],
        &["mcp", "pin"],
        &["mcp", "unpin"],
        &["mcp", "approve"],
        &["mcp", "refuse"],
        &["mcp", "deprecate"],
        &["mcp", "class"],
        &["mcp", "policy"],
        &["mcp", "audit"],
        &["skills"],
        &["skills", "list"],
        &["skills", "upload"],
        &["skills", "delete"],
        &["workspaces"],
        &["workspaces", "create"],
        &["workspaces", "list"],
        &["secrets"],
        &["secrets", "rotate"],
        &["migrate"],
        &["backup"],
        &["restore"],
        &["export"],
        &["import"],
        &["models"],
        &["doctor"],
        &["worker"],
        &["worker", "poll"],
        &["worker", "run"],
        &["worker", "webhook"],
    ] {
        let output = freehold(home.path())
            .args(words)
            .arg("--help")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}");
        let name = if words.is_empty() {
            "freehold".to_owned()
        } else {
            words.join("-")
        };
        let path = dir.join(format!("{name}.txt"));
        if bless {
            std::fs::write(&path, stdout(&output)).unwrap();
        }
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            stdout(&output),
            reviewed,
            "{name}: FREEHOLD_BLESS=1 accepts the new text"
        );
    }
}
