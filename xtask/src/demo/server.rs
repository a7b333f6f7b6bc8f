//! The server of a demonstration, and its data.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::PATIENCE;
use crate::paths;
use crate::run::{command, interrupt, shown};

/// `freehold serve` on a data directory, at its usual port or any.
pub(super) fn serve(data: &Path, any_port: bool) -> Result<Command> {
    let mut serve = Command::new(paths::freehold()?);
    serve.arg("serve").arg("--data-dir").arg(data);
    if any_port {
        serve.args(["--listen", "127.0.0.1:0"]);
    }
    serve.stdin(Stdio::null());
    Ok(serve)
}

/// Where the data is.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    temporary: bool,
}

impl Folder {
    pub(super) fn new(temporary: bool) -> Result<Self> {
        let path = if temporary {
            paths::own()?.join(format!("demo-{}", std::process::id()))
        } else {
            paths::root().join(".freehold")
        };
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, temporary })
    }

    /// A fresh API key, made before the server holds the data; `more` are further arguments.
    pub(super) fn key(&self, more: &[&str]) -> Result<String> {
        let mut create = command(paths::freehold()?);
        create
            .args(["keys", "create", "--name", "demo", "--json", "--data-dir"])
            .arg(&self.path)
            .args(more);
        let made = crate::run::quiet(&mut create)?;
        let made: Value =
            serde_json::from_str(&made).context("`freehold keys create --json` printed no JSON")?;
        let key = made["key"]
            .as_str()
            .context("`freehold keys create --json` printed no key")?;
        Ok(key.to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // What is left behind is below target/ and does no harm.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A server; killed when dropped.
pub(super) struct Server {
    process: Child,
    pub(super) url: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it, and waits until it says where it listens.
    pub(super) fn start(mut serve: Command, key: &str) -> Result<Self> {
        println!("\n==> server: {}", shown(&serve));
        let mut process = serve
            .args(["--log-level", "warn"])
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let stderr = process
            .stderr
            .take()
            .context("the server has no standard error")?;
        let (sender, found) = mpsc::channel();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (key, heard) = (key.to_owned(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nothing of ours prints the key; the log must not either.
                let line = line.replace(&key, "…");
                eprintln!("    {line}");
                let listens = line.find("listening on http://").map(|at| {
                    let url = line[at + "listening on ".len()..].split([' ', '"', '/']);
                    url.take(3).collect::<Vec<_>>().join("/")
                });
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
                if let Some(url) = listens {
                    let _ = sender.send(url);
                }
            }
        });
        match found.recv_timeout(PATIENCE) {
            Ok(url) => Ok(Self { process, url, said }),
            Err(_) => {
                process.kill()?;
                bail!(
                    "the server did not say where it listens (it ended with {})",
                    process.wait()?
                )
            }
        }
    }

    /// What it has printed so far.
    pub(super) fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.join("\n")
    }

    /// Asks it to end, and waits.
    pub(super) fn stop(&mut self) -> Result<()> {
        interrupt(self.process.id());
        let status = self.process.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Does nothing if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
