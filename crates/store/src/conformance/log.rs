//! The log: order, fence, one result.

use freehold_base::{EventId, SessionId};
use freehold_wire::session::Status;

use super::cases;
use super::world::{World, append};
use crate::{Append, AppendError, EventQuery, Listed, Then};

cases! {
    sequence_is_gapless_from_one,
    time_rises_with_the_sequence,
    a_stale_epoch_is_fenced,
    an_external_writer_needs_no_lease,
    an_external_writer_cannot_idle,
    the_expected_head_is_compared,
    a_tool_use_has_one_result,
    one_append_cannot_answer_twice,
    other_references_may_repeat,
    a_refused_append_leaves_nothing,
    an_append_changes_the_row,
    the_end_is_stamped_once,
    an_unknown_session_is_gone,
    an_event_id_is_used_once,
    concurrent_writers_stay_gapless,
    details_stay_private,
    events_are_found_by_id_and_reference,
    commits_are_announced_in_order,
}

async fn sequence_is_gapless_from_one(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    for n in [1, 3, 2] {
        let events = (0..n).map(|_| w.event("agent.message")).collect();
        w.store.append(append(&s, epoch, events)).await.unwrap();
    }
    let head = w
        .store
        .append(append(&s, epoch, vec![]))
        .await
        .unwrap()
        .head;
    let seqs: Vec<i64> = w
        .store
        .tail(&s, 0, 100)
        .await
        .unwrap()
        .iter()
        .map(|e| e.seq)
        .collect();
    assert_eq!((head, seqs), (6, (1..=6).collect()));
    assert_eq!(w.store.tail(&s, 2, 3).await.unwrap()[0].seq, 3);
    assert_eq!(w.store.tail(&s, 2, 3).await.unwrap().len(), 3);
    assert_eq!(w.row(&s).await.head_seq, 6);
}

async fn time_rises_with_the_sequence(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    for turn in [0, 5, 0, -1000, 2000] {
        w.clock.advance_millis(turn);
        let events = vec![w.event("agent.message"), w.event("agent.message")];
        let stored = w
            .store
            .append(append(&s, epoch, events))
            .await
            .unwrap()
            .events;
        let kept = w.store.event(&s, &stored[1].id).await.unwrap().unwrap();
        assert_eq!(kept, *stored[1], "what is told is what is stored");
    }
    let events = w.store.tail(&s, 0, 100).await.unwrap();
    assert_eq!(events.len(), 10);
    assert!(
        events
            .windows(2)
            .all(|e| e[0].processed_at < e[1].processed_at)
    );
    let wire = events[0].wire();
    assert!(wire.ends_with(&format!(
        ",\"processed_at\":\"{}\"}}",
        events[0].processed_at
    )));
}

async fn a_stale_epoch_is_fenced(w: World) {
    let s = w.session().await.id;
    let old = w.claim(&s).await;
    w.store
        .append(append(&s, old, vec![w.event("agent.message")]))
        .await
        .unwrap();
    let new = w.claim(&s).await;
    let zombie = Append {
        status: Some(Status::Running),
        ..append(&s, old, vec![w.event("agent.message")])
    };
    let refused = w.store.append(zombie).await;
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    let future = w
        .store
        .append(append(&s, new + 1, vec![w.event("agent.message")]))
        .await;
    assert!(matches!(future, Err(AppendError::Fenced)), "{future:?}");
    w.store
        .append(append(&s, new, vec![w.event("agent.message")]))
        .await
        .unwrap();
    let epochs: Vec<i64> = w
        .store
        .tail(&s, 0, 10)
        .await
        .unwrap()
        .iter()
        .map(|e| e.epoch)
        .collect();
    assert_eq!(epochs, [old, new]);
    assert_eq!(w.row(&s).await.status, Status::Idle);
}

async fn an_external_writer_needs_no_lease(w: World) {
    let s = w.session().await.id;
    w.claim(&s).await;
    let done = w
        .store
        .append(append(&s, 0, vec![w.event("session.updated")]))
        .await
        .unwrap();
    assert_eq!((done.head, done.events[0].epoch), (1, 0));
}

async fn an_external_writer_cannot_idle(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let idle = Append {
        then: Then::Idle { inbox_head: 0 },
        ..append(&s, 0, vec![])
    };
    assert!(matches!(
        w.store.append(idle).await,
        Err(AppendError::Fenced)
    ));
    w.store
        .append(append(&s, epoch, vec![w.event("agent.message")]))
        .await
        .unwrap();
}

async fn the_expected_head_is_compared(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let at = |head| Append {
        expected_head: Some(head),
        ..append(&s, epoch, vec![w.event("agent.message")])
    };
    w.store.append(at(0)).await.unwrap();
    for wrong in [0, 2] {
        let refused = w.store.append(at(wrong)).await;
        assert!(
            matches!(refused, Err(AppendError::HeadMoved)),
            "{refused:?}"
        );
    }
    assert_eq!(w.store.append(at(1)).await.unwrap().head, 2);
}

