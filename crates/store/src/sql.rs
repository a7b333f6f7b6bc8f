//! Building the few statements whose shape depends on the request.

use std::fmt::Write as _;

use freehold_base::{Id, Kind, Timestamp};

use crate::StoreError;
use crate::backend::Value;

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

/// Rows of parameters in one statement: SQLite takes 32,766 parameters.
const ROWS: usize = 1_000;
/// Bytes of parameters in one statement, if that is more than one row: PostgreSQL takes less than a
/// gigabyte, and all of it is copied on the way.
const BYTES: usize = 8 << 20;

/// Runs a statement for rows of parameters, and again while there are more than fit: `run` is given what
/// stands in VALUES, and the parameters.
pub(crate) fn in_rows<'a, const N: usize>(
    all: impl IntoIterator<Item = [Value<'a>; N]>,
    mut run: impl FnMut(&str, &[Value<'a>]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let (mut count, mut bytes) = (0, 0);
        let some = std::iter::from_fn(|| {
            let fits = |row: &[Value<'a>; N]| {
                count += 1;
                bytes += row.iter().map(Value::len).sum::<usize>();
                count == 1 || (count <= ROWS && bytes <= BYTES)
            };
            all.next_if(fits)
        });
        let mut params = Vec::new();
        let rows = rows(&mut params, some);
        run(&rows, &params)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(rows: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts = Vec::new();
        let values = rows.map(|size| [Value::from("x".repeat(size)), 1i64.into()]);
        in_rows(values, |text, params| {
            assert_eq!(text.matches('(').count() * 2, params.len());
            assert!(text.ends_with(&format!(", ?{})", params.len())));
            counts.push(params.len() / 2);
            Ok(())
        })
        .unwrap();
        counts
    }

    #[test]
    fn rows_are_split_where_a_statement_would_be_too_large() {
        assert_eq!(statements(std::iter::empty()), Vec::<usize>::new());
        assert_eq!(statements([1; 3].into_iter()), [3]);
        assert_eq!(statements([1; 2_001].into_iter()), [1_000, 1_000, 1]);
        assert_eq!(statements([BYTES + 1; 2].into_iter()), [1, 1]);
        assert_eq!(statements([BYTES / 2 - 8; 5].into_iter()), [2, 2, 1]);
    }
}
