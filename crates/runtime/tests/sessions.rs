//! Whole turns over the real store and the rehearsal model; only the tools are played by the test.

mod support;

use std::sync::atomic::Ordering;

use serde_json::json;
use support::{Tools, World, agent, self_hosted};

#[tokio::test]
async fn a_text_turn_has_the_contracts_order() {
    let world = World::start(Tools::default()).await;
    let session = world.session(agent(), "say: hello").await;
    let kinds = world.settled_kinds(&session).await;
    assert_eq!(
        kinds,
        [
            "user.message",
            "session.status_running",
            "session.thread_status_running",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
    );
}

#[tokio::test]
async fn parallel_calls_run_together_and_the_answer_follows() {
    let world = World::start(Tools::default()).await;
    let script = "parallel:\nbash: one\nread: two\nend:\nsay: got {result}";
    let session = world.session(agent(), script).await;
    let history = world.settled(&session).await;
    let uses: Vec<_> = history
        .iter()
        .filter(|e| e["type"] == "agent.tool_use")
        .collect();
    assert_eq!(uses.len(), 2);
    for use_ in uses {
        let results = history
            .iter()
            .filter(|e| e["tool_use_id"] == use_["id"])
            .count();
        assert_eq!(results, 1);
        assert_eq!(use_["evaluated_permission"], "allow");
    }
    let last = history
        .iter()
        .rfind(|e| e["type"] == "agent.message")
        .expect("an answer");
    assert!(
        last["content"][0]["text"]
            .as_str()
            .expect("text")
            .contains("played bash")
    );
}

#[tokio::test]
async fn messages_sent_while_running_are_answered_in_order() {
    let (tools, gate) = Tools::gated();
    let world = World::start(tools).await;
    let session = world.session(agent(), "bash: wait").await;
    gate.reached().await;
    world.say(&session, "say: second").await;
    world.say(&session, "say: third").await;
    gate.open();
    let history = world.settled(&session).await;
    let said: Vec<_> = history
        .iter()
        .filter(|e| matches!(e["type"].as_str(), Some("user.message" | "agent.message")))
        .map(|e| (e["type"].clone(), e["content"][0]["text"].clone()))
        .collect();
    let position = |text: &str| said.iter().position(|(_, t)| t == text).expect(text);
    assert!(position("say: second") < position("say: third"));
    assert_eq!(
        history
            .iter()
            .filter(|e| e["type"] == "session.status_idle")
            .count(),
        1
    );
    assert_eq!(
        history
            .iter()
            .filter(|e| e["type"] == "session.status_running")
            .count(),
        1
    );
}

#[tokio::test]
async fn what_a_call_left_is_taken_in_also_if_a_message_came_meanwhile() {
    let (tools, gate) = Tools::gated();
    let rounds = tools.rounds();
    let world = World::start(tools).await;
    let session = world.session(agent(), "bash: wait").await;
    gate.reached().await;
    for _ in 0..5 {
        world.say(&session, "say: meanwhile").await;
    }
    gate.open();
    world.settled(&session).await;
    let taken_in = [rounds.settled, rounds.listed].map(|n| n.load(Ordering::SeqCst));
    assert_eq!(taken_in, [1, 1]);
}

#[tokio::test]
async fn an_interrupt_stops_a_running_tool_and_the_next_message_starts_a_turn() {
    let (tools, gate) = Tools::gated();
    let world = World::start(tools).await;
    let session = world
        .session(agent(), "bash: for ever\nsay: never said")
        .await;
    gate.reached().await;
    world.interrupt(&session).await;
    let history = world.settled(&session).await;
    let result = history
        .iter()
        .find(|e| e["type"] == "agent.tool_result")
        .expect("a result");
    assert_eq!(result["is_error"], true);
    assert_eq!(
        result["content"][0]["text"],
        "Tool execution was interrupted before completion. Please retry."
    );
    assert_eq!(
        history.last().expect("events")["stop_reason"],
        json!({ "type": "end_turn" })
    );
    world.say(&session, "say: onwards").await;
    let history = world.settled(&session).await;
    let text = history
        .iter()
        .rfind(|e| e["type"] == "agent.message")
        .expect("an answer");
    assert_eq!(text["content"][0]["text"], "onwards");
    assert!(
        !history
            .iter()
            .any(|e| e["content"][0]["text"] == "never said")
    );
}

#[tokio::test]
async fn an_interrupt_stops_a_model_request() {
    let world = World::start(Tools::default()).await;
    let session = world.session(agent(), "wait: 600000\nsay: never").await;
    world.seen(&session, "span.model_request_start").await;
    world.interrupt(&session).await;
    let history = world.settled(&session).await;
    let end = history
        .iter()
        .find(|e| e["type"] == "span.model_request_end")
        .expect("an end");
    assert_eq!(end["is_error"], true);
    assert!(!history.iter().any(|e| e["type"] == "agent.message"));
}

#[tokio::test]
async fn a_denied_call_is_never_run() {
    let tools = Tools::default();
    let calls = tools.calls();
    let world = World::start(tools).await;
    let session = world
        .session(agent(), "write: a <<< b\nsay: after {result}")
        .await;
    let history = world.settled(&session).await;
    let idle = history.last().expect("events");
    assert_eq!(idle["stop_reason"]["type"], "requires_action");
    let use_id = idle["stop_reason"]["event_ids"][0]
        .as_str()
        .expect("an id")
        .to_owned();
    world
        .confirm(&session, &use_id, "deny", Some("not today"))
        .await;
    let history = world.settled(&session).await;
    let result = history
        .iter()
        .find(|e| e["tool_use_id"] == use_id.as_str() && e["type"] == "agent.tool_result");
    let text = result.expect("a result")["content"][0]["text"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(text.contains("not today"), "{text}");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert_eq!(
        history.last().expect("events")["stop_reason"]["type"],
        "end_turn"
    );
}

#[tokio::test]
async fn a_custom_tool_waits_for_its_client() {
    let world = World::start(Tools::default()).await;
    let session = world
        .session(agent(), "tool: ask_me {\"q\":1}\nsay: heard {result}")
        .await;
    let history = world.settled(&session).await;
    let use_id = history.last().expect("events")["stop_reason"]["event_ids"][0].clone();
    let use_id = use_id.as_str().expect("an id").to_owned();
    let custom = history
        .iter()
        .find(|e| e["id"] == use_id.as_str())
        .expect("the use");
    assert_eq!(
        (&custom["type"], &custom["input"]),
        (&json!("agent.custom_tool_use"), &json!({ "q": 1 }))
    );
    world.answer_custom(&session, &use_id, "forty-two").await;
    let history = world.settled(&session).await;
    let text = history
        .iter()
        .rfind(|e| e["type"] == "agent.message")
        .expect("an answer");
    assert!(
        text["content"][0]["text"]
            .as_str()
            .expect("text")
            .contains("forty-two")
    );
}

#[tokio::test]
async fn a_self_hosted_call_is_left_to_its_worker() {
    let tools = Tools::default();
    let calls = tools.calls();
    let world = World::start(tools).await;
    let session = world
        .session_in(self_hosted(), agent(), "bash: ls\nsay: saw {result}")
        .await;
    let history = world.settled(&session).await;
    assert_eq!(
        history.last().expect("events")["stop_reason"]["type"],
        "requires_action"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_overloaded_model_is_asked_again_and_a_dead_turn_says_so() {
    let world = World::start(Tools::default()).await;
    let session = world
        .session(agent(), "error: overloaded 2\nsay: at last")
        .await;
    let kinds = world.settled_kinds(&session).await;
    assert_eq!(
        kinds
            .iter()
            .filter(|k| *k == "session.status_rescheduled")
            .count(),
        2
    );
    assert_eq!(kinds.iter().filter(|k| *k == "agent.message").count(), 1);
    let session = world
        .session(agent(), "error: invalid_request always")
        .await;
    let history = world.settled(&session).await;
    let error = history
        .iter()
        .find(|e| e["type"] == "session.error")
        .expect("an error");
    assert_eq!(error["error"]["type"], "model_request_failed_error");
    assert_eq!(
        error["error"]["retry_status"],
        json!({ "type": "exhausted" })
    );
    let stop = &history.last().expect("events")["stop_reason"];
    assert_eq!(*stop, json!({ "type": "retries_exhausted" }));
}

#[tokio::test]
async fn a_refusal_ends_the_turn_with_its_reason() {
    let world = World::start(Tools::default()).await;
    let session = world.session(agent(), "refuse: too dangerous").await;
    let history = world.settled(&session).await;
    let idle = history.last().expect("events");
    assert_eq!(idle["stop_reason"], json!({ "type": "refusal" }));
    assert_eq!(idle["stop_details"]["type"], "refusal");
}

#[tokio::test]
async fn long_output_goes_to_a_file_and_a_preview_to_the_model() {
    let tools = Tools::answering("x".repeat(100_001));
    let files = tools.files();
    let world = World::start(tools).await;
    let session = world.session(agent(), "bash: big").await;
    let history = world.settled(&session).await;
    let result = history
        .iter()
        .find(|e| e["type"] == "agent.tool_result")
        .expect("a result");
    let text = result["content"][0]["text"].as_str().expect("text");
    let files = files.lock().expect("the files");
    let (path, bytes) = files.first().expect("a file was written");
    assert_eq!(bytes.len(), 100_001);
    assert!(
        text.len() < 10_000 && text.contains(path.as_str()),
        "{path}: {}",
        text.len()
    );
}

#[tokio::test]
async fn a_full_context_is_compacted_and_the_turn_goes_on() {
    let world = World::with_window(Tools::answering("y".repeat(9_000)), 8_000).await;
    let session = world.session(agent(), "bash: a").await;
    let history = world.settled(&session).await;
    assert!(
        !history
            .iter()
            .any(|e| e["type"] == "agent.thread_context_compacted")
    );
    let filler = "not a step ".repeat(1_500);
    world
        .say(&session, &format!("say: after the summary\n{filler}"))
        .await;
    let history = world.settled(&session).await;
    let compacted = history
        .iter()
        .filter(|e| e["type"] == "agent.thread_context_compacted");
    assert!(compacted.count() >= 1, "{history:#?}");
    assert_eq!(
        history.last().expect("events")["stop_reason"]["type"],
        "end_turn"
    );
}

#[tokio::test]
async fn a_stopped_server_is_continued_by_the_next() {
    let world = World::start(Tools::default()).await;
    let session = world.session(agent(), "wait: 600000\nsay: never").await;
    world.seen(&session, "span.model_request_start").await;
    let world = world.restart().await;
    world
        .seen_times(&session, "span.model_request_start", 2)
        .await;
    world.interrupt(&session).await;
    let history = world.settled(&session).await;
    freehold_engine::invariants::check(&history, true).expect("a good history");
}

#[tokio::test]
async fn what_was_queued_when_a_turn_dies_is_recorded_and_not_lost() {
    let (tools, gate) = Tools::gated();
    let world = World::start(tools).await;
    let session = world
        .session(agent(), "bash: wait\nerror: invalid_request always")
        .await;
    gate.reached().await;
    world.say(&session, "say: kept for later").await;
    gate.open();
    let history = world.settled(&session).await;
    let kinds: Vec<_> = history.iter().filter_map(|e| e["type"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|k| **k == "user.message").count(), 2);
    assert_eq!(
        kinds
            .iter()
            .filter(|k| **k == "session.status_idle")
            .count(),
        1
    );
    let stop = &history.last().expect("events")["stop_reason"];
    assert_eq!(*stop, json!({ "type": "retries_exhausted" }));
}
