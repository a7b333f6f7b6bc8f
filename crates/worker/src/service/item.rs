//! Serves one claimed item: lease, session, mounts, calls, end (contract 55 §3).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{EnvironmentId, Secret, SessionId, Timestamp};
use freehold_client::{Client, ClientError};
use freehold_wire::agent::Metadata;
use freehold_wire::work::{LAPSED_AT, LAPSED_WORK, NO_HEARTBEAT, Work, WorkSecret};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hands::{Hands, Shown};
use super::journal::{self, Journal, JournalError};
use super::lease::{self, Lease, LeaseEnd};
use super::metrics::Metrics;
use super::mounts::{self, MountsError};
use super::runner::{self, RunEnd, Serving};
use super::skills;

/// Longest the last request for an item may take.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest it may take to open a journal, the wait for another process of this host included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest the last sync of memory stores may take (contract 55 §14).
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What every item of a worker is served with.
pub struct Service {
    /// A client with any key; [`Service::environment_key`] or the item's token take its place.
    pub client: Client,
    /// Opens the queue, and an item without a usable secret.
    pub environment_key: Option<Secret<String>>,
    /// Sandboxes.
    pub hands: Arc<dyn Hands>,
    /// Where journals are kept; no sandbox sees it.
    pub journals: PathBuf,
    /// How long a session at rest is kept; `None` for ever.
    pub max_idle: Option<Duration>,
    /// How long a lease shall last, seconds; `None` leaves it to the server.
    pub lease_seconds: Option<u64>,
    /// From the request to stop until everything has ended.
    pub stop_timeout: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Asks for an orderly end.
    pub stop: CancellationToken,
}

/// An item that was acknowledged.
#[derive(Debug, Clone)]
pub struct Claim {
    /// `work_…`.
    pub work: String,
    /// `env_…`.
    pub environment: EnvironmentId,
    /// `session`, or something that is skipped.
    pub kind: String,
    /// The session.
    pub session: String,
    /// As the poll gave it.
    pub secret: Option<Secret<String>>,
    /// The last heartbeat of whoever held the item before, if it is to be carried on.
    pub last_heartbeat: Option<String>,
    /// Workers that held the session before and were not heard of again.
    pub lapsed: Option<Lapsed>,
}

/// Items of a session that ended because nobody was heard of: their workers may have run calls that
/// have no result. A Freehold server says so in an item's metadata; another one does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// When the last of them ended.
    pub at: Timestamp,
    /// Which; `None` if they are too many to name.
    pub works: Option<Vec<String>>,
}

impl Lapsed {
    fn read(metadata: &Metadata) -> Option<Self> {
        let text = |key: &str| metadata.get(key).map(String::as_str);
        Self::from_parts(text(LAPSED_AT), text(LAPSED_WORK))
    }

    /// From the two values of an item's metadata.
    pub fn from_parts(at: Option<&str>, works: Option<&str>) -> Option<Self> {
        let at = at?;
        let works = works.filter(|ids| !ids.is_empty());
        Some(Self {
            // A time that cannot be read is later than any call.
            at: at.parse().unwrap_or(Timestamp::from_micros(i64::MAX)),
            works: works.map(|ids| ids.split(',').map(str::to_owned).collect()),
        })
    }
}

impl From<Work> for Claim {
    fn from(work: Work) -> Self {
        Self {
            work: work.id.to_string(),
            environment: work.environment_id,
            kind: work.data.r#type,
            session: work.data.id,
            secret: work.secret.map(Secret::new),
            last_heartbeat: None,
            lapsed: Lapsed::read(&work.metadata),
        }
    }
}

