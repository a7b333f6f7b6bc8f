//! A server process of our own.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::connection::{Connection, Target};
use super::process;
use crate::plan::PATIENCE;

/// The first key of each data directory. Known to everybody, and to no server but those of a run.
const KEY: &str = "freehold-bench-key-of-a-throwaway-server";
/// Lines of a server that does not start that are shown.
const SHOWN: usize = 20;
/// How long a server may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(12);

/// A running server with default settings; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// How to reach it.
    pub(crate) target: Target,
    /// Milliseconds from starting the process to the first success of `GET /readyz`.
    pub(crate) ready_in: f64,
}

impl Server {
    /// Starts a server on `data` and waits until it is ready.
    pub(crate) async fn start(binary: &Path, data: &Path, model: SocketAddr) -> Result<Self> {
        Self::start_on(binary, data, model, None).await
    }

    /// The same on a PostgreSQL database.
    pub(crate) async fn start_on(
        binary: &Path,
        data: &Path,
        model: SocketAddr,
        database: Option<&str>,
    ) -> Result<Self> {
        let begun = Instant::now();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .args([data.as_os_str(), OsStr::new("--model-url")])
            .arg(format!("http://{model}"))
            // Nothing of the caller's environment changes what is measured.
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("FREEHOLD_BOOTSTRAP_KEY", KEY)
            .env("FREEHOLD_MODEL_KEY", "none-needed")
            .envs(database.map(|url| ("FREEHOLD_DATABASE_URL", url)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let (said, heard) = mpsc::sync_channel(256);
        let stderr = child.stderr.take().context("no standard error")?;
        // Reads for good, so that the server never waits for a full pipe. Lines after the
        // address find nobody and are dropped.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = said.try_send(line);
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self {
            child,
            target: Target {
                address: unknown,
                key: KEY.to_owned(),
            },
            ready_in: 0.0,
        };
        server.target.address = tokio::task::spawn_blocking(move || address(&heard)).await??;
        let mut connection = Connection::open(&server.target).await?;
        while connection.get("/readyz").await.is_err() {
            if PATIENCE < begun.elapsed() {
                bail!("the server did not get ready");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            connection = Connection::open(&server.target).await?;
        }
        server.ready_in = begun.elapsed().as_secs_f64() * 1e3;
        Ok(server)
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process::cpu(self.child.id())
    }

    /// Resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        process::resident_mib(self.child.id())
    }

    /// Asks it to stop and waits; milliseconds until it has ended.
    pub(crate) fn stop(mut self) -> Result<f64> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let begun = Instant::now();
        while begun.elapsed() < STOP {
            if self.child.try_wait()?.is_some() {
                return Ok(begun.elapsed().as_secs_f64() * 1e3);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("the server did not stop in {} s", STOP.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the server says it listens.
fn address(heard: &mpsc::Receiver<String>) -> Result<SocketAddr> {
    let mut lines = Vec::new();
    let begun = Instant::now();
    while let Some(left) = PATIENCE.checked_sub(begun.elapsed()) {
        let Ok(line) = heard.recv_timeout(left) else {
            break;
        };
        if let Some(address) = read_address(&line) {
            return Ok(address);
        }
        if lines.len() < SHOWN {
            lines.push(line);
        }
    }
    bail!("the server did not start; it said:\n{}", lines.join("\n"))
}

/// The address in a line such as `listening on http://127.0.0.1:8787`.
fn read_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address() {
        let want = Some("127.0.0.1:8787".parse().unwrap());
        assert_eq!(read_address("listening on http://127.0.0.1:8787"), want);
        assert_eq!(
            read_address("freehold 0.1 listening on http://127.0.0.1:8787/ now"),
            want
        );
        assert_eq!(read_address("listening"), None);
    }
}
