//! One connected client of one server.

use std::collections::HashMap;
use std::sync::Arc;

use freehold_base::RequestId;
use http::{HeaderValue, StatusCode};
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientCapabilities, ClientConfig,
    Implementation, ProtocolVersion,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, Peer,
    RunningService,
};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use rmcp::{ClientHandler, RoleClient};

use crate::Options;
use crate::endpoint::Endpoint;
use crate::error::{self, ConnectError};
use crate::http::{Http, HttpError};
use crate::old::OldTransport;
use crate::transport::Transport;
use crate::url::Server;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28: every request stands for itself.
    Modern,
    /// 2025-11-25 and older: `initialize`, and sessions.
    Legacy,
    /// 2024-11-05: HTTP+SSE.
    Old,
}

/// Rides with a request to the HTTP layer, which puts it into a header.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(pub(crate) RequestId);

/// Declares nothing that a server could ask of us.
pub(crate) struct Handler {
    changed: Box<dyn Fn() + Send + Sync>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("freehold", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        (self.changed)();
    }
}

pub(crate) struct Client {
    service: RunningService<RoleClient, Handler>,
    era: Era,
}

impl Client {
    /// Connects, finding out what the server speaks unless that is known.
    pub(crate) async fn connect(
        http: &Http,
        options: &Options,
        to: &Endpoint,
        server: &Server,
        known: Option<Era>,
        changed: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self, ConnectError> {
        let transport = Transport {
            http: http.clone(),
            workspace: to.workspace.clone(),
            options: options.clone(),
        };
        let handler = Handler { changed };
        if known == Some(Era::Old) {
            return Self::connect_old(transport, handler, to, server).await;
        }
        let mode = match known {
            Some(Era::Legacy) => ClientLifecycleMode::Initialize,
            _ => ClientLifecycleMode::Auto {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
                legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
            },
        };
        let mut config = StreamableHttpClientTransportConfig::with_uri(server.uri.to_string());
        config.auth_header = to.bearer.as_ref().map(|token| token.expose().clone());
        config.custom_headers = HashMap::new();
        let streamable = StreamableHttpClientTransport::with_client(transport.clone(), config);
        let Handler { changed } = handler;
        // Both attempts may have to tell of changes.
        let changed: Arc<dyn Fn() + Send + Sync> = changed.into();
        let handler = |changed: &Arc<dyn Fn() + Send + Sync>| {
            let changed = Arc::clone(changed);
            Handler {
                changed: Box::new(move || changed()),
            }
        };
        let served = handler(&changed)
            .serve_with_lifecycle(streamable, mode)
            .await;
        let failed = match served {
            Ok(service) => {
                let version = service
                    .peer()
                    .peer_info()
                    .map(|i| i.protocol_version.clone());
                let modern = version.is_some_and(|v| v >= ProtocolVersion::NO_INITIALIZE);
                let era = if modern { Era::Modern } else { Era::Legacy };
                return Ok(Self { service, era });
            }
            Err(error) => error::of_connect(error),
        };
        if knows_nothing_newer(&failed) {
            let old = Self::connect_old(transport, handler(&changed), to, server).await;
            // What the newer protocol said is what matters if the older one fails as well.
            return old.map_err(|_| failed);
        }
        Err(failed)
    }

    async fn connect_old(
        transport: Transport,
        handler: Handler,
        to: &Endpoint,
        server: &Server,
    ) -> Result<Self, ConnectError> {
        let bearer = to.bearer.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let bearer = bearer
            .transpose()
            .map_err(|_: http::header::InvalidHeaderValue| {
                HttpError::Unusable("the credential cannot be put into a header".to_owned())
            })?;
        let old = OldTransport::open(transport, &server.uri, bearer).await?;
        let served = handler
            .serve_with_lifecycle(old, ClientLifecycleMode::Initialize)
            .await
            .map_err(|e: ClientInitializeError| error::of_connect(e))?;
        Ok(Self {
            service: served,
            era: Era::Old,
        })
    }

    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    pub(crate) fn era(&self) -> Era {
        self.era
    }

    /// Whether it cannot be used any more.
    pub(crate) fn is_over(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// Tells the server that nobody waits for the answer any more.
    pub(crate) async fn cancel(&self, peer: &Peer<RoleClient>, id: rmcp::model::RequestId) {
        let param = CancelledNotificationParam::new(Some(id), Some("cancelled".to_owned()));
        let notification = CancelledNotification::new(param);
        // It may be gone, too.
        let _ = peer.send_notification(notification.into()).await;
    }
}

/// The statuses with which servers of the HTTP+SSE transport answer a POST to their stream.
fn knows_nothing_newer(error: &ConnectError) -> bool {
    let older = [
        StatusCode::BAD_REQUEST,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
    ];
    matches!(error, ConnectError::Http(HttpError::Status { status, .. }) if older.contains(status))
}
