//! Sessions and their events (contracts 30 and 40).

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::history::{History, Since};
use crate::page::Pages;
use crate::stream::{EventStream, Previews};

impl Client {
    /// `POST /v1/sessions`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_session(&self, body: &Value) -> Result<Value, ClientError> {
        self.post(&["v1", "sessions"], body).await
    }

    /// `GET /v1/sessions/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn session(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "sessions", id], &[]).await
    }

    /// `GET /v1/sessions` with the given filters, for example `("statuses[]", "idle")`.
    pub fn sessions(&self, filters: &[(&str, &str)]) -> Pages<Value> {
        Pages::new(self, &["v1", "sessions"], filters)
    }

    /// `POST /v1/sessions/{id}/archive`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn archive_session(&self, id: &str) -> Result<Value, ClientError> {
        self.act(&["v1", "sessions", id, "archive"]).await
    }

    /// `DELETE /v1/sessions/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_session(&self, id: &str) -> Result<Value, ClientError> {
        self.delete(&["v1", "sessions", id]).await
    }

    /// `POST /v1/sessions/{id}/events`: all are accepted or none.
    ///
    /// # Errors
    /// See [`ClientError`]. An answer that does not say so is one: whatever stands between may
    /// have given it, and an event that is believed to be there is not sent again.
    pub async fn send_events(&self, id: &str, events: &[Value]) -> Result<(), ClientError> {
        let path = ["v1", "sessions", id, "events"];
        let answer: Value = self.post(&path, &json!({ "events": events })).await?;
        // The list may be left out (contract 40).
        let accepted = answer
            .as_object()
            .is_some_and(|answer| match answer.get("data") {
                None | Some(Value::Null) => true,
                Some(data) => data.as_array().is_some_and(|d| d.len() == events.len()),
            });
        if accepted {
            Ok(())
        } else {
            Err(ClientError::Protocol(
                "it does not say that the events were accepted".to_owned(),
            ))
        }
    }

    /// `GET /v1/sessions/{id}/events`, oldest first, including inputs that wait.
    pub fn events(&self, id: &str) -> Pages<Box<RawValue>> {
        Pages::new(
            self,
            &["v1", "sessions", id, "events"],
            &[("limit", "1000"), ("order", "asc")],
        )
    }

    /// `GET /v1/sessions/{id}/events/stream`: what happens from now on. When this returns, the
    /// subscription is active.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stream(&self, id: &str, previews: Previews) -> Result<EventStream, ClientError> {
        EventStream::open(self, id, previews).await
    }

    /// The session's events from `from` on and live, without gaps, across reconnections.
    pub fn stream_with_history(&self, id: &str, previews: Previews, from: Since) -> History {
        History::new(self, id, previews, from)
    }
}
