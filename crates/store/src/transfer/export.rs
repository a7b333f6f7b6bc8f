//! Writing the file.

use std::io::Write;

use serde_json::{Value as Json, json};
use tokio::io::AsyncReadExt;

use super::line::{Lines, encode, to_json};
use super::{Moved, Progress, ROWS, STAYS, TransferError};
use crate::backend::{Value, one, params};
use crate::backup::needed_keys_sql;
use crate::migrate::MIGRATIONS;
use crate::schema::{Table, tables};
use crate::{Store, StoreError, gc};

/// Bytes of a blob in one line.
const CHUNK: usize = 192 * 1024;

/// Writes everything a store holds. No server may use its database: with SQLite the store's lock sees
/// to that, with PostgreSQL it is checked before and after. Secrets stay sealed under their master
/// keys.
///
/// # Errors
/// See [`TransferError`]; the file is not whole then, and says so to [`super::import()`].
pub async fn export<W: Write + Send>(
    store: &Store,
    out: W,
    progress: Progress<'_>,
) -> Result<Moved, TransferError> {
    alone(store).await?;
    let packed = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    let mut lines = Lines::new(packed);
    let mut moved = Moved::default();
    lines.write(&json!({
        "freehold": "export", "format": 1, "schema": MIGRATIONS.len(),
        "organization": store.organization().await?.id,
        "master_keys": words(store, needed_keys_sql()?).await?,
    }))?;
    for table in tables()? {
        if STAYS.contains(&table.name.as_str()) {
            continue;
        }
        let columns: Vec<_> = table.columns.iter().map(|c| &c.name).collect();
        lines.write(&json!({ "table": table.name, "columns": columns }))?;
        let mut after = None;
        loop {
            progress(&table.name, moved);
            let rows = page(store, &table, after.take()).await?;
            for row in &rows {
                lines.write(&Json::Array(row.iter().map(to_json).collect()))?;
            }
            moved.rows += rows.len() as u64;
            match rows.into_iter().nth(ROWS - 1) {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    let mut after = String::new();
    loop {
        let keys = blobs(store, &after).await?;
        for key in &keys {
            progress("blobs", moved);
            moved.bytes += blob(store, key, &mut lines).await?;
            moved.blobs += 1;
        }
        match keys.into_iter().nth(ROWS - 1) {
            Some(last) => after = last,
            None => break,
        }
    }
    alone(store).await?;
    let digest = lines.digest();
    lines.write(&json!({ "end": {
        "rows": moved.rows, "blobs": moved.blobs, "bytes": moved.bytes, "sha256": digest,
    }}))?;
    lines.into_inner().finish()?.flush()?;
    Ok(moved)
}

/// Whether no replica lives.
async fn alone(store: &Store) -> Result<(), TransferError> {
    let live = store.read(|tx| {
        let now = tx.now();
        let sql = "SELECT COUNT(*) FROM replica WHERE lease_until > ?1";
        one(tx.query(sql, params![now])?).map_or(Ok(0), |mut row| row.count("replicas"))
    });
    let live = live.await.map_err(|e: StoreError| e)?;
    if live > 0 {
        return Err(TransferError::InUse);
    }
    Ok(())
}

/// The rows after one, in the order of the primary key.
async fn page(
    store: &Store,
    table: &Table,
    after: Option<Vec<Value<'static>>>,
) -> Result<Vec<Vec<Value<'static>>>, StoreError> {
    let key = table.key.join(", ");
    let past = match &after {
        None => String::new(),
        Some(_) => {
            let names: Vec<_> = (1..=table.key.len()).map(|n| format!("?{n}")).collect();
            format!("WHERE ({key}) > ({})", names.join(", "))
        }
    };
    let (columns, name) = (table.list(), &table.name);
    let sql = format!("SELECT {columns} FROM {name} {past} ORDER BY {key} LIMIT {ROWS}");
    let place = |k: &String| table.columns.iter().position(|c| c.name == *k);
    let places: Vec<usize> = table.key.iter().filter_map(place).collect();
    let params: Vec<Value<'static>> = after.map_or_else(Vec::new, |row| {
        places.iter().filter_map(|n| row.get(*n).cloned()).collect()
    });
    store
        .read(move |tx| {
            let rows = tx.query(&sql, &params)?;
            Ok(rows.into_iter().map(crate::backend::Row::values).collect())
        })
        .await
}

/// The next keys of blobs that rows refer to.
async fn blobs(store: &Store, after: &str) -> Result<Vec<String>, StoreError> {
    let from = |table| format!("SELECT blob FROM {table} WHERE blob > ?1");
    let sql = gc::REFERRING.map(from).join(" UNION ");
    let sql = format!("{sql} ORDER BY blob LIMIT {ROWS}");
    let after = after.to_owned();
    store
        .read(move |tx| {
            let rows = tx.query(&sql, params![&after])?;
            rows.into_iter().map(|mut row| row.text("blob")).collect()
        })
        .await
}

async fn words(store: &Store, sql: String) -> Result<Vec<String>, StoreError> {
    store
        .read(move |tx| {
            let rows = tx.query(&sql, &[])?;
            rows.into_iter().map(|mut row| row.text("word")).collect()
        })
        .await
}

/// Writes a blob; gives its size.
async fn blob<W: Write>(
    store: &Store,
    key: &str,
    lines: &mut Lines<W>,
) -> Result<u64, TransferError> {
    let failed = |source| TransferError::Blob {
        key: key.to_owned(),
        source,
    };
    lines.write(&json!({ "blob": key }))?;
    let mut content = store.blobs().open(key).await.map_err(failed)?;
    let (mut size, mut chunk) = (0, Vec::with_capacity(CHUNK));
    loop {
        chunk.clear();
        let mut limited = (&mut content).take(CHUNK as u64);
        limited
            .read_to_end(&mut chunk)
            .await
            .map_err(|e| failed(crate::BlobError::Content(e)))?;
        if chunk.is_empty() {
            return Ok(size);
        }
        size += chunk.len() as u64;
        lines.write(&Json::String(encode(&chunk)))?;
    }
}
