//! What a worker counts, as Prometheus text. No session's content and no id is a label.

use std::fmt::Write as _;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// One label with few values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tool {
    tool: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    answer: &'static str,
}

/// How a worker stands, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Sessions served now.
    pub sessions: u64,
    /// Calls running now.
    pub running: u64,
    /// Items claimed so far.
    pub claimed: u64,
    /// Calls answered so far.
    pub calls: u64,
}

/// The counters of one worker.
pub struct Metrics {
    registry: Registry,
    polls: Family<Answer, Counter>,
    claims: Counter,
    queue_wait: Histogram,
    active: Gauge,
    calls: Family<Tool, Counter>,
    latency: Family<Tool, Histogram>,
    sandbox_start: Histogram,
    upload_failures: Counter,
    unknown: Counter,
    replayed: Counter,
    ends: Family<Cause, Counter>,
    status: watch::Sender<Status>,
}

/// From a tenth of a millisecond to three minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.5, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("freehold_worker"),
            polls: Family::default(),
            claims: Counter::default(),
            queue_wait: seconds(),
            active: Gauge::default(),
            calls: Family::default(),
            latency: Family::new_with_constructor(seconds),
            sandbox_start: seconds(),
            upload_failures: Counter::default(),
            unknown: Counter::default(),
            replayed: Counter::default(),
            ends: Family::default(),
            status: watch::Sender::default(),
        };
        let r = &mut metrics.registry;
        r.register("polls", "Polls by what they came to", metrics.polls.clone());
        r.register("claims", "Items acknowledged", metrics.claims.clone());
        r.register(
            "queue_wait_seconds",
            "From an item's creation to its claim",
            metrics.queue_wait.clone(),
        );
        r.register("sessions", "Sessions served now", metrics.active.clone());
        r.register(
            "tool_calls",
            "Calls by tool and outcome",
            metrics.calls.clone(),
        );
        r.register(
            "tool_seconds",
            "From a call's start in its sandbox to its end",
            metrics.latency.clone(),
        );
        r.register(
            "sandbox_start_seconds",
            "Until a session's sandbox was up",
            metrics.sandbox_start.clone(),
        );
        r.register(
            "upload_failures",
            "Attempts to send a result that failed",
            metrics.upload_failures.clone(),
        );
        r.register(
            "outcomes_unknown",
            "Calls an earlier worker may have run, reported as such",
            metrics.unknown.clone(),
        );
        r.register(
            "results_replayed",
            "Results sent from the journal",
            metrics.replayed.clone(),
        );
        r.register(
            "items_ended",
            "Items by why they ended",
            metrics.ends.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# incomplete");
        }
        text
    }

    /// Follows how the worker stands.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn polled(&self, answer: &'static str) {
        self.polls.get_or_create(&Answer { answer }).inc();
    }

    /// `waited` is seconds since the item was created.
    pub(super) fn claimed(&self, waited: f64) {
        self.claims.inc();
        self.queue_wait.observe(waited);
        self.active.inc();
        self.status.send_modify(|s| {
            s.claimed += 1;
            s.sessions += 1;
        });
    }

    pub(super) fn ended(&self, cause: &'static str) {
        self.active.dec();
        self.ends.get_or_create(&Cause { cause }).inc();
        self.status
            .send_modify(|s| s.sessions = s.sessions.saturating_sub(1));
    }

    pub(super) fn call_started(&self) {
        self.status.send_modify(|s| s.running += 1);
    }

    pub(super) fn call_ended(&self, tool: &'static str, is_error: bool, took: Duration) {
        let outcome = if is_error { "error" } else { "ok" };
        let labels = Tool { tool, outcome };
        self.calls.get_or_create(&labels).inc();
        self.latency
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        self.status
            .send_modify(|s| s.running = s.running.saturating_sub(1));
    }

    pub(super) fn sandbox_started(&self, took: Duration) {
        self.sandbox_start.observe(took.as_secs_f64());
    }

    pub(super) fn upload_failed(&self) {
        self.upload_failures.inc();
    }

    pub(super) fn posted(&self) {
        self.status.send_modify(|s| s.calls += 1);
    }

    pub(super) fn outcome_unknown(&self) {
        self.unknown.inc();
    }

    pub(super) fn replayed(&self) {
        self.replayed.inc();
    }
}

/// Serves `/metrics`.
pub fn router(metrics: std::sync::Arc<Metrics>) -> axum::Router {
    let answer = async move || {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(axum::http::header::CONTENT_TYPE, kind)], metrics.text())
    };
    axum::Router::new().route("/metrics", axum::routing::get(answer))
}
