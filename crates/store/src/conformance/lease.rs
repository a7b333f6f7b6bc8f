//! Leases: one driver at a time, and always one when there is work.

use freehold_base::{ReplicaId, SessionId};
use freehold_wire::session::Status;

use super::cases;
use super::world::{World, append};
use crate::{Append, Then};

cases! {
    a_live_owner_keeps_its_lease,
    a_silent_owner_loses_its_lease,
    a_retired_owner_frees_its_sessions,
    a_claim_tells_where_the_session_stands,
    idling_gives_up_the_lease,
    a_release_asks_for_another_driver,
    a_timer_wakes_a_session_without_a_driver,
    waiting_input_does_not_wait_for_a_timer,
    the_longest_waiting_come_first,
    an_ended_session_is_not_claimed,
    only_one_of_many_claims_wins,
    a_clock_that_is_put_back_delays_no_session,
}

async fn a_live_owner_keeps_its_lease(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let other: ReplicaId = w.ids.next();
    w.store.heartbeat(&other, 15_000).await.unwrap();
    let first = w.claim(&s).await;
    assert_eq!(w.store.claim(&s, &other).await.unwrap(), None);
    assert!(w.store.runnable(10).await.unwrap().is_empty());
    let again = w.claim(&s).await;
    assert!(again > first, "its own second driver fences its first");
}

async fn a_silent_owner_loses_its_lease(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let old = w.claim(&s).await;
    let other: ReplicaId = w.ids.next();
    w.clock.advance_millis(10_000);
    w.store.heartbeat(&other, 60_000).await.unwrap();
    assert_eq!(w.store.claim(&s, &other).await.unwrap(), None);
    w.clock.advance_millis(6_000);
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&s)
    );
    let new = w.store.claim(&s, &other).await.unwrap().unwrap();
    assert!(new.epoch > old);
    assert!(
        w.store
            .append(append(&s, old, vec![w.event("x.y")]))
            .await
            .is_err()
    );
    w.store.heartbeat(&w.replica, 60_000).await.unwrap();
    assert_eq!(
        w.store.claim(&s, &w.replica).await.unwrap(),
        None,
        "coming back late"
    );
}

async fn a_retired_owner_frees_its_sessions(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    w.claim(&s).await;
    w.store.retire(&w.replica).await.unwrap();
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&s)
    );
    assert!(w.store.claim(&s, &w.ids.next()).await.unwrap().is_some());
}

async fn a_claim_tells_where_the_session_stands(w: World) {
    let s = w.session().await.id;
    w.store
        .append(append(&s, 0, vec![w.event("x.a"), w.event("x.b")]))
        .await
        .unwrap();
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let claim = w.store.claim(&s, &w.replica).await.unwrap().unwrap();
    assert_eq!((claim.head, claim.inbox_head), (2, 1));
    assert_eq!(
        w.store
            .claim(&w.ids.next::<freehold_base::kind::Session>(), &w.replica)
            .await
            .unwrap(),
        None
    );
}

async fn idling_gives_up_the_lease(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let idle = Append {
        then: Then::Idle { inbox_head: 0 },
        ..append(&s, epoch, vec![])
    };
    w.store.append(idle).await.unwrap();
    let other: ReplicaId = w.ids.next();
    assert!(w.store.claim(&s, &other).await.unwrap().is_some());
}

async fn a_release_asks_for_another_driver(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    w.store.release(&s, epoch - 1).await.unwrap();
    assert!(
        w.store.runnable(10).await.unwrap().is_empty(),
        "a lost lease cannot be released"
    );
    w.store.release(&s, epoch).await.unwrap();
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&s)
    );
    let epoch = w.claim(&s).await;
    let sleep = Append {
        then: Then::WakeAfter(5_000),
        ..append(&s, epoch, vec![])
    };
    w.store.append(sleep).await.unwrap();
    w.store.release(&s, epoch).await.unwrap();
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        [s],
        "whoever it is finds out how long to wait"
    );
}

