//! The gateway's status over HTTP.

mod world;

use freehold_tunnel::gateway::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use world::{Given, World};

async fn started() -> World {
    World::with(Given {
        config: "status_addr: 127.0.0.1:0\n".to_owned(),
        ..Given::default()
    })
    .await
}

/// Status and body of what is answered.
async fn ask(world: &World, method: &str, path: &str, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(world.status_addr.unwrap())
        .await
        .unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn get(world: &World, path: &str) -> (u16, String) {
    ask(world, "GET", path, "127.0.0.1:1234").await
}

#[tokio::test]
async fn probes_and_prometheus_are_told_how_it_is() {
    let world = started().await;
    world
        .until("both connections", |s| s.connections.len() == 2)
        .await;
    assert!(world.get("/").await.unwrap().contains("200 OK"));
    world
        .raw("GET / HTTP/1.1\r\nHost: other.abc.tunnel.test\r\n\r\n")
        .await;
    world.raw("nonsense\r\n\r\n").await;
    world
        .until("the requests", |s| s.requests.values().sum::<u64>() == 3)
        .await;
    let (code, json) = get(&world, "/").await;
    let status: Status = serde_json::from_str(&json).unwrap();
    assert!(
        code == 200 && status.ready && status.routes.contains_key("app"),
        "{json}"
    );
    assert_eq!(get(&world, "/healthz").await, (200, "ready\n".to_owned()));
    let (code, metrics) = get(&world, "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "# TYPE freehold_gateway_connections gauge",
        "freehold_gateway_ready 1",
        "freehold_gateway_connections 2",
        "freehold_gateway_routes 1",
        "freehold_gateway_certificate_days_left 1",
        "# TYPE freehold_gateway_requests_total counter",
        "freehold_gateway_requests_total{outcome=\"ok\"} 1",
        "freehold_gateway_requests_total{outcome=\"not_forwarded\"} 2",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_gateway_that_stops_is_not_ready_though_it_still_serves() {
    let world = started().await;
    let mut open = world.dial().await.unwrap();
    open.write_all(b"GET /slow HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    world.reached_slow().await;
    world.tell_to_stop();
    world.until("it to stop", |s| s.stopping).await;
    assert_eq!(
        get(&world, "/healthz").await,
        (503, "not connected\n".to_owned())
    );
    world.let_slow_go();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("slow and whole"), "{answer}");
    world.stop_gateway().await;
    assert!(
        TcpStream::connect(world.status_addr.unwrap())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn nothing_else_is_answered() {
    let world = started().await;
    for (method, path, host, code) in [
        ("GET", "/other", "127.0.0.1", 404),
        ("POST", "/", "127.0.0.1", 405),
        // A name that a page in a browser was loaded from.
        ("GET", "/", "evil.example:9090", 403),
        ("GET", "/", "localhost.evil.example", 403),
        ("GET", "/", "", 403),
        ("GET", "/healthz", "localhost:1", 200),
        ("GET", "/healthz", "[::1]:1", 200),
    ] {
        let (got, body) = ask(&world, method, path, host).await;
        assert_eq!(got, code, "{method} {path} {host}: {body}");
        assert!(code == 200 || !body.contains("127.0.0.1:"), "{body}");
    }
}
