//! How many events a second become durable through `POST events`.
//!
//! The sessions wait for a tool result, so a message is accepted, made durable and acknowledged,
//! but starts no turn: nothing but the append is measured. One session for each producer and more,
//! made afresh each round, so that queues stay short.

use anyhow::Result;
use bytes::Bytes;

use super::Lab;
use crate::load::api;
use crate::load::closed_loop;
use crate::load::connection::Connection;
use crate::load::upstream::Work;

/// Sessions that take the events.
const SESSIONS: usize = 64;
/// Connections that make them.
const MAKERS: usize = 16;
/// Producers, and events in one send.
const LOADS: [(usize, usize); 4] = [(1, 1), (16, 1), (64, 1), (16, 50)];

struct Producer {
    connection: Connection,
    at: usize,
}

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let sessions = waiting_sessions(lab).await?;
    let order = lab.upstream.order(Work::Text).to_string();
    let mut rates = Vec::new();
    for (producers, events) in LOADS {
        let body: Bytes = api::messages(&order, events);
        let connections = Connection::several(lab.site.target(), producers).await?;
        let mut producers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(at, connection)| Producer { connection, at })
            .collect();
        let count = producers.len();
        let before = lab.site.server.cpu()?;
        let step = async |producer: &mut Producer| {
            let session = &sessions[producer.at % sessions.len()];
            producer.at += count;
            producer
                .connection
                .send_events(session, body.clone())
                .await?;
            Ok(events)
        };
        let done = closed_loop::run(&mut producers, lab.plan.slice, step).await?;
        let cpu = (lab.site.server.cpu()? - before).as_secs_f64() * 1e3 / done.count as f64;
        let (id, what) = if events == 1 {
            let plural = if count == 1 { "" } else { "s" };
            (
                format!("append.{count}"),
                format!("durable events, {count} producer{plural}"),
            )
        } else {
            (
                format!("append.{count}x{events}"),
                format!("durable events, {count} producers, {events} in a send"),
            )
        };
        lab.put(&format!("{id}.rate"), &what, "events/s", done.rate());
        lab.put(
            &format!("{id}.cpu"),
            &format!("{what}: CPU"),
            "ms/event",
            cpu,
        );
        rates.push(done.rate());
    }
    lab.put(
        "append.ratio_64_1",
        "64 producers against 1",
        "×",
        rates[2] / rates[0],
    );
    Ok(())
}

/// Sessions that wait for a tool result.
async fn waiting_sessions(lab: &Lab) -> Result<Vec<String>> {
    let (site, upstream) = (&lab.site, &lab.upstream);
    let make = async |(): &mut (), _| {
        let mut talk = site.talk(&site.holding).await?;
        talk.hold(upstream, 1).await?;
        Ok(talk.session)
    };
    closed_loop::share(&mut [(); MAKERS], 0..SESSIONS, make).await
}
