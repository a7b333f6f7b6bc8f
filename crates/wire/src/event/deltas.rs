//! `event_deltas[]` of an event stream (contract 40, "Event deltas").

use freehold_base::limits::MAX_EVENT_DELTAS;

use crate::ApiError;

/// Values of `event_deltas[]`: event types whose previews a stream asks for (contract 40).
///
/// # Errors
/// Names `event_deltas` when a value is unknown or there are too many.
pub fn event_deltas(values: &[&str]) -> Result<Deltas, ApiError> {
    if MAX_EVENT_DELTAS < values.len() {
        return Err(ApiError::invalid(format!(
            "event_deltas: At most {MAX_EVENT_DELTAS} values are allowed, not {}",
            values.len()
        )));
    }
    let mut deltas = Deltas::default();
    for value in values {
        match *value {
            "agent.message" => deltas.message = true,
            "agent.thinking" => deltas.thinking = true,
            other => {
                return Err(ApiError::invalid(format!(
                    "event_deltas: Input should be 'agent.message' or 'agent.thinking', not '{}'",
                    crate::decode::echo(other)
                )));
            }
        }
    }
    Ok(deltas)
}

/// Which previews a stream asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deltas {
    /// `agent.message`: start and text.
    pub message: bool,
    /// `agent.thinking`: start only.
    pub thinking: bool,
}
