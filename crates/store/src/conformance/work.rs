//! The work queue.

use std::collections::HashSet;

use freehold_base::{Clock, EnvironmentId, SessionId, WorkId, limits};
use freehold_wire::session::Status;
use freehold_wire::work::{LAPSED_AT, LAPSED_WORK, NO_HEARTBEAT, WorkState};

use super::cases;
use super::world::{World, append};
use crate::{
    AckError, Append, Beat, BeatError, CredentialKind, NewBeat, NewEvent, NewPoll, NewSession,
    StopError, Then, WorkQuery, WorkRow,
};

cases! {
    a_self_hosted_session_is_queued_when_it_is_made,
    every_item_goes_to_one_of_many_polls,
    an_unacknowledged_item_goes_out_again_with_another_token,
    an_item_is_acknowledged_once,
    a_repeated_acknowledgement_is_no_theft,
    a_heartbeat_is_compared_and_set,
    a_repeated_heartbeat_is_no_theft,
    a_lapsed_item_of_a_resting_session_ends,
    an_acknowledgement_in_another_queue_takes_nothing,
    workers_count_for_thirty_seconds_after_they_polled,
    a_lapsed_item_of_a_running_session_is_replaced,
    lost_workers_are_named_until_nothing_is_left_to_do,
    a_clock_that_is_put_back_makes_no_call_later_than_its_worker,
    a_clock_that_is_put_back_delays_no_item,
    a_graceful_stop_reaches_the_worker,
    a_worker_that_never_stops_is_stopped,
    a_queued_item_stops_at_the_next_look,
    input_queues_another_item,
    a_waiting_session_gets_another_item,
    a_session_that_goes_on_gets_an_item,
    items_that_fail_at_once_come_slower,
    progress_takes_the_delay_away,
    an_ended_session_ends_its_item,
    the_oldest_waits_no_longer_than_the_rest,
    a_queue_tells_how_it_stands,
    items_are_listed_newest_first,
    metadata_is_replaced_only_as_it_was_seen,
    a_stopped_item_is_kept_for_a_while,
    a_token_opens_nothing_once_its_item_has_stopped,
    a_revoked_key_gives_back_what_it_claimed,
    a_poll_that_waited_under_a_revoked_key_is_given_nothing,
    an_environment_is_deleted_with_its_items_and_keys,
}

const BY: [u8; 32] = [7; 32];

impl World {
    fn for_workers(&self) -> NewSession {
        NewSession {
            environment: r#"{"type":"self_hosted"}"#.into(),
            self_hosted: true,
            ..self.new_session()
        }
    }

    async fn queued(&self) -> SessionId {
        self.tick();
        let new = self.for_workers();
        self.store.create_session(new).await.unwrap().id
    }

    async fn poll(&self, token: u8) -> Option<WorkRow> {
        self.store
            .poll_work(NewPoll {
                environment: self.environment.clone(),
                worker: None,
                key: "envkey_1".parse().unwrap(),
                reclaim_older_than_ms: 5_000,
                token_hash: [token; 32],
            })
            .await
            .unwrap()
    }

    async fn ack(&self, id: &WorkId) -> Result<WorkRow, AckError> {
        self.store.ack_work(&self.environment, id).await
    }

    async fn beat(&self, id: &WorkId, expected: &str, by: [u8; 32]) -> Result<Beat, BeatError> {
        let beat = NewBeat {
            expected: Some(expected.to_owned()),
            ttl_seconds: 300,
            by,
        };
        self.store.heartbeat_work(&self.environment, id, beat).await
    }

    async fn stop(&self, id: &WorkId, force: bool) -> Result<WorkRow, StopError> {
        self.store.stop_work(&self.environment, id, force).await
    }

    /// An item in the hands of a worker that beats.
    async fn held(&self) -> (SessionId, WorkRow) {
        let session = self.queued().await;
        let item = self.poll(1).await.unwrap();
        assert_eq!(item.session_id, session);
        self.ack(&item.id).await.unwrap();
        let beat = self.beat(&item.id, NO_HEARTBEAT, BY).await.unwrap();
        (session, beat.row)
    }

