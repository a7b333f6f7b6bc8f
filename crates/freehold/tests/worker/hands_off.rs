//! Items handed to a script, and deliveries that say there is work.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use freehold_base::{Clock, Secret, SystemClock};
use freehold_worker::service::webhook::Verifier;
use serde_json::json;

use crate::world::{Worker, World, results};

/// An executable.
fn script(world: &World, text: &str) -> String {
    let path = world.path("on-work");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_script_gets_the_item_and_can_be_our_own_worker() {
    let world = World::new().await;
    let given = world.path("given");
    let text = format!(
        "cat > {given}.json; env | grep ^ANTHROPIC_ | cut -d= -f1 | sort > {given}.env\n\
         exec {} worker run --sandbox process --max-idle 1s",
        env!("CARGO_BIN_EXE_freehold"),
        given = given.display(),
    );
    let program = script(&world, &text);
    let worker = world.worker("one", &["--on-work", &program]);
    let session = world.told("bash: env\nsay: over").await;
    let history = world.settled(&session).await;
    let results = results(&history);
    assert!(
        !results[0].0 && !results[0].1.contains("ANTHROPIC_"),
        "{results:?}"
    );
    worker.terminate();
    assert!(worker.wait().await.0.success());
    let item = std::fs::read_to_string(given.with_extension("json")).unwrap();
    let item: serde_json::Value = serde_json::from_str(&item).unwrap();
    assert_eq!(item["data"], json!({ "type": "session", "id": session }));
    assert!(item["secret"].is_string());
    let variables = std::fs::read_to_string(given.with_extension("env")).unwrap();
    for name in [
        "WORK_ID",
        "ENVIRONMENT_ID",
        "SESSION_ID",
        "ENVIRONMENT_KEY",
        "WORK_SECRET",
    ] {
        assert!(
            variables.contains(&format!("ANTHROPIC_{name}\n")),
            "{variables}"
        );
    }
}

#[tokio::test]
async fn a_script_that_cannot_be_started_ends_the_worker() {
    let world = World::new().await;
    let worker = world.worker("one", &["--on-work", "/no/such/program"]);
    world.told("bash: echo hi").await;
    let (status, said) = worker.wait().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("cannot be started"), "{said}");
}

#[tokio::test]
async fn a_signed_delivery_drains_the_queue_and_a_forged_one_does_not() {
    let world = World::new().await;
    let key = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let mut command = world.command(
        "one",
        &[
            "webhook",
            "--listen",
            "127.0.0.1:0",
            "--sandbox",
            "process",
            "--max-idle",
            "1s",
        ],
    );
    let worker = Worker::start(command.env("ANTHROPIC_WEBHOOK_SIGNING_KEY", key));
    let url = worker.address("deliveries at ").await;
    let first = world.told("bash: echo first").await;
    let deliver = async |key: &str| {
        let verifier = Verifier::new(&Secret::new(key.to_owned()), Arc::new(SystemClock)).unwrap();
        let body = json!({
            "type": "event", "id": "whe_01",
            "data": { "type": "session.status_run_started", "id": "sesn_other" },
        });
        let body = body.to_string();
        let now = SystemClock.now();
        let request = reqwest::Client::new()
            .post(&url)
            .header("webhook-id", "whe_01")
            .header("webhook-timestamp", now.as_micros() / 1_000_000)
            .header(
                "webhook-signature",
                verifier.sign("whe_01", now, body.as_bytes()).unwrap(),
            )
            .body(body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(deliver("whsec_AAAA").await, 401);
    assert_eq!(deliver(key).await, 204);
    let history = world.settled(&first).await;
    assert_eq!(results(&history), [(false, "first".to_owned())]);
    worker.terminate();
    assert!(worker.wait().await.0.success());
}

#[tokio::test]
async fn metrics_count_what_was_done_and_name_no_session() {
    let world = World::new().await;
    let worker = world.worker(
        "one",
        &["--sandbox", "process", "--metrics-listen", "127.0.0.1:0"],
    );
    let url = worker.address("metrics at ").await;
    let session = world
        .told("bash: echo hi\nbash: false\nread: nothing")
        .await;
    world.settled(&session).await;
    let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
    for line in [
        "freehold_worker_claims_total 1",
        "freehold_worker_tool_calls_total{tool=\"bash\",outcome=\"ok\"} 1",
        "freehold_worker_tool_calls_total{tool=\"bash\",outcome=\"error\"} 1",
        "freehold_worker_tool_calls_total{tool=\"read\",outcome=\"error\"} 1",
        "freehold_worker_upload_failures_total 0",
        "freehold_worker_queue_wait_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains(&session) && !text.contains("echo"));
    worker.terminate();
    let (_, said) = worker.wait().await;
    assert!(!said.contains("echo hi"), "{said}");
}
