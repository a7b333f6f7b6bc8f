//! Sending and listing events (contract 40).

use serde_json::{Value, json};

use crate::harness::{Server, id, message, types};

fn result_of(kind: &str, call: &str, text: &str) -> Value {
    let key = if kind == "user.tool_result" {
        "tool_use_id"
    } else {
        "custom_tool_use_id"
    };
    json!({"type": kind, key: call, "content": [{"type": "text", "text": text}]})
}

fn confirm(call: &str, result: &str) -> Value {
    json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": result})
}

const LOOKUP: &str = r#"[{"type":"custom","name":"lookup","description":"looks up",
    "input_schema":{"type":"object","properties":{"q":{"type":"string"}}}}]"#;

/// A session blocked on a call of the given tools by the given script, and the call's id.
async fn blocked(s: &Server, tools: Value, kind: &str, script: &str) -> (String, String) {
    let agent = s.agent_with(tools).await;
    let session = s.session_of(&agent, kind).await;
    s.say(&session, script).await;
    let history = s.settled(&session).await;
    let idle = history.last().unwrap();
    assert_eq!(
        idle["stop_reason"]["type"], "requires_action",
        "{history:#?}"
    );
    let call = idle["stop_reason"]["event_ids"][0]
        .as_str()
        .unwrap()
        .to_owned();
    (session, call)
}

fn asking() -> Value {
    json!([{"type": "agent_toolset_20260401",
        "default_config": {"permission_policy": {"type": "always_ask"}}}])
}

#[tokio::test]
async fn a_message_is_acknowledged_with_its_id_and_answered() {
    let s = Server::start().await;
    let session = s.session().await;
    let sent = s.say(&session, "say: hello").await;
    assert_eq!(sent["data"][0]["type"], "user.message");
    assert_eq!(sent["data"][0]["processed_at"], Value::Null);
    let history = s.settled(&session).await;
    assert_eq!(history[0]["id"], sent["data"][0]["id"]);
    assert!(history[0]["processed_at"].is_string());
    assert!(types(&history).contains(&"agent.message"));
}

#[tokio::test]
async fn a_custom_tools_result_may_be_posted_again_but_not_changed() {
    let s = Server::start().await;
    let tools = serde_json::from_str(LOOKUP).unwrap();
    let (session, call) = blocked(&s, tools, "cloud", "tool: lookup {\"q\":\"x\"}\nsay: ok").await;
    let good = result_of("user.custom_tool_result", &call, "42");
    let first = s.send(&session, json!([good])).await.ok();
    assert!(first["data"][0]["processed_at"].is_string());
    s.settled(&session).await;
    let again = s.send(&session, json!([good])).await.ok();
    assert_eq!(first, again);
    let other = result_of("user.custom_tool_result", &call, "43");
    let refused = s.send(&session, json!([other])).await.invalid();
    assert!(refused.contains("already answered"), "{refused}");
    let history = s.settled(&session).await;
    let results = types(&history)
        .iter()
        .filter(|t| **t == "user.custom_tool_result")
        .count();
    assert_eq!(results, 1);
}

#[tokio::test]
async fn answers_to_what_was_not_asked_are_400() {
    let s = Server::start().await;
    let tools = serde_json::from_str(LOOKUP).unwrap();
    let (session, call) = blocked(&s, tools, "cloud", "tool: lookup {\"q\":\"x\"}").await;
    let history = s.history(&session).await;
    let not_a_call = id(&history[0]);
    for event in [
        result_of("user.custom_tool_result", "sevt_none", "x"),
        result_of("user.custom_tool_result", &not_a_call, "x"),
        result_of("user.custom_tool_result", "garbage", "x"),
        result_of("user.tool_result", &call, "x"),
        confirm(&call, "allow"),
        confirm("sevt_none", "allow"),
    ] {
        s.send(&session, json!([event])).await.invalid();
    }
    // One bad event refuses the whole request.
    let good = result_of("user.custom_tool_result", &call, "x");
    s.send(&session, json!([good, confirm("sevt_none", "allow")]))
        .await
        .invalid();
    s.send(&session, json!([good, good])).await.invalid();
    assert_eq!(s.history(&session).await, history);
    // A call of another session is unknown in this one.
    let other = s.session().await;
    s.send(&other, json!([good])).await.invalid();
}

