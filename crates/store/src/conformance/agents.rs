//! Agents and their versions.

use freehold_base::Clock;

use super::cases;
use super::world::World;
use crate::{AgentQuery, UpdateAgentError};

cases! {
    versions_are_kept,
    only_the_newest_version_is_replaced,
    an_archived_agent_stays_as_it_is,
    agents_are_listed_newest_first,
    another_workspace_sees_no_agent,
}

async fn versions_are_kept(w: World) {
    let (ws, id) = (&w.workspace, &w.agent);
    let first = w.store.agent(ws, id, None).await.unwrap().unwrap();
    assert_eq!((first.version, first.body.as_str()), (1, r#"{"v":1}"#));
    w.tick();
    for v in 2..=4 {
        let row = w
            .store
            .update_agent(ws, id, v - 1, format!(r#"{{"v":{v}}}"#))
            .await
            .unwrap();
        assert_eq!((row.version, row.created_at), (v, first.created_at));
        assert_eq!(row.updated_at, w.clock.now());
        assert_eq!(w.store.agent(ws, id, None).await.unwrap(), Some(row));
    }
    assert_eq!(w.store.agent(ws, id, Some(1)).await.unwrap(), Some(first));
    assert_eq!(w.store.agent(ws, id, Some(5)).await.unwrap(), None);
    let versions = |rows: Vec<crate::AgentRow>| rows.iter().map(|r| r.version).collect::<Vec<_>>();
    let all = w.store.list_agent_versions(ws, id, None, 10).await.unwrap();
    assert_eq!(versions(all), [4, 3, 2, 1]);
    let page = w
        .store
        .list_agent_versions(ws, id, Some(4), 1)
        .await
        .unwrap();
    assert_eq!(versions(page), [3, 2]);
}

async fn only_the_newest_version_is_replaced(w: World) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, ws, id) = (w.store.clone(), w.workspace.clone(), w.agent.clone());
            tokio::spawn(async move { store.update_agent(&ws, &id, 1, "{}".into()).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(row) => won += usize::from(row.version == 2),
            Err(UpdateAgentError::Conflict { current }) => assert_eq!(current, 2),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
}

async fn an_archived_agent_stays_as_it_is(w: World) {
    let row = w
        .store
        .archive_agent(&w.workspace, &w.agent)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.archived_at, Some(w.clock.now()));
    w.tick();
    assert_eq!(
        w.store.archive_agent(&w.workspace, &w.agent).await.unwrap(),
        Some(row)
    );
    let refused = w
        .store
        .update_agent(&w.workspace, &w.agent, 1, "{}".into())
        .await;
    assert!(
        matches!(refused, Err(UpdateAgentError::Archived)),
        "{refused:?}"
    );
}

async fn agents_are_listed_newest_first(w: World) {
    let mut made = vec![w.agent.clone()];
    for _ in 0..4 {
        w.tick();
        made.insert(0, w.agent(&w.workspace).await);
    }
    w.store
        .update_agent(&w.workspace, &made[2], 1, r#"{"v":2}"#.into())
        .await
        .unwrap();
    w.store.archive_agent(&w.workspace, &made[1]).await.unwrap();
    let list = async |q: AgentQuery| w.store.list_agents(&w.workspace, q).await.unwrap();
    let q = |limit| AgentQuery {
        include_archived: true,
        limit,
        ..Default::default()
    };
    let ids = |rows: &[crate::AgentRow]| rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>();
    let all = list(q(10)).await;
    assert_eq!(ids(&all), made);
    assert_eq!((all[2].version, all[2].body.as_str()), (2, r#"{"v":2}"#));
    assert_eq!(list(q(2)).await, all[..3]);
    let after = Some((all[1].created_at, all[1].id.clone()));
    assert_eq!(list(AgentQuery { after, ..q(10) }).await, all[2..]);
    let open = list(AgentQuery {
        include_archived: false,
        ..q(10)
    })
    .await;
    assert_eq!(
        ids(&open),
        [
            made[0].clone(),
            made[2].clone(),
            made[3].clone(),
            made[4].clone()
        ]
    );
    let (gte, lte) = (Some(all[3].created_at), Some(all[1].created_at));
    let between = AgentQuery {
        created_gte: gte,
        created_lte: lte,
        ..q(10)
    };
    assert_eq!(list(between).await, all[1..=3]);
}

async fn another_workspace_sees_no_agent(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    assert!(
        w.store
            .agent(&other, &w.agent, None)
            .await
            .unwrap()
            .is_none()
    );
    let q = AgentQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(w.store.list_agents(&other, q).await.unwrap().is_empty());
    assert!(
        w.store
            .list_agent_versions(&other, &w.agent, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        w.store
            .archive_agent(&other, &w.agent)
            .await
            .unwrap()
            .is_none()
    );
    let refused = w.store.update_agent(&other, &w.agent, 1, "{}".into()).await;
    assert!(
        matches!(refused, Err(UpdateAgentError::NotFound)),
        "{refused:?}"
    );
    let row = w
        .store
        .agent(&w.workspace, &w.agent, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.version, row.archived_at), (1, None));
}
