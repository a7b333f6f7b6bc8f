//! `web_fetch` against servers on loopback, which the tests' policy names; every other inward
//! address stays refused.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use common::{Server, serve, text};
use freehold_web::{AddressPolicy, Fetcher, Reply, Rules};
use freehold_wire::content::{ContentBlock, Source};
use serde_json::json;
use serde_json::value::to_raw_value;

/// A tool that may also reach `server`, by either loopback address.
fn tool(server: &Server) -> Fetcher {
    let port = server.address.port();
    let v6 = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), port);
    Fetcher::new(AddressPolicy::allowing([server.address, v6]))
}

async fn fetch_with(tool: &Fetcher, url: &str, rules: &Rules) -> Reply {
    tool.call(&to_raw_value(&json!({ "url": url })).unwrap(), rules)
        .await
}

async fn fetch(server: &Server, path: &str) -> Reply {
    fetch_with(&tool(server), &server.url(path), &Rules::default()).await
}

fn allowed(domains: &[&str]) -> Rules {
    let list = domains.iter().map(|d| (*d).to_owned()).collect();
    Rules {
        allowed_domains: Some(list),
        ..Rules::default()
    }
}

fn typed(media_type: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, media_type)], body.into()).into_response()
}

#[track_caller]
fn refused(reply: &Reply, start: &str) {
    assert!(reply.is_error, "{reply:?}");
    assert!(text(reply).starts_with(start), "{}", text(reply));
}

#[tokio::test]
async fn a_page_comes_as_text() {
    let page = "<title>A &amp; B</title><h1>Hi</h1><p>See <a href='/more'>more</a>.";
    let server =
        serve(Router::new().route("/p", get(move || async move { typed("text/html", page) })))
            .await;
    let reply = fetch(&server, "/p?q=1#part").await;
    assert!(!reply.is_error);
    let url = server.url("/p?q=1#part");
    let more = server.url("/more");
    assert_eq!(
        text(&reply),
        format!("URL: {url}\nTitle: A & B\n\n# Hi\n\nSee [more]({more}).")
    );
}

#[tokio::test]
async fn text_of_other_kinds_comes_as_it_is() {
    let router = Router::new()
        .route(
            "/json",
            get(|| async { typed("application/json", "{\"a\": \"<b>\"}") }),
        )
        .route(
            "/latin",
            get(|| async { typed("text/plain; charset=latin1", &b"gr\xfcn"[..]) }),
        )
        .route(
            "/none",
            get(|| async { Body::from("plain").into_response() }),
        )
        .route(
            "/empty",
            get(|| async { typed("text/html", "<script>x()</script>") }),
        );
    let server = serve(router).await;
    for (path, body) in [
        ("/json", "{\"a\": \"<b>\"}"),
        ("/latin", "grün"),
        ("/none", "plain"),
        ("/empty", "(the page has no text)"),
    ] {
        let reply = fetch(&server, path).await;
        assert_eq!(text(&reply), format!("URL: {}\n\n{body}", server.url(path)));
    }
}

