//! `freehold serve`.

mod gateways;
mod greeting;
mod housekeeping;
mod replicas;
mod storage;

pub(super) use storage::probed;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::IdSource;
use freehold_model::Catalog;
use freehold_runtime::mcp::AuditLog;
use freehold_runtime::{Hub, Runtime};
use freehold_sandbox::Capabilities;
use freehold_server::{About, App, Parts, Tunnels, credential};
use freehold_store::{Place, Store, StoreError};
use freehold_worker::SessionSandboxes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::replicas::Replicas;
use super::{crash_point, process, signals};
use crate::config::{self, LogFormat, ServeFlags, Settings};
use crate::exit::{Exit, Failure};
use crate::files::Files;
use crate::hands::{Blobs, Hands};
use crate::web::Web;
use crate::{logging, mcp, sandboxes};

/// Longest time from the first signal to the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Of it, what running tool calls get.
const DRAIN: Duration = Duration::from_secs(7);
/// Until when files of sandboxes are saved: the rest is for saying so, and for closing.
const SAVE: Duration = Duration::from_millis(8_500);

/// Serves until a signal comes.
pub(crate) async fn serve(flags: ServeFlags) -> Result<Exit, Failure> {
    let settings = Settings::load(&flags)?;
    logging::start(settings.log_format, &settings.log_level)?;
    crash_point::arm()?;
    process::keep_files_private();
    process::raise_open_files();
    let ids = IdSource::system();
    let catalog = Arc::new(catalog(&settings, &ids)?);
    let web = Web::new(&settings)?;
    // First, so that a second server on the same address ends here, having touched nothing.
    let listener = bind(settings.listen, "--listen").await?;
    let for_gateways = match settings.tunnels.listen {
        Some(address) => Some(bind(address, "tunnels.listen").await?),
        None => None,
    };
    prepare_dir(&settings.data_dir)?;
    let stop = CancellationToken::new();
    signals::watch(stop.clone())?;

    let hub = Hub::new(ids.clone());
    let place = config::place(&settings)?;
    let replicas = Replicas::new(&settings, place.database.as_ref()).await?;
    let store = open_store(&settings, place, &ids, &hub).await?;
    let instance = sandboxes::instance(&settings.data_dir)
        .map_err(|e| Failure::because("the data directory cannot be used", &e))?;
    let provider = sandboxes::provider(
        &settings.sandbox,
        instance,
        settings.sandbox_root(),
        sandboxes::Expected::Many,
    );
    let found = provider.probe().await;
    let refusal = sandboxes::refusal(settings.sandbox.min_isolation, &found);
    let mut boxes = SessionSandboxes::new(
        provider,
        Arc::new(Blobs(store.clone())),
        sandboxes::options(&settings.sandbox, settings.sandbox_root()),
    );
    if store.is_shared() {
        boxes = boxes.following(Arc::new(Files::new(&store, &ids)));
    }
    // Before sessions are taken up.
    boxes.clear_left_behind().await;
    let boxes = Arc::new(boxes);
    let hands = Arc::new(Hands::new(
        Arc::clone(&boxes),
        refusal.clone(),
        web,
        store.clone(),
        ids.clone(),
    ));
    let options = freehold_runtime::Options {
        backoff: settings.backoff,
        drain: DRAIN,
        stop: SAVE,
    };
    let clock = Arc::clone(ids.clock());
    let audit = AuditLog::start(store.clone(), Arc::clone(&clock));
    let edge = gateways::edge(&settings.tunnels, &store, &ids);
    let mcp = mcp::connect(&settings.mcp, &store, &audit, &ids, &edge)?;
    let gateways = match for_gateways {
        Some(listener) => Some(gateways::Gateways::new(&settings, listener)?),
        None => None,
    };
    let runtime = Runtime::start(
        store.clone(),
        Arc::clone(&catalog),
        hands,
        mcp,
        hub.clone(),
        ids.clone(),
        options,
    )
    .await
    .map_err(store_failed)?;
    let key = first_key(&settings, &store, &ids).await?;
    let organization = store.organization().await.map_err(store_failed)?.id;
    let app = App::new(Parts {
        store: store.clone(),
        runtime: runtime.clone(),
        models: Arc::clone(&catalog),
        ids,
        organization,
        about: about(&found),
    });
    let tunnels = Tunnels {
        domain: settings.tunnels.domain.clone(),
        edge: Some(edge.clone()),
    };
    let app = app.with_lease(settings.lease_seconds).with_tunnels(tunnels);
    let app = Arc::new(app);
    greeting::greet(&greeting::Facts {
        settings: &settings,
        address: listener
            .local_addr()
            .map_err(|e| Failure::because("cannot listen", &e))?,
        catalog: &catalog,
        sandbox: &found,
        refusal: refusal.as_deref(),
        runtime: &runtime,
        gateways: gateways.as_ref(),
        key,
    });
    let mut tasks = housekeeping::start(&store, &boxes, &clock);

    let serving = async {
        let served = freehold_server::serve(listener, app, stop.clone().cancelled_owned()).await;
        stop.cancel();
        served
    };
    let parking = async {
        stop.cancelled().await;
        tracing::info!("stopping");
        runtime.stop().await;
    };
    // What is finished now may still need a server behind a tunnel, so gateways leave last.
    let idle = CancellationToken::new();
    let finishing = async {
        let (served, ()) = tokio::join!(serving, parking);
        idle.cancel();
        served
    };
    let connecting = gateways::serve(gateways, &edge, stop.clone(), idle.clone());
    let peers = freehold_peers::Parts {
        store: store.clone(),
        hub,
        edge: edge.clone(),
    };
    let peering = replicas::serve(replicas, peers, stop.clone(), idle.clone());
    let work = async {
        let (served, connected, peered) = tokio::join!(finishing, connecting, peering);
        tasks.shutdown().await;
        boxes.close_all().await;
        audit.flush().await;
        store.close().await;
        connected?;
        peered?;
        served.map_err(|e| Failure::because("cannot serve", &e))
    };
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    // Whatever hangs, the process ends: what was acknowledged is durable, and the kernel frees the
    // data directory and ends the sandboxes.
    tokio::select! {
        served = work => {
            served?;
            tracing::info!("stopped");
        }
        () = overdue => tracing::warn!("not everything stopped in time; ending anyway"),
    }
    Ok(Exit::Ok)
}

