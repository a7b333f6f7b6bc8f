//! `freehold worker webhook`: a signed `session.status_run_started` delivery (contract 80) says that
//! there is work; nothing in it is believed but that.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_base::{Secret, SharedClock, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::Notify;

/// Greatest body of a delivery, bytes; they are thin.
const MAX_BODY: usize = 64 * 1024;
/// Greatest difference between a delivery's time and ours, seconds.
const TOLERANCE: i64 = 5 * 60;
/// Signatures looked at.
const MAX_SIGNATURES: usize = 16;

/// Checks deliveries.
pub struct Verifier {
    key: Secret<Vec<u8>>,
    clock: SharedClock,
}

/// The key has another form than `whsec_` and base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook signing key is whsec_ followed by base64")]
pub struct InvalidSigningKey;

/// Why a delivery is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A header is missing or cannot be read.
    #[error("a signature header is missing")]
    Headers,
    /// Too old, or from the future.
    #[error("the delivery's time differs by more than five minutes")]
    Time,
    /// No signature is right.
    #[error("the signature is wrong")]
    Signature,
    /// Signed, but no event.
    #[error("the body is not an event")]
    Body,
}

impl Verifier {
    /// A verifier for deliveries signed with `key`.
    ///
    /// # Errors
    /// [`InvalidSigningKey`]; it says nothing of the key.
    pub fn new(key: &Secret<String>, clock: SharedClock) -> Result<Self, InvalidSigningKey> {
        let text = key.expose().trim();
        let text = text.strip_prefix("whsec_").ok_or(InvalidSigningKey)?;
        let bytes = STANDARD.decode(text).map_err(|_| InvalidSigningKey)?;
        if bytes.is_empty() {
            return Err(InvalidSigningKey);
        }
        Ok(Self {
            key: Secret::new(bytes),
            clock,
        })
    }

    /// The type of event that a delivery tells of.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, Rejected> {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.ok_or(Rejected::Headers)
        };
        let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signatures = header("webhook-signature")?;
        let sent: i64 = time.parse().map_err(|_| Rejected::Headers)?;
        let now = self.clock.now().as_micros().div_euclid(1_000_000);
        if TOLERANCE < now.saturating_sub(sent).saturating_abs() {
            return Err(Rejected::Time);
        }
        let mut right = false;
        for signature in signatures.split(' ').take(MAX_SIGNATURES) {
            let Some(signature) = signature.strip_prefix("v1,") else {
                continue;
            };
            let Ok(signature) = STANDARD.decode(signature) else {
                continue;
            };
            let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose())
                .map_err(|_| Rejected::Signature)?;
            for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
                mac.update(part);
            }
            // In constant time.
            right |= mac.verify_slice(&signature).is_ok();
        }
        if !right {
            return Err(Rejected::Signature);
        }
        #[derive(Deserialize)]
        struct Delivery {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            r#type: String,
        }
        let delivery: Delivery = serde_json::from_slice(body).map_err(|_| Rejected::Body)?;
        Ok(delivery.data.r#type)
    }

    /// The signature of a delivery, as its sender makes it.
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> Option<String> {
        let time = at.as_micros().div_euclid(1_000_000).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).ok()?;
        for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(format!(
            "v1,{}",
            STANDARD.encode(mac.finalize().into_bytes())
        ))
    }
}

struct Receiver {
    verifier: Verifier,
    work: Arc<Notify>,
}