async fn a_timer_wakes_a_session_without_a_driver(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let sleep = Append {
        then: Then::WakeAfter(5_000),
        ..append(&s, epoch, vec![])
    };
    w.store.append(sleep).await.unwrap();
    w.store
        .append(append(&s, epoch, vec![]))
        .await
        .expect("the lease is kept");
    w.store.retire(&w.replica).await.unwrap();
    assert!(w.store.runnable(10).await.unwrap().is_empty());
    w.clock.advance_millis(5_000);
    assert_eq!(w.store.runnable(10).await.unwrap(), [s]);
}

async fn waiting_input_does_not_wait_for_a_timer(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let sleep = Append {
        then: Then::WakeAfter(5_000),
        ..append(&s, epoch, vec![])
    };
    w.store.append(sleep).await.unwrap();
    w.store.retire(&w.replica).await.unwrap();
    assert_eq!(w.store.runnable(10).await.unwrap(), [s]);
}

async fn the_longest_waiting_come_first(w: World) {
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let s = w.session().await.id;
        w.store.accept(&s, vec![w.message()]).await.unwrap();
        sessions.push(s);
    }
    w.tick();
    w.store
        .accept(&sessions[0], vec![w.message()])
        .await
        .unwrap();
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        sessions,
        "more input moves nobody back"
    );
    assert_eq!(w.store.runnable(2).await.unwrap(), sessions[..2]);
    w.claim(&sessions[1]).await;
    assert_eq!(
        w.store.runnable(2).await.unwrap(),
        [sessions[0].clone(), sessions[2].clone()]
    );
}

async fn a_clock_that_is_put_back_delays_no_session(w: World) {
    const LEASE_MS: i64 = 15_000;
    const HOUR_MS: i64 = 3_600_000;
    let look = || w.store.look_at_clock(LEASE_MS);
    let waiting = w.session().await.id;
    w.store.accept(&waiting, vec![w.message()]).await.unwrap();
    w.clock.advance_millis(-HOUR_MS);
    assert!(w.store.runnable(10).await.unwrap().is_empty());
    assert_eq!(look().await.unwrap(), None, "nobody saw it");
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&waiting)
    );
    // This one's driver is never heard of again.
    let driven = w.session().await.id;
    w.store.accept(&driven, vec![w.message()]).await.unwrap();
    w.store.heartbeat(&w.replica, LEASE_MS).await.unwrap();
    w.claim(&driven).await;
    w.clock.advance_millis(-HOUR_MS);
    assert!(w.store.runnable(10).await.unwrap().is_empty());
    let by = look().await.unwrap().expect("it was put back");
    assert!(3_600 <= by.as_secs(), "{by:?}");
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&waiting)
    );
    w.clock.advance_millis(LEASE_MS);
    let mut runnable = w.store.runnable(10).await.unwrap();
    runnable.sort();
    let mut both = vec![waiting, driven];
    both.sort();
    assert_eq!(runnable, both, "the lease lasted as long as it was to last");
}

async fn an_ended_session_is_not_claimed(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let end = Append {
        status: Some(Status::Terminated),
        then: Then::Idle { inbox_head: 0 },
        ..append(&s, epoch, vec![])
    };
    w.store.append(end).await.unwrap();
    assert_eq!(w.store.claim(&s, &w.replica).await.unwrap(), None);
}

async fn only_one_of_many_claims_wins(w: World) {
    let s = w.session().await.id;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let replica: ReplicaId = w.ids.next();
        w.store.heartbeat(&replica, 60_000).await.unwrap();
        let (store, s): (_, SessionId) = (w.store.clone(), s.clone());
        tasks.push(tokio::spawn(async move {
            store.claim(&s, &replica).await.unwrap()
        }));
    }
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap().is_some());
    }
    assert_eq!(won, 1);
}
