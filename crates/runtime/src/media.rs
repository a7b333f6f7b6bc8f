//! The bytes of the files a conversation names, as a model takes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_base::SessionId;
use freehold_engine::Media;
use freehold_engine::conversation::Conversation;
use freehold_wire::content::{Base64Source, Source};
use tokio::io::AsyncReadExt;

use crate::runtime::Shared;

/// Bytes of one file that are sent to a model; providers take no more in one request.
const MAX_MEDIA: u64 = 32 * 1024 * 1024;

/// Loads the files of a conversation. One that is gone or too large is left out: the model is then
/// told so in its place.
pub(crate) async fn load(
    shared: &Shared,
    session: &SessionId,
    conversation: &Conversation,
) -> Media {
    let mut media = Media::new();
    for id in conversation.files() {
        if media.contains_key(id) {
            continue;
        }
        match one(shared, session, id).await {
            Ok(Some(source)) => {
                media.insert(id.to_owned(), source);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%session, error = %error, "file not readable for a model"),
        }
    }
    media
}

async fn one(
    shared: &Shared,
    session: &SessionId,
    id: &str,
) -> Result<Option<Source>, Box<dyn std::error::Error + Send + Sync>> {
    let Ok(file_id) = id.parse() else {
        return Ok(None);
    };
    let Some(session) = shared.store.session_any(session).await? else {
        return Ok(None);
    };
    let Some(file) = shared.store.file(&session.workspace_id, &file_id).await? else {
        return Ok(None);
    };
    if file.size > MAX_MEDIA {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    shared
        .store
        .blobs()
        .open(&file.blob)
        .await?
        .take(MAX_MEDIA)
        .read_to_end(&mut bytes)
        .await?;
    if file.mime_type.starts_with("text/") {
        let data = String::from_utf8_lossy(&bytes).into_owned();
        let media_type = "text/plain".to_owned();
        return Ok(Some(Source::Text(Base64Source { media_type, data })));
    }
    let data = STANDARD.encode(&bytes);
    Ok(Some(Source::Base64(Base64Source {
        media_type: file.mime_type,
        data,
    })))
}
