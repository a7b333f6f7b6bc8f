//! Flags of `serve` and `doctor`, each with its environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

/// How tools are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SandboxKind {
    /// Linux namespaces; the default
    Namespaces,
    /// A container runtime of this host: runc, crun or gVisor's runsc; needs root
    Oci,
    /// A virtual machine for each session; needs root, QEMU and a kernel
    Microvm,
    /// No isolation at all: tools run as the server's user. Development only
    Process,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    #[value(alias = "text")]
    Human,
    /// One JSON object a line
    Json,
}

/// Settings of a server. All optional: what is missing comes from the file, else it has a default.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeFlags {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDR", env = "FREEHOLD_LISTEN", hide_env = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where everything is kept [default: ~/.local/share/freehold]
    #[arg(long, value_name = "DIR", env = "FREEHOLD_DATA_DIR", hide_env = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// A Messages API for every model id that is not configured; its key is FREEHOLD_MODEL_KEY
    #[arg(long, value_name = "URL", env = "FREEHOLD_MODEL_URL", hide_env = true)]
    pub(crate) model_url: Option<String>,
    /// How tools are isolated [default: namespaces]
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        env = "FREEHOLD_SANDBOX",
        hide_env = true
    )]
    pub(crate) sandbox: Option<SandboxKind>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "FREEHOLD_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Object storage for files, as s3://bucket/prefix [default: in the data directory]
    #[arg(long, value_name = "URL", env = "FREEHOLD_BLOBS", hide_env = true)]
    pub(crate) blobs: Option<String>,
    /// Base URL of a SearXNG instance for the web_search tool
    #[arg(long, value_name = "URL", env = "FREEHOLD_SEARCH_URL", hide_env = true)]
    pub(crate) search_url: Option<String>,
    /// How long the built-in rehearsal model thinks before it answers [default: 500]
    #[arg(
        long,
        value_name = "MS",
        env = "FREEHOLD_REHEARSAL_DELAY_MS",
        hide_env = true
    )]
    pub(crate) rehearsal_delay_ms: Option<u64>,
    /// Wait before the first retry of a failed model request [default: 1000]
    #[arg(
        long,
        value_name = "MS",
        env = "FREEHOLD_RETRY_BASE_MS",
        hide_env = true
    )]
    pub(crate) retry_base_ms: Option<u32>,
    /// How logs look [default: human]
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "FREEHOLD_LOG_FORMAT",
        hide_env = true
    )]
    pub(crate) log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace, or a tracing filter [default: info]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "FREEHOLD_LOG_LEVEL",
        hide_env = true
    )]
    pub(crate) log_level: Option<String>,
}
