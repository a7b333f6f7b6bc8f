//! From pages of `tools/list` to a [`Listing`]: what breaks a limit is left out, with the reason.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::definition::{Listing, ToolDefinition};
use crate::failure::Failure;
use crate::headers;
use crate::mask;
use crate::options::{MAX_DEFINITION, MAX_PAGES, MAX_SCHEMA_DEPTH, MAX_TOOLS, MAX_TTL};
use crate::rpc::Params;

/// Longest name of a tool, in characters.
const MAX_NAME: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    ttl_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Theirs {
    name: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    input_schema: Map<String, Value>,
    #[serde(default)]
    output_schema: Option<Value>,
    #[serde(default)]
    annotations: Option<Value>,
}

impl Theirs {
    /// The definition without the credential, wherever in it that is.
    fn masked(self, bearer: Option<&str>) -> Self {
        let text = |text: Option<String>| text.map(|text| mask::mask(text, bearer));
        let value = |value: Option<Value>| value.map(|value| mask::mask_value(value, bearer));
        Self {
            name: mask::mask(self.name, bearer),
            title: text(self.title),
            description: text(self.description),
            input_schema: mask::mask_map(self.input_schema, bearer),
            output_schema: value(self.output_schema),
            annotations: value(self.annotations),
        }
    }
}

/// Collects pages.
#[derive(Default)]
pub(crate) struct Pages<'a> {
    bearer: Option<&'a str>,
    listing: Listing,
    names: HashSet<String>,
    cursors: HashSet<String>,
    pages: usize,
    ttl: Option<Duration>,
}

impl<'a> Pages<'a> {
    /// Of a server that was shown `bearer`, and may write it into what models and operators read.
    pub(crate) fn new(bearer: Option<&'a str>) -> Self {
        Self {
            bearer,
            ..Self::default()
        }
    }

    /// Takes a page. Gives the parameters that ask for the next, if there is one to ask for.
    pub(crate) fn take(&mut self, result: &RawValue) -> Result<Option<Params>, Failure> {
        let page: Page = serde_json::from_str(result.get())
            .map_err(|_| Failure::malformed("a list of tools that is none"))?;
        self.pages += 1;
        if let Some(ttl) = page.ttl_ms {
            let ttl = Duration::from_millis(ttl).min(MAX_TTL);
            self.ttl = Some(self.ttl.map_or(ttl, |known| known.min(ttl)));
        }
        for tool in page.tools {
            if self.listing.tools.len() + self.listing.left_out.len() >= MAX_TOOLS {
                self.cut(&format!("more than {MAX_TOOLS} tools"));
                return Ok(None);
            }
            match self.judge(&tool) {
                Ok(tool) => self.listing.tools.push(tool),
                Err(left_out) => self.listing.left_out.push(left_out),
            }
        }
        let Some(cursor) = page.next_cursor.filter(|cursor| !cursor.is_empty()) else {
            return Ok(None);
        };
        if self.pages >= MAX_PAGES {
            self.cut(&format!("more than {MAX_PAGES} pages of tools"));
            return Ok(None);
        }
        if cursor.len() > MAX_DEFINITION || !self.cursors.insert(cursor.clone()) {
            self.cut("a page that points back");
            return Ok(None);
        }
        Ok(Some(Params::default().with("cursor", &cursor)))
    }

    /// What the pages came to, and how long the server says that it holds.
    pub(crate) fn finish(self) -> (Listing, Option<Duration>) {
        (self.listing, self.ttl)
    }

    fn cut(&mut self, why: &str) {
        tracing::warn!(why, "the rest of an MCP server's tools is left out");
        self.listing.left_out.push(("…".into(), why.into()));
    }

    fn judge(&mut self, raw: &RawValue) -> Result<ToolDefinition, (String, String)> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let named: Option<Named> = serde_json::from_str(raw.get()).ok();
        let bearer = self.bearer;
        let shown = named.map_or_else(
            || "?".into(),
            |named| mask::quote(&named.name, MAX_NAME, bearer),
        );
        let left_out = |why: &str| (shown.clone(), why.to_owned());
        if raw.get().len() > MAX_DEFINITION {
            return Err(left_out("the definition is larger than 64 KiB"));
        }
        let tool: Theirs = serde_json::from_str(raw.get())
            .map_err(|_| left_out("the definition is not that of a tool"))?;
        let tool = tool.masked(bearer);
        if !sound_name(&tool.name) {
            return Err(left_out(
                "the name must be 1 to 128 letters, digits, dots, dashes or underscores",
            ));
        }
        if tool.input_schema.get("type") != Some(&Value::from("object")) {
            return Err(left_out("the input schema is not of type object"));
        }
        headers::check(&tool.input_schema).map_err(left_out)?;
        let input = Value::Object(tool.input_schema);
        check_schema(&input, 0).map_err(left_out)?;
        if let Some(output) = &tool.output_schema {
            check_schema(output, 0).map_err(left_out)?;
        }
        if !self.names.insert(tool.name.clone()) {
            return Err(left_out("the name is there twice"));
        }
        let Value::Object(input_schema) = input else {
            return Err(left_out("the input schema is not an object"));
        };
        Ok(ToolDefinition {
            name: tool.name,
            title: tool.title,
            description: tool.description,
            input_schema,
            output_schema: tool.output_schema,
            annotations: tool.annotations,
        })
    }
}

fn sound_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'))
}

/// A schema within our depth that points nowhere but into itself.
fn check_schema(schema: &Value, depth: usize) -> Result<(), &'static str> {
    if depth > MAX_SCHEMA_DEPTH {
        return Err("the schema is nested too deeply");
    }
    match schema {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            let points = matches!(key.as_str(), "$ref" | "$dynamicRef" | "$recursiveRef");
            if points && value.as_str().is_some_and(|to| !to.starts_with('#')) {
                return Err("the schema points elsewhere");
            }
            check_schema(value, depth + 1)
        }),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_schema(item, depth + 1)),
        _ => Ok(()),
    }
}
