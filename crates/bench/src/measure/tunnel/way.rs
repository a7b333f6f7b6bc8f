//! A way to the server.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Result;

use crate::load::program::Program;

/// Where clients come in, and the programs between there and the server.
pub(super) struct Way {
    /// Of its quantities.
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) entry: SocketAddr,
    /// The clients' side.
    pub(super) edge: Option<Program>,
    /// The server's side.
    pub(super) gateway: Option<Program>,
}

impl Way {
    pub(super) fn direct(entry: SocketAddr) -> Self {
        Self {
            id: "direct",
            name: "no tunnel",
            entry,
            edge: None,
            gateway: None,
        }
    }

    pub(super) fn is_direct(&self) -> bool {
        self.edge.is_none()
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        self.edge.iter().chain(&self.gateway)
    }

    /// CPU time of all programs so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        self.programs().map(Program::cpu).sum()
    }

    /// Memory of each side, MiB: id, words, value.
    pub(super) fn memory(&self) -> Result<Vec<(&'static str, String, f64)>> {
        let sides = [
            ("edge_memory", "clients' side", &self.edge),
            ("gateway_memory", "server's side", &self.gateway),
        ];
        let mut all = Vec::new();
        for (id, side, program) in sides {
            if let Some(program) = program {
                let words = format!("{}: idle memory, {side}", self.name);
                all.push((id, words, program.resident_mib()?));
            }
        }
        Ok(all)
    }
}

/// An address nobody listens on. It may be taken before it is used; then the way does not work, and
/// that is said.
pub(super) fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
