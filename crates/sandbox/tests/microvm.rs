//! Virtual machines, under emulation.

mod common;

use common::*;
use freehold_sandbox::{Accelerator, MicrovmConfig, MicrovmProvider, Provider};

#[tokio::test]
async fn boots() {
    let bench = bench("vm");
    let p = MicrovmProvider::new(MicrovmConfig {
        launcher: launcher_with_arg(),
        instance: instance("vm2"),
        probe_dir: bench.dir.path().to_owned(),
        run_dir: std::path::Path::new("/run").join(format!("freehold-{}", instance("vm2"))),
        image: None,
        monitor: "/usr/bin/qemu-system-x86_64".into(),
        file_server: "/usr/lib/qemu/virtiofsd".into(),
        kernel: "/boot/vmlinuz-6.1.0-56-cloud-amd64".into(),
        modules: Some("/lib/modules/6.1.0-56-cloud-amd64".into()),
        accelerator: Accelerator::Tcg,
        allow_emulation: true,
    });
    let t = std::time::Instant::now();
    let found = p.probe().await;
    eprintln!("{found:#?} {:?}", t.elapsed());
    assert!(found.works);
    let sandbox = p.create(&bench.spec("vm")).await.unwrap();
    eprintln!("{}", ok(&sandbox, "id; cat /proc/self/mountinfo; ls -la / /dev; cat /proc/self/status; ps aux; uname -a; free; true").await);
    eprintln!("{:?}", sandbox.stats().await);
    sandbox.destroy().await.unwrap();
}
fn launcher_with_arg() -> freehold_sandbox::Launcher {
    launcher()
}
