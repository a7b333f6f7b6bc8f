//! The schema as data, for what must deal with every table there is, those of tomorrow too. It is read
//! from the migrations themselves, so nothing has to be listed a second time.

use rusqlite::Connection;

use crate::StoreError;
use crate::backend::Type;
use crate::migrate::{MIGRATIONS, SQLITE};
use crate::sqlite::connection::failure;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// Columns of the primary key, in its order.
    pub(crate) key: Vec<String>,
    /// Foreign keys: column and table.
    pub(crate) references: Vec<(String, String)>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) holds: Type,
}

impl Table {
    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c.name == column)
    }
    /// The names of its columns, as a statement lists them.
    pub(crate) fn list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|c| c.name.as_str()).collect();
        names.join(", ")
    }
    /// The column by which a row is one session's.
    pub(crate) fn session(&self) -> Option<&str> {
        let refers = self.references.iter().find(|(_, table)| table == "session");
        match refers {
            Some((column, _)) => Some(column),
            None => self.has("session_id").then_some("session_id"),
        }
    }
}

/// Every table, each after those it refers to.
///
/// # Errors
/// The migrations cannot be run; they always can.
pub(crate) fn tables() -> Result<Vec<Table>, StoreError> {
    let database = Connection::open_in_memory().map_err(failure)?;
    for migration in MIGRATIONS {
        let ddl = SQLITE.ddl(migration.sql);
        database.execute_batch(&ddl).map_err(failure)?;
    }
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut names = database.prepare(names).map_err(failure)?;
    let names = names.query_map([], |row| row.get(0)).map_err(failure)?;
    let names: Vec<String> = names.collect::<Result<_, _>>().map_err(failure)?;
    let mut left: Vec<Table> = names
        .into_iter()
        .map(|name| table(&database, name))
        .collect::<Result<_, _>>()?;
    let mut ordered: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let placed = |name: &String| ordered.iter().any(|t| t.name == *name);
        let ready = left.iter().position(|t| {
            t.references
                .iter()
                .all(|(_, to)| *to == t.name || placed(to))
        });
        let ready = ready.ok_or(StoreError::Corrupt { what: "schema" })?;
        ordered.push(left.remove(ready));
    }
    Ok(ordered)
}

fn table(database: &Connection, name: String) -> Result<Table, StoreError> {
    let mut read = database
        .prepare("SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid")
        .map_err(failure)?;
    let columns = read.query_map([&name], |row| {
        let holds = match row.get::<_, String>(1)?.as_str() {
            "INTEGER" => Type::Int,
            "TEXT" => Type::Text,
            "BLOB" => Type::Blob,
            _ => Type::Unknown,
        };
        let column = Column {
            name: row.get(0)?,
            holds,
        };
        Ok((column, row.get::<_, i64>(2)?))
    });
    let columns: Vec<(Column, i64)> = columns.and_then(Iterator::collect).map_err(failure)?;
    let mut key: Vec<_> = columns.iter().filter(|(_, place)| *place > 0).collect();
    key.sort_by_key(|(_, place)| *place);
    let key = key.into_iter().map(|(c, _)| c.name.clone()).collect();
    let mut read = database
        .prepare("SELECT \"from\", \"table\" FROM pragma_foreign_key_list(?1)")
        .map_err(failure)?;
    let references = read.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)));
    let references = references.and_then(Iterator::collect).map_err(failure)?;
    Ok(Table {
        key,
        references,
        columns: columns.into_iter().map(|(column, _)| column).collect(),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_there_and_after_those_it_refers_to() {
        let all = tables().unwrap();
        let place = |name: &str| all.iter().position(|t| t.name == name).unwrap();
        assert!(place("organization") < place("workspace"));
        assert!(place("session") < place("session_resource"));
        let created: usize = MIGRATIONS
            .iter()
            .map(|m| m.sql.matches("CREATE TABLE").count())
            .sum();
        assert_eq!(all.len(), created);
        for table in &all {
            assert!(!table.key.is_empty(), "{}", table.name);
            let known = |c: &Column| c.holds != Type::Unknown;
            assert!(table.columns.iter().all(known), "{}", table.name);
            for (_, to) in &table.references {
                assert!(place(to) < place(&table.name), "{}", table.name);
            }
        }
        let event = &all[place("event")];
        assert_eq!(event.key, ["session_id", "seq"]);
        assert_eq!(event.session(), Some("session_id"));
        assert_eq!(all[place("file")].session(), Some("scope_session"));
        assert_eq!(all[place("agent")].session(), None);
    }

    #[test]
    fn blobs_are_referred_to_by_columns_of_that_name_and_collection_knows_them_all() {
        let all = tables().unwrap();
        let mut with: Vec<_> = all
            .iter()
            .filter(|t| t.has("blob"))
            .map(|t| t.name.as_str())
            .collect();
        let mut known = crate::gc::REFERRING.to_vec();
        with.sort_unstable();
        known.sort_unstable();
        assert_eq!(with, known);
    }
}
