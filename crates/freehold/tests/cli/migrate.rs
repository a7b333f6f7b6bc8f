//! `freehold migrate`, on databases that earlier commits made and on new ones.

use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::server::{Server, freehold, stderr, stdout};

/// A data directory that the first server that ran wrote.
fn first(home: &Path) {
    let packed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../store/tests/upgrade/d66754e.tar.gz"
    );
    let packed = GzDecoder::new(std::fs::File::open(packed).unwrap());
    let data = home.join(".local/share/freehold");
    std::fs::create_dir_all(&data).unwrap();
    tar::Archive::new(packed).unpack(&data).unwrap();
}

fn migrate(home: &Path, args: &[&str]) -> (Option<i32>, String) {
    let command = &mut freehold(home);
    let done = command.arg("migrate").args(args).output().unwrap();
    assert_eq!(stderr(&done), "");
    (done.status.code(), stdout(&done))
}

#[test]
fn the_first_database_is_brought_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    first(home);
    let database = home.join(".local/share/freehold/freehold.db");
    let before = std::fs::read(&database).unwrap();
    let (status, said) = migrate(home, &["--check"]);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("to repair  0001_first\npending    0002_work\n"),
        "{said}"
    );
    assert_eq!(std::fs::read(&database).unwrap(), before);
    let (status, said) = migrate(home, &[]);
    assert_eq!(status, Some(0));
    assert!(
        said.contains("repaired   0001_first\napplied    0002_work\n"),
        "{said}"
    );
    for args in [&[][..], &["--check"]] {
        assert_eq!(
            migrate(home, args),
            (Some(0), "the schema is up to date\n".into())
        );
    }
    // A server goes on with it, and has its file for itself.
    let server = Server::start(home);
    let refused = freehold(home).arg("migrate").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("stop the server first"));
    assert_eq!(migrate(home, &["--check"]).0, Some(0));
    server.stop();
}

#[test]
fn a_new_database_is_made_in_either_engine() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    for url in [None, Some(url)] {
        let home = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            let mut command = freehold(home.path());
            if let Some(url) = &url {
                command.env("FREEHOLD_DATABASE_URL", url);
            }
            let done = command.args(["migrate", "--json"]).args(args).output();
            let done = done.unwrap();
            let said: Value = serde_json::from_str(&stdout(&done)).unwrap();
            (done.status.code(), said)
        };
        let (status, pending) = run(&["--check"]);
        assert_eq!(status, Some(1));
        let (status, applied) = run(&[]);
        assert_eq!(status, Some(0));
        assert_eq!(applied["applied"], pending["pending"]);
        assert_eq!(applied["applied"][0]["name"], "0001_first");
        assert_eq!(
            run(&["--check"]),
            (Some(0), serde_json::json!({"pending": []}))
        );
    }
}
