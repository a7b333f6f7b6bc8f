//! One clear line, a hint, and a status that scripts can rely on.

use crate::server::{Server, freehold, stderr};

#[test]
fn every_kind_of_failure_has_its_status_and_its_words() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("bad.toml"),
        "\n[sandbox]\nmemroy_mib = 1\n",
    )
    .unwrap();
    for (args, key, status, words) in [
        (
            &["serve", "--config", "bad.toml"][..],
            "",
            2,
            "bad.toml:3:1: unknown field `memroy_mib`",
        ),
        (
            &["serve", "--config", "missing.toml"],
            "",
            2,
            "cannot read missing.toml",
        ),
        (
            &["serve", "--sandbox", "docker"],
            "",
            2,
            "[possible values: namespaces, oci, microvm, process]",
        ),
        (&["serve", "--model-url", "nonsense"], "", 2, "base_url"),
        (
            &["serve", "--search-url", "nonsense"],
            "",
            2,
            "web.search_url",
        ),
        (&["serve", "--log-level", "a=b=c"], "", 2, "log level"),
        (&["models"], "", 8, "FREEHOLD_API_KEY is not set"),
        (
            &["models", "--url", "http://127.0.0.1:1"],
            "k",
            7,
            "no server answers",
        ),
        (&["models", "--url", "127.0.0.1"], "k", 2, "URL"),
        (&["run", " "], "k", 2, "the prompt is empty"),
        (
            &["keys", "list", "--data-dir", "missing"],
            "",
            9,
            "no data directory",
        ),
        (&["nonsense"], "", 2, "unrecognized subcommand"),
        (&["sandbox-agent"], "", 2, "not by hand"),
    ] {
        let mut command = freehold(home.path());
        let output = command
            .current_dir(home.path())
            .env("FREEHOLD_API_KEY", key)
            .args(args)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(words),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_server_refuses_what_it_must() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let second = freehold(home.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use"), "{}", stderr(&second));
    let dir = home.path().join(".local/share/freehold");
    let keys = server.run(
        home.path(),
        &["keys", "list", "--data-dir", dir.to_str().unwrap()],
    );
    assert_eq!(keys.status.code(), Some(1));
    assert!(stderr(&keys).contains("leave out --data-dir"));
    let unknown = server.run(home.path(), &["sessions", "show", "sesn_unknown"]);
    assert_eq!(unknown.status.code(), Some(9), "{}", stderr(&unknown));
    let mut stranger = freehold(home.path());
    stranger
        .env("FREEHOLD_URL", &server.url)
        .env("FREEHOLD_API_KEY", "sk-wrong");
    assert_eq!(
        stranger.arg("models").output().unwrap().status.code(),
        Some(8)
    );
}
