//! Commands on a server's store itself: its schema, backups, and moving it.

use std::path::PathBuf;

use clap::Args;

use super::Output;

/// Whose store: a server's with these settings. The rest is read from the environment, as the server
/// does.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArgs {
    /// The server's data directory [default: ~/.local/share/freehold]
    #[arg(long, value_name = "DIR", env = "FREEHOLD_DATA_DIR", hide_env = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's configuration file
    #[arg(long, value_name = "FILE", env = "FREEHOLD_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Change nothing; exit with status 1 if something is to be done
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The directory to make; must not be there, or be empty
    #[arg(value_name = "DEST")]
    pub(crate) dest: PathBuf,
    /// Leave the file of master keys out; without it no stored secret can be read
    #[arg(long)]
    pub(crate) without_key: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// What `freehold backup` made
    #[arg(value_name = "SRC")]
    pub(crate) src: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}