async fn a_tool_use_has_one_result(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let kinds = [
        "agent.tool_result",
        "user.tool_result",
        "user.custom_tool_result",
        "agent.mcp_tool_result",
    ];
    for (first, second) in kinds.iter().zip(kinds.iter().cycle().skip(1)) {
        let call: EventId = w.ids.next();
        w.store
            .append(append(&s, epoch, vec![w.about(first, &call)]))
            .await
            .unwrap();
        let events = vec![w.event("agent.message"), w.about(second, &call)];
        match w.store.append(append(&s, epoch, events)).await {
            Err(AppendError::AlreadyAnswered(answered)) => assert_eq!(answered, call),
            other => panic!("{second} after {first}: {other:?}"),
        }
    }
    assert_eq!(w.row(&s).await.head_seq, 4);
    // Another session's use of the same id is another use.
    let other = w.session().await.id;
    let call = w.store.tail(&s, 0, 1).await.unwrap()[0]
        .ref_id
        .clone()
        .unwrap();
    w.store
        .append(append(&other, 0, vec![w.about(kinds[0], &call)]))
        .await
        .unwrap();
}

async fn one_append_cannot_answer_twice(w: World) {
    let s = w.session().await.id;
    let call: EventId = w.ids.next();
    let events = vec![
        w.about("agent.tool_result", &call),
        w.about("user.tool_result", &call),
    ];
    let refused = w.store.append(append(&s, 0, events)).await;
    assert!(
        matches!(refused, Err(AppendError::AlreadyAnswered(_))),
        "{refused:?}"
    );
    assert!(w.store.tail(&s, 0, 10).await.unwrap().is_empty());
}

async fn other_references_may_repeat(w: World) {
    let s = w.session().await.id;
    let other: EventId = w.ids.next();
    let end = || w.about("span.model_request_end", &other);
    w.store
        .append(append(&s, 0, vec![end(), end()]))
        .await
        .unwrap();
    // A result that names no use cannot collide.
    let result = || w.event("agent.tool_result");
    w.store
        .append(append(&s, 0, vec![result(), result()]))
        .await
        .unwrap();
}

async fn a_refused_append_leaves_nothing(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let epoch = w.claim(&s).await;
    let before = w.row(&s).await;
    let call: EventId = w.ids.next();
    w.store
        .append(append(&s, 0, vec![w.about("agent.tool_result", &call)]))
        .await
        .unwrap();
    let refused = Append {
        consume: vec![1],
        status: Some(Status::Terminated),
        blocked: Some(true),
        agent: Some("{}".into()),
        summary: Some("{}".into()),
        then: Then::Idle { inbox_head: 1 },
        ..append(
            &s,
            epoch,
            vec![w.event("agent.message"), w.about("user.tool_result", &call)],
        )
    };
    assert!(w.store.append(refused).await.is_err());
    let after = w.row(&s).await;
    assert_eq!(after.head_seq, 1);
    let same = |r: crate::SessionRow| (r.status, r.blocked, r.agent, r.summary, r.terminated_at);
    assert_eq!(same(after), same(before));
    assert_eq!(w.store.inbox(&s).await.unwrap().1.len(), 1);
    w.store
        .append(append(&s, epoch, vec![]))
        .await
        .expect("the lease is kept");
    assert_eq!(
        w.heard.of(&s).len(),
        1,
        "what did not happen is not announced"
    );
}

