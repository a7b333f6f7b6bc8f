//! Requests to the work queue (contract 50 §2).

use freehold_base::limits::{
    MAX_WORK_BLOCK_MS, MAX_WORK_RECLAIM_MS, WORK_LEASE_SECONDS, WORK_RECLAIM_MS,
};
use serde_json::Value;

use crate::decode::{At, Decode, Object, boolean};
use crate::metadata::{self, MetadataPatch};
use crate::work::RESERVED;
use crate::{ApiError, Query, Request};

/// `GET …/work/poll`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollQuery {
    /// Milliseconds to wait for an item; `None` answers at once.
    pub block_ms: Option<u64>,
    /// Items handed out longer ago and not acknowledged are handed out again, milliseconds.
    pub reclaim_older_than_ms: u64,
}

impl PollQuery {
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let reclaim = query.integer("reclaim_older_than_ms", 0, MAX_WORK_RECLAIM_MS)?;
        Ok(Self {
            block_ms: query.integer("block_ms", 1, MAX_WORK_BLOCK_MS)?,
            reclaim_older_than_ms: reclaim.unwrap_or(WORK_RECLAIM_MS),
        })
    }
}

/// `POST …/work/{id}/heartbeat`; in the query, the body is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatQuery {
    /// The latest heartbeat as the sender knows it, or [`super::NO_HEARTBEAT`]; `None` compares
    /// nothing.
    pub expected_last_heartbeat: Option<String>,
    /// Seconds the lease shall last, brought within [`WORK_LEASE_SECONDS`]; `None` leaves it to the
    /// server.
    pub ttl_seconds: Option<u64>,
}

impl BeatQuery {
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let (least, _, greatest) = WORK_LEASE_SECONDS;
        let desired = query.integer("desired_ttl_seconds", 1, i64::MAX as u64)?;
        Ok(Self {
            expected_last_heartbeat: query
                .text("expected_last_heartbeat")?
                .map(ToOwned::to_owned),
            ttl_seconds: desired.map(|n| n.clamp(least, greatest)),
        })
    }
}

/// `POST …/work/{id}/stop`; the body may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopWork {
    /// End it at once, rather than ask its worker to.
    pub force: bool,
}

impl Request for StopWork {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let force = o.optional("force", boolean)?.unwrap_or(false);
        o.finish()?;
        Ok(Self { force })
    }
}

/// `POST …/work/{id}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateWork {
    /// Merged into what is there; null deletes a key, a null object changes nothing.
    pub metadata: MetadataPatch,
}

impl Request for UpdateWork {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let metadata = o.required("metadata", |value, at| match value {
            Value::Null => Ok(MetadataPatch::default()),
            value => unreserved(metadata::patch(value, at)?, at),
        })?;
        o.finish()?;
        Ok(Self { metadata })
    }
}

/// What the queue itself notes cannot be changed.
fn unreserved(patch: MetadataPatch, at: &At<'_>) -> Decode<MetadataPatch> {
    match patch.0.keys().find(|key| key.starts_with(RESERVED)) {
        Some(key) => Err(at
            .key(key)
            .error(format_args!("keys that begin with {RESERVED} are reserved"))
            .with_code("invalid_metadata")),
        None => Ok(patch),
    }
}
