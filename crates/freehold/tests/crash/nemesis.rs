//! Kills at random, for a bounded number of rounds, with work going on in several sessions.

use std::time::Duration;

use freehold_engine::invariants;

use crate::server::Server;

const SESSIONS: usize = 4;
const ROUNDS: u64 = 12;

/// A small generator, so that a failing run can be repeated from its printed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_lose_double_and_reorder_nothing() {
    let seed = u64::from(std::process::id()) << 20 | 0x5eed;
    println!("seed {seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut sessions = Vec::new();
    {
        let Ok(server) = Server::start(&data, None) else {
            unreachable!("no point is armed")
        };
        for _ in 0..SESSIONS {
            sessions.push(server.session().await.expect("alive"));
        }
        server.kill();
    }
    let mut acked: Vec<(usize, String)> = Vec::new();
    for round in 0..ROUNDS {
        let Ok(server) = Server::start(&data, None) else {
            unreachable!("no point is armed")
        };
        let delay = Duration::from_millis(random.below(250));
        let feed = async {
            for n in 0.. {
                let at = n % SESSIONS;
                let text =
                    format!("bash: echo {round}.{n} >> /workspace/effects\nsay: {round}.{n}");
                match server.say(&sessions[at], &text).await {
                    Ok(id) => acked.push((at, id)),
                    Err(_) => break,
                }
            }
        };
        // The delay is the fault being injected, not a wait for anything.
        let _ = tokio::time::timeout(delay, feed).await;
        server.kill();
    }
    let Ok(server) = Server::start(&data, None) else {
        unreachable!("no point is armed")
    };
    let mut work = invariants::Work::default();
    for (at, session) in sessions.iter().enumerate() {
        let history = server.settle(session).await.expect("alive");
        match invariants::check(&history, true) {
            Ok(seen) => {
                work.messages += seen.messages;
                work.uses += seen.uses;
            }
            Err(bad) => panic!("seed {seed}: {bad:#?}\n{history:#?}"),
        }
        let mine: Vec<_> = acked
            .iter()
            .filter(|(a, _)| *a == at)
            .map(|(_, id)| id)
            .collect();
        let places: Vec<_> = mine
            .iter()
            .map(|id| history.iter().position(|e| e["id"].as_str() == Some(id)))
            .collect();
        assert!(
            places.iter().all(Option::is_some),
            "seed {seed}: an acknowledged message is lost"
        );
        assert!(
            places.is_sorted(),
            "seed {seed}: messages were processed out of order"
        );
    }
    println!(
        "{} messages, {} calls, {} acknowledged",
        work.messages,
        work.uses,
        acked.len()
    );
    assert!(
        work.messages >= acked.len() && acked.len() > SESSIONS,
        "too little work to judge"
    );
    assert!(work.uses > SESSIONS, "too little work to judge");
}
