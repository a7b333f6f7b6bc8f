//! Arguments of `freehold environments`.

use clap::Subcommand;

use super::args::{Connection, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentCommand {
    /// Create, list and revoke the keys that workers claim an environment's sessions with
    #[command(subcommand)]
    Keys(EnvironmentKeyCommand),
    /// Look at an environment's work queue, and stop its items
    #[command(subcommand)]
    Work(WorkCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentKeyCommand {
    /// Create a key and print it, once
    Create {
        /// The environment, a self-hosted one
        #[arg(value_name = "ENV_ID")]
        environment: String,
        /// A name to tell it by
        #[arg(long, default_value = "worker")]
        name: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// List an environment's keys
    List {
        /// The environment
        #[arg(value_name = "ENV_ID")]
        environment: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a key, from the next request on
    Revoke {
        /// The environment
        #[arg(value_name = "ENV_ID")]
        environment: String,
        /// The key's id, as `list` shows it
        #[arg(value_name = "KEY_ID")]
        key: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkCommand {
    /// List work items, newest first
    List {
        /// The environment
        #[arg(value_name = "ENV_ID")]
        environment: String,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Show how many items wait, and how many workers poll
    Stats {
        /// The environment
        #[arg(value_name = "ENV_ID")]
        environment: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Ask the worker of an item to stop; the session gets another item if it has work left
    Stop {
        /// The environment
        #[arg(value_name = "ENV_ID")]
        environment: String,
        /// The item, as `list` shows it
        #[arg(value_name = "WORK_ID")]
        work: String,
        /// End it at once, whatever its worker does
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}
