//! Files the agent wrote to `/mnt/session/outputs` become files of the API (contract 72 §5). Done
//! when a round of tools has ended and before the model speaks again, so that a client that sees
//! the session idle also sees its files.

use std::collections::HashMap;

use freehold_base::limits;
use freehold_store::{NewOutput, StoreError};

use crate::executor::{OutputFile, Place};
use crate::runtime::Shared;

/// Takes in every output that is new or changed. A failure is logged and the file is tried again
/// after the next round: the turn does not depend on it.
pub(crate) async fn capture(shared: &Shared, place: &Place) {
    let listed = match shared.executor.outputs(place).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(session = %place.session, %error, "outputs not listed");
            return;
        }
    };
    if listed.is_empty() {
        return;
    }
    let known = match known(shared, place).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(session = %place.session, %error, "outputs not compared");
            return;
        }
    };
    for file in listed.into_iter().take(limits::MAX_SESSION_FILES) {
        if known.get(&file.path) == Some(&(file.size, file.mtime_micros)) {
            continue;
        }
        if let Err(error) = take_in(shared, place, &file).await {
            tracing::warn!(session = %place.session, %error, "output not captured");
        }
    }
}

/// Size and modification time of what was captured before, by path.
async fn known(shared: &Shared, place: &Place) -> Result<HashMap<String, (u64, i64)>, StoreError> {
    let rows = shared.store.session_outputs(&place.session).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((row.output_path?, (row.size, row.source_mtime?))))
        .collect())
}

async fn take_in(shared: &Shared, place: &Place, file: &OutputFile) -> Result<(), String> {
    if file.size > limits::MAX_FILE {
        return Err(format!("larger than {} bytes", limits::MAX_FILE));
    }
    let reader = shared.executor.read_output(place, &file.path).await?;
    let blob = shared
        .store
        .blobs()
        .put(reader, limits::MAX_FILE)
        .await
        .map_err(|error| error.to_string())?;
    let output = NewOutput {
        session: place.session.clone(),
        path: file.path.clone(),
        blob: blob.key.clone(),
        size: blob.size,
        source_mtime: file.mtime_micros,
    };
    // The blob stays pinned until its row exists, or it is known that it will have none.
    let stored = shared.store.upsert_output(output).await;
    shared.store.release_blob(blob).await;
    stored.map(drop).map_err(|error| error.to_string())
}
