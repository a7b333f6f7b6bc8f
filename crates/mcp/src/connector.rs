//! Clients of servers, made when first needed and kept while they are used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_base::{Secret, SharedClock, WorkspaceId};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use rmcp::service::{PeerRequestOptions, ServiceError};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, AuditRecord};
use crate::client::{Client, Era, RequestName};
use crate::content;
use crate::definition::Listing;
use crate::endpoint::Endpoint;
use crate::error::{self, McpError};
use crate::http::{Http, HttpError};
use crate::listing;
use crate::outcome::{ToolCall, ToolOutcome};
use crate::url::Server;

/// What an operator or a test can set.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest time until a server is ready.
    pub connect: Duration,
    /// Longest silence of a call; progress begins it anew.
    pub call: Duration,
    /// Longest time of a call, whatever progress it reports.
    pub call_total: Duration,
    /// Largest JSON answer, bytes.
    pub max_json: usize,
    /// Largest event of a stream, bytes.
    pub max_event: usize,
    /// Largest stream of events, bytes.
    pub max_stream: usize,
    /// How long a list of tools is believed.
    pub listing: Duration,
    /// How long an unused client is kept.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            call: Duration::from_secs(60),
            call_total: Duration::from_secs(300),
            max_json: 16 << 20,
            max_event: 16 << 20,
            max_stream: 64 << 20,
            listing: Duration::from_secs(30),
            idle: Duration::from_secs(600),
        }
    }
}

/// Rounds in which a server may ask for its own state back before it answers.
const MAX_ROUNDS: usize = 8;
/// Clients and lists kept; beyond it those unused for longest go.
const MAX_KEPT: usize = 1_024;

/// Who sees which server how. A credential is known by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    workspace: WorkspaceId,
    url: String,
    bearer: Option<[u8; 32]>,
}

impl Seen {
    fn of(to: &Endpoint, server: &Server) -> Self {
        let hash = |token: &Secret<String>| Sha256::digest(token.expose()).into();
        Self {
            workspace: to.workspace.clone(),
            url: server.uri.to_string(),
            bearer: to.bearer.as_ref().map(hash),
        }
    }
}

#[derive(Default)]
struct Slot {
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
    used: Mutex<Option<Instant>>,
}

struct Listed {
    at: Instant,
    listing: Arc<Listing>,
}

/// Uses MCP servers. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    http: Http,
    options: Options,
    audit: Arc<dyn Audit>,
    clock: SharedClock,
    /// Clients by who sees them, and by whose session of the older protocol it is.
    clients: Mutex<HashMap<(Seen, String), Arc<Slot>>>,
    listings: Mutex<HashMap<Seen, Listed>>,
    eras: Mutex<HashMap<String, Era>>,
}