    async fn items(&self) -> Vec<WorkRow> {
        let all = WorkQuery {
            after: None,
            limit: 1000,
        };
        self.store.list_work(&self.environment, all).await.unwrap()
    }

    async fn states(&self, session: &SessionId) -> Vec<WorkState> {
        let mut items = self.items().await;
        items.retain(|item| item.session_id == *session);
        items.reverse();
        items.into_iter().map(|item| item.state).collect()
    }

    /// Brings a session to rest, as its driver would.
    async fn rest(&self, session: &SessionId, blocked: bool) {
        let epoch = self.claim(session).await;
        let (inbox_head, inbox) = self.store.inbox(session).await.unwrap();
        let rested = Append {
            consume: inbox.iter().map(|item| item.seq).collect(),
            status: Some(Status::Idle),
            blocked: Some(blocked),
            then: Then::Idle { inbox_head },
            ..append(session, epoch, Vec::<NewEvent>::new())
        };
        self.store.append(rested).await.unwrap();
    }

    async fn token_is_live(&self, token: u8) -> Option<bool> {
        let found = self.store.credential_by_hash(&[token; 32]).await.unwrap()?;
        match found.kind {
            CredentialKind::WorkToken { stopped, .. } => Some(!stopped),
            other => panic!("{other:?}"),
        }
    }
}

use WorkState::{Active, Queued, Starting, Stopped, Stopping};

async fn a_self_hosted_session_is_queued_when_it_is_made(w: World) {
    w.session().await;
    assert_eq!(w.items().await, []);
    assert_eq!(w.poll(1).await, None);
    let s = w.queued().await;
    assert_eq!(w.heard.queued(&w.environment), 1);
    let item = w.poll(1).await.unwrap();
    assert_eq!((&item.session_id, item.state), (&s, Queued));
    assert_eq!(item.created_at, w.clock.now());
    assert_eq!(w.poll(2).await, None, "it is handed out");
    w.tick();
    let mut with_input = w.for_workers();
    with_input.initial = vec![w.message()];
    let s = w.store.create_session(with_input).await.unwrap().id;
    assert_eq!(w.states(&s).await, [Queued], "one item, not two");
}

async fn every_item_goes_to_one_of_many_polls(w: World) {
    let mut sessions = HashSet::new();
    for _ in 0..40 {
        sessions.insert(w.queued().await);
    }
    let mut pollers = tokio::task::JoinSet::new();
    for poller in 0..8u8 {
        let (store, environment) = (w.store.clone(), w.environment.clone());
        pollers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let mut token_hash = [poller; 32];
                token_hash[0] = got.len() as u8;
                let poll = NewPoll {
                    environment: environment.clone(),
                    worker: Some(format!("w{}", poller % 3)),
                    key: "envkey_1".parse().unwrap(),
                    reclaim_older_than_ms: 5_000,
                    token_hash,
                };
                let Some(item) = store.poll_work(poll).await.unwrap() else {
                    return got;
                };
                store.ack_work(&environment, &item.id).await.unwrap();
                got.push(item.session_id);
            }
        });
    }
    let got: Vec<SessionId> = pollers.join_all().await.concat();
    assert_eq!(got.len(), 40);
    assert_eq!(got.into_iter().collect::<HashSet<_>>(), sessions);
}

async fn an_acknowledgement_in_another_queue_takes_nothing(w: World) {
    let other = w.environment(&w.workspace, "other").await;
    for token in 0..8 {
        w.queued().await;
        let item = w.poll(token).await.unwrap().id;
        // At once, so that they may be answered together.
        let acks = (0..9).map(|n| {
            let queue = if n == 6 { &w.environment } else { &other };
            let (store, queue, item) = (w.store.clone(), queue.clone(), item.clone());
            tokio::spawn(async move { store.ack_work(&queue, &item).await })
        });
        let acks: Vec<_> = acks.collect();
        for (n, ack) in acks.into_iter().enumerate() {
            match (n, ack.await.unwrap()) {
                (6, Ok(row)) => assert_eq!(row.id, item),
                (_, Err(AckError::NotFound)) if n != 6 => {}
                (_, other) => panic!("{n}: {other:?}"),
            }
        }
    }
}

