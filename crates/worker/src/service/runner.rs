//! Serves one session: takes its calls one at a time, in order, and sends their results, until the
//! session is at rest, over, or no longer ours (contract 90 E).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_base::{SessionId, Timestamp, crash_point};
use freehold_client::{Client, ClientError};
use freehold_sandbox::ToolRequest;
use freehold_wire::tool::BuiltinTool;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{Calls, Ready};
use super::feed::{self, Step};
use super::hands::Hands;
use super::idle::Idle;
use super::journal::{self, Known};
use super::lease::{Lease, LeaseEnd};
use super::metrics::Metrics;
use super::note::Use;
use super::post;
use crate::content::Reply;

/// Longest a call may take, whatever its own timeout (contract 55 §3).
const CALL_TIMEOUT: Duration = Duration::from_secs(150);
/// Longest a killed call may take to end.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

const UNKNOWN: &str = "The worker that ran this call ended before it could report the result. \
    Whether the call took effect is unknown, and it was not run again. Check before you repeat it.";
const STOPPED: &str = "The worker was stopped while this call ran, and the call was killed. \
    Whether it took effect is unknown.";
const UNNOTED: &str = "The tool could not run: the worker cannot write its journal.";

/// What one session is served with.
pub(super) struct Serving<'a> {
    pub(super) client: &'a Client,
    pub(super) session: &'a SessionId,
    pub(super) hands: &'a dyn Hands,
    pub(super) journal: &'a journal::Shared,
    pub(super) metrics: &'a Metrics,
    pub(super) lease: watch::Receiver<Lease>,
    /// Asks for an orderly end.
    pub(super) stop: &'a CancellationToken,
    /// How long a running call may go on after that.
    pub(super) stop_grace: Duration,
    pub(super) max_idle: Option<Duration>,
    /// Calls that were free to run by then may have been run by a worker that was not heard of
    /// again, and whose journal is not this one.
    pub(super) lost_before: Option<Timestamp>,
}

/// Why serving ended.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// At rest for long enough.
    Idle,
    /// Terminated or deleted.
    SessionOver,
    /// The worker stops.
    WorkerStops,
    /// The lease ended.
    Lease(LeaseEnd),
    /// The session cannot be reached, for good.
    Refused(ClientError),
}

impl RunEnd {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::SessionOver => "session_over",
            Self::WorkerStops => "worker_stopped",
            Self::Lease(end) => end.as_str(),
            Self::Refused(_) => "session_refused",
        }
    }

    /// Whether a call that runs may go on to its end and be answered.
    fn spares_the_call(&self) -> bool {
        matches!(
            self,
            Self::Idle | Self::WorkerStops | Self::Lease(LeaseEnd::Stopped)
        )
    }
}

/// What is known of a call while it runs.
#[derive(Default)]
struct Fate {
    /// Its result reaches nobody.
    moot: AtomicBool,
    /// Its result is on its way, so that one on the server is most likely this one.
    sending: AtomicBool,
}

/// What became of a call.
struct Outcome {
    reply: Reply,
    /// How long it ran; `None` if it did not run now.
    took: Option<Duration>,
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self { reply, took: None }
    }
}

/// A call that runs.
struct Running<'a> {
    ready: Ready,
    kill: CancellationToken,
    fate: Arc<Fate>,
    work: Pin<Box<dyn Future<Output = bool> + Send + 'a>>,
}

impl Running<'_> {
    fn drop_result(&self) {
        self.fate.moot.store(true, Ordering::SeqCst);
        self.kill.cancel();
    }
}

/// Serves until there is a reason to end.
pub(super) async fn serve(serving: &Serving<'_>) -> RunEnd {
    let (steps, mut feed) = mpsc::channel(feed::AHEAD);
    let feeding = feed::run(serving.client, serving.session.as_str(), steps);
    tokio::pin!(feeding);
    let mut fed = false;
    let mut lease = serving.lease.clone();
    let mut calls = Calls::new(Idle::new(serving.max_idle), is_ours);
    let mut running: Option<Running<'_>> = None;
    let end = loop {
        if running.is_none()
            && let Some(ready) = calls.next()
        {
            running = Some(start(serving, ready));
        }
        let deadline = match running {
            None => calls.idle.deadline(),
            Some(_) => None,
        };
        tokio::select! {
            biased;
            end = ended(&mut lease) => break RunEnd::Lease(end),
            () = serving.stop.cancelled() => break RunEnd::WorkerStops,
            answered = done(&mut running) => {
                if let Some(was) = running.take() {
                    if answered {
                        calls.answered(&was.ready.call.id);
                    }
                    calls.done(&was.ready);
                }
                serving.hands.settle(serving.session, false).await;
            }
            Some(step) = feed.recv() => {
                let read = matches!(step, Step::Read { complete: true });
                if let Some(end) = take(&mut calls, step) {
                    break end;
                }
                if read {
                    settle(serving, &calls);
                    doubt(serving, &calls).await;
                }
                if let Some(running) = &running
                    && calls.is_settled(&running.ready.call)
                    && !running.fate.sending.load(Ordering::SeqCst)
                {
                    running.drop_result();
                }
            }
            () = &mut feeding, if !fed => fed = true,
            () = sleep_until(deadline) => break RunEnd::Idle,
        }
    };
    if let Some(running) = running {
        finish(serving, &end, running).await;
    }
    end
}

