//! Where the other replicas of a shared database reach this one.

use std::net::{IpAddr, Ipv4Addr};

use freehold_peers::Parts;
use freehold_store::postgres::Address;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::super::blocking;
use super::bind;
use crate::config::Settings;
use crate::exit::Failure;

/// A place to be reached at.
pub(super) struct Replicas {
    listener: TcpListener,
    /// `host:port` that the others are told.
    address: String,
}

impl Replicas {
    /// One, if there is a `database` that others may share.
    ///
    /// # Errors
    /// It cannot be listened there.
    pub(super) async fn new(
        settings: &Settings,
        database: Option<&Address>,
    ) -> Result<Option<Self>, Failure> {
        let Some(database) = database.cloned() else {
            return Ok(None);
        };
        let listen = settings.replicas.listen;
        let listen = listen.unwrap_or_else(|| (settings.listen.ip(), 0).into());
        let listener = bind(listen, "replicas.listen").await?;
        let bound = listener.local_addr();
        let mut bound = bound.map_err(|e| Failure::because("cannot listen", &e))?;
        let address = match &settings.replicas.address {
            Some(address) => address.clone(),
            None => {
                if bound.ip().is_unspecified() {
                    let near = blocking(move || database.reached_from()).await?;
                    bound.set_ip(near.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
                }
                bound.to_string()
            }
        };
        Ok(Some(Self { listener, address }))
    }
}

/// Talks with the other replicas until the server is `idle`; from `stop` on, nothing new is begun.
///
/// # Errors
/// There is no certificate to show them.
pub(super) async fn serve(
    replicas: Option<Replicas>,
    parts: Parts,
    stop: CancellationToken,
    idle: CancellationToken,
) -> Result<(), Failure> {
    let Some(Replicas { listener, address }) = replicas else {
        return Ok(());
    };
    tracing::info!(address, "other replicas reach this one");
    let mut access = parts.hub.access();
    let edge = parts.edge.clone();
    let rechecking = async {
        // What another replica changed may be open here.
        while access.changed().await.is_ok() {
            edge.recheck().await;
        }
        std::future::pending().await
    };
    let served = tokio::select! {
        served = freehold_peers::serve(listener, address, parts, stop.clone(), idle) => served,
        never = rechecking => never,
    };
    served.map_err(|e| {
        stop.cancel();
        Failure::because("other replicas cannot be talked with", &e)
    })
}