/// Why an item was not served to a good end.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// Neither a secret with a token nor an environment key.
    #[error("the item has no usable secret, and there is no environment key")]
    NoCredential,
    /// `data.id` is not a session's id.
    #[error("the item names no session")]
    NoSession,
    /// The session could not be looked at.
    #[error("the session could not be read")]
    Session(#[source] ClientError),
    /// A client could not be made.
    #[error(transparent)]
    Client(ClientError),
    /// Skills or memory stores could not be shown.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// No journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The part of a session (contract 30) that counts here.
#[derive(Debug, Deserialize)]
struct Session {
    status: String,
}

impl Service {
    /// Serves the item to its end and stops it, unless it has become someone else's. The name of
    /// the cause is for metrics.
    ///
    /// # Errors
    /// See [`ItemError`]; the item was stopped then too.
    pub async fn serve(&self, claim: &Claim) -> Result<&'static str, ItemError> {
        let (client, has_token) = self.item_client(claim)?;
        let lease = watch::Sender::new(Lease::default());
        let served = if claim.kind == "session" {
            self.serve_session(claim, &client, has_token, &lease).await
        } else {
            tracing::debug!(work = %claim.work, kind = %claim.kind, "not a session; skipped");
            Ok("skipped")
        };
        let end = lease.borrow().end;
        if end.is_some_and(LeaseEnd::is_lost) {
            tracing::info!(work = %claim.work, "the item is someone else's now");
        } else {
            stop(&client, claim, true).await;
        }
        served
    }

    async fn serve_session(
        &self,
        claim: &Claim,
        client: &Client,
        has_token: bool,
        lease: &watch::Sender<Lease>,
    ) -> Result<&'static str, ItemError> {
        let session: SessionId = claim.session.parse().map_err(|_| ItemError::NoSession)?;
        // The lease first: an item that was acknowledged and not heard of is nobody's for a minute
        // and a half, and nothing that follows has a bound that is shorter than a lease.
        let item = lease::Item {
            client,
            environment: &claim.environment,
            work: &claim.work,
            expected: claim.last_heartbeat.as_deref().unwrap_or(NO_HEARTBEAT),
            ttl_seconds: self.lease_seconds,
        };
        let beats = lease::keep(item, lease);
        let serving = self.serve_leased(claim, client, has_token, &session, lease);
        tokio::pin!(beats, serving);
        tokio::select! {
            biased;
            // The lease ended, which whoever serves has been told.
            () = &mut beats => serving.await,
            served = &mut serving => served,
        }
    }

    async fn serve_leased(
        &self,
        claim: &Claim,
        client: &Client,
        has_token: bool,
        session: &SessionId,
        lease: &watch::Sender<Lease>,
    ) -> Result<&'static str, ItemError> {
        let mut ended = lease.subscribe();
        let preparing = async {
            let (journal, lost_before) = self.open_journal(claim, session).await?;
            let shown = self.prepare(client, has_token, session).await?;
            Ok::<_, ItemError>((journal, lost_before, shown))
        };
        let (journal, lost_before, shown) = tokio::select! {
            biased;
            // A lease lost while things are fetched: whoever has it now fetches them.
            _ = ended.wait_for(|lease| lease.end.is_some()) => {
                return Ok(lease.borrow().end.map_or("lease_lost", LeaseEnd::as_str));
            }
            () = self.stop.cancelled() => return Ok(RunEnd::WorkerStops.as_str()),
            prepared = preparing => prepared?,
        };
        let journal = &journal;
        let Some(shown) = shown else {
            tracing::info!(work = %claim.work, %session, "the session is terminated");
            self.forget(session, journal).await;
            return Ok(RunEnd::SessionOver.as_str());
        };
        let has_memory = !shown.memory.is_empty();
        self.hands.show(session, shown, client);
        if has_memory {
            // A session does not run without its memory.
            let ready = tokio::select! {
                biased;
                _ = ended.wait_for(|lease| lease.end.is_some()) => Ok(()),
                ready = self.hands.prepare(session) => ready,
            };
            if let Err(error) = ready {
                self.hands.close(session).await;
                return Err(MountsError::Unavailable(error).into());
            }
        }
        let serving = Serving {
            client,
            session,
            hands: &*self.hands,
            journal,
            metrics: &self.metrics,
            lease: lease.subscribe(),
            stop: &self.stop,
            stop_grace: self.stop_grace(),
            max_idle: self.max_idle,
            lost_before,
        };
        let end = {
            let warming = self.warm(session);
            let running = runner::serve(&serving);
            tokio::pin!(running);
            tokio::select! {
                end = &mut running => end,
                () = warming => running.await,
            }
        };
        // While the lease is ours what the session wrote is saved; the heartbeats go on.
        if !matches!(&end, RunEnd::Lease(end) if end.is_lost()) {
            let settling = self.hands.settle(session, true);
            if tokio::time::timeout(SETTLE_TIMEOUT, settling)
                .await
                .is_err()
            {
                tracing::warn!(%session, "memory stores were not saved in time");
            }
        }
        self.hands.close(session).await;
        if let Err(error) = journal.with(|journal| journal.end()).await {
            tracing::warn!(%session, %error, "the journal was not written");
        }
        if let RunEnd::Refused(error) = &end {
            tracing::error!(%session, %error, "the session's events cannot be read");
        }
        let gone = matches!(&end, RunEnd::Refused(e) if matches!(e.status(), Some(404 | 410)));
        if gone || matches!(end, RunEnd::SessionOver) {
            self.forget(session, journal).await;
        }
        Ok(end.as_str())
    }

    /// The session's journal, which only one process of this host can have, and whoever has it may
    /// serve the session here; and [`Serving::lost_before`].
    async fn open_journal(
        &self,
        claim: &Claim,
        session: &SessionId,
    ) -> Result<(journal::Shared, Option<Timestamp>), JournalError> {
        let opening = async {
            let journal = Journal::at(&self.journals, session.as_str()).await?;
            let lost_before = lost_before(claim, &journal);
            let journal = journal::Shared::new(journal);
            let work = claim.work.clone();
            journal.with(move |journal| journal.hold(&work)).await?;
            Ok((journal, lost_before))
        };
        // The lease is kept meanwhile: where the disk stands still the item is to go elsewhere.
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
        opened.unwrap_or(Err(JournalError::Stalled))
    }

    /// Looks at the session and fetches what its sandbox shows; `None` if it is over.
    async fn prepare(
        &self,
        client: &Client,
        has_token: bool,
        session: &SessionId,
    ) -> Result<Option<Shown>, ItemError> {
        let shown = client
            .session(session.as_str())
            .await
            .map_err(ItemError::Session)?;
        let read = Session::deserialize(&shown)
            .map_err(|e| ItemError::Session(ClientError::Protocol(e.to_string())))?;
        if read.status == "terminated" {
            return Ok(None);
        }
        let memory = mounts::memory(&shown, has_token)?;
        let skills = skills::find(client, &shown, session).await;
        Ok(Some(Shown { skills, memory }))
    }

    /// Brings the sandbox up while the history is read. That it fails is said by the first call.
    async fn warm(&self, session: &SessionId) {
        let started = Instant::now();
        match self.hands.prepare(session).await {
            Ok(()) => self.metrics.sandbox_started(started.elapsed()),
            Err(error) => {
                tracing::warn!(%session, error = &error as &dyn std::error::Error, "no sandbox");
            }
        }
    }

    /// The session is over: nothing of it is needed here any more.
    async fn forget(&self, session: &SessionId, journal: &journal::Shared) {
        self.hands.remove(session).await;
        journal.remove().await;
    }

    /// How long a running call may go on after a request to stop, so that what follows it fits.
    fn stop_grace(&self) -> Duration {
        self.stop_timeout
            .saturating_sub(runner::KILL_TIMEOUT + STOP_TIMEOUT)
    }

    /// The item's own token if it has one, else the environment key.
    fn item_client(&self, claim: &Claim) -> Result<(Client, bool), ItemError> {
        let token = claim
            .secret
            .as_ref()
            .map(|secret| WorkSecret::decode(secret.expose()));
        let key = match (token, &self.environment_key) {
            (Some(Ok(secret)), _) => {
                let client = self.client.with_key(&secret.sessions_token);
                return Ok((client.map_err(ItemError::Client)?, true));
            }
            (Some(Err(_)), Some(key)) => {
                tracing::warn!(
                    work = %claim.work,
                    "the item's secret holds no token; using the environment key"
                );
                key
            }
            (None, Some(key)) => key,
            (_, None) => return Err(ItemError::NoCredential),
        };
        Ok((self.client.with_key(key).map_err(ItemError::Client)?, false))
    }
}

/// Until when workers that were lost may have run calls that `journal` does not know.
fn lost_before(claim: &Claim, journal: &Journal) -> Option<Timestamp> {
    let lapsed = claim.lapsed.as_ref()?;
    let known = match &lapsed.works {
        Some(works) => works.iter().all(|work| journal.held(work)),
        None => false,
    };
    (!known).then_some(lapsed.at)
}

/// Stops an item. One that has stopped already is no failure.
pub(super) async fn stop(client: &Client, claim: &Claim, force: bool) {
    let stopping = client.stop_work(&claim.environment, &claim.work, force);
    match tokio::time::timeout(STOP_TIMEOUT, stopping).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.status() == Some(409) => {}
        Ok(Err(error)) => tracing::warn!(work = %claim.work, %error, "the item was not stopped"),
        Err(_) => tracing::warn!(work = %claim.work, "the item was not stopped in time"),
    }
}