async fn workers_count_for_thirty_seconds_after_they_polled(w: World) {
    let other = w.environment(&w.workspace, "other").await;
    let poll = async |environment: &EnvironmentId, worker: &str| {
        let poll = NewPoll {
            environment: environment.clone(),
            worker: Some(worker.to_owned()),
            key: "envkey_1".parse().unwrap(),
            reclaim_older_than_ms: 5_000,
            token_hash: [1; 32],
        };
        assert_eq!(w.store.poll_work(poll).await.unwrap(), None);
    };
    let polling = async |environment| {
        let stats = w.store.work_stats(environment).await.unwrap();
        stats.polling
    };
    w.poll(1).await; // By nobody in particular.
    assert_eq!(polling(&w.environment).await, 0);
    for worker in ["w1", "w1", "w2"] {
        poll(&w.environment, worker).await;
    }
    poll(&other, "w1").await;
    assert_eq!(
        (polling(&w.environment).await, polling(&other).await),
        (2, 1)
    );
    w.clock.advance_millis(20_000);
    poll(&w.environment, "w1").await;
    w.clock.advance_millis(10_000);
    assert_eq!(
        (polling(&w.environment).await, polling(&other).await),
        (1, 0)
    );
    // Who is long gone is forgotten, and comes back.
    w.clock.advance_millis(60_000);
    w.store.reclaim_work().await.unwrap();
    assert_eq!(polling(&w.environment).await, 0);
    poll(&w.environment, "w2").await;
    assert_eq!(polling(&w.environment).await, 1);
}

async fn an_unacknowledged_item_goes_out_again_with_another_token(w: World) {
    w.queued().await;
    let first = w.poll(1).await.unwrap();
    assert_eq!(w.token_is_live(1).await, Some(true));
    w.clock.advance_millis(4_999);
    assert_eq!(w.poll(2).await, None);
    w.clock.advance_millis(1);
    let ended = w.heard.ended();
    let again = w.poll(2).await.unwrap();
    assert_eq!(again.id, first.id);
    assert_eq!(w.token_is_live(1).await, None);
    assert_eq!(w.token_is_live(2).await, Some(true));
    assert_eq!(w.heard.ended(), ended + 1);
}

async fn an_item_is_acknowledged_once(w: World) {
    w.queued().await;
    let item = w.items().await.remove(0);
    let early = w.ack(&item.id).await;
    assert!(
        matches!(early, Err(AckError::Conflict(Queued))),
        "{early:?}"
    );
    w.poll(1).await.unwrap();
    w.clock.advance_millis(5_000);
    w.poll(2).await.unwrap();
    let taken = w.ack(&item.id).await.unwrap();
    assert_eq!(taken.state, Starting);
    assert_eq!(taken.acknowledged_at, Some(w.clock.now()));
    let other = w.ack(&item.id).await;
    assert!(
        matches!(other, Err(AckError::Conflict(Starting))),
        "two workers were given it: {other:?}"
    );
    w.clock.advance_millis(60_000);
    assert_eq!(w.poll(3).await, None, "it left the queue");
    let none = w.ack(&w.ids.next()).await;
    assert!(matches!(none, Err(AckError::NotFound)), "{none:?}");
}

async fn a_repeated_acknowledgement_is_no_theft(w: World) {
    w.queued().await;
    let item = w.poll(1).await.unwrap();
    let first = w.ack(&item.id).await.unwrap();
    w.tick();
    assert_eq!(w.ack(&item.id).await.unwrap(), first);
    w.clock.advance_millis(limits::WORK_REPLAY_MS);
    let late = w.ack(&item.id).await;
    assert!(
        matches!(late, Err(AckError::Conflict(Starting))),
        "{late:?}"
    );
}

