//! `POST /v1/messages` with MCP servers (contract 62 §2).

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_model::chat::ChatProvider;
use freehold_model::config::MidSystem;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, read};
use crate::mcp_server::{McpServer, Model, TOKEN, chat};

const BETA: &str = "mcp-client-2025-11-20";

fn with(url: &str, text: &str) -> Value {
    json!({"model": "rehearsal", "max_tokens": 1000,
        "messages": [{"role": "user", "content": text}],
        "mcp_servers": [{"type": "url", "name": "demo", "url": url}],
        "tools": [{"type": "mcp_toolset", "mcp_server_name": "demo"}]})
}

async fn ask_as(s: &Server, beta: &str, body: &Value) -> Answer {
    let request = s.request(Method::POST, "/v1/messages");
    read(request.header("anthropic-beta", beta).json(body)).await
}

async fn ask(s: &Server, body: &Value) -> Answer {
    ask_as(s, BETA, body).await
}

async fn in_front_of(model: &Model) -> Server {
    Server::with_models(|models| {
        models
            .set_fallback_url(&model.url, None, Default::default())
            .unwrap();
    })
    .await
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

fn kinds(message: &Value) -> Vec<&str> {
    let content = message["content"].as_array().unwrap();
    content
        .iter()
        .map(|b| b["type"].as_str().unwrap())
        .collect()
}

/// The data of a stream's frames.
fn events(answer: &Answer) -> Vec<Value> {
    let text = String::from_utf8(answer.bytes.clone()).unwrap();
    let data = text.lines().filter_map(|l| l.strip_prefix("data: "));
    data.map(|d| serde_json::from_str(d).unwrap()).collect()
}

#[tokio::test]
async fn the_server_calls_the_tool_and_the_model_goes_on() {
    let (mcp, s) = (McpServer::start().await, Server::start().await);
    let body = with(
        &mcp.url,
        "tool: demo_add {\"a\": 2, \"b\": 3}\nsay: it is {result}",
    );
    let message = ask(&s, &body).await.ok();
    let kinds = kinds(&message);
    assert_eq!(kinds[0], "mcp_tool_listing");
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["mcp_tool_use", "mcp_tool_result", "text"]
    );
    let content = message["content"].as_array().unwrap();
    let (used, result) = (&content[kinds.len() - 3], &content[kinds.len() - 2]);
    assert!(used["id"].as_str().unwrap().starts_with("mcptoolu_"));
    assert_eq!(
        (&used["name"], &used["server_name"]),
        (&json!("add"), &json!("demo"))
    );
    assert_eq!(used["input"], json!({"a": 2, "b": 3}));
    assert_eq!(result["tool_use_id"], used["id"]);
    assert_eq!(result["is_error"], false);
    assert_eq!(result["content"], json!([{"type": "text", "text": "5"}]));
    assert_eq!(content[kinds.len() - 1]["text"], "it is 5");
    assert_eq!(message["stop_reason"], "end_turn");
    let listing = &content[0];
    assert_eq!(listing["mcp_server_name"], "demo");
    assert_eq!(
        listing["tools"][0],
        json!({"name": "add", "description": "Adds two numbers.",
        "input_schema": {"type": "object"}})
    );
}

