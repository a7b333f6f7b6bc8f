//! `--on-work`: each item is handed to a script, so that anything that can run a program can be the
//! sandbox (contract 55 §2). The script must not end before the item has been served.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::Secret;
use freehold_client::Client;
use freehold_wire::work::{LAPSED_AT, LAPSED_WORK, Work};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::item::{Claim, stop};
use super::poller::{CannotServe, Serve};

/// From the request to stop until a script that goes on is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What `freehold worker run` is told of workers that were lost before.
const LAPSED: [(&str, &str); 2] = [
    ("FREEHOLD_WORK_LAPSED_AT", LAPSED_AT),
    ("FREEHOLD_WORK_LAPSED_WORK", LAPSED_WORK),
];

/// Hands items to a program.
pub struct Script {
    /// The program; it is run without arguments and without a shell.
    pub program: PathBuf,
    /// Stops items, with the environment key.
    pub client: Client,
    /// For the script, which serves the item with it.
    pub environment_key: Secret<String>,
    /// Asks for an orderly end.
    pub stop: CancellationToken,
}

#[async_trait]
impl Serve for Script {
    async fn serve(&self, claim: Claim, work: Work) -> Result<&'static str, CannotServe> {
        if claim.kind != "session" {
            stop(&self.client, &claim, true).await;
            return Ok("skipped");
        }
        let child = self.start(&claim, &work);
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                stop(&self.client, &claim, true).await;
                let program = self.program.display();
                return Err(CannotServe(format!("{program} cannot be started: {error}")));
            }
        };
        let ended = self.attend(child, &work).await;
        stop(&self.client, &claim, false).await;
        Ok(match ended {
            Ok(status) if status.success() => "script_done",
            Ok(status) => {
                tracing::error!(work = %claim.work, %status, "the script failed");
                "script_failed"
            }
            Err(error) => {
                tracing::error!(work = %claim.work, %error, "the script was lost");
                "script_failed"
            }
        })
    }
}

impl Script {
    fn start(&self, claim: &Claim, work: &Work) -> std::io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .env("ANTHROPIC_WORK_ID", &claim.work)
            .env("ANTHROPIC_ENVIRONMENT_ID", claim.environment.as_str())
            .env("ANTHROPIC_SESSION_ID", &claim.session)
            .env("ANTHROPIC_ENVIRONMENT_KEY", self.environment_key.expose())
            .env("ANTHROPIC_BASE_URL", self.client.base_url())
            .stdin(Stdio::piped())
            // Ours: standard output may be read by something else.
            .stdout(stderr()?)
            .kill_on_drop(true)
            // Its own group, so that a signal for this process is passed on once, by us.
            .process_group(0);
        match &claim.secret {
            Some(secret) => command.env("ANTHROPIC_WORK_SECRET", secret.expose()),
            None => command.env_remove("ANTHROPIC_WORK_SECRET"),
        };
        command.env_remove("ANTHROPIC_WORK_LAST_HEARTBEAT");
        for (variable, key) in LAPSED {
            match work.metadata.get(key) {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.spawn()
    }

    /// Gives the script its item and waits for its end.
    async fn attend(&self, mut child: Child, work: &Work) -> std::io::Result<ExitStatus> {
        let mut text = serde_json::to_vec(work)?;
        text.push(b'\n');
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that does not read it has the variables.
                let _ = stdin.write_all(&text).await;
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            status = child.wait() => return status,
            () = feed => {}
            () = self.stop.cancelled() => {}
        }
        let group = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = group.and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let term = rustix::process::Signal::TERM;
            // It may have ended this moment.
            let _ = rustix::process::kill_process_group(group, term);
        }
        match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                if let Some(group) = group {
                    let kill = rustix::process::Signal::KILL;
                    let _ = rustix::process::kill_process_group(group, kill);
                }
                child.wait().await
            }
        }
    }
}

fn stderr() -> std::io::Result<Stdio> {
    let stderr = rustix::io::dup(rustix::stdio::stderr())?;
    Ok(Stdio::from(stderr))
}

/// The words of a command line are not split: a script with arguments is a script of its own.
pub fn program(text: OsString) -> Option<PathBuf> {
    match text.to_str() {
        Some("" | "in-process") => None,
        _ => Some(PathBuf::from(text)),
    }
}
