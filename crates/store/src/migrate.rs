//! Numbered migrations, applied once each and remembered with their checksum. One set for every
//! engine.

use sha2::{Digest, Sha256};

use crate::StoreError;
use crate::backend::{Tx, one, params};

/// The schema's steps, in order, numbered from 1. Never edit one that was released: add another.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_work.sql"),
    include_str!("../migrations/0003_skills.sql"),
    include_str!("../migrations/0004_memory.sql"),
    include_str!("../migrations/0005_vaults.sql"),
    include_str!("../migrations/0006_mcp.sql"),
    include_str!("../migrations/0007_tunnels.sql"),
    include_str!("../migrations/0008_replicas.sql"),
    include_str!("../migrations/0009_sandboxes.sql"),
    include_str!("../migrations/0011_peers.sql"),
];

/// An engine's words for what the migrations name alike: the one place where DDL differs.
pub(crate) struct Words(pub(crate) &'static [(&'static str, &'static str)]);

pub(crate) const SQLITE: Words = Words(&[
    ("{I64}", "INTEGER"),
    ("{BLOB}", "BLOB"),
    ("{STRICT}", "STRICT"),
]);

impl Words {
    fn ddl(&self, sql: &str) -> String {
        let pairs = self.0.iter();
        pairs.fold(sql.to_owned(), |sql, (name, word)| sql.replace(name, word))
    }
}

/// Runs SQL of several statements in the transaction at hand.
pub(crate) type Batch<'a> = &'a dyn Fn(&str) -> Result<(), StoreError>;

/// Brings the schema up to date, in the transaction at hand. The caller sees to it that nobody else
/// does so meanwhile.
///
/// # Errors
/// [`StoreError::SchemaNewer`], [`StoreError::SchemaAltered`], or the engine's.
pub(crate) fn run(tx: &mut dyn Tx, words: &Words, batch: Batch<'_>) -> Result<(), StoreError> {
    run_all(tx, words, batch, MIGRATIONS)
}

fn run_all(
    tx: &mut dyn Tx,
    words: &Words,
    batch: Batch<'_>,
    migrations: &[&str],
) -> Result<(), StoreError> {
    batch(&words.ddl(
        "CREATE TABLE IF NOT EXISTS schema_migration (
           version {I64} NOT NULL PRIMARY KEY, checksum TEXT NOT NULL,
           applied_at {I64} NOT NULL) {STRICT}",
    ))?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_migration";
    let found = one(tx.query(newest, &[])?).map_or(Ok(0), |mut r| r.int("schema"))?;
    if found > known {
        return Err(StoreError::SchemaNewer { found, known });
    }
    for (version, sql) in (1i64..).zip(migrations) {
        apply(tx, words, batch, version, sql)?;
    }
    Ok(())
}

fn apply(
    tx: &mut dyn Tx,
    words: &Words,
    batch: Batch<'_>,
    version: i64,
    sql: &str,
) -> Result<(), StoreError> {
    let checksum = freehold_base::hex::encode(Sha256::digest(sql));
    let applied = tx.query(
        "SELECT checksum FROM schema_migration WHERE version = ?1",
        params![version],
    )?;
    if let Some(mut row) = one(applied) {
        if row.text("checksum")? != checksum {
            return Err(StoreError::SchemaAltered { version });
        }
        return Ok(());
    }
    batch(&words.ddl(sql))?;
    let now = tx.now();
    tx.execute(
        "INSERT INTO schema_migration (version, checksum, applied_at) VALUES (?1, ?2, ?3)",
        params![version, &checksum, now],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use freehold_base::SystemClock;
    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::connection;

    fn migrate(connection: &Connection, migrations: &[&str]) -> Result<(), StoreError> {
        let batch = |sql: &str| connection.execute_batch(sql).map_err(connection::failure);
        connection::transaction(connection, &SystemClock, |tx| {
            run_all(tx, &SQLITE, &batch, migrations)
        })
    }

    #[test]
    fn refuses_a_newer_and_an_altered_schema() {
        let connection = Connection::open_in_memory().unwrap();
        let (one, two) = ("CREATE TABLE a (x {I64})", "CREATE TABLE b (x {BLOB})");
        migrate(&connection, &[one, two]).unwrap();
        migrate(&connection, &[one, two]).unwrap();
        let newer = migrate(&connection, &[one]);
        assert!(matches!(
            newer,
            Err(StoreError::SchemaNewer { found: 2, known: 1 })
        ));
        let altered = migrate(&connection, &["CREATE TABLE a (y {I64})", two]);
        assert!(matches!(
            altered,
            Err(StoreError::SchemaAltered { version: 1 })
        ));
        migrate(&connection, &[one, two, "CREATE TABLE c (x {I64})"]).unwrap();
    }

    #[test]
    fn a_failed_migration_leaves_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        let bad = "CREATE TABLE a (x {I64}); CREATE TABLE a (x {I64})";
        assert!(migrate(&connection, &[bad]).is_err());
        migrate(&connection, &["CREATE TABLE a (x {I64})"]).unwrap();
    }
}
