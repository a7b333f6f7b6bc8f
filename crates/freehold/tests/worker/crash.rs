//! A worker that dies at each named point, and the one after it.

use crate::world::{Worker, World, results};

#[tokio::test]
async fn at_no_point_is_a_call_run_twice_or_a_result_lost() {
    for (point, outcome) in [
        // Noted and not run, for all that is known.
        ("worker.call.noted:1", "unknown"),
        // Run, and the result not noted.
        ("worker.call.ran:1", "unknown"),
        // The result is in the journal.
        ("worker.result.noted:1", "done"),
        ("worker.post.before:1", "done"),
        // The server has it.
        ("worker.post.after:1", "done"),
    ] {
        let world = World::new().await;
        let effects = world.path("effects");
        let session = world
            .told(&format!(
                "bash: echo ran >> {}; echo done\nsay: over",
                effects.display()
            ))
            .await;
        let args = [
            "poll",
            "--lease",
            "5s",
            "--max-idle",
            "1s",
            "--sandbox",
            "process",
        ];
        let mut command = world.command("one", &args);
        let worker = Worker::start(command.env("FREEHOLD_CRASH_POINT", point));
        let (status, said) = worker.wait().await;
        assert!(
            !status.success() && status.code().is_none(),
            "{point}: {status} {said}"
        );
        let next = world.open_worker("one");
        let history = world.settled(&session).await;
        let results = results(&history);
        assert_eq!(results.len(), 1, "{point}");
        assert!(results[0].1.contains(outcome), "{point}: {results:?}");
        let ran = std::fs::read_to_string(&effects).unwrap_or_default();
        let times = usize::from(point != "worker.call.noted:1");
        assert_eq!(ran.lines().count(), times, "{point}");
        drop(next);
    }
}
