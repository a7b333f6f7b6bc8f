//! The servers under test, and what is in them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::args::Peers;
use crate::load::api;
use crate::load::connection::{Connection, Target};
use crate::load::disk::Disk;
use crate::load::server::Server;
use crate::load::stream::Stream;
use crate::load::turn::Talk;
use crate::load::upstream::Upstream;
use crate::plan::Plan;
use crate::report::Board;

/// A file system in memory, where a write is durable at once as far as it ever is.
const MEMORY: &str = "/dev/shm";

/// Everything a measurement needs.
pub(crate) struct Lab {
    pub(crate) plan: Plan,
    /// The server's binary.
    pub(crate) binary: PathBuf,
    /// Other programs to compare with.
    pub(crate) peers: Peers,
    /// The instant model.
    pub(crate) upstream: Upstream,
    /// The server that most is measured on.
    pub(crate) site: Site,
    /// The same with its data in memory: what a turn costs when `fsync` is free.
    pub(crate) light: Option<Site>,
    /// A file beside the first server's data.
    pub(crate) disk: Disk,
    /// The session with the long history, once it is made.
    pub(crate) long: Option<Talk>,
    /// Results.
    pub(crate) board: Board,
    // Fields are dropped in order, so the servers are gone before their directories.
    root: TempDir,
    _memory: Option<TempDir>,
}

impl Lab {
    /// Starts the servers. Data directories are made in `dir`.
    pub(crate) async fn open(plan: Plan, binary: &Path, peers: &Peers, dir: &Path) -> Result<Self> {
        let upstream = Upstream::start().await?;
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let root = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
        let mut board = Board::default();
        let memory = tempfile::Builder::new()
            .prefix("freehold-bench-")
            .tempdir_in(MEMORY)
            .ok();
        let light = match &memory {
            Some(dir) => Some(Site::open(binary, dir.path(), &upstream).await?),
            None => {
                board.note(format!(
                    "{MEMORY} cannot be written: nothing measured without fsync"
                ));
                None
            }
        };
        Ok(Self {
            plan,
            // Sandboxes are started from another directory.
            binary: std::fs::canonicalize(binary)?,
            peers: peers.clone(),
            site: Site::open(binary, &root.path().join("main"), &upstream).await?,
            light,
            upstream,
            disk: Disk::new(root.path())?,
            long: None,
            board,
            root,
            _memory: memory,
        })
    }

    /// Stops the servers and gives the results.
    pub(crate) fn close(self) -> Result<Board> {
        let Self {
            site,
            light,
            long,
            board,
            ..
        } = self;
        drop(long);
        site.server.stop()?;
        if let Some(light) = light {
            light.server.stop()?;
        }
        Ok(board)
    }

    /// A fresh directory on the disk under test.
    pub(crate) fn fresh_dir(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new()
            .prefix("fresh-")
            .tempdir_in(self.root.path())?)
    }

    /// Adds this round's value of a quantity.
    pub(crate) fn put(&mut self, id: &str, what: &str, unit: &'static str, value: f64) {
        self.board.put(id, what, unit, value);
    }

    /// Adds this round's p50 and p99 of samples in milliseconds.
    pub(crate) fn put_millis(&mut self, id: &str, what: &str, samples: &[f64]) {
        self.board.put_quantiles(id, what, "ms", samples);
    }
}

/// A server, and agents and environments in it.
pub(crate) struct Site {
    pub(crate) server: Server,
    /// An agent without tools.
    pub(crate) plain: String,
    /// An agent whose tool calls wait for us.
    pub(crate) holding: String,
    /// An agent with the sandbox tools.
    pub(crate) working: String,
    /// An environment without sandboxes of the server.
    pub(crate) self_hosted: String,
    /// An environment with them.
    pub(crate) cloud: String,
}

impl Site {
    /// Starts a server on a directory and furnishes it.
    pub(crate) async fn open(binary: &Path, data: &Path, upstream: &Upstream) -> Result<Self> {
        let server = Server::start(binary, data, upstream.address).await?;
        let mut connection = Connection::open(&server.target).await?;
        Ok(Self {
            plain: connection.create("/v1/agents", api::plain_agent()).await?,
            holding: connection
                .create("/v1/agents", api::holding_agent())
                .await?,
            working: connection
                .create("/v1/agents", api::working_agent())
                .await?,
            self_hosted: connection
                .create("/v1/environments", api::self_hosted("bench-self-hosted"))
                .await?,
            cloud: connection.create("/v1/environments", api::cloud()).await?,
            server,
        })
    }

    /// How to reach the server.
    pub(crate) fn target(&self) -> &Target {
        &self.server.target
    }

    /// A new session outside sandboxes, with its stream open.
    pub(crate) async fn talk(&self, agent: &str) -> Result<Talk> {
        let mut connection = Connection::open(self.target()).await?;
        let body = api::session(agent, &self.self_hosted);
        let session = connection.create("/v1/sessions", body).await?;
        let stream = Stream::open(self.target(), &session, true).await?;
        Ok(Talk {
            session,
            connection,
            stream,
        })
    }
}
