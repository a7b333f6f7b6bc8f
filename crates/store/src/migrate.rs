//! Numbered migrations, applied once each and remembered with their checksum. One set for every
//! engine.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::StoreError;
use crate::backend::{Tx, one, params};

/// One step of the schema: its name, and its SQL in words that every engine has a form of.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// From files by their names.
macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../migrations/", $name, ".sql")) }),*]
    };
}

/// The schema's steps, in order, numbered from 1. Never edit one that was committed: add another.
pub(crate) const MIGRATIONS: &[Migration] = migrations![
    "0001_first",
    "0002_work",
    "0003_skills",
    "0004_memory",
    "0005_vaults",
    "0006_mcp",
    "0007_tunnels",
    "0008_replicas",
    "0009_sandboxes",
    "0010_peers",
    "0011_waiting_work",
    "0012_pollers",
];

/// A form that a step had once, before the rule above was kept, and what makes today's of it.
struct Earlier {
    version: i64,
    /// SHA-256 of its SQL.
    checksum: &'static str,
    repair: &'static str,
}

/// Every step that was edited after it was committed.
const EARLIER: &[Earlier] = &[
    // Until 575bf4e `event_ref` had no `seq`, so that references were sorted after they were found.
    Earlier {
        version: 1,
        checksum: "5ff2a26d8c2820ac781174379251688df2f8b49aa6af99822fefedafbce97b3e",
        repair: include_str!("../migrations/earlier/0001_2d15f8f.sql"),
    },
    // Until 9953257 work items named their worker, and were not counted.
    Earlier {
        version: 2,
        checksum: "7ec8ede2e01fd68969aa287c816c6634a6c32833bdd5af9a6016149e7f787c04",
        repair: include_str!("../migrations/earlier/0002_87f92d7.sql"),
    },
    // Until d52c977 they did not name the key they were handed out to.
    Earlier {
        version: 2,
        checksum: "4e152e05453915dc3388bda6c1e4c48a227da023f06fd233c28cd28bfab3561e",
        repair: include_str!("../migrations/earlier/0002_9953257.sql"),
    },
    // Until 2bcdc03 replicas were not found by their data directory.
    Earlier {
        version: 8,
        checksum: "727ec3e0096f62ffd3c01ba204797f98e1ca067d9b2d5c5fcb0f65867b58c881",
        repair: include_str!("../migrations/earlier/0008_1c78745.sql"),
    },
];

/// An engine's words for what the migrations name alike: the one place where DDL differs.
pub(crate) struct Words {
    /// What is written for what.
    pub(crate) words: &'static [(&'static str, &'static str)],
    /// Gives a row if there is a table `schema_migration`.
    pub(crate) begun: &'static str,
}

pub(crate) const SQLITE: Words = Words {
    words: &[
        ("{I64}", "INTEGER"),
        ("{BLOB}", "BLOB"),
        ("{STRICT}", "STRICT"),
    ],
    begun: "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration'",
};

impl Words {
    pub(crate) fn ddl(&self, sql: &str) -> String {
        let pairs = self.words.iter();
        pairs.fold(sql.to_owned(), |sql, (name, word)| sql.replace(name, word))
    }
}

/// The version that says of a database that an import into it has begun and not ended.
pub(crate) const IMPORTING: i64 = i64::MAX;

/// What a database lacks of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStep {
    /// Its number, from 1.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// Whether the database has the step, in a form that was in use once and is made today's.
    pub repair: bool,
}

/// Runs SQL of several statements in the transaction at hand.
pub(crate) type Batch<'a> = &'a dyn Fn(&str) -> Result<(), StoreError>;

/// Brings the schema up to date, in the transaction at hand; gives what was done. The caller sees to
/// it that nobody else does so meanwhile.
///
/// # Errors
/// [`StoreError::SchemaNewer`], [`StoreError::SchemaAltered`], or the engine's.
pub(crate) fn run(
    tx: &mut dyn Tx,
    words: &Words,
    batch: Batch<'_>,
) -> Result<Vec<MigrationStep>, StoreError> {
    run_all(tx, words, batch, MIGRATIONS, EARLIER)
}