async fn a_heartbeat_is_compared_and_set(w: World) {
    w.queued().await;
    let item = w.poll(1).await.unwrap();
    let early = w.beat(&item.id, NO_HEARTBEAT, BY).await;
    assert!(matches!(early, Err(BeatError::Queued)), "{early:?}");
    w.ack(&item.id).await.unwrap();
    let wrong = w.beat(&item.id, "2026-01-01T00:00:00Z", BY).await;
    let Err(BeatError::Precondition(row)) = wrong else {
        panic!("{wrong:?}");
    };
    assert_eq!((row.state, row.latest_heartbeat_at), (Starting, None));
    let first = w.beat(&item.id, NO_HEARTBEAT, BY).await.unwrap();
    assert!(first.extended);
    assert_eq!(first.row.state, Active);
    assert_eq!(first.row.started_at, Some(w.clock.now()));
    assert_eq!(
        first.row.lease_until,
        Some(w.clock.now().plus_millis(300_000))
    );
    let latest = first.row.latest_heartbeat_at.unwrap();
    // The clock stands still, and yet the value moves on.
    let second = w.beat(&item.id, &latest.to_string(), BY).await.unwrap();
    assert!(second.row.latest_heartbeat_at.unwrap() > latest);
    assert_eq!(second.row.started_at, first.row.started_at);
    let thief = w.beat(&item.id, NO_HEARTBEAT, [8; 32]).await;
    assert!(
        matches!(thief, Err(BeatError::Precondition(_))),
        "{thief:?}"
    );
    let anyway = NewBeat {
        expected: None,
        ttl_seconds: 10,
        by: [8; 32],
    };
    let anyway = w
        .store
        .heartbeat_work(&w.environment, &item.id, anyway)
        .await
        .unwrap();
    assert_eq!(
        anyway.row.lease_until,
        Some(w.clock.now().plus_millis(10_000))
    );
}

async fn a_repeated_heartbeat_is_no_theft(w: World) {
    let (_, item) = w.held().await;
    let first = item.latest_heartbeat_at.unwrap().to_string();
    w.tick();
    let again = w.beat(&item.id, NO_HEARTBEAT, BY).await.unwrap();
    assert!(again.extended);
    assert_eq!(again.row, item, "nothing happened twice");
    let thief = w.beat(&item.id, NO_HEARTBEAT, [8; 32]).await;
    assert!(
        matches!(thief, Err(BeatError::Precondition(_))),
        "{thief:?}"
    );
    let second = w.beat(&item.id, &first, BY).await.unwrap();
    let older = w.beat(&item.id, NO_HEARTBEAT, BY).await;
    assert!(
        matches!(older, Err(BeatError::Precondition(_))),
        "{older:?}"
    );
    let again = w.beat(&item.id, &first, BY).await.unwrap();
    assert_eq!(again.row, second.row);
    w.clock.advance_millis(limits::WORK_REPLAY_MS + 1);
    let late = w.beat(&item.id, &first, BY).await;
    assert!(matches!(late, Err(BeatError::Precondition(_))), "{late:?}");
}

async fn a_lapsed_item_of_a_resting_session_ends(w: World) {
    let (s, item) = w.held().await;
    w.clock.advance_millis(299_999);
    assert_eq!(w.store.reclaim_work().await.unwrap(), 0);
    w.clock.advance_millis(1);
    assert_eq!(w.store.reclaim_work().await.unwrap(), 1);
    assert_eq!(w.states(&s).await, [Stopped]);
    let late = w
        .beat(&item.id, &item.latest_heartbeat_at.unwrap().to_string(), BY)
        .await
        .unwrap();
    assert!(!late.extended);
    assert_eq!(late.row.state, Stopped);
    assert_eq!(late.row.stop_requested_at, None, "nobody asked");
    // Acknowledged and never heard of again.
    let s = w.queued().await;
    let item = w.poll(2).await.unwrap();
    w.ack(&item.id).await.unwrap();
    let patience = i64::try_from(limits::WORK_START_SECONDS).unwrap() * 1000;
    w.clock.advance_millis(patience);
    assert_eq!(w.poll(3).await, None);
    assert_eq!(w.states(&s).await, [Stopped]);
}

