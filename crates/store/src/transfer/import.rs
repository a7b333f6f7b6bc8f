//! Reading the file: once to see that it is whole, and once to take it in.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use freehold_base::IdSource;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, ReadBuf};

use super::line::{LineReader, decode, from_json};
use super::{Moved, Progress, ROWS, STAYS, TransferError};
use crate::backend::{Backend, Boxed, Scope, Tx, Value, one, params};
use crate::migrate::{IMPORTING, MIGRATIONS};
use crate::postgres::{Postgres, Time};
use crate::schema::{Table, tables};
use crate::secrets::KEY_FILE;
use crate::sqlite::Sqlite;
use crate::{BlobStore, Keyring, LocalBlobs, NoListener, Place, StoreError};

type Lines = LineReader<BufReader<zstd::Decoder<'static, BufReader<File>>>>;

/// Bytes of rows that are written together, as the file has them.
const BATCH: usize = 4 << 20;

/// Fills an empty store, as [`crate::Store::open_with`] would open it, from a file of
/// [`super::export()`]. The file is checked before anything is written. Until everything is there, the
/// database can be opened by nobody. Blocks while the store is opened.
///
/// # Errors
/// See [`TransferError`].
pub async fn import(
    dir: &Path,
    place: Place,
    ids: IdSource,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<Moved, TransferError> {
    let tables = tables()?;
    let needed = verify(file, &tables, progress)?;
    let keys = match &place.keys {
        Some(keys) => keys.ids(),
        None if dir.join(KEY_FILE).exists() => Keyring::load(&dir.join(KEY_FILE))
            .map_err(StoreError::Keys)?
            .ids(),
        None => Vec::new(),
    };
    let missing: Vec<_> = needed.into_iter().filter(|k| !keys.contains(k)).collect();
    if !missing.is_empty() {
        return Err(TransferError::Keys { missing });
    }
    let nothing = |_: &mut dyn Tx| Ok(());
    let listener = Arc::new(NoListener);
    let backend: Box<dyn Backend> = match &place.database {
        None => {
            let clock = Arc::clone(ids.clock());
            Box::new(Sqlite::open(dir, clock, listener, nothing)?)
        }
        Some(address) => {
            let (address, origin) = (address.clone(), ids.hex(16));
            let open = move || Postgres::open(&address, Time::Database, origin, listener, nothing);
            // It blocks on runtimes of its own.
            let opened = std::thread::spawn(open).join();
            Box::new(opened.map_err(|_| StoreError::Panicked)??)
        }
    };
    let blobs: Box<dyn BlobStore> = match place.blobs {
        Some(blobs) => blobs,
        None => Box::new(LocalBlobs::open(&dir.join("blobs"), ids.clone())?),
    };
    let target = Target {
        backend,
        blobs,
        tables,
    };
    let moved = target.fill(file, progress).await;
    target.backend.close().await;
    moved
}

/// Reads the file through; gives the ids of the master keys that it needs.
fn verify(
    file: &mut File,
    tables: &[Table],
    progress: Progress<'_>,
) -> Result<Vec<String>, TransferError> {
    let (mut lines, header) = begin(file)?;
    let mut seen = Moved::default();
    loop {
        let line = lines.next()?;
        match &line {
            Json::Array(_) => seen.rows += 1,
            Json::String(text) => {
                let bytes = decode(text).ok_or_else(|| lines.damaged("it is not base64"))?;
                seen.bytes += bytes.len() as u64;
            }
            Json::Object(object) => {
                progress("checking the file", seen);
                if let Some(end) = object.get("end") {
                    let counted = end["rows"] == seen.rows
                        && end["blobs"] == seen.blobs
                        && end["bytes"] == seen.bytes;
                    if !counted || end["sha256"] != lines.digest().as_str() {
                        return Err(lines.damaged("it contradicts what is before it"));
                    }
                    if !lines.ended() {
                        return Err(lines.damaged("it is not the last"));
                    }
                    break;
                }
                if object.contains_key("blob") {
                    seen.blobs += 1;
                } else {
                    table(tables, &line).ok_or_else(|| lines.damaged("an unknown table"))?;
                }
            }
            _ => return Err(lines.damaged("nothing begins so")),
        }
    }
    let keys = header["master_keys"].as_array();
    let keys = keys.into_iter().flatten().filter_map(Json::as_str);
    Ok(keys.map(str::to_owned).collect())
}

/// Begins to read; gives the first line.
fn begin(file: &mut File) -> Result<(Lines, Json), TransferError> {
    file.rewind()?;
    let unpacked = zstd::Decoder::new(file.try_clone()?)?;
    let mut lines = LineReader::new(BufReader::new(unpacked));
    let header = lines.next()?;
    if header["freehold"] != "export" || header["format"] != 1 {
        return Err(lines.damaged("it is not an export of a version that is known"));
    }
    let found = header["schema"].as_i64().unwrap_or_default();
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found != known {
        return Err(TransferError::Schema { found, known });
    }
    Ok((lines, header))
}

/// The table that a line begins, with its columns as the schema has them.
fn table<'t>(tables: &'t [Table], line: &Json) -> Option<&'t Table> {
    let found = tables.iter().find(|t| line["table"] == t.name.as_str())?;
    let columns = line["columns"].as_array()?;
    let same = columns.len() == found.columns.len()
        && columns
            .iter()
            .zip(&found.columns)
            .all(|(name, column)| *name == column.name.as_str());
    (same && !STAYS.contains(&found.name.as_str())).then_some(found)
}

