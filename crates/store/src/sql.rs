//! Building the few statements whose shape depends on the request.

use freehold_base::{Id, Kind, Timestamp};

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
