//! Many sessions over several workers that are killed at random and replaced.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{World, heard, results};

const SESSIONS: usize = 20;
const WORKERS: usize = 4;
const CALLS: usize = 4;
const KILLS: usize = 6;

/// A call that says it begins (to whoever kills), leaves its mark, and says that it ended.
fn script(world: &World, session: usize) -> String {
    let effects = world.path("effects");
    let beat = world.path("beat");
    let mut text = String::new();
    for call in 0..CALLS {
        text.push_str(&format!(
            "bash: echo {session}-{call} >> {}; echo x > {}; echo done\n",
            effects.display(),
            beat.display(),
        ));
    }
    text.push_str("say: over");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_ends_well_and_no_call_runs_twice() {
    let world = World::new().await;
    let beat = world.pipe("beat");
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|n| Some(world.open_worker(&format!("w{n}"))))
        .collect();
    let mut sessions = Vec::new();
    for n in 0..SESSIONS {
        sessions.push(world.told(&script(&world, n)).await);
    }
    // Killed while calls run: each kill waits for a call that is in its middle. Which worker runs
    // it is chance.
    let mut fresh = WORKERS;
    for kill in 0..KILLS {
        heard(beat.clone()).await;
        let victim = (kill * 7 + 3) % WORKERS;
        if let Some(worker) = workers[victim].take() {
            worker.kill();
        }
        // Half come back to what they left, half are new hosts.
        let name = if kill % 2 == 0 {
            format!("w{victim}")
        } else {
            fresh += 1;
            format!("w{fresh}")
        };
        workers[victim] = Some(world.open_worker(&name));
    }
    // The rest needs no leave: the pipe is read for as long as anybody writes.
    std::thread::spawn(move || {
        let open = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(beat);
        let mut pipe = open.unwrap();
        std::io::copy(&mut pipe, &mut std::io::sink())
    });
    let mut outcomes = BTreeMap::new();
    for session in &sessions {
        let history = world.settled(session).await;
        let calls = |kind: &str| history.iter().filter(|e| e["type"] == kind).count();
        assert_eq!(calls("agent.tool_use"), CALLS);
        assert_eq!(calls("user.tool_result"), CALLS, "one result a call");
        for (is_error, text) in results(&history) {
            assert!(
                (!is_error && text == "done") || (is_error && text.contains("unknown")),
                "{text}"
            );
            *outcomes.entry(is_error).or_insert(0) += 1;
        }
    }
    let effects = std::fs::read_to_string(world.path("effects")).unwrap();
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    for line in effects.lines() {
        *ran.entry(line).or_default() += 1;
    }
    let twice: Vec<_> = ran.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "ran twice: {twice:?}");
    assert!(
        outcomes[&false] <= ran.len(),
        "{outcomes:?} of {}",
        ran.len()
    );
    // The queue drains: workers leave sessions at rest.
    let stats = format!("/v1/environments/{}/work/stats", world.environment);
    let stats: Value = world.get(&stats).await;
    assert_eq!(
        (&stats["depth"], &stats["pending"]),
        (&0.into(), &0.into()),
        "{stats}"
    );
    drop(workers);
}