struct Target {
    backend: Box<dyn Backend>,
    blobs: Box<dyn BlobStore>,
    tables: Vec<Table>,
}

impl Target {
    async fn fill(&self, file: &mut File, progress: Progress<'_>) -> Result<Moved, TransferError> {
        if let Some(table) = self.occupied().await? {
            return Err(TransferError::NotEmpty { table });
        }
        self.write(|tx| {
            let now = tx.now();
            let sql = "INSERT INTO schema_migration (version, checksum, applied_at)
               VALUES (?1, '', ?2)";
            tx.execute(sql, params![IMPORTING, now]).map(drop)
        })
        .await?;
        let moved = self.take_in(file, progress).await?;
        self.write(|tx| {
            let sql = "DELETE FROM schema_migration WHERE version = ?1";
            tx.execute(sql, params![IMPORTING]).map(drop)
        })
        .await?;
        Ok(moved)
    }

    /// The first table with rows.
    async fn occupied(&self) -> Result<Option<String>, StoreError> {
        let names = self.tables.iter().map(|t| t.name.clone());
        let names: Vec<_> = names.filter(|n| !STAYS.contains(&n.as_str())).collect();
        let op = move |tx: &mut dyn Tx| {
            for name in &names {
                let sql = format!("SELECT 1 FROM {name} LIMIT 1");
                if one(tx.query(&sql, &[])?).is_some() {
                    return Ok(Some(name.clone()));
                }
            }
            Ok(None)
        };
        self.run(op).await
    }

    async fn take_in(
        &self,
        file: &mut File,
        progress: Progress<'_>,
    ) -> Result<Moved, TransferError> {
        let (mut lines, _) = begin(file)?;
        let mut moved = Moved::default();
        let mut line = lines.next()?;
        loop {
            if let Some(key) = line["blob"].as_str() {
                progress("blobs", moved);
                let key = key.to_owned();
                let (bytes, next) = self.blob(&key, &mut lines).await?;
                moved.blobs += 1;
                moved.bytes += bytes;
                line = next;
            } else if let Some(table) = table(&self.tables, &line) {
                line = self.rows(table, &mut lines, &mut moved, progress).await?;
            } else if line.get("end").is_some() {
                return Ok(moved);
            } else {
                return Err(lines.damaged("nothing begins so"));
            }
        }
    }

