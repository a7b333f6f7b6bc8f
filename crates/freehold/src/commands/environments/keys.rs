//! `freehold environments keys`; needs an admin key.

use serde_json::Value;

use crate::cli::{EnvironmentKeyCommand, Output};
use crate::commands::connect::{client, text};
use crate::commands::keys::show_created;
use crate::exit::{Exit, Failure};
use crate::terminal::{self, age, clean};

/// Most keys listed.
const MAX_LISTED: usize = 10_000;

/// Creates, lists and revokes keys.
pub(super) async fn keys(command: EnvironmentKeyCommand) -> Result<Exit, Failure> {
    match command {
        EnvironmentKeyCommand::Create {
            environment,
            name,
            connection,
            output,
        } => {
            let created = client(&connection)?
                .create_environment_key(&environment, &name)
                .await?;
            show_created(&created, output)?;
        }
        EnvironmentKeyCommand::List {
            environment,
            connection,
            output,
        } => {
            let mut keys = client(&connection)?.environment_keys(&environment);
            show_list(&keys.take(MAX_LISTED).await?, output)?;
        }
        EnvironmentKeyCommand::Revoke {
            environment,
            key,
            connection,
            output,
        } => {
            let revoked = client(&connection)?
                .revoke_environment_key(&environment, &key)
                .await?;
            if output.json {
                terminal::print_json(&revoked)?;
            } else {
                terminal::print(&format!("revoked {}", clean(&key)))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn show_list(keys: &[Value], output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(&keys);
    }
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let used = match text(key, "/last_used_at") {
                "" => "never".to_owned(),
                at => age(at),
            };
            let state = match text(key, "/revoked_at") {
                "" => "",
                _ => "revoked",
            };
            vec![
                text(key, "/id").to_owned(),
                format!("…{}", text(key, "/last4")),
                text(key, "/name").to_owned(),
                age(text(key, "/created_at")),
                used,
                state.to_owned(),
            ]
        })
        .collect();
    let headings = ["ID", "KEY", "NAME", "CREATED", "LAST USED", ""];
    terminal::print(&terminal::table(&headings, &rows, "no keys"))
}
