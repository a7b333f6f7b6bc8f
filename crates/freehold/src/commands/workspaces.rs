//! `freehold workspaces`.

use crate::cli::WorkspaceCommand;
use crate::commands::connect::{client, text};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Most workspaces listed.
const MAX_LISTED: usize = 10_000;

/// Creates and lists workspaces.
pub(crate) async fn workspaces(command: WorkspaceCommand) -> Result<Exit, Failure> {
    match command {
        WorkspaceCommand::Create {
            name,
            connection,
            output,
        } => {
            let workspace = client(&connection)?.create_workspace(&name).await?;
            if output.json {
                terminal::print_json(&workspace)?;
            } else {
                terminal::print(&terminal::clean(text(&workspace, "/id")))?;
            }
        }
        WorkspaceCommand::List { connection, output } => {
            let workspaces = client(&connection)?.workspaces().take(MAX_LISTED).await?;
            if output.json {
                terminal::print_json(&workspaces)?;
            } else {
                let rows: Vec<Vec<String>> = workspaces
                    .iter()
                    .map(|w| {
                        let state = if w["archived_at"].is_null() {
                            ""
                        } else {
                            "archived"
                        };
                        ["/id", "/name", "/created_at"]
                            .map(|key| text(w, key).to_owned())
                            .into_iter()
                            .chain([state.to_owned()])
                            .collect()
                    })
                    .collect();
                let table = terminal::table(&["ID", "NAME", "CREATED", ""], &rows, "no workspaces");
                terminal::print(&table)?;
            }
        }
    }
    Ok(Exit::Ok)
}
