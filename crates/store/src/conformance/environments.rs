//! Environments.

use freehold_base::Clock;

use super::cases;
use super::world::World;
use crate::{
    DeleteEnvironmentError, EnvironmentChange, EnvironmentQuery, NewEnvironment,
    UpdateEnvironmentError,
};

cases! {
    a_name_is_taken_until_archived,
    an_environment_changes_once_per_look,
    an_archived_environment_stays_as_it_is,
    a_used_environment_is_not_deleted,
    environments_are_listed_newest_first,
    another_workspace_sees_no_environment,
}

fn change(name: &str) -> EnvironmentChange {
    EnvironmentChange {
        expected: None,
        name: name.into(),
        body: r#"{"b":1}"#.into(),
    }
}

async fn a_name_is_taken_until_archived(w: World) {
    let new = || NewEnvironment {
        id: w.ids.next(),
        workspace_id: w.workspace.clone(),
        name: "default".into(),
        body: "{}".into(),
    };
    let taken =
        |r: &Result<_, UpdateEnvironmentError>| matches!(r, Err(UpdateEnvironmentError::NameTaken));
    assert!(taken(&w.store.create_environment(new()).await));
    let second = w.environment(&w.workspace, "second").await;
    assert!(taken(
        &w.store
            .update_environment(&w.workspace, &second, change("default"))
            .await
    ));
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    w.environment(&other, "default").await;
    w.store
        .archive_environment(&w.workspace, &w.environment)
        .await
        .unwrap();
    w.store.create_environment(new()).await.unwrap();
}

async fn an_environment_changes_once_per_look(w: World) {
    let row = w
        .store
        .environment(&w.workspace, &w.environment)
        .await
        .unwrap()
        .unwrap();
    let seen = EnvironmentChange {
        expected: Some(row.updated_at),
        ..change("new")
    };
    let changed = w
        .store
        .update_environment(&w.workspace, &row.id, seen.clone())
        .await
        .unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.body.as_str()),
        ("new", r#"{"b":1}"#)
    );
    assert!(
        changed.updated_at > row.updated_at,
        "though the clock stood"
    );
    assert_eq!(changed.created_at, row.created_at);
    let stale = w
        .store
        .update_environment(&w.workspace, &row.id, seen)
        .await;
    assert!(
        matches!(stale, Err(UpdateEnvironmentError::Conflict)),
        "{stale:?}"
    );
    w.store
        .update_environment(&w.workspace, &row.id, change("newer"))
        .await
        .unwrap();
}

async fn an_archived_environment_stays_as_it_is(w: World) {
    let (ws, id) = (&w.workspace, &w.environment);
    w.tick();
    let row = w.store.archive_environment(ws, id).await.unwrap().unwrap();
    assert_eq!(row.archived_at, Some(w.clock.now()));
    w.tick();
    assert_eq!(
        w.store.archive_environment(ws, id).await.unwrap(),
        Some(row)
    );
    let refused = w.store.update_environment(ws, id, change("x")).await;
    assert!(
        matches!(refused, Err(UpdateEnvironmentError::Archived)),
        "{refused:?}"
    );
    w.store.delete_environment(ws, id).await.unwrap();
    assert!(w.store.environment(ws, id).await.unwrap().is_none());
}

async fn a_used_environment_is_not_deleted(w: World) {
    let (ws, id) = (&w.workspace, &w.environment);
    let s = w.session().await.id;
    assert_eq!(
        w.store.count_sessions_of_environment(ws, id).await.unwrap(),
        1
    );
    let refused = w.store.delete_environment(ws, id).await;
    assert!(
        matches!(refused, Err(DeleteEnvironmentError::InUse { sessions: 1 })),
        "{refused:?}"
    );
    w.store.archive_session(ws, &s, vec![]).await.unwrap();
    assert!(
        w.store.delete_environment(ws, id).await.is_err(),
        "an archived session counts"
    );
    w.store.delete_session(ws, &s).await.unwrap();
    w.store.delete_environment(ws, id).await.unwrap();
    let again = w.store.delete_environment(ws, id).await;
    assert!(
        matches!(again, Err(DeleteEnvironmentError::NotFound)),
        "{again:?}"
    );
}

async fn environments_are_listed_newest_first(w: World) {
    let mut made = vec![w.environment.clone()];
    for n in 0..4 {
        w.tick();
        made.insert(0, w.environment(&w.workspace, &n.to_string()).await);
    }
    w.store
        .archive_environment(&w.workspace, &made[1])
        .await
        .unwrap();
    let list =
        async |q: EnvironmentQuery| w.store.list_environments(&w.workspace, q).await.unwrap();
    let q = |limit| EnvironmentQuery {
        include_archived: true,
        limit,
        ..Default::default()
    };
    let all = list(q(10)).await;
    assert_eq!(all.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), made);
    assert_eq!(list(q(2)).await, all[..3]);
    let after = Some((all[1].created_at, all[1].id.clone()));
    assert_eq!(list(EnvironmentQuery { after, ..q(10) }).await, all[2..]);
    let open = list(EnvironmentQuery {
        include_archived: false,
        ..q(10)
    })
    .await;
    assert_eq!(open.len(), 4);
    assert!(open.iter().all(|r| r.archived_at.is_none()));
}

async fn another_workspace_sees_no_environment(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let id = &w.environment;
    w.session().await;
    assert!(w.store.environment(&other, id).await.unwrap().is_none());
    assert!(
        w.store
            .archive_environment(&other, id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        w.store
            .count_sessions_of_environment(&other, id)
            .await
            .unwrap(),
        0
    );
    let refused = w.store.update_environment(&other, id, change("x")).await;
    assert!(
        matches!(refused, Err(UpdateEnvironmentError::NotFound)),
        "{refused:?}"
    );
    let refused = w.store.delete_environment(&other, id).await;
    assert!(
        matches!(refused, Err(DeleteEnvironmentError::NotFound)),
        "{refused:?}"
    );
    let q = EnvironmentQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(
        w.store
            .list_environments(&other, q)
            .await
            .unwrap()
            .is_empty()
    );
    let row = w
        .store
        .environment(&w.workspace, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.name.as_str(), row.archived_at), ("default", None));
}
