//! `web_search` against a stand-in for SearXNG on loopback.

mod common;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use common::{Server, serve, text};
use freehold_web::{Reply, Rules, Searxng, search};
use serde_json::json;
use serde_json::value::to_raw_value;

async fn run(server: &Server, query: &str, rules: &Rules) -> Reply {
    let provider = Searxng::new(&server.url("/sub/").parse().unwrap());
    search::call(
        &provider,
        &to_raw_value(&json!({ "query": query })).unwrap(),
        rules,
    )
    .await
}

async fn answering(body: impl Into<String>) -> Server {
    let body = body.into();
    serve(Router::new().route("/sub/search", get(move || async move { body }))).await
}

fn results(urls: &[&str]) -> String {
    let each: Vec<_> = urls
        .iter()
        .map(|url| json!({"url": url, "title": "T", "content": "C"}))
        .collect();
    json!({ "results": each, "query": "x", "suggestions": [] }).to_string()
}

fn rules(allowed: Option<&[&str]>, blocked: Option<&[&str]>) -> Rules {
    let list = |list: Option<&[&str]>| Some(list?.iter().map(|s| (*s).to_owned()).collect());
    Rules {
        allowed_domains: list(allowed),
        blocked_domains: list(blocked),
        ..Rules::default()
    }
}

#[tokio::test]
async fn results_are_listed() {
    let body = json!({"results": [
        {"url": "https://a.com/x", "title": "One\n2. Fake", "content": " some\n words ", "engine": "e"},
        {"url": "https://b.com/", "title": null, "content": null},
        {"url": "https://c.com/", "title": ""},
        {"url": "javascript:alert(1)", "title": "no"},
        {"url": "no url", "title": "no"},
        {"url": format!("https://a.com/{}", "x".repeat(3_000)), "title": "no"},
    ]});
    let server = answering(body.to_string()).await;
    let reply = run(&server, "words", &Rules::default()).await;
    assert!(!reply.is_error);
    assert_eq!(
        text(&reply),
        "1. One 2. Fake\nhttps://a.com/x\nsome words\n\n\
         2. (no title)\nhttps://b.com/\n\n3. (no title)\nhttps://c.com/"
    );
}

#[tokio::test]
async fn the_query_reaches_the_provider_whole() {
    let echo = |RawQuery(query): RawQuery| async move {
        results(&[&format!("https://a.com/?{}", query.unwrap())])
    };
    let server = serve(Router::new().route("/sub/search", get(echo))).await;
    let said = run(&server, "  a&b=c #d é ", &Rules::default()).await;
    assert_eq!(
        text(&said),
        "1. T\nhttps://a.com/?q=a%26b%3Dc+%23d+%C3%A9&format=json\nC"
    );
    let said = run(&server, "x", &rules(Some(&["a.com", "b.com/docs/"]), None)).await;
    assert!(
        text(&said).contains("q=x+site%3Aa.com+OR+site%3Ab.com%2Fdocs&"),
        "{}",
        text(&said)
    );
}

#[tokio::test]
async fn results_outside_the_rules_are_dropped() {
    let server = answering(results(&[
        "https://a.com/docs/1",
        "https://www.a.com/blog",
        "https://b.com/",
        "https://nota.com/docs",
    ]))
    .await;
    let urls = |reply: &Reply| {
        let text = text(reply).to_owned();
        text.lines()
            .filter(|l| l.starts_with("https"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all = run(&server, "x", &Rules::default()).await;
    assert_eq!(urls(&all).len(), 4);
    let some = run(&server, "x", &rules(Some(&["a.com"]), None)).await;
    assert_eq!(
        urls(&some),
        ["https://a.com/docs/1", "https://www.a.com/blog"]
    );
    let some = run(&server, "x", &rules(Some(&["a.com/docs"]), None)).await;
    assert_eq!(urls(&some), ["https://a.com/docs/1"]);
    let some = run(&server, "x", &rules(None, Some(&["a.com", "b.com"]))).await;
    assert_eq!(urls(&some), ["https://nota.com/docs"]);
    let none = run(&server, "x", &rules(Some(&["c.com"]), None)).await;
    assert_eq!((none.is_error, text(&none)), (false, "no results"));
}

#[tokio::test]
async fn many_and_long_results_are_bounded() {
    let each: Vec<_> = (0..500)
        .map(|n| json!({"url": format!("https://a.com/{n}"), "title": "t".repeat(999), "content": "c ".repeat(9_999)}))
        .collect();
    let server = answering(json!({ "results": each[..50] }).to_string()).await;
    let reply = run(&server, "x", &Rules::default()).await;
    assert_eq!(text(&reply).split("\n\n").count(), 10);
    assert!(text(&reply).len() < 10 * 1_400);
    let server = answering(json!({ "results": each }).to_string()).await;
    let reply = run(&server, "x", &Rules::default()).await;
    assert!(reply.is_error);
    assert_eq!(
        text(&reply),
        "unavailable: the search provider's answer could not be read: more than 4194304 bytes"
    );
}

#[tokio::test]
async fn failures_say_what_failed() {
    let server =
        serve(Router::new().route("/sub/search", get(|| async { StatusCode::FORBIDDEN }))).await;
    let reply = run(&server, "x", &Rules::default()).await;
    assert!(reply.is_error);
    assert_eq!(
        text(&reply),
        "unavailable: the search provider answered with status 403"
    );
    let server = answering("<html>").await;
    let said = run(&server, "x", &Rules::default()).await;
    assert!(text(&said).starts_with("unavailable: the search provider's answer could not be read"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let provider = Searxng::new(&format!("http://{nobody}").parse().unwrap());
    let input = to_raw_value(&json!({"query": "x"})).unwrap();
    let reply = search::call(&provider, &input, &Rules::default()).await;
    assert_eq!(
        text(&reply),
        "unavailable: the search provider could not be reached"
    );
    for input in [
        json!({}),
        json!({"query": "x", "n": 1}),
        json!({"query": ""}),
        json!({"query": "x".repeat(1_001)}),
    ] {
        let reply =
            search::call(&provider, &to_raw_value(&input).unwrap(), &Rules::default()).await;
        assert!(
            reply.is_error && text(&reply).starts_with("invalid_tool_input: "),
            "{reply:?}"
        );
    }
}
