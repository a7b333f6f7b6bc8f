//! `bash: true` in a fresh sandbox, and again in the same.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use freehold_base::Timestamp;

use super::Lab;
use crate::load::api;
use crate::load::connection::Connection;
use crate::load::stream::Stream;
use crate::load::upstream::Work;

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let mut connection = Connection::open(lab.site.target()).await?;
    let (mut cold, mut warm, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..lab.plan.sandboxes {
        let body = api::session(&lab.site.working, &lab.site.cloud);
        let made = match connection.post("/v1/sessions", body).await {
            Ok(made) => made,
            Err(refusal) => {
                lab.board
                    .note(format!("sandboxes not measured: {refusal:#}"));
                return Ok(());
            }
        };
        let session = made.json()?["id"]
            .as_str()
            .context("a session without id")?
            .to_owned();
        let stream = Stream::open(lab.site.target(), &session, false).await?;
        let body = api::message(&lab.upstream.order(Work::Bash(lab.plan.calls)));
        connection.send_events(&session, body).await?;
        let (calls, first) = calls(stream).await?;
        let [first_call, rest @ ..] = &calls[..] else {
            bail!("no call was made")
        };
        if calls.len() != lab.plan.calls {
            bail!("{} of {} calls were made", calls.len(), lab.plan.calls);
        }
        cold.push(*first_call);
        warm.extend_from_slice(rest);
        seen.push((first - made.sent).as_secs_f64() * 1e3);
        connection
            .delete(&format!("/v1/sessions/{session}"))
            .await?;
    }
    lab.put_millis(
        "sandbox.cold",
        "first bash call of a session, use to result",
        &cold,
    );
    lab.put_millis(
        "sandbox.created",
        "session create to its first tool result out",
        &seen,
    );
    lab.put_millis("sandbox.call", "later bash calls, use to result", &warm);
    Ok(())
}

/// Milliseconds between the stamps of each call and its result, and when the first result arrived.
async fn calls(mut stream: Stream) -> Result<(Vec<f64>, std::time::Instant)> {
    let mut asked: HashMap<String, Timestamp> = HashMap::new();
    let (mut times, mut first) = (Vec::new(), None);
    loop {
        let seen = stream.next().await?;
        let rested = seen.event.rested()?.is_some();
        let event = seen.event;
        match event.r#type.as_str() {
            "agent.tool_use" => {
                let at = event.processed_at.context("a call without time")?;
                asked.insert(event.id.context("a call without id")?, at);
            }
            "agent.tool_result" => {
                let of = event.tool_use_id.and_then(|id| asked.remove(&id));
                let of = of.context("a result without call")?;
                if event.is_error == Some(true) {
                    bail!("`bash: true` failed");
                }
                let at = event.processed_at.context("a result without time")?;
                times.push(at.seconds_since(of) * 1e3);
                first.get_or_insert(seen.at);
            }
            _ => {}
        }
        if rested {
            return Ok((times, first.context("no result came")?));
        }
    }
}
