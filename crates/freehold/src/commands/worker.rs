//! `freehold worker`: serves sessions of a self-hosted environment.

mod host;
mod progress;

use std::sync::Arc;

use freehold_base::{IdSource, Secret, SystemClock, chain};
use freehold_client::{Client, ClientError, Options};
use freehold_worker::service::webhook::{self, Verifier};
use freehold_worker::service::{
    Claim, Metrics, PollError, Poller, Script, Serve, Service, Until, is_worker_id, metrics_router,
    program,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{crash_point, process, signals};
use crate::cli::{
    ClaimArgs, ItemArgs, LogArgs, PollArgs, ServingArgs, WebhookArgs, WorkerCommand,
    WorkerConnection,
};
use crate::environment;
use crate::exit::{Exit, Failure};
use host::{Host, Share};
use progress::Progress;

/// Greatest key file, bytes.
const MAX_KEY_FILE: u64 = 4096;

/// Runs a worker until it is done or a signal comes.
pub(crate) async fn worker(command: WorkerCommand) -> Result<Exit, Failure> {
    match command {
        WorkerCommand::Poll(args) => poll(args).await,
        WorkerCommand::Run(args) => run(args).await,
        WorkerCommand::Webhook(args) => webhook(args).await,
    }
}

/// What all three need.
struct Worker {
    client: Client,
    key: Option<Secret<String>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    progress: Progress,
}

impl Worker {
    async fn start(connection: &WorkerConnection, logs: &LogArgs) -> Result<Self, Failure> {
        let metrics = Arc::new(Metrics::default());
        let progress = Progress::start(logs.log_format, &logs.log_level, metrics.status())?;
        crash_point::arm()?;
        process::raise_open_files();
        let key = environment_key(connection)?;
        let stop = CancellationToken::new();
        signals::watch(stop.clone())?;
        if let Some(address) = logs.metrics_listen {
            let listener = bind(address).await?;
            let address = listener.local_addr().map_err(cannot_listen)?;
            tracing::info!("metrics at http://{address}/metrics");
            listen(listener, metrics_router(Arc::clone(&metrics)), &stop);
        }
        // Requests for an item carry its own token; this one is for the queue.
        let shown = key.clone().unwrap_or_else(|| Secret::new(String::new()));
        Ok(Self {
            client: Client::new(Options::new(&connection.base_url, shown))?,
            key,
            metrics,
            stop,
            progress,
        })
    }

    /// The key of the queue.
    fn queue_key(&self) -> Result<Secret<String>, Failure> {
        self.key.clone().ok_or_else(|| {
            Failure::new(Exit::NotAllowed, "there is no environment key").hint(
                "set ANTHROPIC_ENVIRONMENT_KEY, or name a file with --environment-key-file; \
                 `freehold environments keys create` makes a key",
            )
        })
    }

    fn service(&self, args: &ServingArgs, host: &Host) -> Service {
        Service {
            client: self.client.clone(),
            environment_key: self.key.clone(),
            hands: host.hands(),
            journals: host.journals(),
            max_idle: Some(args.max_idle).filter(|idle| !idle.is_zero()),
            lease_seconds: args.lease.map(|lease| lease.as_secs()),
            stop_timeout: args.stop_timeout,
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
        }
    }

    /// A poller, and the host it keeps if it serves sessions itself.
    async fn poller(
        &self,
        connection: &WorkerConnection,
        claim: ClaimArgs,
        args: &ServingArgs,
    ) -> Result<(Poller, Option<Arc<Host>>), Failure> {
        let key = self.queue_key()?;
        let (serve, host): (Arc<dyn Serve>, _) = match claim.on_work.and_then(program) {
            Some(program) => {
                let script = Script {
                    program,
                    client: self.client.clone(),
                    environment_key: key,
                    stop: self.stop.clone(),
                };
                (Arc::new(script), None)
            }
            None => {
                let host = Arc::new(Host::open(args, claim.max_sessions, Share::Alone).await?);
                (Arc::new(self.service(args, &host)), Some(host))
            }
        };
        let worker = match claim.worker_id {
            Some(id) if is_worker_id(&id) => id,
            Some(_) => return Err(Failure::usage("a worker's id is visible ASCII characters")),
            None => worker_id(),
        };
        let poller = Poller {
            client: self.client.clone(),
            environment: connection.environment_id.clone(),
            worker,
            max_items: claim.max_sessions.into(),
            serve,
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
        };
        Ok((poller, host))
    }
}

async fn poll(args: PollArgs) -> Result<Exit, Failure> {
    let worker = Worker::start(&args.connection, &args.serving.logs).await?;
    let (poller, host) = worker
        .poller(&args.connection, args.claim, &args.serving)
        .await?;
    tracing::info!(
        environment = %poller.environment, worker = %poller.worker,
        "polling {}", worker.client.base_url()
    );
    let polled = {
        let keeping = async {
            match &host {
                Some(host) => host.keep_house().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            polled = poller.run(Until::Stopped) => polled,
            () = keeping => Ok(()),
        }
    };
    finish(&worker, polled)
}

async fn run(args: ItemArgs) -> Result<Exit, Failure> {
    let worker = Worker::start(&args.connection, &args.serving.logs).await?;
    let secret = environment::secret("ANTHROPIC_WORK_SECRET")?;
    if secret.is_none() {
        // Then the item is served with it.
        worker.queue_key()?;
    }
    let claim = Claim {
        work: args.work_id,
        environment: args.connection.environment_id.clone(),
        kind: "session".to_owned(),
        session: args.session_id,
        secret,
        last_heartbeat: environment::variable("ANTHROPIC_WORK_LAST_HEARTBEAT")?,
        lapsed: lapsed()?,
    };
    let host = Host::open(&args.serving, 1, Share::WithOthers).await?;
    let served = worker.service(&args.serving, &host).serve(&claim).await;
    worker.progress.clear();
    match served {
        Ok(cause) => {
            tracing::info!(work = %claim.work, cause, "ended");
            Ok(Exit::Ok)
        }
        Err(error) => Err(Failure::because("the item could not be served", &error)),
    }
}

async fn webhook(args: WebhookArgs) -> Result<Exit, Failure> {
    let worker = Worker::start(&args.connection, &args.serving.logs).await?;
    let key = environment::secret("ANTHROPIC_WEBHOOK_SIGNING_KEY")?
        .ok_or_else(|| Failure::usage("ANTHROPIC_WEBHOOK_SIGNING_KEY is not set"))?;
    let verifier = Verifier::new(&key, Arc::new(SystemClock))
        .map_err(|e| Failure::usage(format!("ANTHROPIC_WEBHOOK_SIGNING_KEY: {e}")))?;
    let (poller, host) = worker
        .poller(&args.connection, args.claim, &args.serving)
        .await?;
    let listener = bind(args.listen).await?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let work = Arc::new(Notify::new());
    listen(
        listener,
        webhook::router(verifier, Arc::clone(&work)),
        &worker.stop,
    );
    tracing::info!("waiting for deliveries at http://{address}/");
    // What was queued while nobody listened was delivered to nobody.
    work.notify_one();
    let drained = {
        let draining = async {
            loop {
                tokio::select! {
                    () = worker.stop.cancelled() => return Ok(()),
                    () = work.notified() => poller.run(Until::Drained).await?,
                }
            }
        };
        let keeping = async {
            match &host {
                Some(host) => host.keep_house().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            drained = draining => drained,
            () = keeping => Ok(()),
        }
    };
    finish(&worker, drained)
}

fn finish(worker: &Worker, polled: Result<(), PollError>) -> Result<Exit, Failure> {
    worker.progress.clear();
    match polled {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(Exit::Ok)
        }
        Err(PollError::Refused(error)) => Err(refused(error)),
        Err(error) => Err(Failure::failed(chain(&error))),
    }
}

fn refused(error: ClientError) -> Failure {
    let status = error.status();
    let failure = Failure::from(error);
    match status {
        Some(401) => failure.hint(
            "the environment key is not known to the server, or was revoked; \
             `freehold environments keys create` makes one",
        ),
        Some(404) => failure.hint("is ANTHROPIC_ENVIRONMENT_ID an environment of this server?"),
        _ => failure,
    }
}

/// From the variable, a file, or, with a warning, the flag.
fn environment_key(connection: &WorkerConnection) -> Result<Option<Secret<String>>, Failure> {
    if let Some(key) = &connection.environment_key {
        tracing::warn!(
            "--environment-key can be seen by every user of this host; \
             use ANTHROPIC_ENVIRONMENT_KEY or --environment-key-file"
        );
        return Ok(Some(Secret::new(key.trim().to_owned())));
    }
    if let Some(path) = &connection.environment_key_file {
        use std::io::Read;
        let cannot =
            |e: std::io::Error| Failure::usage(format!("cannot read {}: {e}", path.display()));
        let file = std::fs::File::open(path).map_err(cannot)?;
        let mut text = String::new();
        file.take(MAX_KEY_FILE)
            .read_to_string(&mut text)
            .map_err(cannot)?;
        return Ok(Some(Secret::new(text.trim().to_owned())));
    }
    environment::secret("ANTHROPIC_ENVIRONMENT_KEY")
}

/// As the item's metadata says it; a script passes it on.
fn lapsed() -> Result<Option<freehold_worker::service::Lapsed>, Failure> {
    Ok(freehold_worker::service::Lapsed::from_parts(
        environment::variable("FREEHOLD_WORK_LAPSED_AT")?.as_deref(),
        environment::variable("FREEHOLD_WORK_LAPSED_WORK")?.as_deref(),
    ))
}

/// The host's name and twelve random characters, as the official worker does.
fn worker_id() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .take(64)
        .collect();
    format!("{name}-{}", IdSource::system().hex(6))
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Failure::failed(format!("cannot listen on {address}: {e}")))
}

fn cannot_listen(error: std::io::Error) -> Failure {
    Failure::because("cannot listen", &error)
}

fn listen(listener: TcpListener, router: axum::Router, stop: &CancellationToken) {
    let stop = stop.clone();
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "a listener ended");
        }
    });
}
