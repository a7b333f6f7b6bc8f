//! The command line.

mod args;
mod environments;
mod gateway;
mod mcp;
mod operations;
mod skills;
mod tunnels;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::commands;
use crate::exit::{Exit, Failure};
use crate::memory;

pub(crate) use args::{
    Command, Connection, ExportArgs, KeyCommand, Output, RunArgs, SecretCommand, SessionCommand,
    TailArgs, WorkspaceCommand,
};
pub(crate) use environments::{EnvironmentCommand, EnvironmentKeyCommand, WorkCommand};
pub(crate) use gateway::{GatewayCommand, GatewayFile, SetupCommand, StatusSource};
pub(crate) use mcp::{ClassArg, ConfirmArg, DefinitionArgs, McpCommand, ServerArgs, ToolArgs};
pub(crate) use operations::{BackupArgs, MigrateArgs, MoveArgs, RestoreArgs, StoreArgs};
pub(crate) use skills::SkillCommand;
pub(crate) use tunnels::{TunnelCertificateCommand, TunnelCommand, TunnelTokenCommand};
pub(crate) use worker::{
    ClaimArgs, ItemArgs, LogArgs, NetworkArg, PollArgs, ServingArgs, WebhookArgs, WorkerCommand,
    WorkerConnection,
};

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let command = args::Cli::parse().command;
    let result = match command {
        Command::Serve(_) | Command::Worker(_) => {
            memory::tune();
            on_all_cores(small(run(command)))
        }
        Command::Gateway(_) => on_one_core(small(run(command))),
        _ => on_one_core(run(command)),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// For what may run for long.
async fn small(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    memory::keep_small();
    work.await
}

async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(flags) => commands::serve(flags).await,
        Command::Worker(command) => commands::worker(command).await,
        Command::Run(args) => commands::run(args).await,
        Command::Sessions(command) => commands::sessions(command).await,
        Command::Keys(command) => commands::keys(command).await,
        Command::Environments(command) => commands::environments(command).await,
        Command::Gateway(command) => commands::gateway(command).await,
        Command::Mcp(command) => commands::mcp(command).await,
        Command::Skills(command) => commands::skills(command).await,
        Command::Tunnels(command) => commands::tunnels(command).await,
        Command::Workspaces(command) => commands::workspaces(command).await,
        Command::Secrets(command) => commands::secrets(command).await,
        Command::Migrate(args) => commands::migrate(args).await,
        Command::Backup(args) => commands::backup(args).await,
        Command::Restore(args) => commands::restore(args).await,
        Command::Export(args) => commands::export(args).await,
        Command::Import(args) => commands::import(args).await,
        Command::Models { connection, output } => commands::models(connection, output).await,
        Command::Doctor {
            history,
            flags,
            output,
        } => commands::doctor(history, flags, output).await,
    }
}

fn on_all_cores(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("freehold")
        .enable_all()
        .build()
        .map_err(|e| Failure::because("cannot start", &e))?;
    let result = runtime.block_on(work);
    // What still runs has been told to stop and has had its time.
    runtime.shutdown_background();
    result
}

fn on_one_core(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::because("cannot start", &e))?;
    let result = runtime.block_on(work);
    // A read of standard input may hang for ever.
    runtime.shutdown_background();
    result
}