#[tokio::test]
async fn documents_and_images_come_as_blocks() {
    let router = Router::new()
        .route(
            "/doc",
            get(|| async { typed("application/pdf", &b"%PDF"[..]) }),
        )
        .route(
            "/pic",
            get(|| async { typed("image/png", &b"\x00\xff\x01"[..]) }),
        )
        .route(
            "/big",
            get(|| async { typed("image/png", vec![0; 4_000_000]) }),
        );
    let server = serve(router).await;
    let reply = fetch(&server, "/doc").await;
    let ContentBlock::Document(block) = &reply.content[1] else {
        panic!("{reply:?}")
    };
    let Source::Base64(source) = &block.source else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (source.media_type.as_str(), source.data.as_str()),
        ("application/pdf", "JVBERg==")
    );
    let reply = fetch(&server, "/pic").await;
    let ContentBlock::Image(block) = &reply.content[1] else {
        panic!("{reply:?}")
    };
    let Source::Base64(source) = &block.source else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (source.media_type.as_str(), source.data.as_str()),
        ("image/png", "AP8B")
    );
    refused(
        &fetch(&server, "/big").await,
        "url_not_accessible: the file is larger than 3932160",
    );
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let router = Router::new()
        .route("/zip", get(|| async { typed("application/zip", "PK") }))
        .route(
            "/bytes",
            get(|| async { Body::from(&b"a\0b"[..]).into_response() }),
        )
        .route("/gone", get(|| async { StatusCode::GONE }))
        .route(
            "/torn",
            get(|| async {
                (
                    [
                        (header::CONTENT_LENGTH, "100"),
                        (header::CONTENT_TYPE, "text/plain"),
                    ],
                    Body::from_stream(Pieces(vec![Ok(Bytes::from("only")), Err(())])),
                )
                    .into_response()
            }),
        );
    let server = serve(router).await;
    refused(
        &fetch(&server, "/zip").await,
        "unsupported_content_type: application/zip ",
    );
    refused(
        &fetch(&server, "/bytes").await,
        "unsupported_content_type: ",
    );
    refused(
        &fetch(&server, "/gone").await,
        "url_not_accessible: the server answered with status 410",
    );
    refused(&fetch(&server, "/torn").await, "url_not_accessible: ");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let tool = Fetcher::new(AddressPolicy::allowing([nobody]));
    let reply = fetch_with(&tool, &format!("http://{nobody}/"), &Rules::default()).await;
    refused(&reply, "url_not_accessible: the request failed: ");
    let reply = fetch_with(&tool, "http://nonesuch.invalid/", &Rules::default()).await;
    refused(&reply, "url_not_accessible: the request failed: ");
}

/// A body in pieces; an error breaks the connection.
struct Pieces(Vec<Result<Bytes, ()>>);

impl futures_util::Stream for Pieces {
    type Item = Result<Bytes, std::io::Error>;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = if self.0.is_empty() {
            None
        } else {
            Some(self.0.remove(0))
        };
        let broken = |()| std::io::Error::other("broken");
        std::task::Poll::Ready(next.map(|piece| piece.map_err(broken)))
    }
}

#[tokio::test]
async fn inward_addresses_are_refused_in_every_spelling() {
    let server = serve(Router::new().fallback(|| async { "secret" })).await;
    let port = server.address.port();
    let public = Fetcher::new(AddressPolicy::public_only());
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "%6cocalhost",
        "①②⑦.0.0.1",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
    ] {
        let url = format!("http://{host}:{port}/");
        let reply = fetch_with(&public, &url, &Rules::default()).await;
        refused(&reply, "url_not_allowed: ");
        assert!(
            text(&reply).ends_with(" is not a public address"),
            "{}",
            text(&reply)
        );
    }
    // What is named is one address with one port, not the host.
    let other = serve(Router::new().fallback(|| async { "named" })).await;
    let tool = tool(&other);
    for host in ["127.0.0.1", "localhost", "127.0.0.2"] {
        let reply = fetch_with(&tool, &format!("http://{host}:{port}/"), &Rules::default()).await;
        refused(&reply, "url_not_allowed: ");
    }
    let url = format!("http://127.0.0.2:{}/", other.address.port());
    refused(
        &fetch_with(&tool, &url, &Rules::default()).await,
        "url_not_allowed: ",
    );
    assert!(
        !fetch_with(&tool, &other.named("/"), &Rules::default())
            .await
            .is_error
    );
    assert_eq!((server.visits(), other.visits()), (0, 1));
}