async fn an_append_changes_the_row(w: World) {
    let s = w.session().await;
    let epoch = w.claim(&s.id).await;
    w.tick();
    let change = Append {
        status: Some(Status::Rescheduling),
        blocked: Some(true),
        agent: Some(r#"{"new":1}"#.into()),
        summary: Some(r#"{"n":2}"#.into()),
        ..append(&s.id, epoch, vec![])
    };
    w.store.append(change).await.unwrap();
    let row = w.row(&s.id).await;
    assert_eq!((row.status, row.blocked), (Status::Rescheduling, true));
    assert_eq!(row.agent, r#"{"new":1}"#);
    assert_eq!(row.summary.as_deref(), Some(r#"{"n":2}"#));
    assert!(row.updated_at > s.updated_at);
    // What is not named stays.
    w.store.append(append(&s.id, epoch, vec![])).await.unwrap();
    assert_eq!(w.row(&s.id).await, row);
}

async fn the_end_is_stamped_once(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let end = || Append {
        status: Some(Status::Terminated),
        ..append(&s, epoch, vec![])
    };
    w.store.append(end()).await.unwrap();
    let stamped = w.row(&s).await.terminated_at;
    assert!(stamped.is_some());
    w.tick();
    w.store.append(end()).await.unwrap();
    assert_eq!(w.row(&s).await.terminated_at, stamped);
}

async fn an_unknown_session_is_gone(w: World) {
    let s: SessionId = w.ids.next();
    for epoch in [0, 1] {
        let refused = w
            .store
            .append(append(&s, epoch, vec![w.event("agent.message")]))
            .await;
        assert!(
            matches!(refused, Err(AppendError::SessionGone)),
            "{refused:?}"
        );
    }
    assert!(w.store.tail(&s, 0, 10).await.unwrap().is_empty());
    assert_eq!(w.store.inbox(&s).await.unwrap(), (0, vec![]));
}

async fn an_event_id_is_used_once(w: World) {
    let s = w.session().await.id;
    let event = w.event("agent.message");
    w.store
        .append(append(&s, 0, vec![event.clone()]))
        .await
        .unwrap();
    assert!(w.store.append(append(&s, 0, vec![event])).await.is_err());
    assert_eq!(w.row(&s).await.head_seq, 1);
}

async fn concurrent_writers_stay_gapless(w: World) {
    let (a, b) = (w.session().await.id, w.session().await.id);
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let session = if n % 2 == 0 { a.clone() } else { b.clone() };
            let events = vec![w.event("session.updated"), w.event("session.updated")];
            let store = w.store.clone();
            tokio::spawn(async move { store.append(append(&session, 0, events)).await.unwrap() })
        })
        .collect();
    let mut heads = Vec::new();
    for task in tasks {
        heads.push(task.await.unwrap().head);
    }
    heads.sort_unstable();
    assert_eq!(heads.len(), 40);
    for session in [&a, &b] {
        let log = w.store.tail(session, 0, 100).await.unwrap();
        assert_eq!(
            log.iter().map(|e| e.seq).collect::<Vec<_>>(),
            (1..=40).collect::<Vec<_>>()
        );
        assert!(
            log.windows(2)
                .all(|e| e[0].processed_at < e[1].processed_at)
        );
    }
}

async fn details_stay_private(w: World) {
    let s = w.session().await.id;
    let event = w
        .event("agent.thinking")
        .with_detail(r#"{"secret":1}"#.into());
    w.store
        .append(append(&s, 0, vec![event.clone()]))
        .await
        .unwrap();
    let tail = w.store.tail(&s, 0, 1).await.unwrap();
    assert_eq!(tail[0].detail.as_deref(), Some(r#"{"secret":1}"#));
    assert!(
        w.store
            .event(&s, &event.id)
            .await
            .unwrap()
            .unwrap()
            .detail
            .is_some()
    );
    assert!(!tail[0].wire().contains("secret"));
    let listed = w
        .store
        .list_events(
            &s,
            EventQuery {
                limit: 5,
                ..Default::default()
            },
        )
        .await;
    assert!(matches!(&listed.unwrap()[..], [Listed::Event(e)] if e.detail.is_none()));
}

async fn events_are_found_by_id_and_reference(w: World) {
    let (s, other) = (w.session().await.id, w.session().await.id);
    let call = w.event("agent.custom_tool_use");
    w.store
        .append(append(&s, 0, vec![call.clone()]))
        .await
        .unwrap();
    w.store.accept(&s, vec![w.verdict(&call.id)]).await.unwrap();
    w.store.accept(&s, vec![w.result(&call.id)]).await.unwrap();
    assert_eq!(
        w.store.event(&s, &call.id).await.unwrap().unwrap().payload,
        call.payload
    );
    assert!(w.store.event(&other, &call.id).await.unwrap().is_none());
    let (events, waiting) = w.store.references(&s, &call.id).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, "user.custom_tool_result");
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].kind, "user.tool_confirmation");
    let none = w.store.references(&other, &call.id).await.unwrap();
    assert_eq!(none, (vec![], vec![]));
}

async fn commits_are_announced_in_order(w: World) {
    let s = w.session().await.id;
    let tasks: Vec<_> = (0..30)
        .map(|_| {
            let (store, a) = (
                w.store.clone(),
                append(&s, 0, vec![w.event("x.a"), w.event("x.b")]),
            );
            tokio::spawn(async move { store.append(a).await.unwrap() })
        })
        .collect();
    for task in tasks {
        let done = task.await.unwrap();
        let heard = w.heard.of(&s);
        assert!(
            heard.iter().any(|(seq, _)| *seq == done.head),
            "announced before answered"
        );
    }
    let log = w.store.tail(&s, 0, 100).await.unwrap();
    let log: Vec<_> = log.into_iter().map(|e| (e.seq, e.id)).collect();
    assert_eq!(w.heard.of(&s), log);
}
