//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::measure::Section;

/// Measure a freehold server
#[derive(Debug, Parser)]
#[command(name = "freehold-bench")]
pub(crate) struct Args {
    /// The server's binary; a release build, or the numbers mean little
    #[arg(long, value_name = "FILE")]
    pub(crate) server: PathBuf,
    /// Where data directories are made; decides which disk is measured [default: beside the binary]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A smoke run of about a minute; too short to compare numbers with
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds, 1 to 20 [default: 7, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20))]
    pub(crate) rounds: Option<u16>,
    /// Measure how things grow instead, on both engines, in ten minutes; see docs/scale.md
    #[arg(long, conflicts_with_all = ["rounds", "sections", "json"])]
    pub(crate) scale: bool,
    /// With --scale: only on this engine [default: both]
    #[arg(long, value_enum, requires = "scale")]
    pub(crate) engine: Vec<crate::scale::Engine>,
    /// With --scale: only this part [default: all]
    #[arg(long, value_enum, requires = "scale")]
    pub(crate) part: Vec<crate::scale::Part>,
    /// What is measured [default: everything but `tunnel`]
    #[arg(value_enum, value_name = "SECTION")]
    pub(crate) sections: Vec<Section>,
    #[command(flatten)]
    pub(crate) peers: Peers,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What other people's programs are found at; what is not given is not compared with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Peers {
    /// A Python interpreter with the official SDK and FastMCP
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// A folder whose Node packages have the official SDK, and the sandbox runtime
    #[arg(long, value_name = "DIR")]
    pub(crate) node_packages: Option<PathBuf>,
    /// A folder with other tunnels: `bin/rathole`, `bin/bore`, `sshd/usr/sbin/sshd`
    #[arg(long, value_name = "DIR")]
    pub(crate) tunnels: Option<PathBuf>,
}