/// The tools every self-hosted environment has; others belong to other clients.
fn is_ours(call: &Use) -> bool {
    !call.custom && tool(&call.name).is_some()
}

fn tool(name: &str) -> Option<BuiltinTool> {
    BuiltinTool::from_name(name).filter(|tool| !tool.is_server_side())
}

fn take(calls: &mut Calls, step: Step) -> Option<RunEnd> {
    match step {
        Step::History => calls.begin_history(),
        Step::Past(note) => {
            // An archived session's history ends like this.
            let over = note.ends_session();
            calls.past(note);
            return over.then_some(RunEnd::SessionOver);
        }
        Step::Read { complete: true } => calls.end_history(),
        Step::Read { complete: false } => calls.fail_history(),
        Step::Live(note) => {
            let over = note.ends_session();
            calls.live(note);
            return over.then_some(RunEnd::SessionOver);
        }
        Step::Failed(error) => return Some(RunEnd::Refused(error)),
    }
    None
}

/// Forgets what the journal holds of calls that the server has results for.
fn settle(serving: &Serving<'_>, calls: &Calls) {
    let open = serving.journal.now(|j| j.open());
    for call in open.into_iter().filter(|call| calls.is_answered(call)) {
        if let Err(error) = serving.journal.now(|j| j.posted(&call)) {
            tracing::warn!(session = %serving.session, %error, "the journal was not written");
        }
    }
}

/// If the host went down while it served the session, no call that waits by now is run: it may have run
/// before. One that comes later did not.
async fn doubt(serving: &Serving<'_>, calls: &Calls) {
    if !serving.journal.now(|j| j.has_gaps()) {
        return;
    }
    let waiting = calls.waiting();
    if let Err(error) = serving.journal.with(move |j| j.doubt(&waiting)).await {
        // It still has gaps.
        tracing::error!(session = %serving.session, %error, "the journal was not written");
    }
}

async fn ended(lease: &mut watch::Receiver<Lease>) -> LeaseEnd {
    let end = match lease.wait_for(|lease| lease.end.is_some()).await {
        Ok(lease) => lease.end,
        Err(_) => None,
    };
    match end {
        Some(end) => end,
        None => std::future::pending().await,
    }
}

