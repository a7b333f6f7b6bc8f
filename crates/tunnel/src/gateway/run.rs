//! The gateway at work: several connections to the edge, each opened again when it is lost, and a
//! watch over the files it was made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use freehold_base::{EventId, IdSource, Secret};
use http::StatusCode;
use rustls::ClientConfig;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificate::Certificate;
use super::config::{self, Config};
use super::proxy::{self, Table};
use super::status::{Board, ConnectionStatus};
use super::upstream::{self, Resolve, Upstreams};
use crate::transport::connect::{ConnectError, Incoming, Target, connect};
use crate::transport::trust::Trust;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);
/// Waits between attempts begin with this and double.
const FIRST: Duration = Duration::from_millis(50);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// For so long after a loss the waits stay short: a server that was only restarted is found at once.
const HOPEFUL: Duration = Duration::from_secs(10);
/// The longest of those short waits.
const SHORT: Duration = Duration::from_millis(250);
/// An edge that refuses the token may know the next one soon.
const REFUSED: Duration = Duration::from_secs(30);

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
}

/// A gateway that can be run.
pub struct Gateway {
    shared: Arc<Shared>,
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
    table: ArcSwap<Table>,
    board: Arc<Board>,
    tasks: TaskTracker,
}

impl Gateway {
    /// Reads what the configuration names.
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
            table: ArcSwap::from_pointee(table),
            edge,
            certificate,
            config,
            file,
            token,
            resolver,
            ids,
        };
        shared.show_routes(&shared.config);
        shared.show_certificate();
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Its status.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.shared.board)
    }

    /// Runs until `stop`, and then for as long as open requests take, at most the configured time.
    pub async fn run(&self, stop: CancellationToken) {
        let shared = &self.shared;
        for note in &shared.config.notes {
            tracing::warn!("{note}");
        }
        for (name, route) in &shared.config.routes {
            tracing::info!(
                route = name,
                upstream = route.authority(),
                "route configured"
            );
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
                () = watch(&watched) => {}
            }
        });
        stop.cancelled().await;
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
    }
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

/// Keeps one connection to the edge open.
async fn keep_connected(shared: Arc<Shared>, index: u32, stop: CancellationToken) {
    // The first alone: if it does not work, neither would the others.
    let mut wait = Duration::from_millis(u64::from(index) * 300);
    let mut lost = tokio::time::Instant::now();
    let mut next = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = attempt(&shared, index) => connected,
        };
        let error = match connected {
            Ok(session) => {
                next = FIRST;
                let (serving, drain) = (Arc::clone(&shared), stop.clone());
                let checking = Arc::clone(&shared);
                let refuse = move |authority: &str| {
                    let serves = checking.table.load().serves(authority);
                    if !serves {
                        tracing::warn!(authority, "no route for host");
                    }
                    (!serves).then_some(StatusCode::NOT_FOUND)
                };
                let draining = stop.clone();
                let handle = move |incoming| serving.take(incoming, draining.clone());
                let ended = session.serve(drain, refuse, handle).await;
                lost = tokio::time::Instant::now();
                ended.err().map_or_else(
                    || "the edge closed the connection".to_owned(),
                    |e| e.to_string(),
                )
            }
            Err(ConnectError::Later(after)) => {
                next = after;
                ConnectError::Later(after).to_string()
            }
            Err(ConnectError::Token) => {
                next = REFUSED;
                ConnectError::Token.to_string()
            }
            Err(error) => error.to_string(),
        };
        if stop.is_cancelled() {
            return;
        }
        shared.lost(index, &error);
        let hopeful = lost.elapsed() < HOPEFUL && next < REFUSED;
        wait = shared.jitter(if hopeful { next.min(SHORT) } else { next });
        next = (next * 2).min(LONGEST);
    }
}

