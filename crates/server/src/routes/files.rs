//! `/v1/files` (contract 72).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use freehold_base::{FileId, Timestamp, WorkspaceId};
use freehold_store::{BlobError, FileQuery, FileRow, NewFile};
use freehold_wire::cursor::Position;
use freehold_wire::file::{File, FileScope, FileTag, expires_in_seconds, filename, mime_type};
use freehold_wire::list::ListFiles;
use freehold_wire::{ApiError, Deleted, Page};
use http::{HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::query::{Asked, created_position};
use super::upload;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Reply, json, path_id};

/// Files named by one event that are looked up at a time.
const LOOK_UP: usize = 100;
/// Bytes read from disk at a time.
const CHUNK: usize = 64 * 1024;
/// What RFC 8187 leaves unescaped in `filename*`.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `POST /v1/files`
pub(crate) async fn create(State(app): State<Arc<App>>, caller: Caller, request: Request) -> Reply {
    let upload = upload::receive(&app, request).await?;
    let sent = upload.filename.as_deref();
    let mime = mime_type(upload.mime_type.as_deref(), sent.unwrap_or_default());
    let name = filename(sent, &mime)?;
    let seconds = upload
        .expires_in_seconds
        .as_deref()
        .map(expires_in_seconds)
        .transpose()?;
    let expires_at = seconds.map(|s| {
        app.now()
            .plus_millis(i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000))
    });
    let new = NewFile {
        id: app.ids.next(),
        workspace_id: caller.workspace,
        filename: name,
        mime_type: mime,
        size: upload.blob.size,
        blob: upload.blob.key.clone(),
        downloadable: false,
        expires_at,
    };
    let row = app.store.create_file(new).await?;
    // The row refers to the blob now.
    drop(upload.blob.pin);
    json(&shown(row))
}

/// `GET /v1/files`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(query): Asked,
) -> Reply {
    match ListFiles::read(&query)? {
        ListFiles::Ids(ids) => {
            let query = FileQuery {
                limit: ids.len(),
                ids,
                ..FileQuery::default()
            };
            let rows = match query.ids.is_empty() {
                true => Vec::new(),
                false => app.store.list_files(&caller.workspace, query).await?,
            };
            let data = rows.into_iter().map(shown).collect();
            json(&Page {
                data,
                next_page: None,
            })
        }
        ListFiles::Page {
            scope_id,
            limit,
            page,
        } => {
            let scope = ListFiles::scope(scope_id.as_ref());
            let query = FileQuery {
                ids: Vec::new(),
                scope: scope_id.clone(),
                after: page.map(created_position).transpose()?,
                limit,
            };
            let mut rows = app.store.list_files(&caller.workspace, query).await?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next_page = rows.last().filter(|_| more).map(|last| {
                let id = last.id.to_string();
                scope.next(Position::Created(last.created_at.as_micros(), id))
            });
            json(&Page {
                data: rows.into_iter().map(shown).collect(),
                next_page,
            })
        }
    }
}

/// `GET /v1/files/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    json(&shown(find(&app, &caller, &id).await?))
}

/// `GET /v1/files/{id}/content`
pub(crate) async fn content(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let row = find(&app, &caller, &id).await?;
    if is_expired(&row, app.now()) {
        return Err(ApiError::not_found("Content of expired file", &id)
            .with_code("file_expired")
            .into());
    }
    if !row.downloadable {
        return Err(ApiError::invalid(format!(
            "File `{}` is an upload; only files that sessions made can be downloaded.",
            row.id
        ))
        .with_code("file_not_downloadable")
        .into());
    }
    let download = Download {
        blob: &row.blob,
        size: row.size,
        mime_type: &row.mime_type,
        filename: &row.filename,
    };
    // Deleted between the two reads.
    let response = download.respond(&app).await?;
    response.ok_or_else(|| missing(&id).into())
}

/// Stored bytes as a client downloads them.
pub(super) struct Download<'a> {
    /// Key of the bytes.
    pub(super) blob: &'a str,
    /// How many they are.
    pub(super) size: u64,
    /// What they are.
    pub(super) mime_type: &'a str,
    /// What a browser saves them as.
    pub(super) filename: &'a str,
}

