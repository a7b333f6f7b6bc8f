//! `freehold sessions`.

mod delete;
mod export;
mod list;
mod prove;
mod show;
mod tail;

use crate::cli::SessionCommand;
use crate::exit::{Exit, Failure};

/// Runs a subcommand.
pub(crate) async fn sessions(command: SessionCommand) -> Result<Exit, Failure> {
    match command {
        SessionCommand::List {
            status,
            agent,
            archived,
            limit,
            connection,
            output,
        } => {
            let filter = list::Filter {
                status,
                agent,
                archived,
                limit,
            };
            list::list(filter, connection, output).await
        }
        SessionCommand::Show {
            id,
            connection,
            output,
        } => show::show(&id, connection, output).await,
        SessionCommand::Tail(args) => tail::tail(args).await,
        SessionCommand::Export(args) => export::export(args).await,
        SessionCommand::Delete {
            ids,
            prove,
            store,
            connection,
            output,
        } => delete::delete(&ids, prove.then_some(store), connection, output).await,
    }
}
