//! Every named point, at its first passages.

use freehold_engine::invariants;
use serde_json::Value;

use crate::server::{Gone, Server};

/// Points on the way of a message through the server, with the number of passages tried.
const POINTS: &[(&str, u64)] = &[
    ("store.commit.before", 12),
    ("store.commit.after", 12),
    ("driver.append.before", 6),
    ("driver.append.after", 6),
    ("driver.model.before", 3),
    ("driver.model.after", 3),
    ("tool.call.before", 2),
    ("tool.call.after", 2),
    ("driver.tool.after", 2),
];

/// A turn with two calls that cannot be repeated and a parallel round.
const SCRIPT: &str = "bash: echo one >> /workspace/effects\n\
                      parallel:\n\
                      bash: echo two >> /workspace/effects\n\
                      read: /workspace/effects\n\
                      end:\n\
                      say: done";

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_loses_doubles_and_reorders_nothing() {
    for (point, hits) in POINTS {
        let mut crashed = 0;
        for hit in 1..=*hits {
            crashed += u32::from(crash_at(point, hit).await);
        }
        assert!(
            crashed > 0,
            "{point} was never reached: the test shows nothing"
        );
    }
}

/// One scenario with one armed point; whether it went off.
async fn crash_at(point: &str, hit: u64) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let armed = format!("{point}:{hit}");
    let (session, acked) = match Server::start(&data, Some(&armed)) {
        Ok(server) => {
            let (session, acked, outcome) = attempt(&server).await;
            if outcome.is_ok() {
                server.kill();
                return false; // The whole turn passes this point fewer times.
            }
            assert!(!server.wait().success(), "{armed}: the server ended well");
            (session, acked)
        }
        Err(Gone) => (None, None),
    };
    let Ok(server) = Server::start(&data, None) else {
        unreachable!("no point is armed")
    };
    let Some(session) = session else { return true };
    let history = server
        .settle(&session)
        .await
        .expect("the second server lives");
    let context = || format!("{armed}: {history:#?}");
    let work = invariants::check(&history, true);
    let work = work.unwrap_or_else(|bad| panic!("{bad:#?}\n{}", context()));
    let count = |id: &str| history.iter().filter(|e| e["id"] == id).count();
    if let Some(acked) = &acked {
        assert_eq!(count(acked), 1, "an acknowledged message: {}", context());
        assert!(work.idles > 0, "{}", context());
    }
    effects_match(&server, &session, &history).await;
    true
}

async fn attempt(server: &Server) -> (Option<String>, Option<String>, Result<(), Gone>) {
    let Ok(session) = server.session().await else {
        return (None, None, Err(Gone));
    };
    let Ok(acked) = server.say(&session, SCRIPT).await else {
        return (Some(session), None, Err(Gone));
    };
    let settled = server.settle(&session).await.map(drop);
    (Some(session), Some(acked), settled)
}

/// No call ran twice: the file holds one line for each call that reported success, and at most one
/// more for each whose outcome is unknown.
async fn effects_match(server: &Server, session: &str, history: &[Value]) {
    let before = history.len();
    server
        .say(session, "bash: cat /workspace/effects 2>/dev/null || true")
        .await
        .expect("alive");
    let after = server.settle(session).await.expect("alive");
    let file = after[before..]
        .iter()
        .find(|e| e["type"] == "agent.tool_result")
        .map(|e| {
            e["content"][0]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .expect("a result");
    for word in ["one", "two"] {
        let lines = file.lines().filter(|line| *line == word).count();
        let (mut good, mut unknown) = (0, 0);
        for call in history.iter().filter(|e| {
            e["type"] == "agent.tool_use"
                && e["input"]["command"]
                    .as_str()
                    .is_some_and(|c| c.contains(word))
        }) {
            let result = history.iter().find(|e| e["tool_use_id"] == call["id"]);
            match result.map(|r| r["is_error"] == true) {
                Some(false) => good += 1,
                Some(true) => unknown += 1,
                None => panic!("no result: {history:#?}"),
            }
        }
        assert!(
            (good..=good + unknown).contains(&lines),
            "{word}: {lines} effects of {good} good and {unknown} unknown calls in {file:?}: {history:#?}"
        );
    }
}