#[tokio::test]
async fn a_stream_is_one_message_with_the_same_blocks() {
    let (mcp, s) = (McpServer::start().await, Server::start().await);
    let script = "parallel:\ntool: demo_add {\"a\": 2, \"b\": 3}\ntool: demo_fail\nend:\nsay: done";
    let mut body = with(&mcp.url, script);
    let whole = ask(&s, &body).await.ok();
    body["stream"] = json!(true);
    let events = events(&ask(&s, &body).await);
    let of = |kind: &str| {
        events
            .iter()
            .filter(|e| e["type"] == kind)
            .collect::<Vec<_>>()
    };
    for once in ["message_start", "message_delta", "message_stop"] {
        assert_eq!(of(once).len(), 1, "{once}");
    }
    let started = of("content_block_start");
    let indexes: Vec<_> = started
        .iter()
        .map(|e| e["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, (0..started.len() as u64).collect::<Vec<_>>());
    let types: Vec<_> = started
        .iter()
        .map(|e| e["content_block"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, kinds(&whole));
    assert_eq!(
        of("message_delta")[0]["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
    let failed = started
        .iter()
        .find(|e| e["content_block"]["is_error"] == true)
        .unwrap();
    assert_eq!(
        failed["content_block"]["content"][0]["text"],
        "it went wrong"
    );
}

#[tokio::test]
async fn the_provider_sees_ordinary_tools_and_usage_is_summed() {
    let mcp = McpServer::start().await;
    let call = json!([{"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "tool_use", "id": "toolu_1", "name": "demo_picture", "input": {}}]);
    let said = json!([{"type": "text", "text": "nice"}]);
    let model = Model::start(&[(call, "tool_use"), (said, "end_turn")]).await;
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "look");
    body["model"] = json!("m");
    body["tool_choice"] = json!({"type": "any"});
    body["tools"][0]["cache_control"] = json!({"type": "ephemeral"});
    body["tools"][0]["configs"] = json!({"fail": {"enabled": false}, "hang": {"enabled": false}});
    let message = ask_as(&s, &format!("{BETA},other-1"), &body).await.ok();
    assert_eq!(message["usage"]["input_tokens"], 20);
    assert_eq!(message["usage"]["output_tokens"], 10);
    assert_eq!(
        message["usage"]["cache_creation"]["ephemeral_5m_input_tokens"],
        6
    );
    assert_eq!(message["usage"]["service_tier"], "standard");
    let first = model.asked(0);
    assert!(first.get("mcp_servers").is_none());
    let tools = first["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo_add", "demo_echo", "demo_picture"]);
    assert!(tools[0].get("cache_control").is_none());
    assert_eq!(tools[2]["cache_control"]["type"], "ephemeral");
    let betas = model.betas.lock().unwrap().join(",");
    assert!(
        betas.contains("other-1") && !betas.contains("mcp-client"),
        "{betas}"
    );
    let second = model.asked(1);
    assert_eq!(second["tool_choice"], json!({"type": "auto"}));
    let turn = &second["messages"];
    assert_eq!(turn[1]["content"][0]["signature"], "s");
    assert_eq!(turn[1]["content"][1]["type"], "tool_use");
    assert_eq!(
        turn[2]["content"][0]["tool_use_id"],
        turn[1]["content"][1]["id"]
    );
    assert_eq!(
        turn[2]["content"][0]["content"][0]["source"]["data"],
        "AAAA"
    );
    let told = &message["content"][3];
    assert_eq!(
        told["content"][0]["text"],
        "(content of type image/png, shown to the model)"
    );

    // Sent back, the answer is the same conversation, and the server is not asked again.
    let asked = mcp.methods().iter().filter(|m| *m == "tools/list").count();
    let said = json!([{"type": "text", "text": "bye"}]);
    let again = Model::start(&[(said, "end_turn")]).await;
    let s = in_front_of(&again).await;
    body["messages"] = json!([{"role": "user", "content": "look"},
        {"role": "assistant", "content": message["content"]}, {"role": "user", "content": "and?"}]);
    let message = ask(&s, &body).await.ok();
    assert_eq!(kinds(&message), ["text"]);
    assert_eq!(
        mcp.methods().iter().filter(|m| *m == "tools/list").count(),
        asked
    );
    let sent = again.asked(0)["messages"].clone();
    assert_eq!(sent[1], turn[1]);
    assert_eq!(
        sent[2]["content"][0]["tool_use_id"],
        turn[2]["content"][0]["tool_use_id"]
    );
    assert_eq!(sent[3]["content"][0]["text"], "nice");
    assert_eq!(sent[4]["content"], "and?");
}

#[tokio::test]
async fn a_tool_of_the_client_ends_the_message_and_its_result_joins_the_others() {
    let mcp = McpServer::start().await;
    let call = json!([
        {"type": "tool_use", "id": "toolu_1", "name": "demo_add", "input": {"a": 1, "b": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "mine", "input": {}}]);
    let said = json!([{"type": "text", "text": "done"}]);
    let model = Model::start(&[(call, "tool_use"), (said, "end_turn")]).await;
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "both");
    body["model"] = json!("m");
    push(
        &mut body["tools"],
        json!({"name": "mine", "input_schema": {"type": "object"}}),
    );
    let message = ask(&s, &body).await.ok();
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(
        kinds(&message)[1..],
        ["mcp_tool_use", "tool_use", "mcp_tool_result"]
    );
    assert_eq!(message["content"][2]["id"], "toolu_2");
    push(
        &mut body["messages"],
        json!({"role": "assistant", "content": message["content"]}),
    );
    push(
        &mut body["messages"],
        json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "mine too"}]}),
    );
    ask(&s, &body).await.ok();
    let sent = model.asked(1)["messages"].clone();
    assert_eq!(sent[1]["content"].as_array().unwrap().len(), 2);
    let results = sent[2]["content"].as_array().unwrap();
    assert_eq!(results[0]["tool_use_id"], sent[1]["content"][0]["id"]);
    assert_eq!(results[1]["tool_use_id"], "toolu_2");
}

#[tokio::test]
async fn a_model_that_calls_for_ever_is_paused_and_can_be_continued() {
    let (mcp, s) = (McpServer::start().await, Server::start().await);
    let script = "tool: demo_add {\"a\": 1, \"b\": 1}\n".repeat(11) + "say: the end";
    let mut body = with(&mcp.url, &script);
    let message = ask(&s, &body).await.ok();
    assert_eq!(message["stop_reason"], "pause_turn");
    assert_eq!(*kinds(&message).last().unwrap(), "mcp_tool_result");
    assert_eq!(mcp.calls(), 10);
    push(
        &mut body["messages"],
        json!({"role": "assistant", "content": message["content"]}),
    );
    let message = ask(&s, &body).await.ok();
    assert_eq!(
        (&message["stop_reason"], mcp.calls()),
        (&json!("end_turn"), 11)
    );
    let content = message["content"].as_array().unwrap();
    assert_eq!(content.last().unwrap()["text"], "the end");
}

#[tokio::test]
async fn a_token_is_shown_to_its_server_alone() {
    let (mcp, s) = (McpServer::with(true).await, Server::start().await);
    let mut body = with(&mcp.url, "tool: demo_echo {\"x\": 1}\nsay: {result}");
    let refused = ask(&s, &body).await.invalid();
    assert!(
        refused.contains("Authentication error") && refused.contains("'demo'"),
        "{refused}"
    );
    body["mcp_servers"][0]["authorization_token"] = json!("not-the-right-token");
    let refused = ask(&s, &body).await;
    assert!(!refused.body.to_string().contains("not-the-right-token"));
    refused.invalid();
    body["mcp_servers"][0]["authorization_token"] = json!(TOKEN);
    let answer = ask(&s, &body).await.ok().to_string();
    assert!(answer.contains("Bearer [redacted] said"), "{answer}");
    assert!(!answer.contains(TOKEN));
}

#[tokio::test]
async fn a_pinned_listing_is_what_the_model_is_offered() {
    let mcp = McpServer::start().await;
    let call = json!([{"type": "tool_use", "id": "toolu_1", "name": "demo_add",
        "input": {"a": 1, "b": 1}}]);
    let model = Model::start(&[(call, "tool_use"), (json!([]), "end_turn")]).await;
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "go");
    body["model"] = json!("m");
    let tool = json!({"name": "add", "description": "Mine.", "input_schema": {"type": "object"}});
    body["tools"][0]["tools"] = json!([tool]);
    let message = ask(&s, &body).await.ok();
    assert_eq!(kinds(&message), ["mcp_tool_use", "mcp_tool_result"]);
    assert_eq!(message["content"][1]["content"][0]["text"], "2");
    assert_eq!(model.asked(0)["tools"][0]["description"], "Mine.");
}

#[tokio::test]
async fn a_call_of_a_refused_tool_goes_nowhere_and_is_on_record() {
    let mcp = McpServer::start().await;
    let call = json!([{"type": "tool_use", "id": "toolu_1", "name": "demo_add",
        "input": {"a": 1, "b": 1}}]);
    let model = Model::start(&[
        (json!([]), "end_turn"),
        (call, "tool_use"),
        (json!([]), "end_turn"),
    ])
    .await;
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "go");
    body["model"] = json!("m");
    // Seen once, then refused by an operator.
    ask(&s, &body).await.ok();
    let servers = s.get("/v1/freehold/mcp/servers").await.ok();
    let at = format!(
        "/v1/freehold/mcp/servers/{}/tools/add",
        servers["data"][0]["id"].as_str().unwrap()
    );
    let known = s.get(&at).await.ok();
    let refuse = json!({"fingerprint": known["versions"][0]["fingerprint"]});
    s.post(&format!("{at}/refuse"), refuse).await.ok();
    // The client goes on to show it to the model.
    let tool = json!({"name": "add", "description": "Mine.", "input_schema": {"type": "object"}});
    body["tools"][0]["tools"] = json!([tool]);
    let message = ask(&s, &body).await.ok();
    let result = &message["content"][1];
    assert_eq!(result["is_error"], true, "{message}");
    let said = result["content"][0]["text"].as_str().unwrap();
    assert!(said.contains("refused the tool"), "{said}");
    let audit = s
        .get("/v1/freehold/mcp/audit?tool=add&action=tools/call")
        .await
        .ok();
    let outcomes: Vec<_> = audit["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["refused"]);
}

/// Only the very names that the model was given lead to a server: a guess at one that is off, or of other
/// case or prefix, is a tool of the client's as far as we know.
#[tokio::test]
async fn a_guessed_name_goes_to_no_server() {
    let mcp = McpServer::start().await;
    let guesses = [
        "demo_fail",
        "demo_FAIL",
        "demo_Add",
        "Demo_add",
        "mcp__demo__add",
        "add",
        "demo_",
    ];
    let call = |name: &str| {
        let call = json!([{"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}]);
        (call, "tool_use")
    };
    let model = Model::start(&guesses.map(call)).await;
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "go");
    body["model"] = json!("m");
    body["tools"][0]["configs"] = json!({"fail": {"enabled": false}});
    for guess in guesses {
        let message = ask(&s, &body).await.ok();
        assert_eq!(message["stop_reason"], "tool_use", "{guess}");
        assert_eq!(kinds(&message), ["mcp_tool_listing", "tool_use"], "{guess}");
    }
    assert_eq!(mcp.calls(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call() {
    let (mcp, s) = (McpServer::start().await, Server::start().await);
    let mut body = with(&mcp.url, "tool: demo_hang\nsay: never");
    body["stream"] = json!(true);
    let request = s.request(Method::POST, "/v1/messages");
    let response = request
        .header("anthropic-beta", BETA)
        .json(&body)
        .send()
        .await
        .unwrap();
    let wait = std::time::Duration::from_secs(20);
    tokio::time::timeout(wait, mcp.hanging.notified())
        .await
        .unwrap();
    drop(response);
    tokio::time::timeout(wait, mcp.cancelled.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn long_results_are_cut() {
    let (mcp, s) = (McpServer::start().await, Server::start().await);
    let body = with(&mcp.url, "tool: demo_echo {\"chars\": 100007}\nsay: done");
    let message = ask(&s, &body).await.ok();
    let content = message["content"].as_array().unwrap();
    let result = content
        .iter()
        .find(|b| b["type"] == "mcp_tool_result")
        .unwrap();
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.ends_with("é\n(7 more characters were left out)"));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (mcp, s) = (McpServer::start().await, Server::start().await);
    let good = with(&mcp.url, "hi");
    assert_eq!(
        ask_as(&s, "other-1", &good).await.invalid(),
        "mcp_servers: Extra inputs are not permitted"
    );
    let server = &good["mcp_servers"][0];
    let many: Vec<_> = (0..21).map(|_| server.clone()).collect();
    let tool = json!({"name": "demo_add", "input_schema": {}});
    let set = &good["tools"][0];
    let long = format!("https://a/{}", "x".repeat(2_048));
    let cases = [
        ("/mcp_servers", json!(many), "mcp_servers: "),
        (
            "/mcp_servers",
            json!([server, server]),
            "mcp_servers.1.name: ",
        ),
        ("/mcp_servers", json!("x"), "mcp_servers: "),
        ("/mcp_servers", json!([]), "tools.0.mcp_server_name: "),
        ("/mcp_servers/0/url", json!(long), "mcp_servers.0.url: "),
        (
            "/mcp_servers/0/url",
            json!("ftp://a/"),
            "mcp_servers.0.url: ",
        ),
        (
            "/mcp_servers/0/url",
            json!("https://u:secret-word@a/"),
            "mcp_servers.0.url: ",
        ),
        ("/mcp_servers/0/name", json!(""), "mcp_servers.0.name: "),
        (
            "/mcp_servers/0/type",
            json!("stdio"),
            "mcp_servers.0.type: ",
        ),
        (
            "/mcp_servers/0/authorization_token",
            json!(["secret-word"]),
            "mcp_servers.0.authorization_token: ",
        ),
        (
            "/mcp_servers/0/authorization_token",
            json!("secret-word\r\n"),
            "mcp_servers.0.authorization_token: ",
        ),
        (
            "/mcp_servers/0/tool_configuration",
            json!({}),
            "mcp_servers.0.tool_configuration: Extra",
        ),
        (
            "/mcp_servers/0/extra",
            json!(1),
            "mcp_servers.0.extra: Extra",
        ),
        ("/tools", json!([]), "mcp_servers.0: "),
        ("/tools", json!([set, set]), "tools.1.mcp_server_name: "),
        (
            "/tools/0/mcp_server_name",
            json!("other"),
            "tools.0.mcp_server_name: ",
        ),
        ("/tools/0/configs", json!([]), "tools.0.configs: "),
        (
            "/tools/0/default_config",
            json!({"defer_loading": true}),
            "tools.0: defer_loading",
        ),
        (
            "/tools/0/tools",
            json!([{"name": "x"}]),
            "tools.0.tools.0: ",
        ),
        ("/tools", json!([tool, set]), "tools.1: "),
        (
            "/messages/0/content",
            json!([{"type": "mcp_tool_use"}]),
            "messages.0.content.0: ",
        ),
        (
            "/messages/0",
            json!({"role": "assistant", "content": [{"type": "mcp_tool_result",
            "tool_use_id": "x"}]}),
            "messages.0.content.0.tool_use_id: ",
        ),
        (
            "/messages/0",
            json!({"role": "assistant", "content": [{"type": "mcp_tool_listing",
            "mcp_server_name": "demo"}]}),
            "messages.0.content.0.tools: ",
        ),
    ];
    for (at, value, message) in cases {
        let mut body = good.clone();
        let (parent, key) = at.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(i) => parent[i] = value,
            Err(_) => parent[key] = value,
        }
        let answer = ask(&s, &body).await;
        let said = answer.invalid();
        assert!(said.starts_with(message), "{at}: {said}");
        assert!(!answer.body.to_string().contains("secret-word"), "{said}");
        if at == "/tools" && said.contains("name") {
            assert_eq!(
                answer.code(),
                if message == "tools.1: " {
                    "tool_name_conflict"
                } else {
                    ""
                }
            );
        }
    }
    let dead = with("http://127.0.0.1:1/mcp", "hi");
    let said = ask(&s, &dead).await.invalid();
    assert!(
        said.contains("Connection error") && said.contains("'demo'"),
        "{said}"
    );
    let inside = with("https://10.0.0.1/mcp", "hi");
    assert!(ask(&s, &inside).await.invalid().contains("'demo'"));
}

#[tokio::test]
async fn the_older_beta_says_at_the_server_what_is_allowed() {
    let (mcp, model) = (
        McpServer::start().await,
        Model::start(&[(json!([]), "end_turn")]).await,
    );
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "hi");
    body["model"] = json!("m");
    let old = "mcp-client-2025-04-04";
    assert!(
        ask_as(&s, old, &body)
            .await
            .invalid()
            .starts_with("tools.0: Extra")
    );
    body.as_object_mut().unwrap().remove("tools");
    body["mcp_servers"][0]["tool_configuration"] = json!({"allowed_tools": ["echo"]});
    ask_as(&s, old, &body).await.ok();
    let tools = model.asked(0)["tools"].clone();
    assert_eq!(tools.as_array().unwrap().len(), 1);
    assert_eq!(tools[0]["name"], "demo_echo");
}

#[tokio::test]
async fn deferred_tools_need_a_search_and_tokens_are_counted() {
    let (mcp, model) = (
        McpServer::start().await,
        Model::start(&[(json!([]), "end_turn")]).await,
    );
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "hi");
    body["model"] = json!("m");
    body["tools"][0]["default_config"] = json!({"defer_loading": true});
    body["tools"][0]["configs"] = json!({"add": {"defer_loading": false}});
    push(
        &mut body["tools"],
        json!({"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}),
    );
    ask(&s, &body).await.ok();
    let tools = model.asked(0)["tools"].clone();
    assert!(tools[0].get("defer_loading").is_none());
    assert_eq!(tools[1]["defer_loading"], true);

    let count = |body: Value| {
        let request = s.request(Method::POST, "/v1/messages/count_tokens");
        read(request.header("anthropic-beta", BETA).json(&body))
    };
    let mut body = with(&mcp.url, "hi");
    let all = count(body.clone()).await.ok()["input_tokens"]
        .as_u64()
        .unwrap();
    body["tools"][0]["default_config"] = json!({"enabled": false});
    assert!(count(body).await.ok()["input_tokens"].as_u64().unwrap() < all);
}

#[tokio::test]
async fn chat_completions_are_as_good() {
    let (mcp, url) = (McpServer::start().await, chat().await);
    let s = Server::with_models(|models| {
        let (names, ids) = (Default::default(), IdSource::system());
        let provider = ChatProvider::new(
            "c",
            &url,
            None,
            Default::default(),
            names,
            MidSystem::System,
            ids,
        );
        models.set_fallback(Arc::new(provider.unwrap()));
    })
    .await;
    let mut body = with(&mcp.url, "add");
    body["model"] = json!("m");
    let message = ask(&s, &body).await.ok();
    assert_eq!(
        kinds(&message)[1..],
        ["mcp_tool_use", "mcp_tool_result", "text"]
    );
    assert_eq!(message["content"][3]["text"], "it is 5");
    push(
        &mut body["messages"],
        json!({"role": "assistant", "content": message["content"]}),
    );
    push(
        &mut body["messages"],
        json!({"role": "user", "content": "again"}),
    );
    let message = ask(&s, &body).await.ok();
    assert_eq!(kinds(&message), ["mcp_tool_use", "mcp_tool_result", "text"]);
}

#[tokio::test]
async fn changes_of_tools_name_what_the_model_knows() {
    let mcp = McpServer::start().await;
    let model = Model::start(&[(json!([]), "end_turn")]).await;
    let s = in_front_of(&model).await;
    let mut body = with(&mcp.url, "hi");
    body["model"] = json!("m");
    body["tools"][0]["configs"] = json!({"hang": {"enabled": false}});
    let one = json!({"type": "mcp_tool_reference", "server_name": "demo", "name": "add"});
    let all = json!({"type": "mcp_toolset_reference", "server_name": "demo"});
    push(
        &mut body["messages"],
        json!({"role": "system", "content": [{"type": "tool_removal", "tool": all},
            {"type": "tool_addition", "tool": one}]}),
    );
    ask(&s, &body).await.ok();
    let sent = model.asked(0)["messages"][1]["content"].clone();
    let named: Vec<_> = sent
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["tool"]["name"])
        .collect();
    assert_eq!(
        named,
        [
            "demo_add",
            "demo_echo",
            "demo_fail",
            "demo_picture",
            "demo_add"
        ]
    );
    body["messages"][1]["content"][1]["tool"]["name"] = json!("hang");
    let answer = ask(&s, &body).await;
    answer.invalid();
    assert_eq!(answer.code(), "tool_reference_unresolved");
}

/// Blocks of MCP in any arrangement are translated or refused, and what goes out has a result for
/// each call, right after it.
#[tokio::test]
async fn any_history_is_translated_or_refused() {
    let model = Model::start(&vec![(json!([]), "end_turn"); 300]).await;
    let s = in_front_of(&model).await;
    let mut state = 7u64;
    let mut any = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    let mut accepted = 0;
    for _ in 0..300 {
        let mut messages = Vec::new();
        for m in 0..=any(3) {
            let blocks: Vec<_> = (0..=any(5)).map(|_| {
                let id = format!("mcptoolu_{}", any(3));
                match any(6) {
                    0 | 1 => json!({"type": "mcp_tool_use", "id": id, "name": "add",
                        "server_name": "demo", "input": {}}),
                    2 | 3 => json!({"type": "mcp_tool_result", "tool_use_id": id,
                        "is_error": false, "content": "x"}),
                    4 => json!({"type": "mcp_tool_listing", "mcp_server_name": "demo", "tools": []}),
                    _ => json!({"type": "text", "text": "say: hi"}),
                }
            }).collect();
            let role = if m % 2 == 0 { "assistant" } else { "user" };
            let content = if role == "user" {
                json!("say: hi")
            } else {
                json!(blocks)
            };
            messages.push(json!({"role": role, "content": content}));
        }
        messages.push(json!({"role": "user", "content": "say: hi"}));
        let body = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": messages});
        let answer = ask(&s, &body).await;
        assert!(
            matches!(answer.status, 200 | 400),
            "{body}: {}",
            answer.body
        );
        accepted += u32::from(answer.status == 200);
    }
    assert!(accepted > 10, "{accepted}");
    let of = |message: &Value, kind: &str, key: &str| -> BTreeSet<String> {
        let blocks = message["content"].as_array().into_iter().flatten();
        let ids = blocks
            .filter(|b| b["type"] == kind)
            .map(|b| b[key].as_str().unwrap());
        ids.map(str::to_owned).collect()
    };
    for asked in model.asked.lock().unwrap().iter() {
        assert!(!asked.to_string().contains("mcp_tool"), "{asked}");
        let messages = asked["messages"].as_array().unwrap();
        for pair in messages.windows(2) {
            let calls = of(&pair[0], "tool_use", "id");
            assert_eq!(calls, of(&pair[1], "tool_result", "tool_use_id"), "{asked}");
        }
    }
}
