//! What a tool's annotations claim of it.

use serde_json::Value;

use super::ToolClass;
use crate::ToolDefinition;

/// The class that the definition claims: `admin` if it says that it destroys, `read` if it says that
/// it changes nothing, else `write`. A definition that says both counts as the worse.
pub fn claimed(definition: &ToolDefinition) -> ToolClass {
    let says = |hint: &str| {
        let annotations = definition.annotations.as_ref();
        annotations.and_then(|a| a.get(hint)) == Some(&Value::Bool(true))
    };
    if says("destructiveHint") {
        ToolClass::Admin
    } else if says("readOnlyHint") {
        ToolClass::Read
    } else {
        ToolClass::Write
    }
}
