//! A server's list of tools, page by page, within limits.

use std::collections::BTreeSet;

use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, ServerResult, Tool};
use rmcp::service::{PeerRequestOptions, ServiceError};
use serde_json::Value;

use crate::Options;
use crate::client::Client;
use crate::definition::{Listing, ToolDefinition};
use crate::error::{self, McpError};
use crate::http::HttpError;

/// Tools of one server.
pub const MAX_TOOLS: usize = 512;
/// Bytes of one definition.
pub const MAX_DEFINITION: usize = 64 << 10;
/// Pages of one list.
const MAX_PAGES: usize = 20;
/// Characters of a tool's name (contract 62).
const MAX_NAME: usize = 128;
/// Levels of a schema.
const MAX_DEPTH: usize = 32;

/// A list, and how much was read for it.
pub(crate) struct Read {
    pub(crate) listing: Listing,
    pub(crate) bytes: u64,
}

async fn page(
    client: &Client,
    options: &Options,
    cursor: Option<String>,
) -> Result<(Vec<Tool>, Option<String>), ServiceError> {
    let params = cursor.map(|c| PaginatedRequestParams::default().with_cursor(Some(c)));
    let request = ListToolsRequest {
        params,
        ..Default::default()
    };
    let asked = PeerRequestOptions::with_timeout(options.connect);
    let request = ClientRequest::ListToolsRequest(request);
    let handle = client
        .peer()
        .send_cancellable_request(request, asked)
        .await?;
    match handle.await_response().await? {
        ServerResult::ListToolsResult(page) => Ok((page.tools, page.next_cursor)),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

/// Asks for the first page only.
pub(crate) async fn first(client: &Client, options: &Options) -> Result<(), HttpError> {
    let asked = page(client, options, None).await;
    asked.map(drop).map_err(|e| error::http_of_service(&e))
}

/// All pages.
pub(crate) async fn all(client: &Client, options: &Options) -> Result<Read, McpError> {
    let mut read = Read {
        listing: Listing::default(),
        bytes: 0,
    };
    let (mut cursor, mut cursors, mut names) = (None, BTreeSet::new(), BTreeSet::new());
    for _ in 0..MAX_PAGES {
        let asked = page(client, options, cursor.take()).await;
        let (tools, next) = asked.map_err(|e| error::of_service(&e))?;
        for tool in tools {
            let listing = &mut read.listing;
            let name: String = tool.name.chars().take(MAX_NAME).collect();
            if listing.tools.len() + listing.left_out.len() >= 2 * MAX_TOOLS {
                return Ok(read);
            }
            match definition(tool, &mut read.bytes) {
                _ if listing.tools.len() == MAX_TOOLS => {
                    let why = format!("the server has more than {MAX_TOOLS} tools");
                    listing.left_out.push((name, why));
                }
                Ok(tool) if names.insert(tool.name.clone()) => listing.tools.push(tool),
                Ok(_) => {
                    let why = "another tool of the server has the same name".to_owned();
                    listing.left_out.push((name, why));
                }
                Err(why) => listing.left_out.push((name, why.to_owned())),
            }
        }
        match next {
            // A server that repeats itself has no more to say.
            Some(next) if cursors.insert(next.clone()) => cursor = Some(next),
            _ => return Ok(read),
        }
    }
    Ok(read)
}

fn definition(tool: Tool, bytes: &mut u64) -> Result<ToolDefinition, &'static str> {
    let whole = serde_json::to_value(&tool).map_err(|_| "it cannot be read")?;
    let size = whole.to_string().len();
    *bytes += size as u64;
    if size > MAX_DEFINITION {
        return Err("its definition is larger than 64 KiB");
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let length = tool.name.chars().count();
    if !(1..=MAX_NAME).contains(&length) || !tool.name.chars().all(fits) {
        return Err("its name is not 1 to 128 of A-Z, a-z, 0-9, '_', '-', '.' and '/'");
    }
    check_schema(&whole["inputSchema"], 0)?;
    check_schema(&whole["outputSchema"], 0)?;
    if whole["inputSchema"]["type"]
        .as_str()
        .is_some_and(|t| t != "object")
    {
        return Err("its input schema is not one of an object");
    }
    let optional = |key: &str| whole.get(key).filter(|v| !v.is_null()).cloned();
    Ok(ToolDefinition {
        name: tool.name.into_owned(),
        title: tool.title,
        description: tool.description.map(|d| d.into_owned()),
        input_schema: (*tool.input_schema).clone(),
        output_schema: optional("outputSchema"),
        annotations: optional("annotations"),
    })
}

/// Nothing in a schema may point out of it: nobody here, nor behind us, is to fetch what it names.
fn check_schema(schema: &Value, depth: usize) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("its schema is nested too deeply");
    }
    match schema {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            let points = matches!(key.as_str(), "$ref" | "$dynamicRef" | "$recursiveRef");
            if points && value.as_str().is_some_and(|to| !to.starts_with('#')) {
                return Err("its schema points to another document");
            }
            check_schema(value, depth + 1)
        }),
        Value::Array(items) => items.iter().try_for_each(|v| check_schema(v, depth + 1)),
        _ => Ok(()),
    }
}