impl Connector {
    /// Connects nowhere yet.
    pub fn new(http: Http, options: Options, audit: Arc<dyn Audit>, clock: SharedClock) -> Self {
        let shared = Shared {
            http,
            options,
            audit,
            clock,
            clients: Mutex::default(),
            listings: Mutex::default(),
            eras: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The one way out, for what belongs to servers: their token endpoints.
    pub fn http(&self) -> &Http {
        &self.shared.http
    }

    /// The server's tools, as it listed them not long ago.
    ///
    /// # Errors
    /// [`McpError`].
    pub async fn list(&self, to: &Endpoint) -> Result<Arc<Listing>, McpError> {
        let seen = Seen::of(to, &server(to)?);
        let known = lock(&self.shared.listings)
            .get(&seen)
            .filter(|l| l.at.elapsed() < self.shared.options.listing)
            .map(|l| Arc::clone(&l.listing));
        match known {
            Some(listing) => Ok(listing),
            None => self.refresh(to).await,
        }
    }

    /// The server's tools, asked for now.
    ///
    /// # Errors
    /// [`McpError`].
    pub async fn refresh(&self, to: &Endpoint) -> Result<Arc<Listing>, McpError> {
        let server = server(to)?;
        let seen = Seen::of(to, &server);
        let mut record = self.record(to, "tools/list");
        let begun = Instant::now();
        let listed = async {
            let client = self.client(to, &server).await?;
            let listed = listing::all(&client, &self.shared.options).await;
            self.settle(to, &server, &client, listed).await
        };
        let listed = listed.await.map_err(|e| mask(e, to));
        record.finish(
            begun,
            listed.as_ref().map(|l| l.bytes).map_err(Clone::clone),
        );
        self.shared.audit.record(record);
        let listing = Arc::new(listed?.listing);
        let mut listings = lock(&self.shared.listings);
        if listings.len() >= MAX_KEPT {
            let ttl = self.shared.options.listing;
            listings.retain(|_, l| l.at.elapsed() < ttl);
            if listings.len() >= MAX_KEPT {
                listings.clear();
            }
        }
        let at = Instant::now();
        let listing_ = Arc::clone(&listing);
        listings.insert(
            seen,
            Listed {
                at,
                listing: listing_,
            },
        );
        Ok(listing)
    }

    /// Calls a tool. It is sent once: whoever wants it repeated must know that it may be.
    ///
    /// # Errors
    /// [`McpError`]; a tool's own failure is an outcome.
    pub async fn call(
        &self,
        to: &Endpoint,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolOutcome, McpError> {
        let mut record = self.record(to, "tools/call");
        record.of_call(call);
        let begun = Instant::now();
        let outcome = self
            .attempt(to, call, cancel)
            .await
            .map_err(|e| mask(e, to));
        record.finish(
            begun,
            outcome.as_ref().map(|o| o.received).map_err(Clone::clone),
        );
        if outcome.as_ref().is_ok_and(|o| o.is_error) {
            record.outcome = "tool_error".to_owned();
        }
        self.shared.audit.record(record);
        outcome
    }

    async fn attempt(
        &self,
        to: &Endpoint,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolOutcome, McpError> {
        let arguments = serde_json::from_str(call.arguments.get())
            .map_err(|_| McpError::Refused("the arguments are not a JSON object".to_owned()))?;
        let server = server(to)?;
        let client = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(McpError::Cancelled),
            client = self.client(to, &server) => client?,
        };
        let mut params = CallToolRequestParams::new(call.name.clone()).with_arguments(arguments);
        for _ in 0..MAX_ROUNDS {
            let mut request = CallToolRequest::new(params.clone());
            request
                .extensions
                .insert(RequestName(call.request_id.clone()));
            let answer = self.exchange(&client, ClientRequest::CallToolRequest(request), cancel);
            let answer = answer.await;
            match self.settle(to, &server, &client, answer).await? {
                ServerResult::CallToolResult(result) => return Ok(content::outcome(result, to)),
                // We declared nothing that it could ask for; its own state it may have back.
                ServerResult::InputRequiredResult(asked) if asked.input_requests.is_none() => {
                    params.request_state = asked.request_state;
                }
                ServerResult::InputRequiredResult(_) => {
                    let why = "the tool asks for input that nobody here can give";
                    return Err(McpError::Refused(why.to_owned()));
                }
                _ => return Err(error::unusable("the answer to tools/call is not one")),
            }
        }
        Err(error::unusable(
            "the tool asked for its state again and again",
        ))
    }

    async fn exchange(
        &self,
        client: &Client,
        request: ClientRequest,
        cancel: &CancellationToken,
    ) -> Result<ServerResult, McpError> {
        let options = &self.shared.options;
        let asked = PeerRequestOptions::with_timeout(options.call)
            .reset_timeout_on_progress()
            .with_max_total_timeout(options.call_total);
        let peer = client.peer();
        let handle = peer.send_cancellable_request(request, asked).await;
        let handle = handle.map_err(|e| error::of_service(&e))?;
        let (id, peer) = (handle.id.clone(), handle.peer.clone());
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                client.cancel(&peer, id).await;
                Err(McpError::Cancelled)
            }
            answer = handle.await_response() => answer.map_err(|e: ServiceError| error::of_service(&e)),
        }
    }

    /// A client that is connected.
    async fn client(&self, to: &Endpoint, server: &Server) -> Result<Arc<Client>, McpError> {
        let key = (Seen::of(to, server), to.owner.clone());
        let slot = self.slot(key);
        let mut client = slot.client.lock().await;
        if let Some(client) = client.as_ref().filter(|c| !c.is_over()) {
            return Ok(Arc::clone(client));
        }
        let at = place(server);
        let era = lock(&self.shared.eras).get(&at).copied();
        let made = Client::connect(
            &self.shared.http,
            &self.shared.options,
            to,
            server,
            era,
            self.forgets(to, server),
        );
        let made = tokio::time::timeout(self.shared.options.connect, made).await;
        let made = made.unwrap_or(Err(HttpError::Slow(self.shared.options.connect).into()));
        let mut eras = lock(&self.shared.eras);
        match &made {
            Ok(made) => {
                if eras.len() >= MAX_KEPT {
                    eras.clear();
                }
                eras.insert(at, made.era());
            }
            // It may have changed; the next attempt finds out.
            Err(_) => drop(eras.remove(&at)),
        }
        drop(eras);
        let made = Arc::new(made?);
        *client = Some(Arc::clone(&made));
        Ok(made)
    }

    /// What a server's word that its tools changed leads to.
    fn forgets(&self, to: &Endpoint, server: &Server) -> Box<dyn Fn() + Send + Sync> {
        let (shared, seen) = (Arc::downgrade(&self.shared), Seen::of(to, server));
        Box::new(move || {
            if let Some(shared) = shared.upgrade() {
                lock(&shared.listings).remove(&seen);
            }
        })
    }

    /// A connection that failed is not used again; nor is what is believed of the server's era.
    async fn settle<T>(
        &self,
        to: &Endpoint,
        server: &Server,
        client: &Arc<Client>,
        answer: Result<T, McpError>,
    ) -> Result<T, McpError> {
        if let Err(McpError::Connection(_) | McpError::Authentication(_)) = &answer {
            lock(&self.shared.eras).remove(&place(server));
            let slot = self.slot((Seen::of(to, server), to.owner.clone()));
            let mut kept = slot.client.lock().await;
            if kept.as_ref().is_some_and(|k| Arc::ptr_eq(k, client)) {
                *kept = None;
            }
        }
        answer
    }

    fn slot(&self, key: (Seen, String)) -> Arc<Slot> {
        let mut clients = lock(&self.shared.clients);
        if clients.len() >= MAX_KEPT && !clients.contains_key(&key) {
            let mut ages: Vec<_> = clients.values().filter_map(|s| *lock(&s.used)).collect();
            ages.sort();
            let old = ages.get(MAX_KEPT / 2).copied();
            clients.retain(|_, s| Arc::strong_count(s) > 1 || *lock(&s.used) > old);
        }
        let idle = self.shared.options.idle;
        clients.retain(|k, s| {
            let unused = lock(&s.used).is_some_and(|at| at.elapsed() > idle);
            *k == key || !unused || Arc::strong_count(s) > 1
        });
        let slot = Arc::clone(clients.entry(key).or_default());
        *lock(&slot.used) = Some(Instant::now());
        slot
    }

    /// Ends the owner's clients, and its sessions of the older protocol with them.
    pub fn close(&self, owner: &str) {
        lock(&self.shared.clients).retain(|(_, whose), _| whose != owner);
    }

    /// Whether the server takes the credential: connects anew and asks for its tools. `Err` holds the
    /// method that failed, and how.
    ///
    /// # Errors
    /// What failed.
    pub async fn probe(&self, to: &Endpoint) -> Result<(), (&'static str, HttpError)> {
        let server =
            Server::parse(&to.url).map_err(|why| ("initialize", HttpError::Unusable(why)))?;
        let options = &self.shared.options;
        let connect = Client::connect(
            &self.shared.http,
            options,
            to,
            &server,
            None,
            Box::new(|| {}),
        );
        let client = tokio::time::timeout(options.connect, connect).await;
        let client = client
            .unwrap_or(Err(HttpError::Slow(options.connect).into()))
            .map_err(|e| ("initialize", e.http()))?;
        let first = listing::first(&client, options).await;
        first.map_err(|e| ("tools/list", e))
    }

    fn record(&self, to: &Endpoint, method: &'static str) -> AuditRecord {
        AuditRecord::begin(to, method, self.shared.clock.now())
    }
}

fn server(to: &Endpoint) -> Result<Server, McpError> {
    Server::parse(&to.url).map_err(McpError::Connection)
}

/// Where a server is, without what a query may say.
fn place(server: &Server) -> String {
    let scheme = if server.tls { "https" } else { "http" };
    format!(
        "{scheme}://{}:{}{}",
        server.host,
        server.port,
        server.uri.path()
    )
}

fn mask(error: McpError, to: &Endpoint) -> McpError {
    error.map(|text| content::masked(text, to))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole between any two statements, so a poisoned lock is still usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