impl Download<'_> {
    /// The response; `None` if the bytes are gone.
    pub(super) async fn respond(&self, app: &App) -> Result<Option<Response>, Fail> {
        let reader = match app.store.blobs().open(self.blob).await {
            Ok(reader) => reader,
            Err(BlobError::NotFound) => return Ok(None),
            Err(error) => return Err(Fail::internal(&error)),
        };
        // Never more than was promised, whatever is on the disk.
        let stream = ReaderStream::with_capacity(reader.take(self.size), CHUNK);
        let mut response = Response::new(Body::from_stream(stream));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, self.size.into());
        headers.insert(
            header::CONTENT_TYPE,
            value(self.mime_type, "application/octet-stream"),
        );
        headers.insert(header::CONTENT_DISPOSITION, disposition(self.filename));
        // The content is an agent's or an upload: nothing a browser should run with our origin.
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox; default-src 'none'"),
        );
        Ok(Some(response))
    }
}

/// `DELETE /v1/files/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed: FileId = path_id("File", &id)?;
    if !app.store.delete_file(&caller.workspace, &parsed).await? {
        return Err(missing(&id).into());
    }
    json(&Deleted {
        id,
        r#type: "file_deleted",
    })
}

/// Checks that files named in content blocks exist in the workspace and can still be read.
///
/// # Errors
/// 400 naming the first that cannot.
pub(super) async fn check_references(
    app: &App,
    workspace: &WorkspaceId,
    ids: impl Iterator<Item = &str>,
) -> Result<(), Fail> {
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let now = app.now();
    for some in ids.chunks(LOOK_UP) {
        let parsed: Vec<FileId> = some.iter().filter_map(|id| id.parse().ok()).collect();
        let found = match parsed.is_empty() {
            true => Vec::new(),
            false => {
                let limit = parsed.len();
                let query = FileQuery {
                    ids: parsed,
                    limit,
                    ..FileQuery::default()
                };
                app.store.list_files(workspace, query).await?
            }
        };
        let readable = |id: &str| {
            found
                .iter()
                .any(|row| row.id.as_str() == id && !is_expired(row, now))
        };
        if let Some(id) = some.iter().find(|id| !readable(id)) {
            let id: String = id.chars().take(80).flat_map(char::escape_debug).collect();
            return Err(ApiError::invalid(format!("content: File `{id}` not found.")).into());
        }
    }
    Ok(())
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<FileRow, Fail> {
    let row = app
        .store
        .file(&caller.workspace, &path_id("File", id)?)
        .await?;
    row.ok_or_else(|| missing(id).into())
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("File", id)
}

fn is_expired(row: &FileRow, now: Timestamp) -> bool {
    row.expires_at.is_some_and(|at| at <= now)
}

fn shown(row: FileRow) -> File {
    File {
        r#type: FileTag::File,
        id: row.id,
        filename: row.filename,
        mime_type: row.mime_type,
        size_bytes: row.size,
        created_at: row.created_at,
        downloadable: row.downloadable,
        expires_at: row.expires_at,
        scope: row.scope_session.map(|id| FileScope::Session { id }),
    }
}

fn value(text: &str, otherwise: &'static str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(otherwise))
}

/// `attachment` with the name twice: for every client in plain ASCII, and whole (RFC 6266).
fn disposition(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || " ._-+()[]".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let whole = utf8_percent_encode(name, EXTENDED);
    value(
        &format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}"),
        "attachment",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_for_old_and_new_clients() {
        assert_eq!(
            disposition("b\u{fc}r \"x\".html"),
            "attachment; filename=\"b_r _x_.html\"; filename*=UTF-8''b%C3%BCr%20%22x%22.html"
        );
    }

    proptest! {
        #[test]
        fn no_name_breaks_out_of_the_header(name in ".{0,300}") {
            let value = disposition(&name);
            let text = value.to_str().unwrap();
            prop_assert!(text.starts_with("attachment; filename=\""));
            prop_assert_eq!(text.matches('"').count(), 2);
        }
    }
}
