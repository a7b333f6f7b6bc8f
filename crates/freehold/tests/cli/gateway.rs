//! `freehold gateway` where no server is needed.

use std::path::Path;

use serde_json::Value;

use crate::server::{freehold, stderr, stdout};

fn doctor(home: &Path, config: &str) -> Value {
    let file = home.join("gateway.yaml");
    std::fs::write(&file, config).unwrap();
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
    let told = problems(&doctor(
        home.path(),
        &format!(
            "tunnel_domain: a.tunnel.test\ntls: {{cert_file: /none, key_file: /none}}\n\
             routes: {{here: 'http://127.0.0.1:1', there: 'http://127.0.0.9:9'}}\n\
             upstream: {{allowed_ips: [127.0.0.1]}}\n\
             edge: {{address: '{taken}', token_file: {}}}\n",
            home.path().join("gateway.yaml").display()
        ),
    ));
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