#[tokio::test]
async fn odd_urls_are_refused() {
    let server = serve(Router::new().fallback(|| async { "secret" })).await;
    let tool = tool(&server);
    let address = server.address;
    for (url, start) in [
        ("", "invalid_tool_input: the URL is not valid"),
        ("example.com", "invalid_tool_input: the URL is not valid"),
        ("http://", "invalid_tool_input: the URL is not valid"),
        ("http://a b/", "invalid_tool_input: the URL is not valid"),
        ("file:///etc/passwd", "url_not_allowed: only http and https"),
        ("ftp://example.com/", "url_not_allowed: only http and https"),
        ("data:text/plain,x", "url_not_allowed: only http and https"),
        (
            &format!("http://user@{address}/"),
            "url_not_allowed: a URL with credentials",
        ),
        (
            &format!("http://:pw@{address}/"),
            "url_not_allowed: a URL with credentials",
        ),
        ("http://93.184.216.34:22/", "url_not_allowed: port 22"),
        ("http://93.184.216.34:0/", "url_not_allowed: port 0"),
        (
            &format!("http://{address}/{}", "x".repeat(2_048)),
            "url_too_long: ",
        ),
    ] {
        refused(&fetch_with(&tool, url, &Rules::default()).await, start);
    }
    for input in [
        json!({}),
        json!({"url": 1}),
        json!({"url": "x", "b": 1}),
        json!(["x"]),
    ] {
        let reply = tool
            .call(&to_raw_value(&input).unwrap(), &Rules::default())
            .await;
        refused(
            &reply,
            "invalid_tool_input: Invalid arguments for function web_fetch: ",
        );
    }
    assert_eq!(server.visits(), 0);
}

#[tokio::test]
async fn every_redirect_is_checked_like_the_first_url() {
    let inner = serve(Router::new().fallback(|| async { "secret" })).await;
    let secret = inner.url("/");
    let router = Router::new()
        .route(
            "/hops/{n}",
            get(|Path(n): Path<u32>| async move {
                if n == 0 {
                    typed("text/plain", "there")
                } else {
                    Redirect::to(&format!("{}", n - 1)).into_response()
                }
            }),
        )
        .route(
            "/inward",
            get(move || async move { Redirect::temporary(&secret) }),
        )
        .route(
            "/meta",
            get(|| async { Redirect::permanent("http://169.254.169.254/latest/") }),
        )
        .route(
            "/file",
            get(|| async { Redirect::to("file:///etc/passwd") }),
        )
        .route(
            "/creds",
            get(|| async { Redirect::to("http://a:b@example.com/") }),
        )
        .route("/nowhere", get(|| async { StatusCode::FOUND }))
        .route("/bad", get(|| async { Redirect::to("http://[") }));
    let server = serve(router).await;
    let reply = fetch(&server, "/hops/5").await;
    assert_eq!(
        text(&reply),
        format!("URL: {}\n\nthere", server.url("/hops/0"))
    );
    refused(
        &fetch(&server, "/hops/6").await,
        "url_not_accessible: the page redirects more than 5",
    );
    for path in ["/inward", "/meta", "/file", "/creds"] {
        refused(&fetch(&server, path).await, "url_not_allowed: ");
    }
    for path in ["/nowhere", "/bad"] {
        refused(
            &fetch(&server, path).await,
            "url_not_accessible: the page redirects to no valid",
        );
    }
    assert_eq!(inner.visits(), 0);
}

#[tokio::test]
async fn domain_rules_hold_for_the_url_and_its_redirects() {
    let router = Router::new().route("/", get(|| async { "here" })).route(
        "/away",
        get(|headers: HeaderMap| async move {
            let host = headers[header::HOST]
                .to_str()
                .unwrap()
                .replace("localhost", "127.0.0.1");
            Redirect::to(&format!("http://{host}/"))
        }),
    );
    let server = serve(router).await;
    let tool = tool(&server);
    let only = allowed(&["localhost"]);
    assert!(!fetch_with(&tool, &server.named("/"), &only).await.is_error);
    assert!(
        !fetch_with(&tool, &server.named("/away"), &Rules::default())
            .await
            .is_error
    );
    let visits = server.visits();
    let reply = fetch_with(&tool, &server.named("/away"), &only).await;
    refused(
        &reply,
        "url_not_allowed: 127.0.0.1 is outside the domains this agent may fetch from",
    );
    assert_eq!(server.visits(), visits + 1);
    refused(
        &fetch_with(&tool, &server.named("/"), &allowed(&[])).await,
        "url_not_allowed: ",
    );
    let blocked = Rules {
        blocked_domains: Some(vec!["localhost".to_owned()]),
        ..Rules::default()
    };
    refused(
        &fetch_with(&tool, &server.named("/"), &blocked).await,
        "url_not_allowed: ",
    );
    assert_eq!(server.visits(), visits + 1);
}