#[tokio::test]
async fn confirmations_only_for_calls_that_ask() {
    let s = Server::start().await;
    let (session, call) = blocked(&s, asking(), "cloud", "bash: ls\nsay: after").await;
    let early = s
        .send(&session, json!([result_of("user.tool_result", &call, "x")]))
        .await;
    assert!(early.invalid().contains("self-hosted"));
    s.send(&session, json!([confirm(&call, "allow")]))
        .await
        .ok();
    let history = s.settled(&session).await;
    assert!(types(&history).contains(&"agent.tool_result"));
    s.send(&session, json!([confirm(&call, "allow")]))
        .await
        .ok();
    let changed = s
        .send(&session, json!([confirm(&call, "deny")]))
        .await
        .invalid();
    assert!(changed.contains("already answered"), "{changed}");
    assert_eq!(s.settled(&session).await, history);
    let free = s.session().await;
    s.say(&free, "bash: ls").await;
    let history = s.settled(&free).await;
    let call = history
        .iter()
        .find(|e| e["type"] == "agent.tool_use")
        .map(id)
        .unwrap();
    let refused = s
        .send(&free, json!([confirm(&call, "allow")]))
        .await
        .invalid();
    assert!(refused.contains("confirmation"), "{refused}");
}

#[tokio::test]
async fn a_denial_reaches_the_agent_and_the_call_stays_closed() {
    let s = Server::start().await;
    let (session, call) = blocked(&s, asking(), "cloud", "bash: ls\nsay: {result}").await;
    let deny = json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "deny",
        "deny_message": "not on a Monday"});
    s.send(&session, json!([deny])).await.ok();
    let history = s.settled(&session).await;
    assert!(json!(history).to_string().contains("not on a Monday"));
    s.send(&session, json!([deny])).await.ok();
    s.send(&session, json!([confirm(&call, "allow")]))
        .await
        .invalid();
}

#[tokio::test]
async fn a_workers_results_are_for_self_hosted_sessions() {
    let s = Server::start().await;
    let tools = json!([{"type": "agent_toolset_20260401"}]);
    let (session, call) = blocked(&s, tools, "self_hosted", "bash: ls\nsay: {result}").await;
    let result = result_of("user.tool_result", &call, "a.txt");
    let first = s.send(&session, json!([result])).await.ok();
    let history = s.settled(&session).await;
    assert_eq!(s.send(&session, json!([result])).await.ok(), first);
    assert!(types(&history).contains(&"user.tool_result"));
    let (session, call) = blocked(&s, asking(), "self_hosted", "bash: ls").await;
    let result = result_of("user.tool_result", &call, "a.txt");
    let early = s.send(&session, json!([result])).await.invalid();
    assert!(early.contains("confirmation"), "{early}");
    s.send(&session, json!([confirm(&call, "allow")]))
        .await
        .ok();
    s.send(&session, json!([result])).await.ok();
    s.settled(&session).await;
}

#[tokio::test]
async fn an_interrupt_closes_what_is_open() {
    let s = Server::start().await;
    let tools = serde_json::from_str(LOOKUP).unwrap();
    let (session, call) = blocked(&s, tools, "cloud", "tool: lookup {}").await;
    s.send(&session, json!([{"type": "user.interrupt"}]))
        .await
        .ok();
    let history = s.settled(&session).await;
    assert_eq!(history.last().unwrap()["stop_reason"]["type"], "end_turn");
    let late = result_of("user.custom_tool_result", &call, "42");
    s.send(&session, json!([late])).await.invalid();
    let other = json!([{"type": "user.interrupt", "session_thread_id": "sthr_none"}]);
    s.send(&session, other).await.invalid();
}

