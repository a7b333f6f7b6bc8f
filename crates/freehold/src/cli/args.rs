//! Commands and their arguments. The help texts are snapshots in `tests/help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::environments::EnvironmentCommand;
use super::gateway::GatewayCommand;
use super::mcp::McpCommand;
use super::operations::{BackupArgs, MigrateArgs, MoveArgs, RestoreArgs, StoreArgs};
use super::skills::SkillCommand;
use super::tunnels::TunnelCommand;
use super::worker::WorkerCommand;
use crate::config::ServeFlags;

/// Managed agents on your own ground
#[derive(Debug, Parser)]
#[command(name = "freehold", version, about, max_term_width = 100, after_help = AFTER)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER: &str = "\
Client commands talk to the server at FREEHOLD_URL with the key in FREEHOLD_API_KEY.
Exit status: 0 done, 1 failed, 2 bad arguments or configuration, 3 the session failed,
4 the session waits for an answer, 5 the model refused, 6 budget reached,
7 no server answers, 8 the key is not accepted, 9 not found, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server
    Serve(ServeFlags),
    /// Serve sessions of a self-hosted environment, on this or any other host
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// Run one prompt in a new session and show it live
    Run(RunArgs),
    /// List, show, follow, export and delete sessions
    #[command(subcommand)]
    Sessions(SessionCommand),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(KeyCommand),
    /// Administer environments: the keys of their workers and their work queues
    #[command(subcommand)]
    Environments(EnvironmentCommand),
    /// Run the private network's half of an MCP tunnel
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// See what MCP servers offer and how it changed, and decide what agents may use
    #[command(subcommand)]
    Mcp(McpCommand),
    /// List, upload and delete skills
    #[command(subcommand)]
    Skills(SkillCommand),
    /// Administer MCP tunnels: their tokens and the certificates of their gateways
    #[command(subcommand)]
    Tunnels(TunnelCommand),
    /// Create and list workspaces
    #[command(subcommand)]
    Workspaces(WorkspaceCommand),
    /// Change the master key of stored secrets
    #[command(subcommand)]
    Secrets(SecretCommand),
    /// Bring the database's schema up to date, as the start of a server does
    ///
    /// With SQLite no server may be running; replicas on PostgreSQL wait meanwhile.
    Migrate(MigrateArgs),
    /// Copy a data directory with SQLite while its server runs
    ///
    /// Database and files are of one moment. What is in sandboxes is not copied. PostgreSQL has tools of
    /// its own: see docs/backup.md.
    Backup(BackupArgs),
    /// Make a data directory of a backup
    Restore(RestoreArgs),
    /// Write everything a store holds to a file, to move it to the other engine
    ///
    /// No server may be running. The file is made; it holds secrets only sealed, and everything else
    /// readable.
    Export(MoveArgs),
    /// Fill an empty store from an exported file
    ///
    /// The file is checked before anything is written. The master keys have to be there first.
    Import(MoveArgs),
    /// List the models that agents can use
    Models {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Check whether this host can run a server, and say how to mend what is wrong
    Doctor {
        /// Check this session instead: its events, row, inbox and files, in the store
        #[arg(long, value_name = "SESSION_ID")]
        history: Option<String>,
        #[command(flatten)]
        flags: ServeFlags,
        #[command(flatten)]
        output: Output,
    },
}

/// Where the server is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// The server's URL; the key is read from FREEHOLD_API_KEY
    #[arg(
        long,
        value_name = "URL",
        env = "FREEHOLD_URL",
        default_value = "http://127.0.0.1:8787",
        hide_env = true
    )]
    pub(crate) url: String,
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What the agent is asked to do; `-` reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: String,
    /// Use this agent instead of a general one
    #[arg(long, value_name = "ID", conflicts_with = "model")]
    pub(crate) agent: Option<String>,
    /// Model of the general agent [default: the newest configured, else the rehearsal model]
    #[arg(long, value_name = "ID", env = "FREEHOLD_MODEL", hide_env = true)]
    pub(crate) model: Option<String>,
    /// Use this environment instead of a general one
    #[arg(long, value_name = "ID")]
    pub(crate) environment: Option<String>,
    /// Keep the session afterwards; sessions that ended badly or left files are always kept
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print the session's events as JSON, one a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions, newest first
    List {
        /// Only sessions with this status: idle, running, rescheduling, terminated
        #[arg(long, value_name = "STATUS")]
        status: Vec<String>,
        /// Only sessions of this agent
        #[arg(long, value_name = "ID")]
        agent: Option<String>,
        /// Also archived sessions
        #[arg(long)]
        archived: bool,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Show one session: its configuration, cost and files
    Show {
        /// The session
        id: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Show a session's events from the first on, and then live
    Tail(TailArgs),
    /// Write a session with all its events to a file or to standard output, as JSON
    Export(ExportArgs),
    /// Delete a session with its events, files and sandbox
    Delete {
        /// The sessions
        #[arg(required = true)]
        ids: Vec<String>,
        /// Look into the server's store before and after, and say what is left; fails if something is
        #[arg(long)]
        prove: bool,
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The session
    pub(crate) id: String,
    /// Stop when everything so far has been shown
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Print events as JSON, one a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The session
    pub(crate) id: String,
    /// Write to this file, which must not exist
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Also save the session's files, into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
    /// Accepted for symmetry: an export is always JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key and print it, once
    Create {
        /// A name to tell it by
        #[arg(long, default_value = "cli")]
        name: String,
        /// A key that may administer keys and workspaces
        #[arg(long)]
        admin: bool,
        /// A key for this API only: tunnels
        #[arg(long, value_name = "API", value_parser = ["tunnels"], conflicts_with = "admin")]
        scope: Option<String>,
        /// The workspace it works in [default: that of the key in use]
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        #[command(flatten)]
        place: KeyPlace,
        #[command(flatten)]
        output: Output,
    },
    /// List keys
    List {
        #[command(flatten)]
        place: KeyPlace,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a key, from the next request on
    Revoke {
        /// The key's id, as `list` shows it
        id: String,
        #[command(flatten)]
        place: KeyPlace,
        #[command(flatten)]
        output: Output,
    },
}

/// Where keys are administered.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyPlace {
    /// Work on this data directory while no server uses it; needs no key
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// With --data-dir: the server's configuration file, which says where its database is
    #[arg(long, value_name = "FILE", env = "FREEHOLD_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

impl KeyPlace {
    /// The store they are administered in; `None`: that of a server.
    pub(crate) fn store(&self) -> Option<StoreArgs> {
        let data_dir = Some(self.data_dir.clone()?);
        let config = self.config.clone();
        Some(StoreArgs { data_dir, config })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Create a workspace
    Create {
        /// Its name
        #[arg(long)]
        name: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// List workspaces
    List {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Put every stored secret under a new master key, while no server is running
    ///
    /// A server that keeps its own key gets a fresh one, and the old one is forgotten. With
    /// secrets.key_file or secrets.key_env, write the new key before the old ones first; the old
    /// ones can go afterwards.
    Rotate {
        /// The data directory [default: ~/.local/share/freehold]
        #[arg(long, value_name = "DIR", env = "FREEHOLD_DATA_DIR", hide_env = true)]
        data_dir: Option<PathBuf>,
        /// The server's configuration file
        #[arg(long, value_name = "FILE", env = "FREEHOLD_CONFIG", hide_env = true)]
        config: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
}