#[tokio::test]
async fn nothing_of_ours_is_sent_along() {
    let router = Router::new().route(
        "/{n}",
        get(|Path(n): Path<u32>, headers: HeaderMap| async move {
            if n > 0 {
                let cookie = [(header::SET_COOKIE, "id=1; Path=/")];
                return (cookie, Redirect::to("/0")).into_response();
            }
            let mut names: Vec<_> = headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect();
            names.sort();
            typed("text/plain", names.join(" "))
        }),
    );
    let server = serve(router).await;
    let reply = fetch(&server, "/1").await;
    let url = server.url("/0");
    assert_eq!(
        text(&reply),
        format!("URL: {url}\n\naccept accept-encoding host user-agent")
    );
}

#[tokio::test]
async fn long_pages_are_cut() {
    let router = Router::new()
        .route(
            "/long",
            get(|| async { typed("text/plain", "é".repeat(500_000)) }),
        )
        .route(
            "/html",
            get(|| async { typed("text/html", "<p>word</p>".repeat(100_000)) }),
        )
        .route(
            "/endless",
            get(|| async {
                let piece = Bytes::from(vec![b'x'; 65_536]);
                typed(
                    "text/plain",
                    Body::from_stream(futures_util::stream::repeat_with(move || {
                        Ok::<_, std::io::Error>(piece.clone())
                    })),
                )
            }),
        );
    let server = serve(router).await;
    let length = |reply: &Reply| {
        let body = text(reply).split_once("\n\n").unwrap().1;
        body.strip_suffix("\n\n[content truncated]")
            .unwrap()
            .chars()
            .count()
    };
    for path in ["/long", "/html", "/endless"] {
        assert_eq!(length(&fetch(&server, path).await), 400_000, "{path}");
    }
    for (tokens, chars) in [(1, 4), (1_000, 4_000), (u64::MAX, 400_000)] {
        let rules = Rules {
            max_content_tokens: Some(tokens),
            ..Rules::default()
        };
        let reply = fetch_with(&tool(&server), &server.url("/long"), &rules).await;
        assert_eq!(length(&reply), chars);
    }
}

#[tokio::test]
async fn compressed_pages_are_read_and_bombs_do_not_go_off() {
    let zipped = |script: &str| {
        let script = format!("{script} | gzip -9");
        let done = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(done.status.success());
        done.stdout
    };
    let (small, bomb) = (
        zipped("printf small"),
        zipped("head -c 1000000000 /dev/zero"),
    );
    assert!(bomb.len() < 2_000_000);
    let zipped = |body: Vec<u8>| {
        move || async move {
            (
                [
                    (header::CONTENT_ENCODING, "gzip"),
                    (header::CONTENT_TYPE, "text/plain"),
                ],
                body,
            )
        }
    };
    let router = Router::new()
        .route("/small", get(zipped(small)))
        .route("/bomb", get(zipped(bomb)));
    let server = serve(router).await;
    assert!(text(&fetch(&server, "/small").await).ends_with("\n\nsmall"));
    assert!(text(&fetch(&server, "/bomb").await).ends_with("\n\n[content truncated]"));
}

#[tokio::test]
async fn a_slow_server_runs_out_of_time() {
    let router = Router::new()
        .route("/silent", get(std::future::pending::<&str>))
        .route(
            "/stuck",
            get(|| async {
                typed(
                    "text/plain",
                    Body::from_stream(
                        futures_util::stream::pending::<Result<Bytes, std::io::Error>>(),
                    ),
                )
            }),
        );
    let server = serve(router).await;
    let tool = tool(&server).with_time(Duration::from_millis(300));
    for path in ["/silent", "/stuck"] {
        let reply = fetch_with(&tool, &server.url(path), &Rules::default()).await;
        refused(&reply, "url_not_accessible: the page took more than 300ms");
    }
}