async fn a_lapsed_item_of_a_running_session_is_replaced(w: World) {
    let (s, item) = w.held().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    w.clock.advance_millis(300_000);
    // The poll itself takes it back.
    let next = w.poll(2).await.unwrap();
    assert_eq!(next.session_id, s);
    assert_ne!(next.id, item.id);
    assert_eq!(w.states(&s).await, [Stopped, Queued]);
    assert_eq!(w.token_is_live(1).await, Some(false));
}

async fn a_clock_that_is_put_back_makes_no_call_later_than_its_worker(w: World) {
    let (s, first) = w.held().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    w.clock.advance_millis(200_000);
    let call = append(&s, 0, vec![w.event("agent.tool_use")]);
    let called = w.store.append(call).await.unwrap().events[0].processed_at;
    w.clock.advance_millis(-199_000);
    w.store.cut_work(&w.environment, &first.id).await.unwrap();
    w.clock.advance_millis(60_000);
    let second = w.poll(2).await.unwrap();
    assert_eq!(second.metadata.get(LAPSED_AT), Some(&called.to_string()));
}

async fn a_clock_that_is_put_back_delays_no_item(w: World) {
    let put_back = || async {
        w.store.look_at_clock(15_000).await.unwrap();
        w.clock.advance_millis(-3_600_000);
        assert_eq!(w.poll(9).await, None);
        assert!(w.store.look_at_clock(15_000).await.unwrap().is_some());
    };
    let waits = w.queued().await;
    put_back().await;
    let item = w.poll(1).await.expect("one that was queued");
    assert_eq!(item.session_id, waits);
    // The poll's answer was lost.
    put_back().await;
    assert_eq!(w.poll(2).await, None, "not yet");
    w.clock.advance_millis(5_000);
    let item = w.poll(2).await.expect("one that was handed out");
    w.ack(&item.id).await.unwrap();
    w.beat(&item.id, NO_HEARTBEAT, BY).await.unwrap();
    // The worker is not heard of again.
    put_back().await;
    let ttl = limits::WORK_LEASE_SECONDS.1 as i64 * 1_000;
    w.clock.advance_millis(ttl - 1);
    assert_eq!(w.states(&waits).await, [Active]);
    assert_eq!(w.store.reclaim_work().await.unwrap(), 0);
    w.clock.advance_millis(1);
    assert_eq!(w.store.reclaim_work().await.unwrap(), 1);
}

async fn lost_workers_are_named_until_nothing_is_left_to_do(w: World) {
    let (s, first) = w.held().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(first.metadata.len(), 0);
    w.clock.advance_millis(300_000);
    let lapsed_at = w.clock.now();
    // Lapsed.
    let second = w.poll(2).await.unwrap();
    let said = |row: &WorkRow| {
        let text = |key: &str| row.metadata.get(key).cloned();
        (text(LAPSED_AT), text(LAPSED_WORK))
    };
    let one = Some(first.id.to_string());
    assert_eq!(said(&second), (Some(lapsed_at.to_string()), one.clone()));
    // Handed out, never acknowledged: nothing ran. Stopped by its worker: it answered for its calls.
    w.clock.advance_millis(10_000);
    let again = w.poll(3).await.unwrap();
    w.ack(&again.id).await.unwrap();
    w.stop(&again.id, true).await.unwrap();
    let third = w.poll(4).await.unwrap();
    assert_ne!(third.id, second.id);
    assert_eq!(said(&third), (Some(lapsed_at.to_string()), one.clone()));
    // Cut off by somebody else.
    w.ack(&third.id).await.unwrap();
    w.tick();
    let cut_at = w.clock.now();
    w.store.cut_work(&w.environment, &third.id).await.unwrap();
    w.clock.advance_millis(60_000);
    let fourth = w.poll(5).await.unwrap();
    let both = format!("{},{}", first.id, third.id);
    assert_eq!(said(&fourth), (Some(cut_at.to_string()), Some(both)));
    // At rest: what comes later is another story.
    w.ack(&fourth.id).await.unwrap();
    w.rest(&s, false).await;
    w.stop(&fourth.id, true).await.unwrap();
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let fifth = w.poll(6).await.unwrap();
    assert_eq!(said(&fifth), (None, None));
}

