//! A web server on loopback that counts who comes.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use freehold_web::Reply;
use freehold_wire::content::ContentBlock;

pub struct Server {
    pub address: SocketAddr,
    visits: Arc<AtomicUsize>,
}

/// Serves `router` on a free port of `127.0.0.1`.
pub async fn serve(router: Router) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let visits = Arc::new(AtomicUsize::new(0));
    let count = visits.clone();
    let router = router.layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            count.fetch_add(1, Ordering::SeqCst);
            next.run(request)
        },
    ));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Server { address, visits }
}

impl Server {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same by name.
    pub fn named(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// The text of a reply of one text block.
pub fn text(reply: &Reply) -> &str {
    match &reply.content[..] {
        [ContentBlock::Text(block)] => &block.text,
        other => panic!("not one text: {other:?}"),
    }
}