#[tokio::test]
async fn malformed_events_are_400_naming_their_place() {
    let s = Server::start().await;
    let session = s.session().await;
    let path = format!("/v1/sessions/{session}/events");
    for (events, named) in [
        (json!([{"type": "user.massage", "content": []}]), "events.0"),
        (json!([message("a"), {"type": "user.message"}]), "events.1"),
        (
            json!([message("a"), {"type": "agent.message", "content": []}]),
            "events.1",
        ),
        (
            json!([{"type": "user.message", "content": [{"type": "redacted"}]}]),
            "events.0",
        ),
        (
            json!([{"type": "user.message", "content": "text"}]),
            "events.0",
        ),
        (json!({}), "events"),
        (
            json!([{"type": "user.message", "content": [{"type": "image", "source":
            {"type": "file", "file_id": "file_none"}}]}]),
            "file_none",
        ),
    ] {
        let message = s.post(&path, json!({"events": events})).await.invalid();
        assert!(message.contains(named), "{message} should name {named}");
    }
    s.post(&path, json!({})).await.invalid();
    s.post_raw(&path, "{\"events\":").await.invalid();
    assert!(s.history(&session).await.is_empty());
    assert_eq!(
        s.get(&format!("/v1/sessions/{session}")).await.ok()["status"],
        "idle"
    );
}

#[tokio::test]
async fn archived_sessions_take_no_events() {
    let s = Server::start().await;
    let session = s.session().await;
    s.post(&format!("/v1/sessions/{session}/archive"), json!({}))
        .await
        .ok();
    let refused = s
        .send(&session, json!([message("say: hi")]))
        .await
        .invalid();
    assert!(refused.contains("archived"), "{refused}");
    s.send("sesn_none", json!([message("say: hi")]))
        .await
        .error(404, "not_found_error");
}

#[tokio::test]
async fn pages_cover_the_history_once_in_both_orders() {
    let s = Server::start().await;
    let session = s.session().await;
    s.say(&session, "bash: ls\nbash: pwd\nsay: done").await;
    let all = s.settled(&session).await;
    for (order, limit) in [("asc", 1), ("asc", 3), ("desc", 2), ("desc", 1000)] {
        let mut seen = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/v1/sessions/{session}/events?order={order}&limit={limit}{page}");
            let answer = s.get(&path).await.ok();
            assert!(answer.get("prev_page").is_none());
            seen.extend(answer["data"].as_array().unwrap().clone());
            let Some(next) = answer["next_page"].as_str() else {
                break;
            };
            page = format!("&page={next}");
        }
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, all, "{order} by {limit}");
    }
}

