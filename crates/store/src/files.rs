//! Files (contract 72): names and sizes here, bytes in the blob store.

use freehold_base::{FileId, SessionId, Timestamp, WorkspaceId};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// A file to be made. Its blob is put first and held until the row exists.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its id.
    pub id: FileId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub filename: String,
    /// Its media type.
    pub mime_type: String,
    /// Bytes.
    pub size: u64,
    /// Key of its bytes.
    pub blob: String,
    /// Whether clients may fetch the content.
    pub downloadable: bool,
    /// When it stops being readable.
    pub expires_at: Option<Timestamp>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its id.
    pub id: FileId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name.
    pub filename: String,
    /// Its media type.
    pub mime_type: String,
    /// Bytes.
    pub size: u64,
    /// Key of its bytes.
    pub blob: String,
    /// Whether clients may fetch the content.
    pub downloadable: bool,
    /// The session it belongs to, as attached copy or as output.
    pub scope_session: Option<SessionId>,
    /// For an output: its path below the outputs folder.
    pub output_path: Option<String>,
    /// For an output: when the file was changed in the sandbox, microseconds since the epoch.
    pub source_mtime: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops being readable.
    pub expires_at: Option<Timestamp>,
}

/// Which files to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct FileQuery {
    /// Only these, if not empty.
    pub ids: Vec<FileId>,
    /// Only those of this session.
    pub scope: Option<SessionId>,
    /// Only after this one.
    pub after: Option<(Timestamp, FileId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

pub(crate) const COLUMNS: &str = "id, workspace_id, filename, mime_type, size, blob, downloadable, \
   scope_session, output_path, source_mtime, created_at, expires_at";

pub(crate) fn file(mut row: Row) -> Result<FileRow, StoreError> {
    Ok(FileRow {
        id: row.id("file id")?,
        workspace_id: row.id("file workspace")?,
        filename: row.text("file name")?,
        mime_type: row.text("file type")?,
        size: row.count("file size")?,
        blob: row.text("file blob")?,
        downloadable: row.flag("file flag")?,
        scope_session: row.opt_id("file session")?,
        output_path: row.opt_text("file path")?,
        source_mtime: row.opt_int("file time")?,
        created_at: row.time("file time")?,
        expires_at: row.opt_time("file time")?,
    })
}

pub(crate) fn insert(tx: &mut dyn Tx, row: &FileRow) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO file (id, workspace_id, filename, mime_type, size, blob, downloadable,
           scope_session, output_path, source_mtime, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            &row.id,
            &row.workspace_id,
            &row.filename,
            &row.mime_type,
            row.size,
            &row.blob,
            row.downloadable,
            row.scope_session.as_ref(),
            row.output_path.as_ref(),
            row.source_mtime,
            row.created_at,
            row.expires_at,
        ],
    )
    .map(drop)
}

pub(crate) fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &FileId,
) -> Result<Option<FileRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM file WHERE id = ?1 AND workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(file)
        .transpose()
}

impl Store {
    /// Makes a file of the workspace.
    ///
    /// # Errors
    /// The store failed.
    pub async fn create_file(&self, new: NewFile) -> Result<FileRow, StoreError> {
        self.write(move |tx| {
            let row = FileRow {
                id: new.id.clone(),
                workspace_id: new.workspace_id.clone(),
                filename: new.filename.clone(),
                mime_type: new.mime_type.clone(),
                size: new.size,
                blob: new.blob.clone(),
                downloadable: new.downloadable,
                scope_session: None,
                output_path: None,
                source_mtime: None,
                created_at: tx.now(),
                expires_at: new.expires_at,
            };
            insert(tx, &row)?;
            Ok(row)
        })
        .await
    }

    /// One file, expired or not.
    ///
    /// # Errors
    /// The store failed.
    pub async fn file(
        &self,
        workspace: &WorkspaceId,
        id: &FileId,
    ) -> Result<Option<FileRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| get(tx, &workspace, &id)).await
    }

    /// Lists files; up to `limit + 1`. Unknown ids are left out.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_files(
        &self,
        workspace: &WorkspaceId,
        q: FileQuery,
    ) -> Result<Vec<FileRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            f.maybe("scope_session = {}", q.scope.as_ref());
            if !q.ids.is_empty() {
                f.one_of("id", q.ids.iter().map(Value::from));
            }
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM file {page}");
            tx.query(&sql, &f.params)?.into_iter().map(file).collect()
        })
        .await
    }

    /// Deletes a file, and its bytes if no other file has the same. Gives whether there was one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_file(
        &self,
        workspace: &WorkspaceId,
        id: &FileId,
    ) -> Result<bool, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let freed: Option<String> = self
            .write(move |tx| {
                let sql = "DELETE FROM file WHERE id = ?1 AND workspace_id = ?2 RETURNING blob";
                one(tx.query(sql, params![&id, &workspace])?)
                    .map(|mut row| row.text("file blob"))
                    .transpose()
            })
            .await?;
        self.drop_blobs(freed.as_slice()).await;
        Ok(freed.is_some())
    }
}
