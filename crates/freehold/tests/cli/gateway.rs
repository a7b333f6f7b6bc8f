//! `freehold gateway` where no server is needed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use freehold_base::IdSource;
use freehold_base::file::write_private;
use freehold_tunnel::gateway::setup;
use serde_json::Value;

use crate::server::{freehold, stderr, stdout};

fn doctor(home: &Path, config: &str) -> Value {
    let file = home.join("gateway.yaml");
    std::fs::write(&file, config).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let command = &mut freehold(home);
    let told = command
        .args(["gateway", "doctor", "--json", "--config"])
        .arg(&file);
    let told = told.output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", stderr(&told));
    serde_json::from_str(&stdout(&told)).unwrap()
}

fn problems(told: &Value) -> Vec<String> {
    let checks = told["checks"].as_array().unwrap().iter();
    let bad = checks.filter(|c| c["level"] == "problem");
    let shown = bad.map(|c| {
        format!(
            "{}: {}",
            c["name"].as_str().unwrap(),
            c["detail"].as_str().unwrap()
        )
    });
    shown.collect()
}

#[test]
fn the_doctor_tells_faults_apart() {
    let home = tempfile::tempdir().unwrap();
    let told = problems(&doctor(home.path(), "routes: [a]"));
    assert!(told[0].starts_with("configuration: "), "{told:?}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    drop(listener);
    let told = doctor(
        home.path(),
        &format!(
            "tunnel_domain: a.tunnel.test\ntls: {{cert_file: /none, key_file: /none}}\n\
             routes: {{here: 'http://127.0.0.1:1', there: 'http://127.0.0.9:9'}}\n\
             upstream: {{allowed_ips: [127.0.0.1]}}\n\
             edge: {{address: '{taken}', token_file: {}}}\n",
            home.path().join("gateway.yaml").display()
        ),
    );
    // The token's file is the configuration, which everybody can read.
    let permissions = &told["checks"][1];
    assert_eq!(permissions["level"], "warning", "{told}");
    let detail = permissions["detail"].as_str().unwrap();
    assert!(
        detail.contains("everybody on this host can read it"),
        "{told}"
    );
    let told = problems(&told);
    let starts = [
        "certificate: /none",
        "TCP: cannot connect to the edge",
        "route here: 127.0.0.1:1: cannot connect",
        "route there: 127.0.0.9:9: IP validation failed: 127.0.0.9",
    ];
    assert_eq!(told.len(), starts.len(), "{told:?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
}

#[test]
fn a_certificate_cannot_be_renewed_before_there_is_one() {
    let home = tempfile::tempdir().unwrap();
    let output = format!("dir:{}", home.path().display());
    let command = &mut freehold(home.path());
    let told = command.args(["gateway", "setup", "renew-cert", "--output", &output]);
    let told = told.output().unwrap();
    assert!(
        !told.status.success() && stderr(&told).contains("setup init"),
        "{}",
        stderr(&told)
    );
    for output in ["/path", "k8s-secret:x", "dir:"] {
        let command = &mut freehold(home.path());
        let told = command.args(["gateway", "setup", "renew-cert", "--output", output]);
        assert_eq!(told.output().unwrap().status.code(), Some(2), "{output}");
    }
}

/// What a gateway needs, in `dir`; its configuration with these lines.
fn files(dir: &Path, edge: &str, lines: &str) -> String {
    let now = IdSource::system().clock().now();
    setup::new_authority(dir, "tnl_1", now).unwrap();
    let long = Duration::from_secs(90_000);
    setup::new_certificate(dir, "a.tunnel.test", now, long).unwrap();
    write_private(&dir.join("token"), TOKEN).unwrap();
    let d = dir.display();
    format!(
        "tunnel_domain: a.tunnel.test\ntls: {{cert_file: {d}/tls.crt, key_file: {d}/tls.key}}\n\
         edge: {{address: '{edge}', token_file: {d}/token}}\n{lines}"
    )
}

const TOKEN: &str = "eyJ0b2tlbi1vZi10aGUtdHVubmVs";

#[test]
fn a_gateway_does_not_start_with_what_it_cannot_use() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let good = "routes: {app: 'http://10.0.0.1:1'}\n";
    let usual = files(dir, "127.0.0.1:1", "");
    let (other, key) = (tempfile::tempdir().unwrap(), dir.join("tls.key"));
    files(other.path(), "", "");
    let with = |lines: &str| format!("{usual}{lines}");
    let run = |config: &str| {
        let file = dir.join("gateway.yaml");
        std::fs::write(&file, config).unwrap();
        let command = &mut freehold(dir);
        command
            .args(["gateway", "run", "--config"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let refused = |config: &str, says: &str| {
        let told = run(config);
        assert_eq!(told.status.code(), Some(2), "{says}: {}", stderr(&told));
        assert!(stderr(&told).contains(says), "{says}: {}", stderr(&told));
        assert!(!stderr(&told).contains(TOKEN), "{}", stderr(&told));
    };
    for (config, says) in [
        (
            with("routes: [app]\n"),
            "cannot unmarshal !!seq into map[string]string",
        ),
        (
            with("routes: {app: 'http://10.0.0.1:1/path'}\n"),
            "invalid upstream (must be scheme://host:port)",
        ),
        (
            with("routes: {app: 'http://10.0.0.1'}\n"),
            "invalid upstream",
        ),
        (with("routes: {app\n"), "line"),
        (
            with(&format!("{good}shutdown_timeout: 1x\n")),
            "shutdown_timeout",
        ),
        (
            with(&format!("{good}status_addr: 192.0.2.1:1\n")),
            "status_public",
        ),
        (with(good).replace("token_file", "token"), "unknown field"),
        (with(good).replace(", token_file", "}\n#"), "no token"),
        (with(good).replace("tls.crt", "none.crt"), "none.crt"),
        (with(good).replace("tls.key", "token"), "token"),
    ] {
        refused(&config, says);
    }
    std::fs::copy(other.path().join("tls.key"), &key).unwrap();
    refused(&with(good), "does not belong to the certificate");
    let half = std::fs::read(dir.join("tls.crt")).unwrap();
    std::fs::write(dir.join("tls.crt"), &half[..half.len() / 2]).unwrap();
    refused(&with(good), "tls.crt");
}

#[test]
fn a_token_cannot_be_given_where_others_see_it() {
    let home = tempfile::tempdir().unwrap();
    for words in [
        &["run"][..],
        &["status"],
        &["doctor"],
        &["setup", "init"],
        &["setup", "renew-cert"],
    ] {
        let command = &mut freehold(home.path());
        let told = command
            .arg("gateway")
            .args(words)
            .arg("--help")
            .output()
            .unwrap();
        let help = stdout(&told);
        let flags = help.split_whitespace().filter(|w| w.starts_with("--"));
        let flags: Vec<_> = flags.filter(|w| w.contains("token")).collect();
        assert!(flags.iter().all(|f| *f == "--token-version"), "{flags:?}");
        for flag in ["--token", "--tunnel-token"] {
            let command = &mut freehold(home.path());
            let told = command.arg("gateway").args(words).args([flag, TOKEN]);
            let told = told.output().unwrap();
            assert_eq!(told.status.code(), Some(2), "{words:?} {flag}");
        }
    }
}

#[test]
fn a_running_gateway_tells_its_status_and_never_its_token() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    // Something that is no edge: it reads what the gateway says first, and closes.
    let edge = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = edge.local_addr().unwrap().to_string();
    let lines = "routes: {app: 'http://10.0.0.1:1'}\nstatus_addr: 127.0.0.1:0\nlog_level: debug\n";
    let file = dir.join("gateway.yaml");
    std::fs::write(&file, files(dir, &address, lines)).unwrap();
    let command = &mut freehold(dir);
    let command = command.args(["gateway", "run", "--config"]).arg(&file);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    let mut line_with = |text: &str| loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "ended early:\n{said}");
        said.push_str(&line);
        if line.contains(text) {
            return serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    let served = line_with("status served");
    drop(edge.accept().unwrap());
    line_with("not connected to the edge");
    let command = &mut freehold(dir);
    let at = served["address"].as_str().unwrap();
    let told = command
        .args(["gateway", "status", "--address", at])
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", stderr(&told));
    for text in [
        "not connected; domain not told yet",
        "connection 0: down: no TLS with the edge",
        "route app → http://10.0.0.1:1",
        "certificate: 1 days left",
        "last error",
    ] {
        assert!(stdout(&told).contains(text), "{text}: {}", stdout(&told));
    }
    let command = &mut freehold(dir);
    let told = command.args(["gateway", "status", "--json", "--address", at]);
    let json: Value = serde_json::from_str(&stdout(&told.output().unwrap())).unwrap();
    assert_eq!(json["ready"], false);
    child.kill().unwrap();
    child.wait().unwrap();
    log.read_to_string(&mut said).unwrap();
    assert!(!said.contains(TOKEN), "{said}");
    // Nobody is there any more, or somebody else.
    let command = &mut freehold(dir);
    let told = command
        .args(["gateway", "status", "--address", at])
        .output()
        .unwrap();
    assert!(
        stderr(&told).contains("set status_addr"),
        "{}",
        stderr(&told)
    );
    for words in [&[][..], &["--file", "x", "--address", at]] {
        let command = &mut freehold(dir);
        let told = command
            .args(["gateway", "status"])
            .args(words)
            .output()
            .unwrap();
        assert_eq!(told.status.code(), Some(2), "{words:?}");
    }
}
