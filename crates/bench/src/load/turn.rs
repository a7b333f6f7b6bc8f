//! One turn, with the moments that matter.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::api;
use super::connection::Connection;
use super::stream::{Seen, Stream};
use super::upstream::{Upstream, Work};

/// A session with its stream open.
pub(crate) struct Talk {
    pub(crate) session: String,
    pub(crate) connection: Connection,
    pub(crate) stream: Stream,
}

/// How a turn went, in milliseconds since its message was sent.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The send was answered: the message is durable.
    pub(crate) acknowledged: f64,
    /// The model's request arrived.
    pub(crate) asked: f64,
    /// The first preview frame arrived.
    pub(crate) first: f64,
    /// The user's message came back on the stream, processed.
    pub(crate) echo: f64,
    /// `session.status_idle` arrived.
    pub(crate) idle: f64,
    /// Of that, spent in the model.
    pub(crate) model: f64,
    /// For each event, from the time it is stamped with to its arrival.
    pub(crate) delivery: Vec<f64>,
}

impl Talk {
    /// Has the model answer with a text and watches.
    pub(crate) async fn turn(&mut self, upstream: &Upstream) -> Result<Turn> {
        let order = upstream.watched(Work::Text);
        let body = api::message(&order);
        // Watched from before the send, so that no frame's arrival is noticed late.
        let sending = self.connection.send_events(&self.session, body);
        let (sent, seen) = tokio::try_join!(sending, watch(&mut self.stream))?;
        let since = |at: Instant| (at - sent.sent).as_secs_f64() * 1e3;
        let mut turn = Turn {
            acknowledged: sent.millis(),
            ..Turn::default()
        };
        for seen in seen {
            if let Some(stamped) = seen.event.processed_at {
                // Both clocks are this machine's. Stamps of one batch are a microsecond apart, so
                // the last ones may lie that little in the future.
                turn.delivery.push(seen.clock.seconds_since(stamped) * 1e3);
            }
            let at = since(seen.at);
            match seen.event.r#type.as_str() {
                "event_start" | "event_delta" if turn.first == 0.0 => turn.first = at,
                "user.message" if seen.event.processed_at.is_some() => turn.echo = at,
                _ => {}
            }
            turn.idle = at;
        }
        let asked = upstream.asked(&order)?;
        let [one] = asked[..] else {
            bail!("a turn asked the model {} times", asked.len())
        };
        turn.asked = since(one.arrived);
        turn.model = (one.answered - one.arrived).as_secs_f64() * 1e3;
        if turn.first == 0.0 || turn.echo == 0.0 {
            bail!("a turn without a preview or without its message");
        }
        Ok(turn)
    }

    /// Has the model make `count` calls that wait for us, and gives their ids.
    pub(crate) async fn hold(&mut self, upstream: &Upstream, count: usize) -> Result<Vec<String>> {
        let body = api::message(&upstream.order(Work::Hold(count)));
        self.connection.send_events(&self.session, body).await?;
        let reason = self.stream.rest().await?;
        if reason.event_ids.len() != count {
            bail!("{} of {count} calls wait", reason.event_ids.len());
        }
        Ok(reason.event_ids)
    }

    /// Answers held calls; the turn ends.
    pub(crate) async fn release(&mut self, calls: &[String]) -> Result<()> {
        let body = api::results(calls);
        self.connection
            .send_events(&self.session, body)
            .await
            .context("results refused")?;
        loop {
            if self.stream.rest().await?.r#type == "end_turn" {
                return Ok(());
            }
        }
    }
}

/// Every frame up to the end of the turn.
async fn watch(stream: &mut Stream) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    loop {
        let seen = stream.next().await?;
        let rested = seen.event.rested()?.map(|reason| reason.r#type.clone());
        all.push(seen);
        match rested.as_deref() {
            None => {}
            Some("end_turn") => return Ok(all),
            Some(other) => bail!("the turn ended with {other}"),
        }
    }
}
