//! Pausing and finding a sandbox again.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use freehold_sandbox::{Provider, Sandbox, SandboxError, Status};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const TICK: &str =
    "(while :; do echo tick >> ticks; sleep 0.01; done) </dev/null >/dev/null 2>&1 &";

async fn pauses(sandbox: &Arc<dyn Sandbox>) {
    ok(sandbox, TICK).await;
    ok(sandbox, "while [ ! -s ticks ]; do :; done").await;
    sandbox.pause().await.unwrap();
    sandbox.pause().await.unwrap();
    assert!(sandbox.alive());
    // A call waits ...
    let size = bash(sandbox, "wc -c < ticks");
    tokio::pin!(size);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut size).await;
    assert!(early.is_err(), "a call ran in a paused sandbox");
    // ... and can be given up.
    let cancel = CancellationToken::new();
    cancel.cancel();
    let given_up = sandbox.call(request("echo", json!(1)), &cancel).await;
    assert!(
        matches!(given_up, Err(SandboxError::Cancelled)),
        "{given_up:?}"
    );
    sandbox.resume().await.unwrap();
    sandbox.resume().await.unwrap();
    let size: u64 = size.await.stdout.trim().parse().unwrap();
    // What ran before goes on.
    ok(
        sandbox,
        &format!("while [ $(wc -c < ticks) -le {size} ]; do :; done"),
    )
    .await;
}

/// CPU time of a sandbox's processes stands still while it is paused.
async fn stands_still(sandbox: &Arc<dyn Sandbox>, marker: &str) {
    let spin =
        format!("(exec -a {marker} bash -c 'while :; do :; done') </dev/null >/dev/null 2>&1 &");
    ok(sandbox, &spin).await;
    // It may still be on its way to that name.
    let pid = loop {
        let found = std::process::Command::new("pgrep")
            .args(["-f", &format!("^{marker}")])
            .output();
        if let Ok(pid) = String::from_utf8(found.unwrap().stdout)
            .unwrap()
            .trim()
            .parse::<u32>()
        {
            break pid;
        }
    };
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(11).unwrap().parse::<u64>().unwrap()
    };
    while used() == 0 {}
    sandbox.pause().await.unwrap();
    let before = used();
    // Time enough for a busy loop to show; one that stands still never does.
    let until = std::time::Instant::now() + Duration::from_millis(300);
    while std::time::Instant::now() < until {}
    assert_eq!(used(), before);
    sandbox.resume().await.unwrap();
    while used() == before {}
}

#[tokio::test]
async fn a_paused_sandbox_stands_still_and_goes_on() {
    let bench = bench("pause");
    let pause = bench.provider.probe().await;
    let pause = pause.features.iter().find(|f| f.name == "pause").unwrap();
    eprintln!("pause: {:?}, {}", pause.status, pause.detail);
    let sandbox = bench.sandbox("pause").await;
    pauses(&sandbox).await;
    stands_still(&sandbox, &format!("spin-{}", std::process::id())).await;
    // One that is paused can be ended.
    sandbox.pause().await.unwrap();
    sandbox.destroy().await.unwrap();
    assert!(leftovers(&instance("pause")).3.is_empty());
}

#[tokio::test]
async fn without_a_freezer_signals_must_do_and_that_is_said() {
    let bench = bench_with("signals", |c| c.control_groups = false);
    let report = bench.provider.probe().await;
    let pause = report.features.iter().find(|f| f.name == "pause").unwrap();
    assert_eq!(pause.status, Status::Partial);
    let sandbox = bench.sandbox("signals").await;
    pauses(&sandbox).await;
    stands_still(&sandbox, &format!("spin-signal-{}", std::process::id())).await;
    sandbox.pause().await.unwrap();
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_live_sandbox_is_found_again_by_its_id() {
    let bench = bench("attach");
    let sandbox = bench.sandbox("attach").await;
    let again = bench.provider.attach("attach").await.unwrap().unwrap();
    ok(&again, "echo kept > f").await;
    drop(sandbox);
    assert_eq!(ok(&again, "cat f").await, "kept");
    assert!(bench.provider.attach("other").await.unwrap().is_none());
    again.destroy().await.unwrap();
    assert!(bench.provider.attach("attach").await.unwrap().is_none());
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
