//! Sending a call's result (contract 55 §4, 90 E).

use std::time::Duration;

use freehold_base::{Entropy, SystemEntropy};
use freehold_client::{Client, ClientError};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::{Lease, is_fatal};
use super::metrics::Metrics;
use crate::content::Reply;

/// Longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Sends a result until the server has it, refuses it, or the lease can no longer be ours. Whether
/// the server has it.
pub(super) async fn result(
    client: &Client,
    session: &str,
    call: &str,
    reply: &Reply,
    lease: &watch::Receiver<Lease>,
    metrics: &Metrics,
) -> bool {
    let start = Instant::now();
    let mut event = event(call, reply);
    let mut replaced = false;
    for attempt in 0u32.. {
        let error = match client
            .send_events(session, std::slice::from_ref(&event))
            .await
        {
            Ok(_) => return true,
            Err(error) => error,
        };
        metrics.upload_failed();
        // A result that is refused for what it is must not leave the session waiting for ever.
        if !replaced && let Some(text) = refused(&error) {
            tracing::warn!(session, call, %error, "a result was refused; the agent is told");
            event = self::event(call, &Reply::error(text));
            replaced = true;
            continue;
        }
        if is_fatal(&error) {
            tracing::error!(session, call, %error, "a result was not accepted");
            return false;
        }
        let left = lease.borrow().send_window().checked_sub(start.elapsed());
        let Some(left) = left.filter(|left| !left.is_zero()) else {
            tracing::error!(session, call, attempt, %error, "a result could not be sent");
            return false;
        };
        let wait = backoff(attempt, MAX_WAIT).min(left);
        tracing::warn!(session, call, attempt, %error, "a result was not sent; trying again");
        tokio::time::sleep(wait).await;
    }
    false
}

fn event(call: &str, reply: &Reply) -> Value {
    json!({
        "type": "user.tool_result",
        "tool_use_id": call,
        "is_error": reply.is_error,
        "content": reply.content,
    })
}

/// What to tell the agent when the server does not take the result for its size or shape.
fn refused(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Api(failure) if failure.status == 413 => {
            Some("The tool's result is too large to be sent.".to_owned())
        }
        ClientError::Api(failure) if failure.status == 400 => Some(format!(
            "The tool's result was refused: {}",
            failure.message
        )),
        _ => None,
    }
}

/// 1, 2, 4… seconds up to `max`, less up to half of it by chance.
pub(super) fn backoff(attempt: u32, max: Duration) -> Duration {
    let full = Duration::from_secs(1 << attempt.min(16)).min(max);
    let mut byte = [0u8];
    SystemEntropy.fill(&mut byte);
    full - full.mul_f64(f64::from(byte[0]) / 255.0 / 2.0)
}