async fn a_graceful_stop_reaches_the_worker(w: World) {
    let (s, item) = w.held().await;
    let asked = w.stop(&item.id, false).await.unwrap();
    assert_eq!(asked.state, Stopping);
    assert_eq!(asked.stop_requested_at, Some(w.clock.now()));
    assert_eq!(w.stop(&item.id, false).await.unwrap(), asked);
    // Its value is not compared, so that it learns of it.
    let beat = w.beat(&item.id, "whatever", BY).await.unwrap();
    assert!(!beat.extended);
    assert_eq!(beat.row.state, Stopping);
    w.tick();
    let ended = w.heard.ended();
    let stopped = w.stop(&item.id, true).await.unwrap();
    assert_eq!(stopped.state, Stopped);
    assert_eq!(stopped.stop_requested_at, asked.stop_requested_at);
    assert_eq!(stopped.stopped_at, Some(w.clock.now()));
    assert_eq!(w.heard.ended(), ended + 1);
    for force in [false, true] {
        let again = w.stop(&item.id, force).await;
        assert!(matches!(again, Err(StopError::Stopped)), "{again:?}");
    }
    assert_eq!(w.states(&s).await, [Stopped], "the session rests");
    let none = w.stop(&w.ids.next(), true).await;
    assert!(matches!(none, Err(StopError::NotFound)), "{none:?}");
}

async fn a_worker_that_never_stops_is_stopped(w: World) {
    let (s, item) = w.held().await;
    w.stop(&item.id, false).await.unwrap();
    let patience = i64::try_from(limits::WORK_STOP_SECONDS).unwrap() * 1000;
    w.clock.advance_millis(patience - 1);
    w.beat(&item.id, "still here", BY).await.unwrap();
    assert_eq!(w.store.reclaim_work().await.unwrap(), 0);
    w.clock.advance_millis(1);
    assert_eq!(w.store.reclaim_work().await.unwrap(), 1);
    assert_eq!(w.states(&s).await, [Stopped]);
}

async fn a_queued_item_stops_at_the_next_look(w: World) {
    let s = w.queued().await;
    let item = w.items().await.remove(0);
    assert_eq!(w.stop(&item.id, false).await.unwrap().state, Stopping);
    assert_eq!(w.poll(1).await, None);
    assert_eq!(w.states(&s).await, [Stopped]);
}

async fn input_queues_another_item(w: World) {
    let (s, item) = w.held().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(w.states(&s).await, [Active], "it has a worker");
    w.rest(&s, false).await;
    w.stop(&item.id, true).await.unwrap();
    assert_eq!(w.states(&s).await, [Stopped]);
    w.tick();
    let heard = w.heard.queued(&w.environment);
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(w.states(&s).await, [Stopped, Queued]);
    assert_eq!(w.heard.queued(&w.environment), heard + 1);
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(w.states(&s).await, [Stopped, Queued]);
    assert!(w.poll(2).await.is_some());
}

async fn a_waiting_session_gets_another_item(w: World) {
    let (s, item) = w.held().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    w.rest(&s, true).await;
    w.tick();
    w.stop(&item.id, true).await.unwrap();
    assert_eq!(w.states(&s).await, [Stopped, Queued]);
    assert_eq!(w.poll(2).await.unwrap().session_id, s, "and at once");
}

async fn a_session_that_goes_on_gets_an_item(w: World) {
    let (s, item) = w.held().await;
    w.stop(&item.id, true).await.unwrap();
    // As when a budget is raised: no input, and yet it runs.
    let epoch = w.claim(&s).await;
    let running = Append {
        status: Some(Status::Running),
        ..append(&s, epoch, vec![w.event("session.status_running")])
    };
    w.tick();
    w.store.append(running).await.unwrap();
    assert_eq!(w.states(&s).await, [Stopped, Queued]);
}