async fn done(running: &mut Option<Running<'_>>) -> bool {
    match running {
        Some(running) => (&mut running.work).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Lets a call that runs end, or ends it.
async fn finish(serving: &Serving<'_>, end: &RunEnd, mut running: Running<'_>) {
    if end.spares_the_call() {
        let mut lease = serving.lease.clone();
        tokio::select! {
            _ = &mut running.work => return,
            () = lost(&mut lease) => running.drop_result(),
            () = tokio::time::sleep(serving.stop_grace) => running.kill.cancel(),
        }
    } else {
        running.drop_result();
    }
    if tokio::time::timeout(KILL_TIMEOUT, running.work)
        .await
        .is_err()
    {
        tracing::warn!(session = %serving.session, "a call did not end in time");
    }
}

async fn lost(lease: &mut watch::Receiver<Lease>) {
    let lost = lease.wait_for(|lease| lease.end.is_some_and(LeaseEnd::is_lost));
    let known = lost.await.is_ok();
    if !known {
        std::future::pending().await
    }
}

fn start<'a>(serving: &'a Serving<'_>, ready: Ready) -> Running<'a> {
    let (kill, fate) = (CancellationToken::new(), Arc::new(Fate::default()));
    let call = ready.call.clone();
    let work = answer(serving, call, kill.clone(), Arc::clone(&fate));
    Running {
        ready,
        kill,
        fate,
        work: Box::pin(work),
    }
}

/// Runs a call, or finds its result, and sends it. Whether the server has it.
async fn answer(
    serving: &Serving<'_>,
    call: Use,
    kill: CancellationToken,
    fate: Arc<Fate>,
) -> bool {
    let Some(tool) = tool(&call.name) else {
        return false;
    };
    let id = call.id.clone();
    let Outcome { reply, took } = if tool.is_repeatable() {
        run(serving, tool, call, &kill).await
    } else {
        once(serving, tool, call, &kill, &fate.moot).await
    };
    let posted = post(serving, &id, &reply, &kill, &fate).await;
    if let Some(took) = took {
        tracing::info!(
            session = %serving.session, call = %id, tool = tool.name(),
            is_error = reply.is_error, posted,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "call ran"
        );
    }
    posted
}

/// Sends a result, unless it reaches nobody. Whether the server has it.
async fn post(
    serving: &Serving<'_>,
    id: &str,
    reply: &Reply,
    kill: &CancellationToken,
    fate: &Fate,
) -> bool {
    if fate.moot.load(Ordering::SeqCst) {
        return false;
    }
    fate.sending.store(true, Ordering::SeqCst);
    crash_point!("worker.post.before");
    let posted = post::result(
        serving.client,
        serving.session.as_str(),
        id,
        reply,
        &serving.lease,
        serving.metrics,
    );
    let posted = tokio::select! {
        posted = posted => posted,
        () = given_up(&fate.moot, kill) => return false,
    };
    crash_point!("worker.post.after");
    if posted {
        serving.metrics.posted();
        let noted = serving.journal.now(|j| j.posted(id));
        if let Err(error) = noted {
            tracing::warn!(session = %serving.session, %error, "the journal was not written");
        }
    }
    posted
}

/// Ends when the result has become moot; never for a kill alone, whose reply is still to be sent.
async fn given_up(moot: &AtomicBool, kill: &CancellationToken) {
    kill.cancelled().await;
    if !moot.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

/// A call that must not run twice: the journal decides.
async fn once(
    serving: &Serving<'_>,
    tool: BuiltinTool,
    call: Use,
    kill: &CancellationToken,
    moot: &AtomicBool,
) -> Outcome {
    let id = call.id.clone();
    let unknown = match serving.journal.now(|j| j.known(&id).cloned()) {
        Some(Known::Done(reply)) => {
            serving.metrics.replayed();
            return reply.into();
        }
        Some(Known::Started) => true,
        None => serving
            .lost_before
            .is_some_and(|lost| call.free_at.is_none_or(|free| free <= lost)),
    };
    let outcome = if unknown {
        serving.metrics.outcome_unknown();
        tracing::warn!(
            session = %serving.session, call = %id, tool = tool.name(),
            "an earlier worker may have run the call; its outcome is unknown"
        );
        Reply::error(UNKNOWN).into()
    } else {
        if let Err(error) = serving.journal.now(|j| j.started(&id)) {
            // What cannot be noted could run twice.
            tracing::error!(session = %serving.session, %error, "the journal was not written");
            return Reply::error(UNNOTED).into();
        }
        // A disk that stood still may have cost the lease: that is heard first.
        tokio::task::yield_now().await;
        if kill.is_cancelled() {
            return Reply::error(STOPPED).into();
        }
        crash_point!("worker.call.noted");
        let outcome = run(serving, tool, call, kill).await;
        crash_point!("worker.call.ran");
        if moot.load(Ordering::SeqCst) {
            // It was killed: all that is known is that it began.
            return outcome;
        }
        outcome
    };
    if let Err(error) = serving.journal.now(|j| j.done(&id, &outcome.reply)) {
        tracing::error!(session = %serving.session, %error, "a result was not noted");
    }
    crash_point!("worker.result.noted");
    outcome
}

/// Runs a call in the session's sandbox, for as long as any call may take.
async fn run(
    serving: &Serving<'_>,
    tool: BuiltinTool,
    call: Use,
    kill: &CancellationToken,
) -> Outcome {
    let name = tool.name();
    let started = Instant::now();
    serving.metrics.call_started();
    let request = ToolRequest {
        id: call.id.clone(),
        name: name.to_owned(),
        input: call.input,
    };
    let inner = kill.child_token();
    let calling = serving
        .hands
        .call(serving.session, request, tool.is_repeatable(), &inner);
    tokio::pin!(calling);
    let reply = match tokio::time::timeout(CALL_TIMEOUT, &mut calling).await {
        Ok(_) if kill.is_cancelled() => Reply::error(STOPPED),
        Ok(reply) => reply,
        Err(_) => {
            inner.cancel();
            let _ = tokio::time::timeout(KILL_TIMEOUT, calling).await;
            Reply::error(format!("tool '{name}' timed out"))
        }
    };
    let took = started.elapsed();
    serving.metrics.call_ended(name, reply.is_error, took);
    let took = Some(took);
    Outcome { reply, took }
}
