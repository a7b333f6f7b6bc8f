//! `freehold mcp`; needs an admin key.

mod show;

use freehold_client::Client;
use serde_json::Value;

use crate::cli::{ClassArg, ConfirmArg, DefinitionArgs, McpCommand, Output, ServerArgs, ToolArgs};
use crate::commands::connect::{client, id, text};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Most servers and tools listed.
const MAX_LISTED: usize = 10_000;
/// Fewest digits that name a definition.
const MIN_DIGITS: usize = 8;

/// Runs a subcommand.
pub(crate) async fn mcp(command: McpCommand) -> Result<Exit, Failure> {
    match command {
        McpCommand::Servers { connection, output } => {
            let servers = client(&connection)?.mcp_servers().take(MAX_LISTED).await?;
            print(&servers, output, |all| show::servers(all))?;
        }
        McpCommand::Tools { server: at, tool } => {
            let (client, server) = find(&at).await?;
            match tool {
                None => {
                    let tools = client.mcp_tools(&server).take(MAX_LISTED).await?;
                    print(&tools, at.output, |all| show::tools(all))?;
                }
                Some(tool) => {
                    let tool = client.mcp_tool(&server, &tool).await?;
                    print(&tool, at.output, show::tool)?;
                }
            }
        }
        McpCommand::Diff { server: at, tool } => {
            let (client, server) = find(&at).await?;
            let diff = client.mcp_diff(&server, tool.as_deref()).await?;
            print(&diff, at.output, show::diff)?;
        }
        McpCommand::Pin { server } => pin(server, true).await?,
        McpCommand::Unpin { server } => pin(server, false).await?,
        McpCommand::Approve { tool, definition } => decide(tool, definition, true).await?,
        McpCommand::Refuse { tool, definition } => decide(tool, definition, false).await?,
        McpCommand::Deprecate { tool } => {
            let (client, server) = find(&tool.server).await?;
            let done = client.deprecate_mcp_tool(&server, &tool.tool).await?;
            print(&done, tool.server.output, show::standing)?;
        }
        McpCommand::Class { tool, class } => {
            let class = match class {
                ClassArg::Read => Some("read"),
                ClassArg::Write => Some("write"),
                ClassArg::Admin => Some("admin"),
                ClassArg::Claimed => None,
            };
            let (client, server) = find(&tool.server).await?;
            let done = client.set_mcp_class(&server, &tool.tool, class).await?;
            print(&done, tool.server.output, show::standing)?;
        }
        McpCommand::Policy { server, confirm } => policy(server, &confirm).await?,
        McpCommand::Audit {
            server,
            tool,
            action,
            outcome,
            limit,
            connection,
            output,
        } => {
            let narrow = [
                ("server_url", &server),
                ("tool", &tool),
                ("action", &action),
                ("outcome", &outcome),
            ];
            let given = narrow.iter().filter_map(|(k, v)| Some((*k, v.as_deref()?)));
            let narrow: Vec<_> = given.collect();
            let client = client(&connection)?;
            let entries = client.mcp_audit(&narrow).take(limit).await?;
            print(&entries, output, |all| show::audit(all))?;
        }
    }
    Ok(Exit::Ok)
}

fn print<T: serde::Serialize>(
    value: &T,
    output: Output,
    shown: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if output.json {
        terminal::print_json(value)
    } else {
        terminal::print(&shown(value))
    }
}

/// The client, and the id of the server that is named by it or by its URL.
async fn find(args: &ServerArgs) -> Result<(Client, String), Failure> {
    let client = client(&args.connection)?;
    if !args.server.contains("://") {
        return Ok((client, args.server.clone()));
    }
    match client.mcp_servers_at(&args.server).next().await? {
        Some(found) => Ok((client, id(&found)?)),
        None => Err(Failure::new(
            Exit::NotFound,
            "no session or request has used a server with this URL",
        )),
    }
}

async fn pin(args: ServerArgs, pinned: bool) -> Result<(), Failure> {
    let (client, server) = find(&args).await?;
    let done = client.pin_mcp_server(&server, pinned).await?;
    print(&done, args.output, show::server)
}

async fn policy(args: ServerArgs, confirm: &[ConfirmArg]) -> Result<(), Failure> {
    if confirm.contains(&ConfirmArg::None) && 1 < confirm.len() {
        return Err(Failure::usage("`none` stands alone"));
    }
    let classes = confirm.iter().filter_map(|class| match class {
        ConfirmArg::Read => Some("read"),
        ConfirmArg::Write => Some("write"),
        ConfirmArg::Admin => Some("admin"),
        ConfirmArg::None => None,
    });
    let mut classes: Vec<_> = classes.collect();
    classes.sort_unstable();
    classes.dedup();
    let (client, server) = find(&args).await?;
    let done = client.set_mcp_policy(&server, &classes).await?;
    print(&done, args.output, show::server)
}

/// The definition is named, never taken to be the newest: it is the one that the operator has seen.
async fn decide(args: ToolArgs, definition: DefinitionArgs, approve: bool) -> Result<(), Failure> {
    let (client, server) = find(&args.server).await?;
    let tool = client.mcp_tool(&server, &args.tool).await?;
    let fingerprint = pick(&tool, &definition.fingerprint)?;
    let done = client
        .decide_mcp_tool(&server, &args.tool, &fingerprint, approve)
        .await?;
    print(&done, args.server.output, show::standing)
}

/// The one definition of the tool whose fingerprint begins so.
fn pick(tool: &Value, digits: &str) -> Result<String, Failure> {
    if digits.len() < MIN_DIGITS {
        return Err(Failure::usage(format!(
            "name the definition with at least {MIN_DIGITS} digits of its fingerprint"
        )));
    }
    let versions = tool["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let all = versions.iter().map(|version| text(version, "/fingerprint"));
    let found: Vec<&str> = all.filter(|f| f.starts_with(digits)).collect();
    match found[..] {
        [one] => Ok(one.to_owned()),
        [] => Err(Failure::new(
            Exit::NotFound,
            "the tool never had a definition with this fingerprint",
        )),
        _ => Err(Failure::usage("more than one definition begins so")),
    }
}
