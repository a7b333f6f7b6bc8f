//! What the project aims at, beside what was measured. Reported, never asserted.

use super::board::Board;

/// An aim and how it stands.
#[derive(Debug)]
pub(crate) struct Aim {
    /// In words.
    pub(crate) what: &'static str,
    /// The quantity that decides.
    pub(crate) id: &'static str,
    /// The quantity shall be below this.
    pub(crate) below: f64,
    /// Of the limit.
    pub(crate) unit: &'static str,
    /// The median over the rounds; `None` if it was not measured.
    pub(crate) measured: Option<f64>,
}

impl Aim {
    /// `None` if it was not measured.
    pub(crate) fn met(&self) -> Option<bool> {
        self.measured.map(|value| value < self.below)
    }
}

/// How far a ratio of two equal costs may lie from 1 by noise alone.
const SAME: f64 = 1.5;

/// (words, quantity, limit, unit). "A peer's" is what the best peers need.
const AIMS: [(&str, &str, f64, &str); 24] = [
    (
        "session create, CPU",
        "requests.session_create_1.cpu",
        0.3,
        "ms",
    ),
    (
        "a turn's own overhead apart from fsync, p50",
        "turn.overhead.p50",
        5.0,
        "ms",
    ),
    (
        "the same where fsync is free, p50",
        "turn.memory.overhead.p50",
        5.0,
        "ms",
    ),
    (
        "append to SSE delivery, p50",
        "turn.delivery.p50",
        5.0,
        "ms",
    ),
    ("start to ready", "start.empty", 300.0, "ms"),
    ("idle memory", "memory.idle", 40.0, "MiB"),
    (
        "newest page: 10,000 events against 10",
        "history.page.ratio",
        SAME,
        "×",
    ),
    (
        "open a stream: 10,000 events against 10",
        "history.stream.ratio",
        SAME,
        "×",
    ),
    (
        "agent read, CPU, a tenth of a peer's",
        "requests.agent_get_1.cpu",
        0.1,
        "ms",
    ),
    (
        "session read, CPU, a tenth of a peer's",
        "requests.session_get_1.cpu",
        0.1,
        "ms",
    ),
    (
        "echo apart from fsync, a tenth of a peer's",
        "turn.echo_own.p50",
        2.8,
        "ms",
    ),
    (
        "idle memory, a tenth of a peer's",
        "memory.idle",
        9.4,
        "MiB",
    ),
    (
        "sandbox, cold and everything on, against bubblewrap",
        "isolation.cold.ratio",
        1.0,
        "×",
    ),
    (
        "sandbox, prepared ahead, against bubblewrap",
        "isolation.ahead.ratio",
        1.0,
        "×",
    ),
    ("the next bash call, p50", "isolation.bash.p50", 1.5, "ms"),
    (
        "memory of an idle sandbox",
        "isolation.full.memory",
        1.0,
        "MiB",
    ),
    (
        "sandboxes created, time of one",
        "isolation.full.each",
        5.0,
        "ms",
    ),
    (
        "tool round trip, a third of the Python worker's",
        "worker.call.ratio",
        1.0 / 3.0,
        "×",
    ),
    (
        "worker memory, a tenth of the Python worker's",
        "worker.memory.ratio",
        0.1,
        "×",
    ),
    (
        "added to an MCP call by the tunnel, p50",
        "tunnel.mcp.added",
        0.15,
        "ms",
    ),
    (
        "tunnel: CPU of a GiB, against rathole with TLS",
        "tunnel.cpu.ratio",
        1.0,
        "×",
    ),
    (
        "tunnel: small requests beside 256 stalled readers",
        "tunnel.ours.stalled_256.ratio",
        SAME,
        "×",
    ),
    (
        "tunnel: answers again after SIGKILL of the edge",
        "tunnel.ours.recovery",
        500.0,
        "ms",
    ),
    (
        "memory of an idle gateway",
        "tunnel.ours.gateway_memory",
        12.0,
        "MiB",
    ),
];

/// The aims of the sections that were measured, judged.
pub(crate) fn judge(board: &Board) -> Vec<Aim> {
    let section = |id: &'static str| id.split('.').next().unwrap_or(id);
    AIMS.into_iter()
        .filter(|(_, id, _, _)| board.has(section(id)))
        .map(|(what, id, below, unit)| Aim {
            what,
            id,
            below,
            unit,
            measured: board.median(id),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_missed_or_open() {
        let mut board = Board::default();
        board.put("memory.idle", "", "MiB", 20.0);
        let aims = judge(&board);
        let of = |id| {
            aims.iter()
                .filter(|a| a.id == id)
                .map(Aim::met)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("memory.idle"), [Some(true), Some(false)]);
        assert_eq!(of("start.empty"), []);
        board.put("tunnel.other", "", "ms", 1.0);
        let aims = judge(&board);
        let open = aims.iter().find(|a| a.id == "tunnel.cpu.ratio").unwrap();
        assert_eq!(open.met(), None);
    }
}
