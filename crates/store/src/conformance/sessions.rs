//! Sessions' rows.

use freehold_base::{Clock, SessionId, Timestamp, WorkspaceId};
use freehold_wire::session::Status;

use super::cases;
use super::world::{World, append};
use crate::{
    Append, ArchiveError, CreateSessionError, DeleteSessionError, Direction, FileCopy, FileQuery,
    NewResource, SessionChange, SessionCursor, SessionQuery, UpdateSessionError,
};

cases! {
    a_session_is_kept_as_made,
    first_input_makes_it_run,
    a_session_needs_an_open_agent_and_environment,
    a_failed_creation_leaves_nothing,
    another_workspace_sees_no_session,
    fields_change_together,
    a_running_session_keeps_its_agent,
    a_new_budget_asks_for_a_driver,
    an_archived_session_has_ended,
    a_running_session_is_not_archived_or_deleted,
    a_deleted_session_is_gone_with_everything,
    an_interrupted_deletion_is_finished,
    lists_go_both_ways,
    lists_filter,
}

async fn a_session_is_kept_as_made(w: World) {
    let mut new = w.new_session();
    new.title = Some("t".into());
    new.metadata.insert("k\"".into(), "v\u{e9}".into());
    new.budget = Some(r#"{"type":"limit"}"#.into());
    new.vault_ids = format!(r#"["{}"]"#, w.vault().await);
    new.deployment_id = Some("depl_1".into());
    let made = w.store.create_session(new.clone()).await.unwrap();
    let read = w
        .store
        .session(&w.workspace, &new.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made, read);
    assert_eq!(
        (&read.thread_id, &read.environment, &read.agent),
        (&new.thread_id, &new.environment, &new.agent)
    );
    assert_eq!(
        (&read.title, &read.metadata, &read.budget),
        (&new.title, &new.metadata, &new.budget)
    );
    assert_eq!(
        (&read.vault_ids, &read.deployment_id),
        (&new.vault_ids, &new.deployment_id)
    );
    assert_eq!(
        (read.status, read.blocked, read.head_seq),
        (Status::Idle, false, 0)
    );
    assert_eq!(
        (read.created_at, read.updated_at),
        (w.clock.now(), w.clock.now())
    );
    assert_eq!(
        (read.archived_at, read.terminated_at, read.summary),
        (None, None, None)
    );
    assert!(w.store.runnable(10).await.unwrap().is_empty());
}

async fn first_input_makes_it_run(w: World) {
    let mut new = w.new_session();
    new.initial = vec![w.message(), w.message()];
    let made = w.store.create_session(new.clone()).await.unwrap();
    assert_eq!(made.status, Status::Running);
    let (_, items) = w.store.inbox(&made.id).await.unwrap();
    let sent: Vec<_> = new.initial.iter().map(|i| i.event().id.clone()).collect();
    assert_eq!(items.into_iter().map(|i| i.id).collect::<Vec<_>>(), sent);
    assert_eq!(w.store.runnable(10).await.unwrap(), [made.id]);
}

async fn a_session_needs_an_open_agent_and_environment(w: World) {
    let foreign = w.store.create_workspace("b".into()).await.unwrap().id;
    let closed = w.environment(&w.workspace, "closed").await;
    w.store
        .archive_environment(&w.workspace, &closed)
        .await
        .unwrap();
    for environment_id in [closed, w.environment(&foreign, "f").await, w.ids.next()] {
        let new = crate::NewSession {
            environment_id,
            ..w.new_session()
        };
        let refused = w.store.create_session(new).await;
        assert!(
            matches!(refused, Err(CreateSessionError::EnvironmentGone)),
            "{refused:?}"
        );
    }
    let closed = w.agent(&w.workspace).await;
    w.store.archive_agent(&w.workspace, &closed).await.unwrap();
    for agent_id in [closed, w.agent(&foreign).await, w.ids.next()] {
        let new = crate::NewSession {
            agent_id,
            ..w.new_session()
        };
        let refused = w.store.create_session(new).await;
        assert!(
            matches!(refused, Err(CreateSessionError::AgentGone)),
            "{refused:?}"
        );
    }
}

fn file_resource(w: &World, source: freehold_base::FileId, path: &str) -> NewResource {
    NewResource {
        id: w.ids.next(),
        kind: "file".into(),
        mount_path: Some(path.into()),
        file: Some(FileCopy {
            source,
            id: w.file_id(),
        }),
        memory_store_id: None,
        body: "{}".into(),
    }
}

async fn a_failed_creation_leaves_nothing(w: World) {
    let file = w.file("x").await;
    let missing = w.file_id();
    let mut new = w.new_session();
    new.initial = vec![w.message()];
    new.resources = vec![
        file_resource(&w, file.id.clone(), "/a"),
        file_resource(&w, missing.clone(), "/b"),
    ];
    match w.store.create_session(new.clone()).await {
        Err(CreateSessionError::FileGone(id)) => assert_eq!(id, missing),
        other => panic!("{other:?}"),
    }
    assert!(w.store.session_any(&new.id).await.unwrap().is_none());
    assert!(w.store.inbox(&new.id).await.unwrap().1.is_empty());
    assert!(w.store.session_uploads(&new.id).await.unwrap().is_empty());
    let files = FileQuery {
        limit: 10,
        ..Default::default()
    };
    assert_eq!(
        w.store.list_files(&w.workspace, files).await.unwrap(),
        [file]
    );
}

async fn another_workspace_sees_no_session(w: World) {
    let s = w.session().await;
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    assert!(w.store.session(&other, &s.id).await.unwrap().is_none());
    let q = SessionQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(w.store.list_sessions(&other, q).await.unwrap().is_empty());
    let change = SessionChange {
        title: Some(Some("x".into())),
        ..Default::default()
    };
    let refused = w.store.update_session(&other, &s.id, change).await;
    assert!(
        matches!(refused, Err(UpdateSessionError::NotFound)),
        "{refused:?}"
    );
    let refused = w.store.archive_session(&other, &s.id, vec![]).await;
    assert!(
        matches!(refused, Err(ArchiveError::NotFound)),
        "{refused:?}"
    );
    let refused = w.store.delete_session(&other, &s.id).await;
    assert!(
        matches!(refused, Err(DeleteSessionError::NotFound)),
        "{refused:?}"
    );
    assert_eq!(w.store.session(&w.workspace, &s.id).await.unwrap(), Some(s));
}

async fn fields_change_together(w: World) {
    let s = w.session().await;
    w.tick();
    let event = w.event("session.updated");
    let change = SessionChange {
        title: Some(Some("new".into())),
        metadata: Some([("a".to_owned(), "b".to_owned())].into()),
        agent: Some(r#"{"name":"b"}"#.into()),
        budget: Some(Some("{}".into())),
        event: Some(event.clone()),
        ..Default::default()
    };
    let row = w
        .store
        .update_session(&w.workspace, &s.id, change)
        .await
        .unwrap();
    assert_eq!(row, w.row(&s.id).await);
    assert_eq!((row.title.as_deref(), row.metadata.len()), (Some("new"), 1));
    assert_eq!(
        (row.agent.as_str(), row.budget.as_deref()),
        (r#"{"name":"b"}"#, Some("{}"))
    );
    assert!(row.updated_at > s.updated_at);
    let log = w.store.tail(&s.id, 0, 10).await.unwrap();
    assert_eq!(
        (log[0].id.clone(), log[0].epoch, log.len()),
        (event.id, 0, 1)
    );
    assert_eq!(w.heard.of(&s.id).len(), 1);
    // Null is a value; what is left out stays; and a stale caller is told.
    let change = |expected| SessionChange {
        title: Some(None),
        budget: Some(None),
        expected,
        ..Default::default()
    };
    let stale = w
        .store
        .update_session(&w.workspace, &s.id, change(Some(s.updated_at)))
        .await;
    assert!(
        matches!(stale, Err(UpdateSessionError::Conflict)),
        "{stale:?}"
    );
    let cleared = change(Some(row.updated_at));
    let cleared = w
        .store
        .update_session(&w.workspace, &s.id, cleared)
        .await
        .unwrap();
    assert_eq!(
        (cleared.title, cleared.budget, cleared.metadata),
        (None, None, row.metadata)
    );
    assert_eq!(cleared.agent, row.agent);
    assert!(
        cleared.updated_at > row.updated_at,
        "though the clock stood"
    );
}

async fn a_running_session_keeps_its_agent(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let change = SessionChange {
        agent: Some("{}".into()),
        event: Some(w.event("session.updated")),
        require_not_running: true,
        ..Default::default()
    };
    let refused = w.store.update_session(&w.workspace, &s, change).await;
    assert!(
        matches!(refused, Err(UpdateSessionError::Running)),
        "{refused:?}"
    );
    assert_eq!(w.row(&s).await.head_seq, 0);
}

async fn a_new_budget_asks_for_a_driver(w: World) {
    let (s, ended) = (w.session().await.id, w.session().await.id);
    w.store
        .archive_session(&w.workspace, &ended, vec![])
        .await
        .unwrap();
    let title = SessionChange {
        title: Some(None),
        ..Default::default()
    };
    w.store
        .update_session(&w.workspace, &s, title)
        .await
        .unwrap();
    assert!(w.store.runnable(10).await.unwrap().is_empty());
    for s in [&s, &ended] {
        let budget = SessionChange {
            budget: Some(None),
            ..Default::default()
        };
        w.store
            .update_session(&w.workspace, s, budget)
            .await
            .unwrap();
    }
    assert_eq!(w.store.runnable(10).await.unwrap(), [s]);
}

async fn an_archived_session_has_ended(w: World) {
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    w.tick();
    let event = w.event("session.status_terminated");
    let row = w
        .store
        .archive_session(&w.workspace, &s, vec![event.clone()])
        .await
        .unwrap();
    assert_eq!(row.status, Status::Terminated);
    assert_eq!(row.archived_at, Some(w.clock.now()));
    assert_eq!(row.terminated_at, row.archived_at);
    assert_eq!(w.store.tail(&s, 0, 10).await.unwrap()[0].id, event.id);
    assert!(
        w.store
            .append(append(&s, epoch, vec![w.event("x.y")]))
            .await
            .is_err(),
        "fenced"
    );
    assert_eq!(w.store.claim(&s, &w.replica).await.unwrap(), None);
    w.tick();
    let again = vec![w.event("session.status_terminated")];
    assert_eq!(
        w.store
            .archive_session(&w.workspace, &s, again)
            .await
            .unwrap(),
        row
    );
    // One that had ended before keeps its end.
    let s = w.session().await.id;
    let epoch = w.claim(&s).await;
    let end = Append {
        status: Some(Status::Terminated),
        ..append(&s, epoch, vec![])
    };
    w.store.append(end).await.unwrap();
    let ended = w.row(&s).await.terminated_at;
    w.tick();
    let event = vec![w.event("session.status_terminated")];
    let row = w
        .store
        .archive_session(&w.workspace, &s, event)
        .await
        .unwrap();
    assert_eq!((row.terminated_at, row.head_seq), (ended, 0));
}

async fn a_running_session_is_not_archived_or_deleted(w: World) {
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    let refused = w.store.archive_session(&w.workspace, &s, vec![]).await;
    assert!(matches!(refused, Err(ArchiveError::Running)), "{refused:?}");
    let refused = w.store.delete_session(&w.workspace, &s).await;
    assert!(
        matches!(refused, Err(DeleteSessionError::Running)),
        "{refused:?}"
    );
    assert_eq!(w.row(&s).await.status, Status::Running);
    assert!(!w.heard.deleted(&s));
}

async fn a_deleted_session_is_gone_with_everything(w: World) {
    let shared = w.file("shared").await;
    let mut new = w.new_session();
    new.resources = vec![file_resource(&w, shared.id.clone(), "/a")];
    let s = w.store.create_session(new).await.unwrap().id;
    let survivor = w.session().await.id;
    for session in [&s, &survivor] {
        // More than are deleted at once.
        let events = (0..1200).map(|_| w.event("agent.message")).collect();
        w.store.append(append(session, 0, events)).await.unwrap();
    }
    let quiet = crate::Input::Queue {
        event: w.event("system.message"),
        starts_turn: false,
    };
    w.store.accept(&s, vec![quiet]).await.unwrap();
    let blob = w.store.blobs().put(&b"only here"[..], 100).await.unwrap();
    let only = blob.key.clone();
    let output = crate::NewOutput {
        session: s.clone(),
        path: "o.txt".into(),
        size: blob.size,
        blob: blob.key.clone(),
        source_mtime: 1,
    };
    w.store.upsert_output(output).await.unwrap();
    drop(blob);
    let copies = FileQuery {
        scope: Some(s.clone()),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(
        w.store
            .list_files(&w.workspace, copies.clone())
            .await
            .unwrap()
            .len(),
        2
    );
    let epoch = w.claim(&s).await;

    w.store.delete_session(&w.workspace, &s).await.unwrap();
    assert!(w.store.session_any(&s).await.unwrap().is_none());
    assert!(w.store.tail(&s, 0, 10).await.unwrap().is_empty());
    assert_eq!(w.store.inbox(&s).await.unwrap(), (0, vec![]));
    assert!(
        w.store
            .list_files(&w.workspace, copies)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(w.content(&only).await, None);
    assert_eq!(w.content(&shared.blob).await.as_deref(), Some("shared"));
    assert!(w.heard.deleted(&s));
    let late = w
        .store
        .append(append(&s, epoch, vec![w.event("x.y")]))
        .await;
    assert!(
        matches!(late, Err(crate::AppendError::SessionGone)),
        "{late:?}"
    );
    let again = w.store.delete_session(&w.workspace, &s).await;
    assert!(matches!(again, Err(DeleteSessionError::NotFound)));
    assert_eq!(w.store.tail(&survivor, 0, 2000).await.unwrap().len(), 1200);
    assert_eq!(
        w.store.gc().await.unwrap().sessions,
        0,
        "nothing was left to do"
    );
}

async fn an_interrupted_deletion_is_finished(w: World) {
    let s = w.session().await.id;
    let events = (0..1200).map(|_| w.event("agent.message")).collect();
    w.store.append(append(&s, 0, events)).await.unwrap();
    // As after a crash between the two steps.
    let marked = s.clone();
    w.store
        .write(move |tx| {
            use crate::backend::params;
            tx.execute(
                "DELETE FROM session_body WHERE session_id = ?1",
                params![&marked],
            )?;
            tx.execute("DELETE FROM session WHERE id = ?1", params![&marked])?;
            let sql = "INSERT INTO session_deletion (session_id, requested_at) VALUES (?1, 0)";
            tx.execute(sql, params![&marked]).map(drop)
        })
        .await
        .unwrap_or_else(|e: crate::StoreError| panic!("{e}"));
    assert_eq!(w.store.gc().await.unwrap().sessions, 1);
    assert!(w.store.tail(&s, 0, 10).await.unwrap().is_empty());
    assert_eq!(w.store.gc().await.unwrap().sessions, 0);
}

/// Walks a listing to its end and back.
async fn walk(w: &World, q: SessionQuery) -> (Vec<SessionId>, Vec<SessionId>) {
    let (mut there, mut last) = (Vec::new(), None);
    let mut q = q;
    loop {
        let mut page = w
            .store
            .list_sessions(&w.workspace, q.clone())
            .await
            .unwrap();
        let more = page.len() > q.limit;
        page.truncate(q.limit);
        there.extend(page.iter().map(|s| s.id.clone()));
        let at = |s: &crate::SessionRow, direction| SessionCursor {
            created_at: s.created_at,
            id: s.id.clone(),
            direction,
        };
        if !more {
            last = page.first().map(|s| at(s, Direction::Prev)).or(last);
            break;
        }
        q.cursor = page.last().map(|s| at(s, Direction::Next));
        last = None;
    }
    let mut back: Vec<SessionId> = Vec::new();
    let final_page = there.len() % q.limit;
    let final_page = if final_page == 0 && !there.is_empty() {
        q.limit
    } else {
        final_page
    };
    back.extend(there[there.len() - final_page..].iter().rev().cloned());
    q.cursor = last;
    while q.cursor.is_some() {
        let page = w
            .store
            .list_sessions(&w.workspace, q.clone())
            .await
            .unwrap();
        let more = page.len() > q.limit;
        let page = &page[usize::from(more)..];
        back.extend(page.iter().rev().map(|s| s.id.clone()));
        q.cursor = page.first().filter(|_| more).map(|s| SessionCursor {
            created_at: s.created_at,
            id: s.id.clone(),
            direction: Direction::Prev,
        });
    }
    (there, back)
}

async fn lists_go_both_ways(w: World) {
    let mut made = Vec::new();
    for n in 0..11 {
        // Some of the same time: the id decides.
        if n % 3 == 0 {
            w.tick();
        }
        let s = w.store.create_session(w.new_session()).await.unwrap();
        made.push((s.created_at, s.id));
    }
    made.sort();
    let mut expected: Vec<SessionId> = made.into_iter().map(|(_, id)| id).collect();
    for ascending in [true, false] {
        for limit in [1, 2, 5, 10, 11, 12] {
            let q = SessionQuery {
                ascending,
                limit,
                ..Default::default()
            };
            let (there, back) = walk(&w, q).await;
            assert_eq!(there, expected, "by {limit}");
            let reversed: Vec<_> = expected.iter().rev().cloned().collect();
            assert_eq!(back, reversed, "back by {limit}");
        }
        expected.reverse();
    }
}

async fn lists_filter(w: World) {
    let other: WorkspaceId = w.store.create_workspace("b".into()).await.unwrap().id;
    let foreign = crate::NewSession {
        workspace_id: other.clone(),
        environment_id: w.environment(&other, "b").await,
        agent_id: w.agent(&other).await,
        ..w.new_session()
    };
    w.store.create_session(foreign).await.unwrap();
    let plain = w.session().await;
    let agent = w.agent(&w.workspace).await;
    w.tick();
    let of_agent = crate::NewSession {
        agent_id: agent.clone(),
        ..w.new_session()
    };
    let of_agent = w.store.create_session(of_agent).await.unwrap();
    w.tick();
    let store = w.memory_store().await;
    let mut new = crate::NewSession {
        agent_id: agent.clone(),
        agent_version: 2,
        deployment_id: Some("depl_1".into()),
        ..w.new_session()
    };
    new.resources.push(NewResource {
        id: w.ids.next(),
        kind: "memory_store".into(),
        mount_path: None,
        file: None,
        memory_store_id: Some(store.clone()),
        body: "{}".into(),
    });
    let special = w.store.create_session(new).await.unwrap();
    let running = w.session().await;
    w.store
        .accept(&running.id, vec![w.message()])
        .await
        .unwrap();
    let archived = w.session().await;
    w.store
        .archive_session(&w.workspace, &archived.id, vec![])
        .await
        .unwrap();
    let q = || SessionQuery {
        limit: 100,
        ascending: true,
        ..Default::default()
    };
    let t = |s: &crate::SessionRow| Some(s.created_at);
    let all = [&plain, &of_agent, &special, &running];
    let checks: Vec<(SessionQuery, Vec<&crate::SessionRow>)> = vec![
        (q(), all.to_vec()),
        (
            SessionQuery {
                include_archived: true,
                ..q()
            },
            [&all[..], &[&archived]].concat(),
        ),
        (
            SessionQuery {
                agent_id: Some(agent.clone()),
                ..q()
            },
            vec![&of_agent, &special],
        ),
        (
            SessionQuery {
                agent_id: Some(agent),
                agent_version: Some(2),
                ..q()
            },
            vec![&special],
        ),
        (
            SessionQuery {
                deployment_id: Some("depl_1".into()),
                ..q()
            },
            vec![&special],
        ),
        (
            SessionQuery {
                memory_store_id: Some(store.to_string()),
                ..q()
            },
            vec![&special],
        ),
        (
            SessionQuery {
                statuses: vec![Status::Running],
                ..q()
            },
            vec![&running],
        ),
        (
            SessionQuery {
                statuses: vec![Status::Running, Status::Terminated],
                include_archived: true,
                ..q()
            },
            vec![&running, &archived],
        ),
        (
            SessionQuery {
                created_gt: t(&of_agent),
                ..q()
            },
            vec![&special, &running],
        ),
        (
            SessionQuery {
                created_gte: t(&special),
                ..q()
            },
            vec![&special, &running],
        ),
        (
            SessionQuery {
                created_lt: t(&special),
                ..q()
            },
            vec![&plain, &of_agent],
        ),
        (
            SessionQuery {
                created_lte: t(&of_agent),
                ..q()
            },
            vec![&plain, &of_agent],
        ),
        (
            SessionQuery {
                created_lt: Some(Timestamp::from_micros(0)),
                ..q()
            },
            vec![],
        ),
    ];
    for (q, expected) in checks {
        let got = w
            .store
            .list_sessions(&w.workspace, q.clone())
            .await
            .unwrap();
        let got: Vec<_> = got.into_iter().map(|s| s.id).collect();
        let expected: Vec<_> = expected.into_iter().map(|s| s.id.clone()).collect();
        assert_eq!(got, expected, "{q:?}");
    }
    let counts = w.store.count_sessions().await.unwrap();
    assert_eq!(counts, [(Status::Idle, 4), (Status::Running, 1)]);
}