#[tokio::test]
async fn a_cursor_belongs_to_its_list_and_order() {
    let s = Server::start().await;
    let session = s.session().await;
    s.say(&session, "say: done").await;
    s.settled(&session).await;
    let path = format!("/v1/sessions/{session}/events");
    let page = s.get(&format!("{path}?limit=1")).await.ok();
    let next = page["next_page"].as_str().unwrap();
    assert!(next.starts_with("page_"));
    s.get(&format!("{path}?limit=2&page={next}")).await.ok();
    s.get(&format!("{path}?page={next}&order=desc"))
        .await
        .invalid();
    s.get(&format!("/v1/sessions?page={next}")).await.invalid();
    s.get(&format!("/v1/agents?page={next}")).await.invalid();
    let other = s.session().await;
    s.get(&format!("/v1/sessions/{other}/events?page={next}"))
        .await
        .invalid();
    let broken = format!("{}x", &next[..next.len() - 1]);
    let answer = s.get(&format!("{path}?page={broken}")).await;
    assert!(
        answer.status == 400 || answer.status == 200,
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn types_and_times_filter() {
    let s = Server::start().await;
    let session = s.session().await;
    s.say(&session, "bash: ls\nsay: done").await;
    let all = s.settled(&session).await;
    let path = format!("/v1/sessions/{session}/events");
    let page = s
        .get(&format!(
            "{path}?types[]=agent.tool_use&types%5B%5D=agent.tool_result"
        ))
        .await
        .ok();
    let kinds = ["agent.tool_use", "agent.tool_result"];
    assert_eq!(types(page["data"].as_array().unwrap()), kinds);
    let at = all[2]["processed_at"].as_str().unwrap();
    for (op, n) in [
        ("gt", all.len() - 3),
        ("gte", all.len() - 2),
        ("lt", 2),
        ("lte", 3),
    ] {
        let page = s.get(&format!("{path}?created_at[{op}]={at}")).await.ok();
        assert_eq!(page["data"].as_array().unwrap().len(), n, "{op}");
    }
}

#[tokio::test]
async fn messages_queue_while_the_session_waits() {
    let s = Server::start().await;
    let tools = serde_json::from_str(LOOKUP).unwrap();
    let (session, call) = blocked(&s, tools, "cloud", "tool: lookup {}\nsay: one").await;
    let queued = s.say(&session, "say: two").await;
    let history = s.history(&session).await;
    assert_eq!(history.last().unwrap()["id"], queued["data"][0]["id"]);
    assert_eq!(history.last().unwrap()["processed_at"], Value::Null);
    let newest = s
        .get(&format!("/v1/sessions/{session}/events?order=desc&limit=1"))
        .await
        .ok();
    assert_eq!(newest["data"][0]["id"], queued["data"][0]["id"]);
    s.send(
        &session,
        json!([result_of("user.custom_tool_result", &call, "42")]),
    )
    .await
    .ok();
    let history = s.settled(&session).await;
    let listed = history
        .iter()
        .filter(|e| e["id"] == queued["data"][0]["id"])
        .count();
    assert_eq!(listed, 1);
}

#[tokio::test]
async fn one_of_two_answers_at_once_is_taken_and_both_are_told_so() {
    let s = Server::start().await;
    let tools: Value = serde_json::from_str(LOOKUP).unwrap();
    for round in 0..5 {
        let (session, call) = blocked(&s, tools.clone(), "cloud", "tool: lookup {}").await;
        let answer = json!([result_of("user.custom_tool_result", &call, "42")]);
        let (one, two) = tokio::join!(s.send(&session, answer.clone()), s.send(&session, answer));
        assert_eq!(one.ok(), two.ok(), "round {round}");
        let history = s.settled(&session).await;
        let results = types(&history)
            .iter()
            .filter(|t| **t == "user.custom_tool_result")
            .count();
        assert_eq!(results, 1);
    }
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_goes_on() {
    let s = Server::start().await;
    let tools = serde_json::from_str(LOOKUP).unwrap();
    let (session, _) = blocked(&s, tools, "cloud", "tool: lookup {}\nsay: done").await;
    let big = "x".repeat(3 * 1024 * 1024);
    for n in 0..6 {
        s.say(&session, &format!("say: {n}\n{big}")).await;
    }
    let before = s.history_pages(&session, "").await;
    assert!(before.len() > 1, "one page of {} events", before[0].len());
    for order in ["asc", "desc"] {
        let pages = s.history_pages(&session, &format!("order={order}")).await;
        assert!(pages.len() > 1);
        let all: Vec<Value> = pages.into_iter().flatten().collect();
        let distinct: std::collections::HashSet<String> = all.iter().map(id).collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(
            types(&all).iter().filter(|t| **t == "user.message").count(),
            7
        );
    }
}

#[tokio::test]
async fn a_full_inbox_is_429_and_takes_nothing_of_the_request() {
    let s = Server::start().await;
    let tools = serde_json::from_str(LOOKUP).unwrap();
    let (session, _) = blocked(&s, tools, "cloud", "tool: lookup {}").await;
    let batch = json!(
        (0..1000)
            .map(|n| message(&n.to_string()))
            .collect::<Vec<_>>()
    );
    for _ in 0..10 {
        s.send(&session, batch.clone()).await.ok();
    }
    let refused = s.send(&session, json!([message("one too many")])).await;
    refused.error(429, "rate_limit_error");
    assert!(!refused.header("retry-after").is_empty());
    let newest = s
        .get(&format!("/v1/sessions/{session}/events?order=desc&limit=1"))
        .await
        .ok();
    assert_eq!(newest["data"][0]["content"][0]["text"], "999");
}

#[tokio::test]
async fn system_messages_join_the_context_where_they_may() {
    let s = Server::start().await;
    let tools: Value = serde_json::from_str(LOOKUP).unwrap();
    let (session, call) = blocked(&s, tools, "cloud", "tool: lookup {}\nsay: ok").await;
    let system =
        json!({"type": "system.message", "content": [{"type": "text", "text": "be kind"}]});
    s.send(&session, json!([system])).await.invalid();
    s.send(&session, json!([message("say: x"), system]))
        .await
        .invalid();
    s.send(&session, json!([system, message("say: x")]))
        .await
        .invalid();
    let result = result_of("user.custom_tool_result", &call, "42");
    s.send(&session, json!([result, system])).await.ok();
    s.settled(&session).await;
    s.send(&session, json!([message("say: more"), system]))
        .await
        .ok();
    let history = s.settled(&session).await;
    assert_eq!(
        types(&history)
            .iter()
            .filter(|t| **t == "system.message")
            .count(),
        2
    );
}

#[tokio::test]
async fn at_the_cap_of_a_budget_only_answers_and_interrupts_are_taken() {
    use freehold_model::config::{PriceConfig, RehearsalConfig, Usd};
    let s = Server::with_models(|models| {
        // A dollar a token.
        let dear = Usd::from_micros(1_000_000_000_000);
        let price = PriceConfig {
            input: dear,
            output: dear,
            cache_write_5m: None,
            cache_write_1h: None,
            cache_read: None,
        };
        let config = RehearsalConfig {
            delay_ms: 0,
            price: Some(price),
            ..RehearsalConfig::default()
        };
        let entry = models.resolve("rehearsal").unwrap();
        let provider = std::sync::Arc::clone(&entry.provider);
        models.insert(freehold_model::catalog::rehearsal_entry(provider, &config));
    })
    .await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let budget = |cents: &str| json!({"type": "limit", "max_list_cost": {"amount": cents, "currency": "USD"}});
    let body = json!({"agent": agent, "environment_id": environment, "budget": budget("100")});
    let session = id(&s.post("/v1/sessions", body).await.ok());
    s.say(&session, "bash: ls\nsay: never said").await;
    let paused = s.settled(&session).await;
    assert_eq!(
        paused.last().unwrap()["stop_reason"]["type"],
        "budget_reached"
    );
    let refused = s
        .send(&session, json!([message("say: hi")]))
        .await
        .invalid();
    assert!(refused.contains("user.custom_tool_result"), "{refused}");
    let ignored = s
        .send(&session, json!([{"type": "user.interrupt"}]))
        .await
        .ok();
    assert!(ignored["data"][0]["id"].is_string());
    assert_eq!(s.history(&session).await, paused);
    let path = format!("/v1/sessions/{session}");
    let low = s.post(&path, json!({"budget": budget("101")})).await;
    low.invalid();
    assert_eq!(low.code(), "budget_not_raised");
    s.post(&path, json!({"budget": null})).await.ok();
    let wait = async {
        while s.history(&session).await.last().unwrap()["stop_reason"]["type"] != "end_turn" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, wait)
        .await
        .unwrap();
    assert_eq!(s.get(&path).await.ok()["budget"], Value::Null);
}

/// Such a session looked driven for ever, and no later wake-up started another driver.
#[tokio::test]
async fn a_session_whose_driver_panicked_goes_on() {
    use std::sync::atomic::Ordering;
    let s = Server::start().await;
    let session = s.session().await;
    s.executor.panics.store(true, Ordering::SeqCst);
    s.say(&session, "say: hi").await;
    let panicked = async {
        while s.executor.panicked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, panicked)
        .await
        .expect("nothing asked");
    s.executor.panics.store(false, Ordering::SeqCst);
    let history = s.settled(&session).await;
    assert!(crate::harness::types(&history).contains(&"agent.message"));
}
