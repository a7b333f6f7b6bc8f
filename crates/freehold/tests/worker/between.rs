//! A server between a worker and the real one, which answers some requests in its own way.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

/// An answer to the request with this path; `None` passes it on.
type Answer = dyn Fn(&str) -> Option<Response> + Send + Sync;

pub(crate) struct Between {
    pub(crate) url: String,
    answered: Arc<Mutex<Vec<String>>>,
}

struct Hop {
    to: String,
    http: reqwest::Client,
    answer: Box<Answer>,
    answered: Arc<Mutex<Vec<String>>>,
}

impl Between {
    pub(crate) async fn start(
        to: &str,
        answer: impl Fn(&str) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let answered = Arc::new(Mutex::default());
        let hop = Hop {
            to: to.to_owned(),
            http: reqwest::Client::new(),
            answer: Box::new(answer),
            answered: Arc::clone(&answered),
        };
        let router = Router::new().fallback(pass).with_state(Arc::new(hop));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, answered }
    }

    /// How many requests with this in their path it answered itself.
    pub(crate) fn answered(&self, part: &str) -> usize {
        let answered = self.answered.lock().unwrap();
        answered.iter().filter(|path| path.contains(part)).count()
    }
}

async fn pass(State(hop): State<Arc<Hop>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Some(own) = (hop.answer)(&path) {
        hop.answered.lock().unwrap().push(path);
        return own;
    }
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let url = format!("{}{}", hop.to, parts.uri);
    let mut onward = hop.http.request(parts.method, url).body(body);
    for (name, value) in &parts.headers {
        if name != "host" && name != "content-length" {
            onward = onward.header(name, value);
        }
    }
    let Ok(back) = onward.send().await else {
        return axum::http::StatusCode::BAD_GATEWAY.into_response();
    };
    let mut response = Response::builder().status(back.status());
    for name in ["content-type", "request-id"] {
        if let Some(value) = back.headers().get(name) {
            response = response.header(name, value);
        }
    }
    response
        .body(Body::from_stream(back.bytes_stream()))
        .unwrap()
}