/// Receives deliveries on any path and wakes `work` for each that says a session runs.
pub fn router(verifier: Verifier, work: Arc<Notify>) -> Router {
    let receiver = Arc::new(Receiver { verifier, work });
    Router::new()
        .route("/", post(receive))
        .route("/{*path}", post(receive))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(receiver)
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    match receiver.verifier.verify(&headers, &body) {
        Ok(kind) if kind == "session.status_run_started" => {
            tracing::info!("a session runs; draining the queue");
            receiver.work.notify_one();
            (StatusCode::NO_CONTENT, String::new())
        }
        // Something else that is subscribed to at the same endpoint.
        Ok(_) => (StatusCode::NO_CONTENT, String::new()),
        Err(why) => {
            tracing::warn!(%why, "a delivery was refused");
            let status = match why {
                Rejected::Body => StatusCode::BAD_REQUEST,
                _ => StatusCode::UNAUTHORIZED,
            };
            (status, format!("{why}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use freehold_base::ManualClock;

    const BODY: &[u8] = br#"{"type":"event","id":"whe_01","data":{"type":"session.status_run_started","id":"sesn_1"}}"#;

    fn verifier(at: i64) -> Verifier {
        let key = Secret::new(format!("whsec_{}", STANDARD.encode([7u8; 32])));
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(at * 1_000_000)));
        Verifier::new(&key, clock).unwrap()
    }

    fn headers(id: &str, time: i64, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_str(id).unwrap());
        headers.insert("webhook-timestamp", HeaderValue::from(time));
        headers.insert(
            "webhook-signature",
            HeaderValue::from_str(signature).unwrap(),
        );
        headers
    }

    /// A value made by another implementation of Standard Webhooks (Python's hmac).
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let verifier = verifier(1_700_000_000);
        let at = Timestamp::from_micros(1_700_000_000 * 1_000_000);
        assert_eq!(verifier.sign("whe_01", at, BODY).unwrap(), REFERENCE);
        let kind = verifier.verify(&headers("whe_01", 1_700_000_000, REFERENCE), BODY);
        assert_eq!(kind.unwrap(), "session.status_run_started");
        let several = format!("v1,AAAA v2,x {REFERENCE}");
        assert!(
            verifier
                .verify(&headers("whe_01", 1_700_000_000, &several), BODY)
                .is_ok()
        );
    }
    const REFERENCE: &str = "v1,C7o51Nr1UfrGgLHsW6J3Vpqi55gEAzah9THnM6lXfgk=";

    #[test]
    fn whatever_is_changed_is_refused() {
        let at = 1_700_000_000;
        let check = |now, id, time, signature: &str, body: &[u8]| {
            verifier(now).verify(&headers(id, time, signature), body)
        };
        assert_eq!(
            check(at, "whe_02", at, REFERENCE, BODY),
            Err(Rejected::Signature)
        );
        assert_eq!(
            check(at, "whe_01", at + 1, REFERENCE, BODY),
            Err(Rejected::Signature)
        );
        assert_eq!(
            check(at, "whe_01", at, REFERENCE, b"{}"),
            Err(Rejected::Signature)
        );
        assert_eq!(
            check(at, "whe_01", at, "v1,", BODY),
            Err(Rejected::Signature)
        );
        assert_eq!(
            check(at, "whe_01", at, &REFERENCE[3..], BODY),
            Err(Rejected::Signature)
        );
        for now in [at + 301, at - 301] {
            assert_eq!(
                check(now, "whe_01", at, REFERENCE, BODY),
                Err(Rejected::Time)
            );
        }
        for now in [at + 300, at - 300] {
            assert!(check(now, "whe_01", at, REFERENCE, BODY).is_ok());
        }
        let none = verifier(at).verify(&HeaderMap::new(), BODY);
        assert_eq!(none, Err(Rejected::Headers));
        for key in ["", "whsec_", "whsec_?", "AAAA"] {
            let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
            assert!(
                Verifier::new(&Secret::new(key.to_owned()), clock).is_err(),
                "{key}"
            );
        }
    }

    #[test]
    fn a_signed_body_that_is_no_event_is_refused() {
        let (at, verifier) = (1_700_000_000, verifier(1_700_000_000));
        let time = Timestamp::from_micros(at * 1_000_000);
        let signature = verifier.sign("whe_01", time, b"[]").unwrap();
        let read = verifier.verify(&headers("whe_01", at, &signature), b"[]");
        assert_eq!(read, Err(Rejected::Body));
    }
}
