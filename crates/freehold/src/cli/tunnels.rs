//! Arguments of `freehold tunnels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::{Connection, Output};

/// What every one of these takes.
#[derive(Debug, Args)]
pub(crate) struct TunnelArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TunnelCommand {
    /// Create a tunnel with a domain of its own
    Create {
        /// A name to tell it by
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// List tunnels, newest first
    List {
        /// Also archived tunnels
        #[arg(long)]
        archived: bool,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// Show a tunnel, its certificates and the gateways that are connected
    Show {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// Archive a tunnel for good: its domain, token and certificates work no more
    Archive {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// Print or replace the token that gateways connect with
    #[command(subcommand)]
    Token(TunnelTokenCommand),
    /// Register, list and archive the certificate authorities of a tunnel's gateways
    #[command(subcommand)]
    Certificates(TunnelCertificateCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TunnelTokenCommand {
    /// Print the token
    Reveal {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// Replace the token and print the new one; gateways that are connected stay
    Rotate {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        /// Why, for the server's log
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        args: TunnelArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TunnelCertificateCommand {
    /// Register a certificate authority, without its key
    Add {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        /// PEM file with one certificate
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// List a tunnel's certificates, newest first
    List {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        /// Also archived certificates
        #[arg(long)]
        archived: bool,
        #[command(flatten)]
        args: TunnelArgs,
    },
    /// Archive a certificate: what was opened on its word ends
    Archive {
        /// The tunnel
        #[arg(value_name = "TUNNEL_ID")]
        tunnel: String,
        /// The certificate, as `list` shows it
        #[arg(value_name = "CERTIFICATE_ID")]
        certificate: String,
        #[command(flatten)]
        args: TunnelArgs,
    },
}
