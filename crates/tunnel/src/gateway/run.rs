//! The gateway at work: several connections to the edge, each opened again when it is lost, and a
//! watch over the files it was made from.

mod backoff;
mod keep;
mod reload;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use freehold_base::{EventId, IdSource, Secret};
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificate::Certificate;
use super::config::Config;
use super::files::too_open;
use super::limits::Limits;
use super::proxy::{Serving, Table, Unserved};
use super::status::{self, Board};
use super::upstream::{self, Resolve, Upstreams};
use crate::transport::connect::Incoming;
use crate::transport::trust::Trust;
use keep::keep_connected;
use reload::watch_files;

/// How a gateway is started.
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The file it came from, if it is to be read again.
    pub file: Option<PathBuf>,
    /// The token, if it comes from no file.
    pub token: Option<Secret<String>>,
    /// Looks names of upstreams up.
    pub resolver: Arc<dyn Resolve>,
    /// Ids, randomness and the clock.
    pub ids: IdSource,
    /// How long what may take.
    pub limits: Limits,
}

/// A gateway that can be run.
pub struct Gateway {
    shared: Arc<Shared>,
    /// Where the status is served, until it is.
    listener: Mutex<Option<TcpListener>>,
    status_addr: Option<SocketAddr>,
}

struct Shared {
    config: Config,
    file: Option<PathBuf>,
    token: Option<Secret<String>>,
    resolver: Arc<dyn Resolve>,
    ids: IdSource,
    id: String,
    edge: String,
    tls: Arc<ClientConfig>,
    certificate: Arc<Certificate>,
    acceptor: TlsAcceptor,
    limits: Limits,
    table: watch::Sender<Arc<Table>>,
    board: Arc<Board>,
    tasks: TaskTracker,
}

impl Gateway {
    /// Reads what the configuration names, and takes the address of the status. In a runtime.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn new(start: Start) -> Result<Self, String> {
        let Start {
            config,
            file,
            token,
            resolver,
            ids,
            limits,
        } = start;
        let edge = config.edge.clone().ok_or("edge.address is needed")?;
        if config.token_file.is_none() && token.is_none() {
            return Err("no token: set edge.token_file or TUNNEL_TOKEN".to_owned());
        }
        let trust = match (&config.edge_fingerprint, &config.edge_ca) {
            (Some(fingerprint), _) => Trust::Fingerprint(*fingerprint),
            (None, Some(file)) => Trust::Authorities(upstream::authorities(file)?),
            (None, None) => Trust::System,
        };
        let certificate = Certificate::load(&config.certificate.0, &config.certificate.1)?;
        let table = table(&config, &resolver)?;
        let id: EventId = ids.next();
        let shared = Shared {
            id: id.as_str().replace("sevt_", "gw-"),
            tls: trust.client_config().map_err(|e| e.to_string())?,
            acceptor: certificate.acceptor().map_err(|e| e.to_string())?,
            board: Arc::default(),
            tasks: TaskTracker::new(),
            table: watch::Sender::new(Arc::new(table)),
            limits,
            edge,
            certificate,
            config,
            file,
            token,
            resolver,
            ids,
        };
        shared.show(&shared.config);
        shared.show_certificate();
        let listener = shared.config.status_addr.map(listen).transpose()?;
        Ok(Self {
            shared: Arc::new(shared),
            status_addr: listener.as_ref().and_then(|l| l.local_addr().ok()),
            listener: Mutex::new(listener),
        })
    }

    /// Where the status is served.
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status_addr
    }

    /// Its status.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.shared.board)
    }

    /// Runs until `stop`, and then for as long as open requests take, at most the configured time.
    pub async fn run(&self, stop: CancellationToken) {
        let shared = &self.shared;
        for note in shared.board.now().notes {
            tracing::warn!("{note}");
        }
        for (name, route) in &shared.config.routes {
            tracing::info!(
                route = name,
                upstream = route.authority(),
                "route configured"
            );
        }
        let listener = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // To the last: probes are told that the gateway is not ready any more.
        let mut status = JoinSet::new();
        if let Some(listener) = listener {
            tracing::info!(
                address = self.status_addr.map(|a| a.to_string()),
                "status served"
            );
            status.spawn(status::serve(listener, self.board()));
        }
        let loops = TaskTracker::new();
        for index in 0..shared.config.connections {
            let (shared, stop) = (Arc::clone(shared), stop.clone());
            loops.spawn(async move { keep_connected(shared, index, stop).await });
        }
        let (watched, watching) = (Arc::clone(shared), stop.clone());
        loops.spawn(async move {
            tokio::select! {
                () = watching.cancelled() => {}
                () = watch_files(&watched) => {}
            }
        });
        stop.cancelled().await;
        shared.board.change(|status| status.stopping = true);
        shared.write_status();
        loops.close();
        shared.tasks.close();
        let all = async {
            loops.wait().await;
            shared.tasks.wait().await;
        };
        if tokio::time::timeout(shared.config.shutdown_timeout, all)
            .await
            .is_err()
        {
            tracing::warn!("requests were still open when the gateway stopped");
        }
        status.shutdown().await;
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|e| format!("status_addr: {address}: {e}"))
}

