//! How two definitions differ, field by field.

use serde::Serialize;
use serde_json::{Value, json};

use super::canonical::canonical;
use crate::ToolDefinition;

/// Differences that are listed; what is beyond is counted in the last one's field.
pub const MAX_CHANGES: usize = 200;

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// For example `description` or `input_schema.properties.path.type`.
    pub field: String,
    /// As it was; none if it is new.
    pub old: Option<Value>,
    /// As it is; none if it is gone.
    pub new: Option<Value>,
}

/// What changed from `old` to `new`, in the order of the fields; against nothing, every field is
/// new or gone. Lists are compared whole.
pub fn changes(old: Option<&ToolDefinition>, new: Option<&ToolDefinition>) -> Vec<Change> {
    let mut found = Vec::new();
    let side = |definition: Option<&ToolDefinition>| definition.map_or_else(|| json!({}), fields);
    compare("", Some(&side(old)), Some(&side(new)), &mut found);
    if MAX_CHANGES < found.len() {
        let more = found.len() - MAX_CHANGES;
        found.truncate(MAX_CHANGES);
        found.push(Change {
            field: format!("({more} more)"),
            old: None,
            new: None,
        });
    }
    found
}

fn fields(definition: &ToolDefinition) -> Value {
    let mut all = json!({
        "name": definition.name,
        "title": definition.title,
        "description": definition.description,
        "input_schema": definition.input_schema,
        "output_schema": definition.output_schema,
        "annotations": definition.annotations,
    });
    if let Some(map) = all.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    all
}

fn compare(at: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Change>) {
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (old, new) {
        let added = b.keys().filter(|key| !a.contains_key(*key));
        for key in a.keys().chain(added) {
            let field = match at {
                "" => key.clone(),
                _ => format!("{at}.{key}"),
            };
            compare(&field, a.get(key), b.get(key), found);
        }
        return;
    }
    // Two spellings of one number are no difference: the fingerprint does not tell them apart.
    if old.map(canonical) != new.map(canonical) {
        found.push(Change {
            field: at.to_owned(),
            old: old.cloned(),
            new: new.cloned(),
        });
    }
}

/// Pairs of a tool that is gone and a new one that takes the same input: probably a rename, which is
/// a change like any other.
pub fn renames<'a>(
    gone: &[&'a ToolDefinition],
    new: &[&'a ToolDefinition],
) -> Vec<(&'a str, &'a str)> {
    let schema = |d: &ToolDefinition| canonical(&Value::Object(d.input_schema.clone())).ok();
    let gone: Vec<_> = gone.iter().map(|d| (*d, schema(d))).collect();
    let pairs = new.iter().filter_map(|n| {
        let wanted = schema(n);
        let old = gone.iter().find(|(old, has)| {
            has.is_some()
                && *has == wanted
                && (!old.input_schema.is_empty() || old.description == n.description)
        });
        old.map(|(old, _)| (old.name.as_str(), n.name.as_str()))
    });
    pairs.collect()
}
