//! Our tunnel: the edge as a program of this crate, the gateway as the server's own release binary.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use freehold_base::IdSource;
use freehold_tunnel::gateway::setup;

use super::super::Lab;
use super::way::{Way, free};
use crate::edge::{self, DOMAIN, TOKEN};
use crate::load::program::Program;

/// How long the certificate is valid.
const VALID: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn way(lab: &Lab, dir: &Path, upstream: SocketAddr) -> Result<Way> {
    let (entry, gateways) = (free()?, free()?);
    let private = Private::new(&dir.join("ours"), gateways, upstream)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(edge::COMMAND).arg(&private.dir);
    command.args([gateways.to_string(), entry.to_string()]);
    Ok(Way {
        id: "ours",
        name: "freehold",
        entry,
        edge: Some(Program::start(command)?),
        gateway: Some(private.gateway(&lab.binary)?),
    })
}

/// What a gateway needs, in a directory.
pub(super) struct Private {
    pub(super) dir: PathBuf,
}

impl Private {
    /// For an edge that will listen at `gateways`, and one route, `app`.
    pub(super) fn new(dir: &Path, gateways: SocketAddr, upstream: SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let now = IdSource::system().clock().now();
        setup::new_authority(dir, "bench", now)?;
        setup::new_certificate(dir, DOMAIN, now, VALID)?;
        let fingerprint = edge::fingerprint(dir)?;
        let d = dir.display();
        let config = format!(
            "tunnel_domain: {DOMAIN}\n\
             log_level: error\n\
             tls: {{cert_file: '{d}/tls.crt', key_file: '{d}/tls.key'}}\n\
             routes: {{app: 'http://{upstream}'}}\n\
             upstream: {{allowed_ips: [127.0.0.1]}}\n\
             edge: {{address: '{gateways}', fingerprint: {fingerprint}}}\n"
        );
        std::fs::write(dir.join("config.yaml"), config).context("gateway's configuration")?;
        Ok(Self { dir: dir.into() })
    }

    /// Starts the gateway.
    pub(super) fn gateway(&self, binary: &Path) -> Result<Program> {
        let mut command = Command::new(binary);
        command
            .args(["gateway", "run", "--config"])
            .arg(self.dir.join("config.yaml"))
            .env_clear()
            .env("TUNNEL_TOKEN", TOKEN);
        Program::start(command)
    }
}