async fn items_that_fail_at_once_come_slower(w: World) {
    let s = w.queued().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    for (n, wait_ms) in (1u8..).zip([0, 0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]) {
        if wait_ms > 0 {
            w.clock.advance_millis(wait_ms - 1);
            assert_eq!(w.poll(n).await, None, "{n}");
        }
        w.tick();
        let item = w.poll(n).await.unwrap();
        w.ack(&item.id).await.unwrap();
        w.stop(&item.id, true).await.unwrap();
    }
}

async fn progress_takes_the_delay_away(w: World) {
    let s = w.queued().await;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    for n in 1..=2 {
        w.tick();
        let item = w.poll(n).await.unwrap();
        w.stop(&item.id, true).await.unwrap();
    }
    assert_eq!(w.poll(3).await, None);
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(w.poll(3).await.unwrap().attempt, 0);
}

async fn an_ended_session_ends_its_item(w: World) {
    let (archived, _) = w.held().await;
    w.store
        .archive_session(&w.workspace, &archived, Vec::new())
        .await
        .unwrap();
    assert_eq!(w.states(&archived).await, [Stopped]);
    assert_eq!(w.token_is_live(1).await, Some(false));
    let deleted = w.queued().await;
    let ended = w.heard.ended();
    w.store
        .delete_session(&w.workspace, &deleted)
        .await
        .unwrap();
    assert_eq!(w.states(&deleted).await, [Stopped]);
    assert_eq!(w.heard.ended(), ended + 1);
    assert_eq!(w.poll(3).await, None);
}

async fn the_oldest_waits_no_longer_than_the_rest(w: World) {
    let sessions = [w.queued().await, w.queued().await, w.queued().await];
    for (n, session) in (1u8..).zip(&sessions) {
        assert_eq!(w.poll(n).await.unwrap().session_id, *session);
    }
}

async fn a_queue_tells_how_it_stands(w: World) {
    let empty = w.store.work_stats(&w.environment).await.unwrap();
    assert_eq!(empty, Default::default());
    w.queued().await;
    let oldest = w.clock.now();
    w.queued().await;
    w.queued().await;
    let item = w.poll(1).await.unwrap();
    let stats = w.store.work_stats(&w.environment).await.unwrap();
    assert_eq!((stats.depth, stats.pending), (2, 1));
    assert_eq!(stats.oldest_queued_at, Some(oldest), "of both");
    w.ack(&item.id).await.unwrap();
    let stats = w.store.work_stats(&w.environment).await.unwrap();
    assert_eq!((stats.depth, stats.pending), (2, 0));
    assert!(stats.oldest_queued_at.unwrap() > oldest);
}

async fn items_are_listed_newest_first(w: World) {
    for _ in 0..3 {
        w.queued().await;
    }
    let page = |after| WorkQuery { after, limit: 1 };
    let first = w.store.list_work(&w.environment, page(None)).await.unwrap();
    assert_eq!(first.len(), 2, "one more, to tell that there is more");
    let after = Some((first[0].created_at, first[0].id.clone()));
    let second = w.store.list_work(&w.environment, page(after)).await;
    assert_eq!(second.unwrap()[0], first[1]);
    assert!(first[0].created_at > first[1].created_at);
    let other = w.environment(&w.workspace, "other").await;
    assert_eq!(w.store.list_work(&other, page(None)).await.unwrap(), []);
    assert_eq!(w.store.work(&other, &first[0].id).await.unwrap(), None);
}

async fn metadata_is_replaced_only_as_it_was_seen(w: World) {
    w.queued().await;
    let item = w.items().await.remove(0);
    let bag = |value: &str| [("rack".to_owned(), value.to_owned())].into();
    let set = |before, after| {
        let (store, environment, id) = (w.store.clone(), w.environment.clone(), item.id.clone());
        async move {
            store
                .set_work_metadata(&environment, &id, &before, &after)
                .await
                .unwrap()
        }
    };
    let changed = set(item.metadata.clone(), bag("b2")).await.unwrap();
    assert_eq!(changed.metadata, bag("b2"));
    assert_eq!(set(item.metadata.clone(), bag("b3")).await, None);
    assert!(set(bag("b2"), bag("b3")).await.is_some());
}

