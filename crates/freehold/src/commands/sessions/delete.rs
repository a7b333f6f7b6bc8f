//! `freehold sessions delete`.

use crate::cli::{Connection, Output};
use crate::commands::connect::client;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Deletes sessions, in order; stops at the first that cannot be deleted.
pub(super) async fn delete(
    ids: &[String],
    connection: Connection,
    output: Output,
) -> Result<Exit, Failure> {
    let client = client(&connection)?;
    let mut deleted = Vec::new();
    for id in ids {
        match client.delete_session(id).await {
            Ok(answer) => deleted.push(answer),
            Err(error) => {
                let mut failure = Failure::from(error);
                if failure.message.contains("running") {
                    failure = failure.hint("interrupt it first, or wait until it is idle");
                }
                return Err(failure);
            }
        }
        if !output.json {
            terminal::print(&format!("deleted {}", terminal::clean(id)))?;
        }
    }
    if output.json {
        terminal::print_json(&deleted)?;
    }
    Ok(Exit::Ok)
}