fn catalog(settings: &Settings, ids: &IdSource) -> Result<Catalog, Failure> {
    let unusable = |e: freehold_model::CatalogError| Failure::usage(e.to_string());
    let keys = config::provider_keys(settings)?;
    let mut catalog = Catalog::from_config(&settings.catalog, &keys, ids).map_err(unusable)?;
    if let Some(url) = &settings.model_url {
        let key = config::model_key(settings)?;
        catalog
            .set_fallback_url(url, key, Default::default())
            .map_err(unusable)?;
    }
    Ok(catalog)
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| {
        let failure = Failure::failed(format!("cannot listen on {address}: {e}"));
        match e.kind() {
            std::io::ErrorKind::AddrInUse => failure.hint(format!(
                "another server is there; choose an address with {setting}"
            )),
            _ => failure,
        }
    })
}

/// Makes the data directory, for the server's user alone.
fn prepare_dir(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|e| {
        Failure::failed(format!(
            "cannot make the data directory {}: {e}",
            dir.display()
        ))
        .hint("choose one with --data-dir")
    })
}

async fn open_store(
    settings: &Settings,
    place: Place,
    ids: &IdSource,
    hub: &Hub,
) -> Result<Store, Failure> {
    let place = Place {
        blobs: storage::open(settings, ids).await?,
        ..place
    };
    let (path, ids, hub) = (settings.data_dir.clone(), ids.clone(), hub.clone());
    let open = move || Store::open_with(&path, place, ids, Arc::new(hub));
    let store = super::blocking(open).await?.map_err(store_failed)?;
    for key in store.missing_master_keys().await.map_err(store_failed)? {
        tracing::error!(
            key,
            "secrets are encrypted under a master key that is not configured; sessions go without \
             them until the key is back, or the credentials are updated"
        );
    }
    Ok(store)
}

fn store_failed(error: StoreError) -> Failure {
    let failure = Failure::because("the store cannot be used", &error);
    match error {
        StoreError::Connection(_) => failure.hint("see database_url in docs/configuration.md"),
        StoreError::InUse { .. } => {
            failure.hint("another server is running on it; stop it, or choose one with --data-dir")
        }
        _ => failure,
    }
}

/// The first API key, if it was made now. One that cannot be shown to anybody is not made.
async fn first_key(
    settings: &Settings,
    store: &Store,
    ids: &IdSource,
) -> Result<Option<freehold_base::Secret<String>>, Failure> {
    use std::io::IsTerminal;
    let given = config::bootstrap_key(settings)?;
    let seen = settings.log_format == LogFormat::Human || std::io::stderr().is_terminal();
    if given.is_none() && !seen {
        if store.keys_is_empty().await.map_err(store_failed)? {
            tracing::warn!(
                "there is no API key yet, and none is written into logs: set \
                 FREEHOLD_BOOTSTRAP_KEY or bootstrap_key_file, or run `freehold keys create --admin --data-dir` while \
                 the server is stopped"
            );
        }
        return Ok(None);
    }
    credential::bootstrap(store, ids, given.as_ref())
        .await
        .map_err(|e| Failure::because("FREEHOLD_BOOTSTRAP_KEY", &e))
}

fn about(found: &Capabilities) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sandbox_provider: found.provider.to_owned(),
        sandbox_capabilities: serde_json::to_value(found).unwrap_or_default(),
    }
}