    /// Takes in the rows that follow; gives the line after them.
    async fn rows(
        &self,
        table: &Table,
        lines: &mut Lines,
        moved: &mut Moved,
        progress: Progress<'_>,
    ) -> Result<Json, TransferError> {
        let names: Vec<_> = (1..=table.columns.len()).map(|n| format!("?{n}")).collect();
        let (columns, names) = (table.list(), names.join(", "));
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({names})", table.name);
        let (mut batch, mut size) = (Vec::new(), 0);
        let next = loop {
            let line = lines.next()?;
            let Json::Array(row) = &line else { break line };
            let same = row.len() == table.columns.len();
            let values = row.iter().zip(&table.columns);
            let values: Option<Vec<_>> = values.map(|(v, c)| from_json(v, c.holds)).collect();
            let values = values.filter(|_| same);
            batch.push(values.ok_or_else(|| lines.damaged("a row of another table"))?);
            size += lines.len();
            if batch.len() == ROWS * 10 || size > BATCH {
                moved.rows += batch.len() as u64;
                self.insert(&sql, std::mem::take(&mut batch)).await?;
                size = 0;
                progress(&table.name, *moved);
            }
        };
        moved.rows += batch.len() as u64;
        self.insert(&sql, batch).await?;
        progress(&table.name, *moved);
        Ok(next)
    }

    async fn insert(&self, sql: &str, batch: Vec<Vec<Value<'static>>>) -> Result<(), StoreError> {
        let sql = sql.to_owned();
        self.write(move |tx| {
            for row in &batch {
                tx.execute(&sql, row)?;
            }
            Ok(())
        })
        .await
    }

    /// Takes in a blob; gives its size and the line after it.
    async fn blob(&self, key: &str, lines: &mut Lines) -> Result<(u64, Json), TransferError> {
        let mut content = Content {
            lines,
            chunk: Vec::new(),
            given: 0,
            size: 0,
            next: None,
            failure: None,
        };
        let put = self.blobs.put_as(key, Box::new(&mut content)).await;
        let Content {
            size,
            next,
            failure,
            ..
        } = content;
        if let Some(failure) = failure {
            return Err(failure);
        }
        put.map_err(|source| TransferError::Blob {
            key: key.to_owned(),
            source,
        })?;
        let next = next.ok_or_else(|| lines.damaged("a blob was not read to its end"))?;
        Ok((size, next))
    }

    async fn write(
        &self,
        op: impl Fn(&mut dyn Tx) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.run(op).await
    }

    async fn run<T: Send + 'static>(
        &self,
        op: impl Fn(&mut dyn Tx) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let boxed = move |tx: &mut dyn Tx| match op(tx) {
            Ok(value) => Ok(Box::new(value) as Boxed),
            Err(error) => Err(Box::new(error) as Boxed),
        };
        let wrong = |_| StoreError::Corrupt { what: "answer" };
        match self.backend.write(Scope::All, Box::new(boxed)).await? {
            Ok(value) => Ok(*value.downcast().map_err(wrong)?),
            Err(error) => Err(*error.downcast().map_err(wrong)?),
        }
    }
}

/// The content of a blob: the strings that follow.
struct Content<'l> {
    lines: &'l mut Lines,
    chunk: Vec<u8>,
    given: usize,
    size: u64,
    /// The line after it, once it was read.
    next: Option<Json>,
    failure: Option<TransferError>,
}

impl Content<'_> {
    fn fill(&mut self) -> Result<(), TransferError> {
        match self.lines.next()? {
            Json::String(text) => {
                let bytes = decode(&text);
                self.chunk = bytes.ok_or_else(|| self.lines.damaged("it is not base64"))?;
                self.given = 0;
                self.size += self.chunk.len() as u64;
            }
            line => self.next = Some(line),
        }
        Ok(())
    }
}

impl AsyncRead for Content<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        while this.given == this.chunk.len() && this.next.is_none() {
            if let Err(failure) = this.fill() {
                this.failure = Some(failure);
                return Poll::Ready(Err(std::io::ErrorKind::InvalidData.into()));
            }
        }
        let rest = &this.chunk[this.given..];
        let n = rest.len().min(out.remaining());
        out.put_slice(&rest[..n]);
        this.given += n;
        Poll::Ready(Ok(()))
    }
}
