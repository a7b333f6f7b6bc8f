//! What is left of a session in the database, in whatever table: to show that a deleted one is gone.

use freehold_base::SessionId;

use crate::backend::{Tx, Type, one, params};
use crate::schema::Table;
use crate::{BlobError, Store, StoreError, gc, schema};

/// Rows of one table that name the session in one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// Rows.
    pub rows: u64,
}

/// Rows that name the session and stay by design.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What they are.
    pub rows: Trace,
    /// Why they stay.
    pub why: &'static str,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Each column that was looked at and whose rows go with the session, also those with none.
    pub rows: Vec<Trace>,
    /// What stays.
    pub kept: Vec<Kept>,
}

impl Traces {
    /// Rows that go with the session.
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|trace| trace.rows).sum()
    }
}

/// What stays: table, column, the condition under which it may, and why.
const STAYS: [(&str, &str, &str, &str); 4] = [
    (
        "work",
        "session_id",
        "state = 'stopped'",
        "the record of work items that have stopped, whose tokens open nothing; collected with age",
    ),
    (
        "memory_version",
        "actor_id",
        "1 = 1",
        "who wrote a version of a memory; the memory store outlives the session",
    ),
    (
        "memory_version",
        "redactor_id",
        "1 = 1",
        "who redacted a version of a memory",
    ),
    (
        "mcp_audit",
        "body",
        "1 = 1",
        "the audit of requests to MCP servers; trimmed by its own bounds",
    ),
];

impl Store {
    /// What rows name a session: every column of text of every table is looked at. Tables whose key
    /// begins with the session are asked by that alone, so that the log is not read through.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_traces(&self, session: &SessionId) -> Result<Traces, StoreError> {
        let (tables, session) = (schema::tables()?, session.clone());
        self.read(move |tx| {
            let mut found = Traces::default();
            for table in &tables {
                for column in columns(table) {
                    look(tx, table, column, &session, &mut found)?;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Whether a blob is there, and how many rows of all sessions and files refer to it.
    ///
    /// # Errors
    /// The store failed, or its blobs could not be asked for.
    pub async fn blob_uses(&self, key: &str) -> Result<(bool, u64), StoreError> {
        let there = match self.blobs().open(key).await {
            Ok(_) => true,
            Err(BlobError::NotFound) => false,
            Err(error) => return Err(error.into()),
        };
        let key = key.to_owned();
        let uses = self.read(move |tx| {
            let mut uses = 0;
            for table in gc::REFERRING {
                uses += count(tx, table, "blob = ?1", &key)?;
            }
            Ok::<_, StoreError>(uses)
        });
        Ok((there, uses.await?))
    }
}

/// The columns that may name a session.
fn columns(table: &Table) -> Vec<&str> {
    match (table.session(), table.key.first()) {
        (Some(session), Some(first)) if session == first => vec![session],
        _ => {
            let text = table.columns.iter().filter(|c| c.holds == Type::Text);
            text.map(|c| c.name.as_str()).collect()
        }
    }
}

fn look(
    tx: &mut dyn Tx,
    table: &Table,
    column: &str,
    session: &SessionId,
    found: &mut Traces,
) -> Result<(), StoreError> {
    let trace = |rows| Trace {
        table: table.name.clone(),
        column: column.to_owned(),
        rows,
    };
    let stays = STAYS
        .iter()
        .find(|(name, of, ..)| *name == table.name && *of == column);
    let Some((_, _, may, why)) = stays else {
        let named = format!("{column} = ?1");
        let rows = count(tx, &table.name, &named, session.as_str())?;
        found.rows.push(trace(rows));
        return Ok(());
    };
    // The audit names it inside of its JSON.
    let (named, value) = match column {
        "body" => (
            format!("{column} LIKE ?1"),
            format!("%\"{}\"%", session.as_str()),
        ),
        _ => (format!("{column} = ?1"), session.to_string()),
    };
    let all = count(tx, &table.name, &named, &value)?;
    let may = count(tx, &table.name, &format!("{named} AND {may}"), &value)?;
    found.rows.push(trace(all - may));
    if may > 0 {
        let rows = trace(may);
        found.kept.push(Kept { rows, why });
    }
    Ok(())
}

fn count(tx: &mut dyn Tx, table: &str, named: &str, value: &str) -> Result<u64, StoreError> {
    let sql = format!("SELECT COUNT(*) FROM {table} WHERE {named}");
    one(tx.query(&sql, params![value])?).map_or(Ok(0), |mut row| row.count("count"))
}