async fn attempt(
    shared: &Shared,
    index: u32,
) -> Result<crate::transport::connect::Session, ConnectError> {
    let token = shared.token().map_err(ConnectError::Answer)?;
    let target = Target {
        edge: shared.edge.clone(),
        proxy: shared.config.proxy.clone(),
        tls: Arc::clone(&shared.tls),
        token,
        gateway_id: shared.id.clone(),
        index,
    };
    let session = connect(&target).await?;
    let welcome = session.welcome.clone();
    tracing::info!(
        connection = welcome.connection_id,
        index,
        "connected to the edge"
    );
    let since = Some(shared.ids.clock().now());
    shared.board.change(|status| {
        status.domain = Some(welcome.domain);
        let now = ConnectionStatus {
            id: Some(welcome.connection_id),
            since,
            error: None,
        };
        status.connections.insert(index, now);
    });
    shared.write_status();
    Ok(session)
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
            let (table, acceptor) = (shared.table.load_full(), shared.acceptor.clone());
            let Incoming { authority, stream } = incoming;
            if let Err(error) = proxy::serve(table, acceptor, &authority, stream, drain).await {
                tracing::debug!(authority, %error, "stream ended");
                if error.to_string().starts_with("tls handshake failed") {
                    tracing::warn!(authority, "{error}");
                    shared
                        .board
                        .failed(shared.ids.clock().now(), error.to_string());
                }
            }
        });
    }

    fn lost(&self, index: u32, error: &str) {
        tracing::warn!(index, error, "not connected to the edge");
        let now = self.ids.clock().now();
        self.board.change(|status| {
            let lost = ConnectionStatus {
                id: None,
                since: Some(now),
                error: Some(error.to_owned()),
            };
            status.connections.insert(index, lost);
            status.last_error = Some((now, error.to_owned()));
        });
        self.write_status();
    }

    /// Somewhere between half of it and it.
    fn jitter(&self, wait: Duration) -> Duration {
        let mut random = [0; 4];
        self.ids.fill(&mut random);
        let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        wait.mul_f64(0.5 + share / 2.0)
    }

    fn show_routes(&self, config: &Config) {
        let routes: BTreeMap<_, _> = config
            .routes
            .iter()
            .map(|(name, route)| {
                let scheme = if route.tls { "https" } else { "http" };
                (name.clone(), format!("{scheme}://{}", route.authority()))
            })
            .collect();
        self.board.change(|status| status.routes = routes);
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

/// Reads certificate and configuration again now and then. What cannot be used is logged once for
/// each time it changes, and the old stays.
async fn watch(shared: &Arc<Shared>) {
    let mut seen = shared
        .file
        .as_deref()
        .and_then(|f| std::fs::read_to_string(f).ok());
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        match shared.certificate.reload() {
            Ok(true) => {
                complaint.clear();
                tracing::info!("certificate reloaded");
            }
            Ok(false) => {}
            Err(error) if error != complaint => {
                tracing::error!(error, "the certificate was not reloaded; the old one stays");
                shared.board.failed(shared.ids.clock().now(), error.clone());
                complaint = error;
            }
            Err(_) => {}
        }
        shared.show_certificate();
        let Some(file) = &shared.file else {
            shared.write_status();
            continue;
        };
        let text = std::fs::read_to_string(file).ok();
        if text != seen && text.is_some() {
            reload(shared, text.as_deref().unwrap_or_default());
            seen = text;
        }
        shared.write_status();
    }
}

fn reload(shared: &Shared, text: &str) {
    let read = config::parse(text).map_err(|e| e.to_string());
    let made = read.and_then(|config| Ok((table(&config, &shared.resolver)?, config)));
    match made {
        Ok((table, config)) => {
            shared.table.store(Arc::new(table));
            shared.show_routes(&config);
            tracing::info!(routes = config.routes.len(), "routes reloaded");
        }
        Err(error) => {
            tracing::error!(
                error,
                "the configuration was not reloaded; the old one stays"
            );
            shared.board.failed(shared.ids.clock().now(), error);
        }
    }
}
