//! The OCI provider with runtimes of this host.

mod common;

use common::*;
use freehold_sandbox::{OciConfig, OciProvider, Provider, RuntimeKind};

fn provider(name: &str, kind: RuntimeKind, dir: &std::path::Path) -> OciProvider {
    OciProvider::new(OciConfig {
        runtime: kind.find().unwrap(),
        launcher: launcher(),
        instance: instance(name),
        probe_dir: dir.to_owned(),
        run_dir: std::path::Path::new("/run").join(format!("freehold-{}", instance(name))),
        image: None,
        egress: Default::default(),
    })
}

#[tokio::test]
async fn runc() {
    let bench = bench("oci_runc");
    let p = provider("oci_runc2", RuntimeKind::Runc, bench.dir.path());
    let found = p.probe().await;
    eprintln!("{found:#?}");
    assert!(found.works);
    let t = std::time::Instant::now();
    let sandbox = p.create(&bench.spec("runc")).await.unwrap();
    eprintln!("{:?}", t.elapsed());
    eprintln!("{}", ok(&sandbox, "id; cat /proc/self/mountinfo; ls -la / /dev /.freehold; cat /proc/self/cgroup; cat /proc/self/status; ps aux; true").await);
    eprintln!("{:?}", sandbox.stats().await);
    let t = std::time::Instant::now();
    sandbox.destroy().await.unwrap();
    eprintln!("{:?}", t.elapsed());
}
#[tokio::test]
async fn runsc() {
    let bench = bench("oci_runsc");
    let p = provider("oci_runsc2", RuntimeKind::Runsc, bench.dir.path());
    let found = p.probe().await;
    eprintln!("{found:#?}");
    assert!(found.works);
    let sandbox = p.create(&bench.spec("runc")).await.unwrap();
    eprintln!("{}", ok(&sandbox, "id; cat /proc/self/mountinfo; ls -la / /dev /.freehold; cat /proc/self/cgroup; cat /proc/self/status; ps aux; true").await);
    eprintln!("{:?}", sandbox.stats().await);
    sandbox.destroy().await.unwrap();
}
#[tokio::test]
async fn crun() {
    let bench = bench("oci_crun");
    let p = provider("oci_crun2", RuntimeKind::Crun, bench.dir.path());
    let found = p.probe().await;
    eprintln!("{found:#?}");
}
