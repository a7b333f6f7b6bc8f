//! What a provider is asked.

use crate::raw::{NotAnObject, RawObject};

/// One model request in the one dialect used inside: the body of `POST /v1/messages`
/// (contract 82 §2).
#[derive(Debug, Clone, Default)]
pub struct ModelRequest {
    /// The whole body. `model` is our id; the provider puts the upstream id in its place, and sets
    /// or removes `stream`. Everything else is sent as it is where the provider speaks Messages.
    pub body: RawObject,
    /// `anthropic-version`; absent means `2023-06-01`.
    pub anthropic_version: Option<String>,
    /// Values for `anthropic-beta`, forwarded where the provider speaks Messages.
    pub beta: Vec<String>,
}

impl ModelRequest {
    /// A request with no betas and the default version.
    pub fn new(body: RawObject) -> Self {
        Self {
            body,
            ..Self::default()
        }
    }
    /// From a body built as a [`serde_json::Value`].
    ///
    /// # Errors
    /// [`NotAnObject`] when the value is not an object.
    pub fn from_value(body: serde_json::Value) -> Result<Self, NotAnObject> {
        Ok(Self::new(RawObject::try_from(body)?))
    }
    /// The model id in the body, if it is a string.
    pub fn model(&self) -> Option<String> {
        self.body.read("model")
    }
}
