//! Numbered migrations, applied once each and remembered with their checksum.

use freehold_base::Clock;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::connection;
use crate::StoreError;
use crate::backend::{Tx, one, params};

/// The schema's steps, in order, numbered from 1. Never edit one that was released: add another.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_first.sql"),
    include_str!("../../migrations/0002_work.sql"),
    include_str!("../../migrations/0003_skills.sql"),
    include_str!("../../migrations/0004_memory.sql"),
    include_str!("../../migrations/0005_vaults.sql"),
    include_str!("../../migrations/0006_mcp.sql"),
    include_str!("../../migrations/0007_tunnels.sql"),
];

/// Brings the schema up to date, all in one transaction.
pub(super) fn run(connection: &Connection, clock: &dyn Clock) -> Result<(), StoreError> {
    run_all(connection, clock, MIGRATIONS)
}

fn run_all(
    connection: &Connection,
    clock: &dyn Clock,
    migrations: &[&str],
) -> Result<(), StoreError> {
    connection::transaction(connection, clock, |tx| {
        tx.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration (
               version INTEGER NOT NULL PRIMARY KEY, checksum TEXT NOT NULL,
               applied_at INTEGER NOT NULL) STRICT",
            &[],
        )?;
        let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
        let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_migration";
        let found = one(tx.query(newest, &[])?).map_or(Ok(0), |mut r| r.int("schema"))?;
        if found > known {
            return Err(StoreError::SchemaNewer { found, known });
        }
        for (version, sql) in (1i64..).zip(migrations) {
            apply(connection, tx, version, sql)?;
        }
        Ok(())
    })
}

fn apply(
    connection: &Connection,
    tx: &mut dyn Tx,
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
    connection
        .execute_batch(&ddl(sql))
        .map_err(connection::failure)?;
    let now = tx.now();
    tx.execute(
        "INSERT INTO schema_migration (version, checksum, applied_at) VALUES (?1, ?2, ?3)",
        params![version, &checksum, now],
    )?;
    Ok(())
}

/// The one place where DDL differs between engines.
fn ddl(sql: &str) -> String {
    sql.replace("{I64}", "INTEGER")
        .replace("{BLOB}", "BLOB")
        .replace("{STRICT}", "STRICT")
}

#[cfg(test)]
mod tests {
    use freehold_base::SystemClock;

    use super::*;

    #[test]
    fn refuses_a_newer_and_an_altered_schema() {
        let connection = Connection::open_in_memory().unwrap();
        let (one, two) = ("CREATE TABLE a (x {I64})", "CREATE TABLE b (x {BLOB})");
        run_all(&connection, &SystemClock, &[one, two]).unwrap();
        run_all(&connection, &SystemClock, &[one, two]).unwrap();
        let newer = run_all(&connection, &SystemClock, &[one]);
        assert!(matches!(
            newer,
            Err(StoreError::SchemaNewer { found: 2, known: 1 })
        ));
        let altered = run_all(
            &connection,
            &SystemClock,
            &["CREATE TABLE a (y {I64})", two],
        );
        assert!(matches!(
            altered,
            Err(StoreError::SchemaAltered { version: 1 })
        ));
        run_all(
            &connection,
            &SystemClock,
            &[one, two, "CREATE TABLE c (x {I64})"],
        )
        .unwrap();
    }

    #[test]
    fn a_failed_migration_leaves_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        let bad = "CREATE TABLE a (x {I64}); CREATE TABLE a (x {I64})";
        assert!(run_all(&connection, &SystemClock, &[bad]).is_err());
        run_all(&connection, &SystemClock, &["CREATE TABLE a (x {I64})"]).unwrap();
    }
}