/// What [`run`] would do.
///
/// # Errors
/// As there.
pub(crate) fn pending(tx: &mut dyn Tx, words: &Words) -> Result<Vec<MigrationStep>, StoreError> {
    let begun = one(tx.query(words.begun, &[])?).is_some();
    let found = plan(tx, begun, MIGRATIONS, EARLIER)?;
    Ok(found.into_iter().map(|planned| planned.step).collect())
}

fn run_all(
    tx: &mut dyn Tx,
    words: &Words,
    batch: Batch<'_>,
    migrations: &[Migration],
    earlier: &[Earlier],
) -> Result<Vec<MigrationStep>, StoreError> {
    batch(&words.ddl(
        "CREATE TABLE IF NOT EXISTS schema_migration (
           version {I64} NOT NULL PRIMARY KEY, checksum TEXT NOT NULL,
           applied_at {I64} NOT NULL) {STRICT}",
    ))?;
    let planned = plan(tx, true, migrations, earlier)?;
    let mut done = Vec::with_capacity(planned.len());
    for Planned {
        step,
        sql,
        checksum,
    } in planned
    {
        batch(&words.ddl(sql))?;
        let now = tx.now();
        tx.execute(
            "INSERT INTO schema_migration (version, checksum, applied_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (version) DO UPDATE SET checksum = ?2",
            params![step.version, &checksum, now],
        )?;
        done.push(step);
    }
    Ok(done)
}

/// A step to be done, by this SQL; the checksum is noted.
struct Planned<'m> {
    step: MigrationStep,
    sql: &'m str,
    checksum: String,
}

/// What is to be done, in order; `begun` says whether there is a table that tells what was.
fn plan<'m>(
    tx: &mut dyn Tx,
    begun: bool,
    migrations: &'m [Migration],
    earlier: &'m [Earlier],
) -> Result<Vec<Planned<'m>>, StoreError> {
    let sql = "SELECT version, checksum FROM schema_migration";
    let rows = if begun {
        tx.query(sql, &[])?
    } else {
        Vec::new()
    };
    let applied = rows
        .into_iter()
        .map(|mut row| Ok((row.int("schema")?, row.text("checksum")?)));
    let applied: BTreeMap<i64, String> = applied.collect::<Result<_, StoreError>>()?;
    if applied.contains_key(&IMPORTING) {
        return Err(StoreError::ImportUnfinished);
    }
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if let Some((&found, _)) = applied.last_key_value()
        && found > known
    {
        return Err(StoreError::SchemaNewer { found, known });
    }
    let mut planned = Vec::new();
    for (version, migration) in (1i64..).zip(migrations) {
        let checksum = freehold_base::hex::encode(Sha256::digest(migration.sql));
        let sql = match applied.get(&version) {
            Some(found) if *found == checksum => continue,
            None => migration.sql,
            Some(found) => {
                let form = |e: &&Earlier| e.version == version && e.checksum == found;
                let form = earlier.iter().find(form);
                form.ok_or(StoreError::SchemaAltered { version })?.repair
            }
        };
        let step = MigrationStep {
            version,
            name: migration.name,
            repair: applied.contains_key(&version),
        };
        planned.push(Planned {
            step,
            sql,
            checksum,
        });
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use freehold_base::SystemClock;
    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::connection;

    fn migrate(connection: &Connection, sql: &[&'static str]) -> Result<(), StoreError> {
        let batch = |sql: &str| connection.execute_batch(sql).map_err(connection::failure);
        let migrations = sql.iter().map(|sql| Migration { name: "step", sql });
        let migrations: Vec<_> = migrations.collect();
        connection::transaction(connection, &SystemClock, |tx| {
            run_all(tx, &SQLITE, &batch, &migrations, &[]).map(drop)
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
