//! `freehold environments work`; listing needs an admin key.

use freehold_base::{EnvironmentId, Timestamp};
use freehold_wire::work::Work;

use crate::cli::{Output, WorkCommand};
use crate::commands::connect::client;
use crate::exit::{Exit, Failure};
use crate::terminal::{self, age, clean};

/// Lists items, shows how the queue stands, stops an item.
pub(super) async fn work(command: WorkCommand) -> Result<Exit, Failure> {
    match command {
        WorkCommand::List {
            environment,
            limit,
            connection,
            output,
        } => {
            let mut items = client(&connection)?.environment_work(&environment);
            show_list(&items.take(limit).await?, output)?;
        }
        WorkCommand::Stats {
            environment,
            connection,
            output,
        } => {
            let stats = client(&connection)?
                .work_stats(&parse(&environment)?)
                .await?;
            if output.json {
                terminal::print_json(&stats)?;
            } else {
                let oldest = stats.oldest_queued_at.map(since);
                let rows = [
                    ("waiting", stats.depth.to_string()),
                    ("handed out", stats.pending.to_string()),
                    ("oldest", oldest.unwrap_or_else(|| "-".to_owned())),
                    (
                        "workers polling",
                        stats.workers_polling.unwrap_or(0).to_string(),
                    ),
                ]
                .map(|(name, value)| vec![name.to_owned(), value]);
                terminal::print(&terminal::table(&["QUEUE", ""], &rows, ""))?;
            }
        }
        WorkCommand::Stop {
            environment,
            work,
            force,
            connection,
            output,
        } => {
            let item = client(&connection)?
                .stop_work(&parse(&environment)?, &work, force)
                .await?;
            if output.json {
                terminal::print_json(&item)?;
            } else {
                terminal::print(&format!("{} {}", item.state.as_str(), clean(&work)))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn parse(environment: &str) -> Result<EnvironmentId, Failure> {
    environment
        .parse()
        .map_err(|e| Failure::usage(format!("ENV_ID: {e}")))
}

fn since(at: Timestamp) -> String {
    age(&at.to_string())
}

fn show_list(items: &[Work], output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(&items);
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let heartbeat = item.latest_heartbeat_at.map(since);
            vec![
                item.id.to_string(),
                item.state.as_str().to_owned(),
                clean(&item.data.id),
                since(item.created_at),
                heartbeat.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let headings = ["ID", "STATE", "SESSION", "QUEUED", "HEARTBEAT"];
    terminal::print(&terminal::table(&headings, &rows, "no work"))
}
