//! Building the few statements whose shape depends on the request.

use std::fmt::Write as _;

use freehold_base::{Id, Kind, Timestamp};

use crate::StoreError;
use crate::backend::{Tx, Value};

/// Conditions joined by AND, with their parameters.
#[derive(Default)]
pub(crate) struct Filter<'a> {
    clauses: Vec<String>,
    pub(crate) params: Vec<Value<'a>>,
}

impl<'a> Filter<'a> {
    /// Adds a condition that needs no parameter.
    pub(crate) fn fixed(&mut self, clause: &str) {
        self.clauses.push(clause.to_owned());
    }
    /// Adds a condition; each `{}` in it becomes the next parameter's name.
    pub(crate) fn and<const N: usize>(&mut self, clause: &str, values: [Value<'a>; N]) {
        let mut text = clause.to_owned();
        for value in values {
            let name = self.param(value);
            text = text.replacen("{}", &name, 1);
        }
        self.clauses.push(text);
    }
    /// Adds the condition only if there is a value.
    pub(crate) fn maybe(&mut self, clause: &str, value: Option<impl Into<Value<'a>>>) {
        if let Some(value) = value {
            self.and(clause, [value.into()]);
        }
    }
    /// Adds `column IN (…)`.
    pub(crate) fn one_of(&mut self, column: &str, values: impl Iterator<Item = Value<'a>>) {
        let names: Vec<String> = values.map(|v| self.param(v)).collect();
        self.clauses
            .push(format!("{column} IN ({})", names.join(", ")));
    }
    /// Adds a parameter; gives its name.
    pub(crate) fn param(&mut self, value: Value<'a>) -> String {
        self.params.push(value);
        format!("?{}", self.params.len())
    }
    /// What follows the tables of a listing, newest first by these columns: the conditions, what is
    /// past `after`, the order, and one row more than `limit`, which says that there are more.
    pub(crate) fn newest<K: Kind>(
        &mut self,
        [at, id]: [&str; 2],
        after: Option<&'a (Timestamp, Id<K>)>,
        limit: usize,
    ) -> String {
        if let Some((time, last)) = after {
            let past = format!("({at}, {id}) < ({{}}, {{}})");
            self.and(&past, [(*time).into(), last.into()]);
        }
        let limit = self.param(limit.saturating_add(1).into());
        let text = self.text();
        format!("WHERE {text} ORDER BY {at} DESC, {id} DESC LIMIT {limit}")
    }
    /// The conditions.
    pub(crate) fn text(&self) -> String {
        self.clauses.join(" AND ")
    }
}

/// Rows of parameters for VALUES, after those that stand in `params` already: adds theirs, and gives
/// `(?1, ?2), (?3, ?4)`.
pub(crate) fn rows<'a, const N: usize>(
    params: &mut Vec<Value<'a>>,
    rows: impl IntoIterator<Item = [Value<'a>; N]>,
) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(if text.is_empty() { "(" } else { ", (" });
        for (at, value) in row.into_iter().enumerate() {
            params.push(value);
            let name = params.len();
            // Writing to a string does not fail.
            let _ = match at {
                0 => write!(text, "?{name}"),
                _ => write!(text, ", ?{name}"),
            };
        }
        text.push(')');
    }
    text
}

/// Rows of one INSERT: SQLite takes 32,766 parameters in a statement.
const ROWS: usize = 1_000;

/// Inserts rows `into` a table with its columns named, in as few statements as they fit.
pub(crate) fn insert_rows<'a, const N: usize>(
    tx: &mut dyn Tx,
    into: &str,
    all: impl IntoIterator<Item = [Value<'a>; N]>,
) -> Result<(), StoreError> {
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let mut params = Vec::new();
        let rows = rows(&mut params, all.by_ref().take(ROWS));
        tx.execute(&format!("INSERT INTO {into} VALUES {rows}"), &params)?;
    }
    Ok(())
}
