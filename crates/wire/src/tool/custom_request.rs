//! `custom` tools of a request.

use freehold_base::limits::MAX_SYSTEM;
use serde_json::{Map, Value};

use super::{BuiltinTool, CustomTool};
use crate::decode::{At, Decode, Object, echo, text};

/// Characters of a tool's name.
const MAX_TOOL_NAME: usize = 128;
/// Characters of a property's name.
const MAX_PROPERTY_NAME: usize = 64;

pub(super) fn tool(mut o: Object<'_>) -> Decode<CustomTool> {
    let tool = CustomTool {
        name: o.required("name", name)?,
        // The contract sets no upper bound; ours is that of a whole system prompt.
        description: o.required("description", text(1, MAX_SYSTEM))?,
        input_schema: o.required("input_schema", input_schema)?,
    };
    o.finish()?;
    Ok(tool)
}

fn name(value: Value, at: &At<'_>) -> Decode<String> {
    let name = text(1, MAX_TOOL_NAME)(value, at)?;
    if !name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
    {
        return Err(at.error("Tool names may hold only letters, digits, '_' and '-'"));
    }
    if BuiltinTool::from_name(&name).is_some() {
        return Err(at.error(format_args!("`{name}` is the name of a built-in tool")));
    }
    if name.starts_with("mcp__") {
        return Err(at.error("The prefix `mcp__` is reserved for tools of MCP servers"));
    }
    Ok(name)
}

fn input_schema(value: Value, at: &At<'_>) -> Decode<Map<String, Value>> {
    let Value::Object(schema) = value else {
        return Err(at.error("Input should be an object"));
    };
    match schema.get("type") {
        None => return Err(at.key("type").error("Field required")),
        Some(kind) if kind == "object" => {}
        Some(_) => return Err(at.key("type").error("Input should be 'object'")),
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if schema.contains_key(key) {
            return Err(at.key(key).error(
                "oneOf, anyOf and allOf are not supported at the top level of input_schema",
            ));
        }
    }
    match schema.get("properties") {
        None | Some(Value::Null) => {}
        Some(Value::Object(properties)) => {
            let at = at.key("properties");
            for (name, schema) in properties {
                check_property(name, schema, &at)?;
            }
        }
        Some(_) => return Err(at.key("properties").error("Input should be an object")),
    }
    match schema.get("required") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {}
        Some(_) => {
            return Err(at
                .key("required")
                .error("Input should be a list of strings"));
        }
    }
    // serde_json's map is walked here by reference: depth is bounded by the request reader.
    if schema
        .iter()
        .any(|(key, value)| key == "$ref" || has_ref(value))
    {
        return Err(at.error("$ref is not supported in input_schema"));
    }
    Ok(schema)
}

fn check_property(name: &str, schema: &Value, at: &At<'_>) -> Decode<()> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    if name.is_empty() || MAX_PROPERTY_NAME < name.len() || !name.bytes().all(is_plain) {
        return Err(at.key(name).error(format_args!(
            "Property names should be 1 to {MAX_PROPERTY_NAME} letters, digits, '_', '.' or '-', not '{}'",
            echo(name)
        )));
    }
    if !(schema.is_object() || schema.is_boolean()) {
        return Err(at.key(name).error("Input should be a JSON schema"));
    }
    Ok(())
}

fn has_ref(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(k, v)| k == "$ref" || has_ref(v)),
        Value::Array(items) => items.iter().any(has_ref),
        _ => false,
    }
}
