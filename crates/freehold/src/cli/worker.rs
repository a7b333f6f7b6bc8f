//! Arguments of `freehold worker`: names and variables of the hosted worker's command line where it
//! has them (contract 55 §1-2).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use freehold_base::{EnvironmentId, limits};
use freehold_sandbox::Isolation;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

use crate::config::{LogFormat, SandboxKind};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Claim sessions of an environment and serve them, for as long as it runs
    Poll(PollArgs),
    /// Serve one session that was claimed already, as `poll --on-work` hands it out
    Run(ItemArgs),
    /// Listen for signed webhook deliveries, and serve what is queued after each
    Webhook(WebhookArgs),
}

/// Where the server is, and who the worker is.
#[derive(Debug, Args)]
pub(crate) struct WorkerConnection {
    /// The environment
    #[arg(
        long,
        value_name = "ID",
        env = "ANTHROPIC_ENVIRONMENT_ID",
        hide_env_values = true
    )]
    pub(crate) environment_id: EnvironmentId,
    /// The environment key. Better in ANTHROPIC_ENVIRONMENT_KEY or a file: other users can see this
    #[arg(long, value_name = "KEY")]
    pub(crate) environment_key: Option<String>,
    /// File with the environment key
    #[arg(
        long,
        value_name = "FILE",
        env = "ANTHROPIC_ENVIRONMENT_KEY_FILE",
        hide_env_values = true
    )]
    pub(crate) environment_key_file: Option<PathBuf>,
    /// The server's URL
    #[arg(
        long,
        value_name = "URL",
        env = "ANTHROPIC_BASE_URL",
        default_value = "http://127.0.0.1:8787",
        hide_env_values = true
    )]
    pub(crate) base_url: String,
}

/// How sessions are served.
#[derive(Debug, Args)]
pub(crate) struct ServingArgs {
    /// Where sandboxes and journals are kept [default: ~/.local/state/freehold/worker]
    #[arg(
        long,
        value_name = "DIR",
        env = "FREEHOLD_WORKDIR",
        hide_env_values = true
    )]
    pub(crate) workdir: Option<PathBuf>,
    /// Leave a session that has been at rest for this long; 0 never does
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) max_idle: Duration,
    /// How long a session stays ours when nothing is heard of this worker, 5s to 1h [default: the
    /// server's, 5 minutes]
    #[arg(long, value_name = "DURATION", value_parser = lease)]
    pub(crate) lease: Option<Duration>,
    /// From SIGTERM until everything has ended; running calls get 10 seconds less
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) stop_timeout: Duration,
    /// How tools are isolated [default: namespaces]
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        env = "FREEHOLD_SANDBOX",
        hide_env_values = true
    )]
    pub(crate) sandbox: Option<SandboxKind>,
    /// Serve nothing with less: namespaces, namespaces_and_limits
    #[arg(long, value_name = "ISOLATION", value_parser = isolation)]
    pub(crate) min_isolation: Option<Isolation>,
    /// Configuration file; only its `sandbox` part is used
    #[arg(
        long,
        value_name = "FILE",
        env = "FREEHOLD_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// What sandboxes may reach beside the allowed hosts
    #[arg(long, value_enum, value_name = "WHAT", default_value = "none")]
    pub(crate) network: NetworkArg,
    /// A host that sandboxes may reach: a name, or `*.example.com`; can be repeated
    #[arg(long, value_name = "HOST", conflicts_with = "network")]
    pub(crate) allow_host: Vec<String>,
    /// Of the hosted worker; each session has a sandbox of its own here
    #[arg(long, hide = true)]
    pub(crate) unrestricted_paths: bool,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
}

/// Logs and metrics.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// How logs look
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "FREEHOLD_LOG_FORMAT",
        default_value = "human",
        hide_env_values = true
    )]
    pub(crate) log_format: LogFormat,
    /// error, warn, info, debug, trace, or a tracing filter
    #[arg(
        long,
        value_name = "LEVEL",
        env = "FREEHOLD_LOG_LEVEL",
        default_value = "info",
        hide_env_values = true
    )]
    pub(crate) log_level: String,
    /// Serve Prometheus metrics at http://ADDR/metrics
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum NetworkArg {
    /// Nothing
    None,
    /// Every public address
    Public,
}

/// How items are claimed.
#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    /// Names this worker to the server [default: the host's name and a random part]
    #[arg(
        long,
        value_name = "ID",
        env = "ANTHROPIC_WORKER_ID",
        hide_env_values = true
    )]
    pub(crate) worker_id: Option<String>,
    /// Sessions served at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_sessions: u16,
    /// Hand each item to this program instead: the item on its standard input, and in variables
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) on_work: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct PollArgs {
    #[command(flatten)]
    pub(crate) connection: WorkerConnection,
    #[command(flatten)]
    pub(crate) claim: ClaimArgs,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ItemArgs {
    #[command(flatten)]
    pub(crate) connection: WorkerConnection,
    /// The claimed item
    #[arg(
        long,
        value_name = "ID",
        env = "ANTHROPIC_WORK_ID",
        hide_env_values = true
    )]
    pub(crate) work_id: String,
    /// Its session
    #[arg(
        long,
        value_name = "ID",
        env = "ANTHROPIC_SESSION_ID",
        hide_env_values = true
    )]
    pub(crate) session_id: String,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    #[command(flatten)]
    pub(crate) connection: WorkerConnection,
    /// Where deliveries are received, on any path; the key is read from
    /// ANTHROPIC_WEBHOOK_SIGNING_KEY
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8788")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) claim: ClaimArgs,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
}

/// As the hosted worker reads it: `90s`, `1m30s`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let read: Result<jiff::SignedDuration, _> = text.parse();
    let read = read.map_err(|e| e.to_string())?;
    Duration::try_from(read).map_err(|_| "must not be negative".to_owned())
}

fn lease(text: &str) -> Result<Duration, String> {
    let (least, _, greatest) = limits::WORK_LEASE_SECONDS;
    let lease = duration(text)?;
    if (least..=greatest).contains(&lease.as_secs()) {
        Ok(lease)
    } else {
        Err(format!("must be {least}s to {greatest}s"))
    }
}

fn isolation(text: &str) -> Result<Isolation, String> {
    let text: serde::de::value::StrDeserializer<'_, Error> = text.into_deserializer();
    Isolation::deserialize(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_hosted_worker_does() {
        for (text, seconds) in [
            ("60s", 60.0),
            ("1m30s", 90.0),
            ("0", 0.0),
            ("500ms", 0.5),
            ("1.5h", 5400.0),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for bad in ["", "60", "-1s", "x", "1y"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn isolation_has_the_names_of_the_file() {
        assert_eq!(
            isolation("namespaces_and_limits").unwrap(),
            Isolation::NamespacesAndLimits
        );
        assert!(isolation("strong").is_err());
    }
}
