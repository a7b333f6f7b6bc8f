//! Ids in paths.

use freehold_base::{Id, Kind};
use freehold_wire::ApiError;

/// Reads an id from a path. Text that is no id of this kind names nothing: 404 like an unknown id,
/// so that neither the form nor the existence of foreign ids can be probed.
pub(crate) fn path_id<K: Kind>(noun: &str, text: &str) -> Result<Id<K>, ApiError> {
    text.parse().map_err(|_| ApiError::not_found(noun, text))
}