async fn a_stopped_item_is_kept_for_a_while(w: World) {
    let (s, item) = w.held().await;
    w.stop(&item.id, true).await.unwrap();
    let live = w.queued().await;
    w.clock.advance_millis(limits::WORK_RETENTION_MS - 10);
    assert_eq!(w.store.gc().await.unwrap().work, 0);
    w.clock.advance_millis(10);
    assert_eq!(w.store.gc().await.unwrap().work, 1);
    assert_eq!(w.states(&s).await, []);
    assert_eq!(w.states(&live).await, [Queued], "it never stopped");
}

async fn a_token_opens_nothing_once_its_item_has_stopped(w: World) {
    let (s, item) = w.held().await;
    let found = w.store.credential_by_hash(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(found.workspace_id, w.workspace);
    let kind = |stopped| CredentialKind::WorkToken {
        work: item.id.clone(),
        session: s.clone(),
        environment: w.environment.clone(),
        stopped,
    };
    assert_eq!(found.kind, kind(false));
    w.stop(&item.id, true).await.unwrap();
    let found = w.store.credential_by_hash(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(found.kind, kind(true));
}

async fn a_revoked_key_gives_back_what_it_claimed(w: World) {
    let (key, other) = ("envkey_1".parse().unwrap(), "envkey_2".parse().unwrap());
    let (running, _) = w.held().await;
    w.store.accept(&running, vec![w.message()]).await.unwrap();
    let pending = w.queued().await;
    w.poll(2).await.unwrap();
    let revoke = |key| w.store.revoke_environment_key(&w.environment, key);
    revoke(&other).await.unwrap();
    assert_eq!(w.token_is_live(1).await, Some(true));
    assert_eq!(w.token_is_live(2).await, Some(true));
    revoke(&key).await.unwrap();
    assert_eq!(w.token_is_live(1).await, Some(false));
    assert_eq!(w.token_is_live(2).await, None);
    assert_eq!(w.states(&running).await, [Stopped, Queued]);
    assert_eq!(w.states(&pending).await, [Queued], "nobody had begun");
    let stats = w.store.work_stats(&w.environment).await.unwrap();
    assert_eq!((stats.depth, stats.pending), (2, 0));
}

async fn a_poll_that_waited_under_a_revoked_key_is_given_nothing(w: World) {
    let key = crate::NewEnvironmentKey {
        environment_id: w.environment.clone(),
        name: "k".into(),
        hash: [9; 32],
        last4: "abcd".into(),
    };
    let key = w.store.create_environment_key(key).await.unwrap().id;
    let poll = |token| {
        w.store.poll_work(NewPoll {
            environment: w.environment.clone(),
            worker: None,
            key: key.clone(),
            reclaim_older_than_ms: 5_000,
            token_hash: [token; 32],
        })
    };
    let first = w.queued().await;
    let given = poll(1).await.unwrap().unwrap();
    assert_eq!(given.session_id, first);
    let revoked = w.store.revoke_environment_key(&w.environment, &key);
    revoked.await.unwrap();
    // The request was let in before, and looks at the queue once more.
    assert_eq!(poll(2).await.unwrap(), None);
    assert_eq!(w.token_is_live(2).await, None);
    assert_eq!(w.poll(3).await.unwrap().id, given.id, "others get it");
}

async fn an_environment_is_deleted_with_its_items_and_keys(w: World) {
    let key = crate::NewEnvironmentKey {
        environment_id: w.environment.clone(),
        name: "k".into(),
        hash: [9; 32],
        last4: "abcd".into(),
    };
    let key = w.store.create_environment_key(key).await.unwrap();
    let found = w.store.credential_by_hash(&[9; 32]).await.unwrap().unwrap();
    let kind = CredentialKind::EnvironmentKey {
        id: key.id,
        environment: w.environment.clone(),
    };
    assert_eq!(found.kind, kind);
    let s = w.queued().await;
    w.store.delete_session(&w.workspace, &s).await.unwrap();
    w.store
        .delete_environment(&w.workspace, &w.environment)
        .await
        .unwrap();
    assert_eq!(w.store.credential_by_hash(&[9; 32]).await.unwrap(), None);
    assert_eq!(w.items().await, []);
}
