//! Names, answered without asking anybody: an allowed name has an address of this sandbox's own
//! making, any other does not exist. So no query can carry anything out.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::Shared;
use super::question::{Answer, MAX_QUERY, Question};
use super::refusal::Refusal;
use super::target::{Host, Target};

/// How long a connection may wait for its next query.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

impl Shared {
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let question = match Question::read(query) {
            Ok(question) => question,
            Err(no) => return no.respond(),
        };
        let answer = match &question.name {
            Some(name) if self.network().policy.allows_name(name) => {
                if question.wants_address {
                    Answer::Address(self.names().address(name))
                } else {
                    Answer::Nothing
                }
            }
            Some(name) => {
                let host = Host::Name(name.clone());
                self.note(&Target { host, port: 0 }, Refusal::NotAllowed);
                Answer::NoName
            }
            None => Answer::NoName,
        };
        Some(question.respond(answer))
    }
}

/// Answers datagrams until stopped.
pub(super) async fn datagrams(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = [0; MAX_QUERY];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = shared.stop.cancelled() => return,
        };
        // Errors are of earlier answers that nobody took.
        let Ok((length, from)) = received else {
            continue;
        };
        if let Some(answer) = shared.answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// Answers queries on a connection until it ends or is silent.
pub(super) async fn stream(mut stream: TcpStream, shared: &Shared) {
    while let Ok(Ok(Some(answer))) =
        tokio::time::timeout(QUERY_LIMIT, one_query(&mut stream, shared)).await
    {
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend(answer);
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn one_query(stream: &mut TcpStream, shared: &Shared) -> std::io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Ok(None);
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(shared.answer(&query))
}