fn table(config: &Config, resolver: &Arc<dyn Resolve>) -> Result<Table, String> {
    let upstreams = Upstreams::new(config, Arc::clone(resolver))?;
    Ok(Table::new(
        config.tunnel_domain.clone(),
        config.routes.clone(),
        Arc::new(upstreams),
        config.log_arguments,
    ))
}

impl Shared {
    /// The token as it is now: it may have been rotated.
    fn token(&self) -> Result<Secret<String>, String> {
        match (&self.config.token_file, &self.token) {
            (Some(file), _) => read_token(file),
            (None, Some(token)) => Ok(token.clone()),
            (None, None) => Err("no token".to_owned()),
        }
    }

    /// Serves a stream in a task of its own.
    fn take(self: &Arc<Self>, incoming: Incoming, drain: CancellationToken) {
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let serving = Serving {
                table: shared.table.subscribe(),
                acceptor: shared.acceptor.clone(),
                limits: shared.limits,
                drain,
                board: Arc::clone(&shared.board),
            };
            let Incoming { authority, stream } = incoming;
            match serving.serve(&authority, stream).await {
                Ok(()) => {}
                Err(error @ Unserved::Handshake(_)) => {
                    tracing::warn!(authority, "{error}");
                    shared
                        .board
                        .failed(shared.ids.clock().now(), error.to_string());
                }
                Err(error @ Unserved::Unclear(_)) => tracing::warn!(authority, "{error}"),
                Err(Unserved::Broken(error)) => tracing::debug!(authority, %error, "stream ended"),
            }
        });
    }

    /// Shows a configuration that is in use, and what of it is not; that is returned too.
    fn show(&self, config: &Config) -> Vec<String> {
        let routes: BTreeMap<_, _> = config
            .routes
            .iter()
            .map(|(name, route)| {
                let scheme = if route.tls { "https" } else { "http" };
                (name.clone(), format!("{scheme}://{}", route.authority()))
            })
            .collect();
        let mut notes = config.notes.clone();
        notes.extend(too_open(self.file.as_deref(), config));
        let fixed = self.config.need_restart(config);
        notes.extend(
            fixed
                .iter()
                .map(|key| format!("{key} has changed in the file, and needs a restart")),
        );
        self.board.change(|status| {
            status.routes = routes;
            status.notes.clone_from(&notes);
        });
        notes
    }

    fn show_certificate(&self) {
        let days = self.certificate.days_left(self.ids.clock().now());
        self.board
            .change(|status| status.certificate_days_left = days);
    }

    fn write_status(&self) {
        let Some(file) = &self.config.status_file else {
            return;
        };
        // Serialising our own plain type cannot fail.
        let text = serde_json::to_string_pretty(&self.board.now()).unwrap_or_default();
        if let Err(error) = freehold_base::file::write_private(file, text) {
            tracing::warn!(file = %file.display(), %error, "status not written");
        }
    }
}

/// A token's file.
///
/// # Errors
/// It cannot be read, or is empty.
pub fn read_token(file: &Path) -> Result<Secret<String>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let token = text.trim();
    match token.is_empty() {
        true => Err(format!("{}: it is empty", file.display())),
        false => Ok(Secret::new(token.to_owned())),
    }
}
