//! `freehold keys`: through a server, or on its data directory while none runs.

mod offline;

use serde_json::Value;

use crate::cli::{KeyCommand, Output};
use crate::commands::connect::{client, text};
use crate::exit::{Exit, Failure};
use crate::terminal::{self, age, clean};

/// Most keys listed.
const MAX_LISTED: usize = 10_000;

/// Creates, lists and revokes keys.
pub(crate) async fn keys(command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Create {
            name,
            admin,
            scope,
            workspace,
            place,
            output,
        } => {
            let created = match place.store() {
                Some(store) => {
                    let workspace = workspace.as_deref();
                    offline::create(store, &name, workspace, admin, scope.as_deref()).await?
                }
                None => {
                    let client = client(&place.connection)?;
                    client
                        .create_key(&name, workspace.as_deref(), admin, scope.as_deref())
                        .await?
                }
            };
            show_created(&created, output)?;
        }
        KeyCommand::List { place, output } => {
            let keys = match place.store() {
                Some(store) => offline::list(store).await?,
                None => client(&place.connection)?.keys().take(MAX_LISTED).await?,
            };
            show_list(&keys, output)?;
        }
        KeyCommand::Revoke { id, place, output } => {
            let revoked = match place.store() {
                Some(store) => offline::revoke(store, &id).await?,
                None => client(&place.connection)?.revoke_key(&id).await?,
            };
            if output.json {
                terminal::print_json(&revoked)?;
            } else {
                terminal::print(&format!("revoked {}", clean(&id)))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// The key alone on standard output, so that a script can take it.
pub(super) fn show_created(created: &Value, output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(created);
    }
    eprintln!(
        "created {}; the key is shown this once:",
        clean(text(created, "/id"))
    );
    terminal::print(&clean(text(created, "/key")))
}

fn show_list(keys: &[Value], output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(&keys);
    }
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let state = match text(key, "/revoked_at") {
                "" => "",
                _ => "revoked",
            };
            vec![
                text(key, "/id").to_owned(),
                format!("…{}", text(key, "/last4")),
                text(key, "/name").to_owned(),
                if key["admin"] == true {
                    "admin".to_owned()
                } else {
                    text(key, "/scope").to_owned()
                },
                text(key, "/workspace_id").to_owned(),
                age(text(key, "/created_at")),
                state.to_owned(),
            ]
        })
        .collect();
    let headings = ["ID", "KEY", "NAME", "", "WORKSPACE", "CREATED", ""];
    terminal::print(&terminal::table(&headings, &rows, "no keys"))
}
