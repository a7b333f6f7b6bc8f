//! Arguments of `freehold mcp`.

use clap::{Args, Subcommand, ValueEnum};

use super::args::{Connection, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// List the servers that agents of the workspace have used, oldest first
    Servers {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// List a server's tools, or show one with every definition it had
    Tools {
        #[command(flatten)]
        server: ServerArgs,
        /// Show this tool
        #[arg(value_name = "TOOL")]
        tool: Option<String>,
    },
    /// Show what a server serves against what was approved, or served before
    Diff {
        #[command(flatten)]
        server: ServerArgs,
        /// Only this tool [default: all that wait for a decision, or are gone]
        #[arg(value_name = "TOOL")]
        tool: Option<String>,
    },
    /// Offer only what was approved: what the server serves now is, what changes later is held back
    Pin {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Offer what is new or changed again
    Unpin {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Approve a tool's definition, and no other; an earlier one rolls back to it
    Approve {
        #[command(flatten)]
        tool: ToolArgs,
        #[command(flatten)]
        definition: DefinitionArgs,
    },
    /// Refuse a tool's definition, and later ones until one is approved
    Refuse {
        #[command(flatten)]
        tool: ToolArgs,
        #[command(flatten)]
        definition: DefinitionArgs,
    },
    /// Take a tool out of use until a definition of it is approved again
    Deprecate {
        #[command(flatten)]
        tool: ToolArgs,
    },
    /// Say what a tool can do, over what its definition claims
    Class {
        #[command(flatten)]
        tool: ToolArgs,
        /// The class; `claimed` goes back to the definition's
        #[arg(value_name = "CLASS")]
        class: ClassArg,
    },
    /// Say which classes of a server's tools must be confirmed, whatever agents say
    Policy {
        #[command(flatten)]
        server: ServerArgs,
        /// The classes, separated by commas; `none` for none
        #[arg(long, value_name = "CLASSES", value_delimiter = ',', required = true)]
        confirm: Vec<ConfirmArg>,
    },
    /// List what was asked of servers and decided over them, newest first
    Audit {
        /// Only of this server
        #[arg(long, value_name = "URL")]
        server: Option<String>,
        /// Only of tools of this name
        #[arg(long, value_name = "TOOL")]
        tool: Option<String>,
        /// Only this action, such as tools/call or approve
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only with this outcome, such as ok or held
        #[arg(long, value_name = "OUTCOME")]
        outcome: Option<String>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's id or URL
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ToolArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The tool's name
    #[arg(value_name = "TOOL")]
    pub(crate) tool: String,
}

#[derive(Debug, Args)]
pub(crate) struct DefinitionArgs {
    /// The definition, or the first digits of its fingerprint, as `diff` and `tools` show it
    #[arg(value_name = "FINGERPRINT")]
    pub(crate) fingerprint: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ClassArg {
    Read,
    Write,
    Admin,
    Claimed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfirmArg {
    Read,
    Write,
    Admin,
    None,
}
