//! Arguments of `freehold gateway`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::{Connection, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Run the gateway: keeps connections to the edge open and forwards to the routes' servers
    Run(GatewayFile),
    /// Show connections, routes, certificate and last error of a gateway that runs
    Status {
        #[command(flatten)]
        from: StatusSource,
        #[command(flatten)]
        output: Output,
    },
    /// Tell DNS, proxy, TLS, token, clock, certificate and route faults apart
    Doctor {
        #[command(flatten)]
        file: GatewayFile,
        #[command(flatten)]
        output: Output,
    },
    /// Make what a gateway needs: tunnel, authority, certificate, token
    #[command(subcommand)]
    Setup(SetupCommand),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct StatusSource {
    /// The gateway's status_file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The gateway's status_addr
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayFile {
    /// Configuration file (YAML)
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/mcp-gateway/config.yaml"
    )]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SetupCommand {
    /// Create or take a tunnel, register an authority, and write certificate, key and token; again
    /// changes only what is missing
    Init {
        /// The tunnel; without it one is created, or the one in the output is taken again
        #[arg(long, value_name = "TUNNEL_ID", env = "TUNNEL_ID", hide_env = true)]
        tunnel_id: Option<String>,
        /// Where to: dir:/path
        #[arg(long, value_name = "PLACE")]
        output: String,
        /// How long the certificate is valid
        #[arg(long, value_name = "TIME", default_value = "2160h")]
        cert_duration: String,
        /// Another value than last time rotates the token
        #[arg(long, value_name = "TEXT")]
        token_version: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make a new certificate under the authority that is there; asks no server
    RenewCert {
        /// Where it is: dir:/path
        #[arg(long, value_name = "PLACE")]
        output: String,
        /// How long the certificate is valid
        #[arg(long, value_name = "TIME", default_value = "2160h")]
        cert_duration: String,
        /// Only if the old one expires within this time; 0s for always
        #[arg(long, value_name = "TIME", default_value = "0s")]
        renew_before: String,
    },
}
