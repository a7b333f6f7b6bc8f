//! `freehold environments`.

mod keys;
mod work;

use crate::cli::EnvironmentCommand;
use crate::exit::{Exit, Failure};

/// Runs a subcommand.
pub(crate) async fn environments(command: EnvironmentCommand) -> Result<Exit, Failure> {
    match command {
        EnvironmentCommand::Keys(command) => keys::keys(command).await,
        EnvironmentCommand::Work(command) => work::work(command).await,
    }
}
