//! The conformance suite on SQLite and on PostgreSQL, and on SQLite with one safeguard taken out at a
//! time: a suite that does not notice proves nothing.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::cluster::Cluster;
use common::{Hand, tapped};
use freehold_base::IdSource;
use freehold_store::backend::{Tx, Value};
use freehold_store::conformance::{self, Fixture};
use freehold_store::{CommitListener, Store};

fn open(ids: IdSource, listener: Arc<dyn CommitListener>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), ids, listener).unwrap();
    Fixture {
        store,
        keep: Box::new(dir),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_passes() {
    assert!(conformance::all().len() > 60);
    assert_eq!(conformance::run(&open).await, Vec::<&str>::new());
}

/// Changes nothing.
struct NoHand;

impl Hand for NoHand {
    fn statement(&self, _: &mut dyn Tx, sql: &str, _: &[Value<'_>]) -> String {
        sql.to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_passes() {
    let cluster = Cluster::start();
    let open = |ids: IdSource, listener: Arc<dyn CommitListener>| {
        let dir = tempfile::tempdir().unwrap();
        let database = cluster.address(&cluster.database());
        let open = || tapped(dir.path(), Some(&database), ids, listener, Arc::new(NoHand));
        // It blocks on runtimes of its own.
        let store = std::thread::scope(|s| s.spawn(open).join().unwrap());
        Fixture {
            store,
            keep: Box::new(dir),
        }
    };
    assert_eq!(conformance::run(&open).await, Vec::<&str>::new());
}

/// Replaces a piece of SQL wherever it occurs.
struct Saw {
    piece: &'static str,
    instead: &'static str,
    cuts: AtomicUsize,
}

impl Hand for Saw {
    fn statement(&self, _: &mut dyn Tx, sql: &str, _: &[Value<'_>]) -> String {
        let cut = sql.replace(self.piece, self.instead);
        if cut != sql {
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
        cut
    }
}

/// Runs the suite without a safeguard; `noticed` must be among what fails, and not everything may.
async fn without(piece: &'static str, instead: &'static str, noticed: &[&str]) {
    let saw = Arc::new(Saw {
        piece,
        instead,
        cuts: AtomicUsize::new(0),
    });
    let hand = Arc::clone(&saw);
    let open = move |ids: IdSource, listener: Arc<dyn CommitListener>| {
        let dir = tempfile::tempdir().unwrap();
        let store = tapped(dir.path(), None, ids, listener, Arc::clone(&hand));
        Fixture {
            store,
            keep: Box::new(dir),
        }
    };
    let failed = conformance::run(&open).await;
    assert!(
        saw.cuts.load(Ordering::Relaxed) > 0,
        "the safeguard was there to be removed"
    );
    for name in noticed {
        assert!(
            failed.contains(name),
            "{name} did not notice; these did: {failed:?}"
        );
    }
    assert!(
        failed.len() < conformance::all().len() / 2,
        "the rest still works: {failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_fence_is_noticed() {
    let fence = "(epoch = 0 OR lease_epoch = epoch)";
    let noticed = ["a_stale_epoch_is_fenced", "a_silent_owner_loses_its_lease"];
    without(fence, "(1 = 1)", &noticed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_head_comparison_is_noticed() {
    let head = "(head IS NULL OR head_seq = head)";
    without(head, "(1 = 1)", &["the_expected_head_is_compared"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_wake_up_is_noticed() {
    let inbox = "(idle IS NULL OR inbox_head = idle)";
    without(inbox, "(1 = 1)", &["late_input_keeps_the_session_awake"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_lease_is_noticed() {
    let live = "r.id = session.lease_owner AND r.lease_until > ?1";
    let noticed = [
        "a_live_owner_keeps_its_lease",
        "only_one_of_many_claims_wins",
    ];
    without(live, "?1 = ?1 AND 1 = 0", &noticed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leak_between_workspaces_is_noticed() {
    let workspace = "s.workspace_id = ?2";
    let noticed = [
        "another_workspace_sees_no_session",
        "another_workspace_sees_no_resource",
        "another_workspace_sees_no_skill",
    ];
    without(workspace, "?2 = ?2", &noticed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_blob_that_is_taken_away_is_noticed() {
    let used = "SELECT 1 FROM file WHERE blob = ?1";
    let noticed = ["equal_bytes_outlive_one_file"];
    without(used, "SELECT 1 WHERE ?1 = 'none'", &noticed).await;
    let kept = "SELECT 1 FROM session_skill WHERE blob = ?1";
    let noticed = ["a_session_keeps_what_it_was_made_with"];
    without(kept, "SELECT 1 WHERE ?1 = 'none'", &noticed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_goes_out_twice_is_noticed() {
    let handed_out = "(polled_at IS NULL OR polled_at <= ?3)";
    let noticed = [
        "a_self_hosted_session_is_queued_when_it_is_made",
        "an_unacknowledged_item_goes_out_again_with_another_token",
    ];
    without(handed_out, "(polled_at IS NULL OR ?3 = ?3)", &noticed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_heartbeat_is_noticed() {
    let sender = "id = ?1 AND beat_by = ?2";
    let noticed = ["a_repeated_heartbeat_is_no_theft"];
    without(sender, "id = ?1 AND ?2 = ?2", &noticed).await;
}
