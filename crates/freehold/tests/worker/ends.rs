//! How workers end, and what becomes of what they were doing.

use crate::world::{World, heard, release, results};

/// Says when it runs, and goes on when it is let.
fn held(world: &World) -> (std::path::PathBuf, std::path::PathBuf, String) {
    let (runs, hold) = (world.pipe("runs"), world.pipe("hold"));
    let effects = world.path("effects");
    let script = format!(
        "bash: echo ran >> {}; echo now > {}; cat {}\nsay: over",
        effects.display(),
        runs.display(),
        hold.display()
    );
    (runs, hold, script)
}

#[tokio::test]
async fn a_worker_killed_in_a_call_is_replaced_and_the_call_is_not_run_again() {
    for same_host in [true, false] {
        let world = World::new().await;
        let (runs, _, script) = held(&world);
        let worker = world.open_worker("one");
        let session = world.told(&script).await;
        assert_eq!(heard(runs).await, "now\n");
        worker.kill();
        let next = world.open_worker(if same_host { "one" } else { "two" });
        let history = world.settled(&session).await;
        let results = results(&history);
        assert_eq!(results.len(), 1);
        assert!(
            results[0].0 && results[0].1.contains("is unknown"),
            "{same_host}: {results:?}"
        );
        let effects = std::fs::read_to_string(world.path("effects")).unwrap();
        assert_eq!(effects, "ran\n", "{same_host}");
        drop(next);
    }
}

#[tokio::test]
async fn calls_that_never_started_run_on_the_next_worker_of_the_host() {
    let world = World::new().await;
    let (runs, hold) = (world.pipe("runs"), world.pipe("hold"));
    let worker = world.open_worker("one");
    let second = world.path("second");
    let session = world
        .told(&format!(
            "parallel:\nbash: echo now > {}; cat {}\nbash: echo ran >> {}\nread: {}\nend:\nsay: over",
            runs.display(),
            hold.display(),
            second.display(),
            "no-such-file",
        ))
        .await;
    heard(runs).await;
    worker.kill();
    let next = world.open_worker("one");
    let history = world.settled(&session).await;
    let results = results(&history);
    assert!(results[0].1.contains("is unknown"), "{results:?}");
    assert_eq!(results[1], (false, "(no output)".to_owned()));
    assert!(results[2].1.contains("no such file"), "{results:?}");
    assert_eq!(std::fs::read_to_string(second).unwrap(), "ran\n");
    drop(next);
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_answers_the_call_it_runs() {
    let world = World::new().await;
    let (runs, hold, script) = held(&world);
    let worker = world.open_worker("one");
    let session = world.told(&format!("{script}\nbash: echo second")).await;
    heard(runs).await;
    worker.terminate();
    release(hold).await;
    let (status, said) = worker.wait().await;
    assert!(status.success(), "{said}");
    let history = world.history(&session).await;
    assert_eq!(results(&history), [(false, "go".to_owned())]);
    // Stopped, not left to lapse: the next one has it at once.
    let next = world.open_worker("two");
    let history = world.settled(&session).await;
    assert_eq!(results(&history).len(), 2);
    assert_eq!(results(&history)[1], (false, "second".to_owned()));
    drop(next);
}

#[tokio::test]
async fn a_call_that_does_not_end_is_killed_in_time_and_reported() {
    let world = World::new().await;
    let (runs, _, script) = held(&world);
    let worker = world.worker("one", &["--sandbox", "process", "--stop-timeout", "11s"]);
    let session = world.told(&script).await;
    heard(runs).await;
    worker.terminate();
    let (status, said) = worker.wait().await;
    assert!(status.success(), "{said}");
    let history = world.history(&session).await;
    let results = results(&history);
    assert!(
        results[0].0 && results[0].1.contains("was stopped"),
        "{results:?}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::new().await;
    let (runs, _, script) = held(&world);
    let worker = world.open_worker("one");
    let _session = world.told(&script).await;
    heard(runs).await;
    worker.terminate();
    worker.terminate();
    // Signals of a kind are not queued: one more, until it has gone.
    let status = worker.wait_terminating().await;
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn a_result_survives_a_server_that_goes_away() {
    let world = World::new().await;
    let (runs, hold, script) = held(&world);
    let worker = world.worker("one", &["--sandbox", "process", "--lease", "60s"]);
    let session = world.told(&script).await;
    heard(runs).await;
    world.kill_server();
    release(hold).await;
    world.restart_server();
    let history = world.settled(&session).await;
    assert_eq!(results(&history), [(false, "go".to_owned())]);
    let effects = std::fs::read_to_string(world.path("effects")).unwrap();
    assert_eq!(effects, "ran\n");
    drop(worker);
}

#[tokio::test]
async fn a_revoked_key_ends_the_worker_with_an_explanation() {
    let world = World::new().await;
    let worker = world.open_worker("one");
    let session = world.told("bash: echo hi").await;
    world.settled(&session).await;
    world.revoke_key().await;
    let (status, said) = worker.wait().await;
    assert_eq!(status.code(), Some(8), "{said}");
    assert!(said.contains("was revoked"), "{said}");
    assert!(!said.contains(&world.key));
}

#[tokio::test]
async fn an_api_key_is_refused_with_the_reason() {
    let world = World::new().await;
    let mut command = world.command("one", &["poll", "--sandbox", "process"]);
    let worker =
        crate::world::Worker::start(command.env("ANTHROPIC_ENVIRONMENT_KEY", crate::world::KEY));
    let (status, said) = worker.wait().await;
    assert_eq!(status.code(), Some(8), "{said}");
    assert!(said.contains("environment key"), "{said}");
}
