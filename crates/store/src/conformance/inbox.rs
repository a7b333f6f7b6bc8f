//! The inbox: what is accepted is kept, in order, once.

use freehold_base::{EventId, SessionId, limits};
use freehold_wire::session::Status;

use super::cases;
use super::world::{World, append};
use crate::{AcceptError, Append, AppendError, Input, NewEvent, Then};

cases! {
    input_waits_in_order,
    consumed_input_keeps_its_id,
    input_is_consumed_once,
    late_input_keeps_the_session_awake,
    known_input_may_stay_open,
    recorded_input_is_processed_at_once,
    input_is_taken_whole_or_not_at_all,
    a_use_takes_one_result_from_clients,
    a_use_takes_one_verdict,
    a_closed_session_takes_nothing,
    a_turn_starts_only_when_it_may,
    a_full_inbox_refuses,
}

async fn input_waits_in_order(w: World) {
    let s = w.session().await.id;
    let first = w
        .store
        .accept(&s, vec![w.message(), w.message()])
        .await
        .unwrap();
    let second = w.store.accept(&s, vec![w.message()]).await.unwrap();
    let (head, items) = w.store.inbox(&s).await.unwrap();
    assert_eq!(head, 3);
    assert_eq!(items.iter().map(|i| i.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let accepted: Vec<_> = first.iter().chain(&second).collect();
    for (item, accepted) in items.iter().zip(&accepted) {
        assert_eq!((&item.id, &item.payload), (&accepted.id, &accepted.payload));
        assert_eq!(accepted.processed_at, None);
        assert!(item.wire().ends_with(r#","processed_at":null}"#));
        assert_eq!(item.wire(), accepted.wire());
    }
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&s)
    );
    assert!(w.store.tail(&s, 0, 10).await.unwrap().is_empty());
    assert!(w.store.accept(&s, vec![]).await.unwrap().is_empty());
}

async fn consumed_input_keeps_its_id(w: World) {
    let s = w.session().await.id;
    let input = w.message();
    w.store
        .accept(&s, vec![input.clone(), w.message()])
        .await
        .unwrap();
    let epoch = w.claim(&s).await;
    let eat = Append {
        consume: vec![1],
        ..append(&s, epoch, vec![input.event().clone()])
    };
    w.store.append(eat).await.unwrap();
    assert_eq!(
        w.store.tail(&s, 0, 10).await.unwrap()[0].id,
        input.event().id
    );
    let (head, open) = w.store.inbox(&s).await.unwrap();
    assert_eq!((head, open.len(), open[0].seq), (2, 1, 2));
}

async fn input_is_consumed_once(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let epoch = w.claim(&s).await;
    let eat = || Append {
        consume: vec![1],
        ..append(&s, epoch, vec![w.event("user.message")])
    };
    w.store.append(eat()).await.unwrap();
    assert!(matches!(
        w.store.append(eat()).await,
        Err(AppendError::HeadMoved)
    ));
    assert_eq!(w.row(&s).await.head_seq, 1);
}

async fn late_input_keeps_the_session_awake(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let epoch = w.claim(&s).await;
    let eat = Append {
        consume: vec![1],
        ..append(&s, epoch, vec![w.event("user.message")])
    };
    w.store.append(eat).await.unwrap();
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let idle = |inbox_head| Append {
        status: Some(Status::Idle),
        then: Then::Idle { inbox_head },
        ..append(&s, epoch, vec![w.event("session.status_idle")])
    };
    let refused = w.store.append(idle(1)).await;
    assert!(
        matches!(refused, Err(AppendError::InputArrived)),
        "{refused:?}"
    );
    assert_eq!(w.row(&s).await.head_seq, 1);
    assert_eq!(w.row(&s).await.status, Status::Running);
    w.store.append(idle(2)).await.unwrap();
    assert_eq!(w.row(&s).await.status, Status::Idle);
    assert!(w.store.runnable(10).await.unwrap().is_empty());
}

async fn known_input_may_stay_open(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let epoch = w.claim(&s).await;
    let idle = Append {
        then: Then::Idle { inbox_head: 1 },
        ..append(&s, epoch, vec![])
    };
    w.store.append(idle).await.unwrap();
    assert_eq!(w.store.inbox(&s).await.unwrap().1.len(), 1);
    assert!(w.store.runnable(10).await.unwrap().is_empty());
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(w.store.runnable(10).await.unwrap(), [s]);
}

async fn recorded_input_is_processed_at_once(w: World) {
    let s = w.session().await.id;
    let (a, b): (EventId, EventId) = (w.ids.next(), w.ids.next());
    let inputs = vec![w.result(&a), w.message(), w.result(&b)];
    let accepted = w.store.accept(&s, inputs.clone()).await.unwrap();
    let log = w.store.tail(&s, 0, 10).await.unwrap();
    assert_eq!(
        log.iter().map(|e| (e.seq, e.epoch)).collect::<Vec<_>>(),
        [(1, 0), (2, 0)]
    );
    assert_eq!(accepted[0].processed_at, Some(log[0].processed_at));
    assert_eq!(accepted[1].processed_at, None);
    assert_eq!(accepted[2].processed_at, Some(log[1].processed_at));
    let ids = |i: &[&EventId]| i.iter().map(|i| (*i).clone()).collect::<Vec<_>>();
    let sent: Vec<_> = inputs.iter().map(|i| &i.event().id).collect();
    let got: Vec<_> = accepted.iter().map(|a| &a.id).collect();
    assert_eq!(ids(&sent), ids(&got));
    assert_eq!(w.store.inbox(&s).await.unwrap().1.len(), 1);
    assert_eq!(w.heard.of(&s).len(), 2);
}

async fn input_is_taken_whole_or_not_at_all(w: World) {
    let s = w.session().await.id;
    let call: EventId = w.ids.next();
    w.store.accept(&s, vec![w.result(&call)]).await.unwrap();
    let before = (w.row(&s).await, w.store.inbox(&s).await.unwrap());
    let mixed = vec![w.message(), w.result(&w.ids.next()), w.result(&call)];
    let refused = w.store.accept(&s, mixed).await;
    assert!(matches!(refused, Err(AcceptError::AlreadyAnswered(id)) if id == call));
    assert_eq!((w.row(&s).await, w.store.inbox(&s).await.unwrap()), before);
    assert_eq!(w.heard.of(&s).len(), 1);
}

async fn a_use_takes_one_result_from_clients(w: World) {
    let s = w.session().await.id;
    let call: EventId = w.ids.next();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, s, input) = (w.store.clone(), s.clone(), w.result(&call));
            tokio::spawn(async move { store.accept(&s, vec![input]).await })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => taken += 1,
            Err(AcceptError::AlreadyAnswered(id)) => assert_eq!(id, call),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(w.store.references(&s, &call).await.unwrap().0.len(), 1);
}

async fn a_use_takes_one_verdict(w: World) {
    let s = w.session().await.id;
    let answered = |r: Result<_, AcceptError>| matches!(r, Err(AcceptError::AlreadyAnswered(_)));
    let call: EventId = w.ids.next();
    let verdict = w.verdict(&call);
    w.store.accept(&s, vec![verdict.clone()]).await.unwrap();
    assert!(
        answered(w.store.accept(&s, vec![w.verdict(&call)]).await),
        "while it waits"
    );
    let epoch = w.claim(&s).await;
    let eat = Append {
        consume: vec![1],
        ..append(&s, epoch, vec![verdict.event().clone()])
    };
    w.store.append(eat).await.unwrap();
    assert!(
        answered(w.store.accept(&s, vec![w.verdict(&call)]).await),
        "when it is in the log"
    );
    let done: EventId = w.ids.next();
    w.store.accept(&s, vec![w.result(&done)]).await.unwrap();
    assert!(
        answered(w.store.accept(&s, vec![w.verdict(&done)]).await),
        "after a result"
    );
    let both: EventId = w.ids.next();
    let twice = vec![w.verdict(&both), w.verdict(&both)];
    assert!(answered(w.store.accept(&s, twice).await), "in one request");
}

async fn a_closed_session_takes_nothing(w: World) {
    let (archived, ended) = (w.session().await.id, w.session().await.id);
    w.store
        .archive_session(&w.workspace, &archived, vec![])
        .await
        .unwrap();
    let epoch = w.claim(&ended).await;
    let end = Append {
        status: Some(Status::Terminated),
        ..append(&ended, epoch, vec![])
    };
    w.store.append(end).await.unwrap();
    for s in [&archived, &ended] {
        for input in [w.message(), w.result(&w.ids.next())] {
            let refused = w.store.accept(s, vec![input]).await;
            assert!(matches!(refused, Err(AcceptError::Closed)), "{refused:?}");
        }
        assert_eq!(w.store.inbox(s).await.unwrap(), (0, vec![]));
    }
    let gone = w.store.accept(&w.ids.next(), vec![w.message()]).await;
    assert!(matches!(gone, Err(AcceptError::SessionGone)), "{gone:?}");
}

async fn a_turn_starts_only_when_it_may(w: World) {
    let s = w.session().await;
    let quiet = Input::Queue {
        event: w.event("system.message"),
        starts_turn: false,
    };
    w.store.accept(&s.id, vec![quiet]).await.unwrap();
    assert_eq!(w.row(&s.id).await.status, Status::Idle);
    w.tick();
    w.store.accept(&s.id, vec![w.message()]).await.unwrap();
    assert_eq!(w.row(&s.id).await.status, Status::Running);
    assert!(w.row(&s.id).await.updated_at > s.updated_at);
    for (answer, runs) in [(false, false), (true, true)] {
        let s = blocked(&w).await;
        let call: EventId = w.ids.next();
        let input = if answer {
            w.verdict(&call)
        } else {
            w.message()
        };
        w.store.accept(&s, vec![input]).await.unwrap();
        assert_eq!(w.row(&s).await.status == Status::Running, runs);
        assert!(
            w.store.runnable(100).await.unwrap().contains(&s),
            "a driver looks"
        );
    }
    let s = blocked(&w).await;
    w.store
        .accept(&s, vec![w.result(&w.ids.next())])
        .await
        .unwrap();
    assert_eq!(w.row(&s).await.status, Status::Running);
}

async fn blocked(w: &World) -> SessionId {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let block = Append {
        blocked: Some(true),
        then: Then::Idle { inbox_head: 0 },
        ..append(&s, epoch, vec![])
    };
    w.store.append(block).await.unwrap();
    s
}

async fn a_full_inbox_refuses(w: World) {
    let s = w.session().await.id;
    let fill = (0..limits::MAX_QUEUED_EVENTS)
        .map(|_| w.message())
        .collect();
    w.store.accept(&s, fill).await.unwrap();
    let refused = w.store.accept(&s, vec![w.message()]).await;
    assert!(
        matches!(refused, Err(AcceptError::InboxFull)),
        "{refused:?}"
    );
    // What frees the session is not refused: results do not queue.
    w.store
        .accept(&s, vec![w.result(&w.ids.next())])
        .await
        .unwrap();
    let other = w.session().await.id;
    let big = NewEvent {
        payload: "x".repeat(limits::MAX_QUEUED_BYTES + 1),
        ..w.event("user.message")
    };
    let refused = w.store.accept(
        &other,
        vec![Input::Queue {
            event: big,
            starts_turn: true,
        }],
    );
    assert!(matches!(refused.await, Err(AcceptError::InboxFull)));
    w.store.accept(&other, vec![w.message()]).await.unwrap();
}
