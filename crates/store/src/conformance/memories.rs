//! Memory stores, memories and their versions.

use freehold_base::{MemoryId, MemoryStoreId};
use freehold_wire::memory_version::{Actor, Operation};

use super::cases;
use super::world::World;
use crate::{
    CreateSessionError, MemoryChange, MemoryEntry, MemoryQuery, MemoryRemoval, MemoryRow,
    MemoryStoreQuery, MemoryVersionQuery, MemoryVersionRow, NewMemory, NewResource, RedactError,
    UpdateMemoryStoreError, WriteMemoryError,
};

cases! {
    memory_stores_change_once_per_look,
    memory_stores_are_listed_newest_first,
    a_memory_has_its_path_to_itself,
    a_memory_keeps_its_id_when_renamed,
    a_memory_changes_only_as_expected,
    memories_are_listed_by_path_and_folded,
    every_change_leaves_a_version,
    a_redacted_version_says_nothing,
    an_archived_memory_store_takes_nothing_new,
    a_deleted_memory_store_takes_all_with_it,
    another_workspace_sees_no_memory,
    only_an_open_memory_store_is_attached,
}

fn api() -> Actor {
    Actor::ApiActor {
        api_key_id: "apikey_1".parse().unwrap(),
    }
}

async fn create(
    w: &World,
    store: &MemoryStoreId,
    path: &str,
) -> Result<MemoryRow, WriteMemoryError> {
    let new = NewMemory {
        id: w.ids.next(),
        version_id: w.ids.next(),
        path: path.into(),
        content: format!("at {path}"),
        actor: api(),
    };
    w.store.create_memory(&w.workspace, store, new).await
}

fn change(w: &World) -> MemoryChange {
    MemoryChange {
        version_id: w.ids.next(),
        path: None,
        content: None,
        expected_sha256: None,
        actor: api(),
    }
}

fn removal(w: &World) -> MemoryRemoval {
    MemoryRemoval {
        version_id: w.ids.next(),
        expected_sha256: None,
        actor: api(),
    }
}

fn query() -> MemoryQuery {
    MemoryQuery {
        prefix: "/".into(),
        folded: false,
        content: false,
        after: None,
        limit: 100,
    }
}

async fn versions(
    w: &World,
    store: &MemoryStoreId,
    q: MemoryVersionQuery,
) -> Vec<MemoryVersionRow> {
    let q = MemoryVersionQuery { limit: 100, ..q };
    let found = w.store.list_memory_versions(&w.workspace, store, q).await;
    found.unwrap().unwrap()
}

async fn memory_stores_change_once_per_look(w: World) {
    let id = w.memory_store().await;
    let row = w
        .store
        .memory_store(&w.workspace, &id)
        .await
        .unwrap()
        .unwrap();
    let update = |at| {
        w.store
            .update_memory_store(&w.workspace, &id, at, r#"{"n":1}"#.into())
    };
    let changed = update(row.updated_at).await.unwrap();
    assert!(
        changed.updated_at > row.updated_at,
        "though the clock stood"
    );
    let stale = update(row.updated_at).await;
    assert!(
        matches!(stale, Err(UpdateMemoryStoreError::Conflict)),
        "{stale:?}"
    );
    let archived = w
        .store
        .archive_memory_store(&w.workspace, &id)
        .await
        .unwrap();
    assert_eq!(
        archived,
        w.store
            .archive_memory_store(&w.workspace, &id)
            .await
            .unwrap()
    );
    let late = update(archived.unwrap().updated_at).await;
    assert!(
        matches!(late, Err(UpdateMemoryStoreError::Archived)),
        "{late:?}"
    );
}

async fn memory_stores_are_listed_newest_first(w: World) {
    let mut made = Vec::new();
    for _ in 0..4 {
        w.tick();
        let id = w.memory_store().await;
        made.push(
            w.store
                .memory_store(&w.workspace, &id)
                .await
                .unwrap()
                .unwrap(),
        );
    }
    w.store
        .archive_memory_store(&w.workspace, &made[1].id)
        .await
        .unwrap();
    let list = async |q: MemoryStoreQuery| {
        let q = MemoryStoreQuery {
            limit: if q.limit == 0 { 9 } else { q.limit },
            ..q
        };
        let rows = w.store.list_memory_stores(&w.workspace, q).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let ids = |n: &[usize]| n.iter().map(|n| made[*n].id.clone()).collect::<Vec<_>>();
    assert_eq!(list(MemoryStoreQuery::default()).await, ids(&[3, 2, 0]));
    let all = MemoryStoreQuery {
        include_archived: true,
        ..Default::default()
    };
    assert_eq!(list(all.clone()).await, ids(&[3, 2, 1, 0]));
    let after = Some((made[2].created_at, made[2].id.clone()));
    assert_eq!(
        list(MemoryStoreQuery {
            after,
            limit: 1,
            ..all.clone()
        })
        .await,
        ids(&[1, 0])
    );
    let (from, until) = (Some(made[1].created_at), Some(made[2].created_at));
    assert_eq!(
        list(MemoryStoreQuery { from, until, ..all }).await,
        ids(&[2, 1])
    );
}

async fn a_memory_has_its_path_to_itself(w: World) {
    let store = w.memory_store().await;
    let deep = create(&w, &store, "/a/b/c").await.unwrap();
    create(&w, &store, "/a/b-2").await.unwrap();
    for (path, blocker) in [
        ("/a/b/c", "/a/b/c"),
        ("/a", "/a/b-2"),
        ("/a/b", "/a/b/c"),
        ("/a/b/c/d/e", "/a/b/c"),
    ] {
        match create(&w, &store, path).await {
            Err(WriteMemoryError::PathTaken { path: found, .. }) => assert_eq!(found, blocker),
            other => panic!("{path}: {other:?}"),
        }
    }
    for free in ["/a/b0", "/a/c", "/a/B/c", "/ab"] {
        create(&w, &store, free).await.unwrap();
    }
    create(&w, &w.memory_store().await, "/a/b/c").await.unwrap();
    w.store
        .delete_memory(&w.workspace, &store, &deep.id, removal(&w))
        .await
        .unwrap();
    create(&w, &store, "/a/b").await.unwrap();
}

async fn a_memory_keeps_its_id_when_renamed(w: World) {
    let store = w.memory_store().await;
    let row = create(&w, &store, "/a").await.unwrap();
    create(&w, &store, "/z").await.unwrap();
    let rename = async |path: &str| {
        let change = MemoryChange {
            path: Some(path.into()),
            ..change(&w)
        };
        w.store
            .update_memory(&w.workspace, &store, &row.id, change)
            .await
    };
    let moved = rename("/a/below/itself").await.unwrap();
    assert_eq!(
        (&moved.id, moved.content.as_deref()),
        (&row.id, Some("at /a"))
    );
    assert!(moved.updated_at > row.updated_at && moved.version_id != row.version_id);
    let taken = rename("/z/x").await;
    assert!(
        matches!(taken, Err(WriteMemoryError::PathTaken { .. })),
        "{taken:?}"
    );
    let found = w.store.memory(&w.workspace, &store, &row.id).await.unwrap();
    assert_eq!(found, Some(moved));
}

async fn a_memory_changes_only_as_expected(w: World) {
    let store = w.memory_store().await;
    let row = create(&w, &store, "/a").await.unwrap();
    let update = async |content: &str, expected: &str| {
        let change = MemoryChange {
            content: Some(content.into()),
            expected_sha256: Some(expected.into()),
            ..change(&w)
        };
        w.store
            .update_memory(&w.workspace, &store, &row.id, change)
            .await
    };
    let changed = update("new", &row.sha256).await.unwrap();
    assert_eq!(
        update("new", &row.sha256).await.unwrap(),
        changed,
        "its own work, found again"
    );
    let stale = update("newer", &row.sha256).await;
    assert!(
        matches!(stale, Err(WriteMemoryError::Precondition)),
        "{stale:?}"
    );
    // A rename is about the content too.
    let rename = MemoryChange {
        path: Some("/b".into()),
        expected_sha256: Some(row.sha256.clone()),
        ..change(&w)
    };
    let stale = w
        .store
        .update_memory(&w.workspace, &store, &row.id, rename)
        .await;
    assert!(
        matches!(stale, Err(WriteMemoryError::Precondition)),
        "{stale:?}"
    );
    let nothing = w
        .store
        .update_memory(&w.workspace, &store, &row.id, change(&w))
        .await
        .unwrap();
    assert_eq!(nothing, changed);
    assert_eq!(versions(&w, &store, Default::default()).await.len(), 2);
    let stale = MemoryRemoval {
        expected_sha256: Some(row.sha256.clone()),
        ..removal(&w)
    };
    let stale = w
        .store
        .delete_memory(&w.workspace, &store, &row.id, stale)
        .await;
    assert!(
        matches!(stale, Err(WriteMemoryError::Precondition)),
        "{stale:?}"
    );
    let right = MemoryRemoval {
        expected_sha256: Some(changed.sha256),
        ..removal(&w)
    };
    w.store
        .delete_memory(&w.workspace, &store, &row.id, right)
        .await
        .unwrap();
    let gone = w
        .store
        .delete_memory(&w.workspace, &store, &row.id, removal(&w))
        .await;
    assert!(matches!(gone, Err(WriteMemoryError::NotFound)), "{gone:?}");
}

async fn memories_are_listed_by_path_and_folded(w: World) {
    let store = w.memory_store().await;
    for path in ["/b/2", "/a", "/b0", "/b/1/x", "/b/1/y", "/c", "/b-1"] {
        create(&w, &store, path).await.unwrap();
    }
    let list = async |q: MemoryQuery| {
        let found = w
            .store
            .list_memories(&w.workspace, &store, q)
            .await
            .unwrap()
            .unwrap();
        let each = found.into_iter().map(|entry| match entry {
            MemoryEntry::Memory(row) => row.path,
            MemoryEntry::Prefix(path) => path,
        });
        each.collect::<Vec<_>>()
    };
    let flat = ["/a", "/b-1", "/b/1/x", "/b/1/y", "/b/2", "/b0", "/c"];
    let folded = ["/a", "/b-1", "/b/", "/b0", "/c"];
    assert_eq!(list(query()).await, flat);
    let deep = |prefix: &str| MemoryQuery {
        prefix: prefix.into(),
        folded: true,
        ..query()
    };
    assert_eq!(list(deep("/")).await, folded);
    assert_eq!(list(deep("/b/")).await, ["/b/1/", "/b/2"]);
    assert_eq!(
        list(MemoryQuery {
            folded: false,
            ..deep("/b/")
        })
        .await,
        ["/b/1/x", "/b/1/y", "/b/2"]
    );
    assert!(list(deep("/x/")).await.is_empty());
    for (all, fold) in [(&flat[..], false), (&folded[..], true)] {
        let mut walked = Vec::new();
        loop {
            let after = walked.last().cloned();
            let page = list(MemoryQuery {
                folded: fold,
                after,
                limit: 1,
                ..query()
            })
            .await;
            let more = page.len() == 2;
            walked.extend(page.into_iter().take(1));
            if !more {
                break;
            }
        }
        assert_eq!(walked, all);
    }
    let full = MemoryQuery {
        content: true,
        limit: 1,
        ..query()
    };
    let found = w
        .store
        .list_memories(&w.workspace, &store, full)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(&found[0], MemoryEntry::Memory(row) if row.content.as_deref() == Some("at /a"))
    );
}

async fn every_change_leaves_a_version(w: World) {
    let store = w.memory_store().await;
    let session = w.session().await.id;
    let by_session = Actor::SessionActor {
        session_id: session.clone(),
    };
    let row = create(&w, &store, "/a").await.unwrap();
    create(&w, &store, "/other").await.unwrap();
    let edit = MemoryChange {
        content: Some("edited".into()),
        actor: by_session.clone(),
        ..change(&w)
    };
    let edited = w
        .store
        .update_memory(&w.workspace, &store, &row.id, edit)
        .await
        .unwrap();
    w.store
        .delete_memory(&w.workspace, &store, &row.id, removal(&w))
        .await
        .unwrap();
    let of = MemoryVersionQuery {
        memory: Some(row.id.clone()),
        content: true,
        ..Default::default()
    };
    let all = versions(&w, &store, of.clone()).await;
    let seen: Vec<_> = all
        .iter()
        .map(|v| (v.operation, v.content.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            (Operation::Deleted, None),
            (Operation::Modified, Some("edited")),
            (Operation::Created, Some("at /a")),
        ],
        "newest first, though the clock stood"
    );
    assert_eq!(
        (all[0].path.as_deref(), &all[0].sha256),
        (Some("/a"), &None)
    );
    assert_eq!((&all[1].id, all[1].size), (&edited.version_id, Some(6)));
    assert_eq!(
        (&all[1].actor, &all[2].actor),
        (&Some(by_session), &Some(api()))
    );
    let one = |q: MemoryVersionQuery| versions(&w, &store, q);
    let d = MemoryVersionQuery::default;
    assert_eq!(
        one(MemoryVersionQuery {
            session: Some(session),
            ..d()
        })
        .await
        .len(),
        1
    );
    assert_eq!(
        one(MemoryVersionQuery {
            api_key: Some("apikey_1".parse().unwrap()),
            ..d()
        })
        .await
        .len(),
        3
    );
    assert_eq!(
        one(MemoryVersionQuery {
            service_account: Some("svac_1".into()),
            ..d()
        })
        .await
        .len(),
        0
    );
    assert_eq!(
        one(MemoryVersionQuery {
            operation: Some(Operation::Created),
            ..d()
        })
        .await
        .len(),
        2
    );
    assert_eq!(
        one(MemoryVersionQuery {
            from: Some(all[0].created_at),
            ..d()
        })
        .await
        .len(),
        1
    );
    let after = Some((all[1].created_at, all[1].id.clone()));
    assert_eq!(one(MemoryVersionQuery { after, ..of }).await, all[2..]);
    let found = w
        .store
        .memory_version(&w.workspace, &store, &all[2].id)
        .await
        .unwrap();
    assert_eq!(found.as_ref(), Some(&all[2]));
}

async fn a_redacted_version_says_nothing(w: World) {
    let store = w.memory_store().await;
    let row = create(&w, &store, "/a").await.unwrap();
    let redact = |id| {
        w.store
            .redact_memory_version(&w.workspace, &store, id, api())
    };
    let head = redact(&row.version_id).await;
    assert!(matches!(head, Err(RedactError::Current)), "{head:?}");
    let edit = MemoryChange {
        content: Some("b".into()),
        ..change(&w)
    };
    w.store
        .update_memory(&w.workspace, &store, &row.id, edit)
        .await
        .unwrap();
    let redacted = redact(&row.version_id).await.unwrap();
    assert_eq!(
        (
            &redacted.path,
            &redacted.content,
            &redacted.sha256,
            redacted.size
        ),
        (&None, &None, &None, None)
    );
    assert_eq!(
        (&redacted.actor, &redacted.redactor),
        (&Some(api()), &Some(api()))
    );
    assert_eq!(
        (&redacted.memory_id, redacted.operation),
        (&row.id, Operation::Created)
    );
    w.tick();
    assert_eq!(
        redact(&row.version_id).await.unwrap(),
        redacted,
        "again changes nothing"
    );
    let unknown = redact(&w.ids.next()).await;
    assert!(matches!(unknown, Err(RedactError::NotFound)), "{unknown:?}");
}

async fn an_archived_memory_store_takes_nothing_new(w: World) {
    let store = w.memory_store().await;
    let row = create(&w, &store, "/a").await.unwrap();
    w.store
        .archive_memory_store(&w.workspace, &store)
        .await
        .unwrap();
    let made = create(&w, &store, "/b").await;
    assert!(matches!(made, Err(WriteMemoryError::Archived)), "{made:?}");
    let edit = MemoryChange {
        content: Some("x".into()),
        ..change(&w)
    };
    let edited = w
        .store
        .update_memory(&w.workspace, &store, &row.id, edit)
        .await;
    assert!(
        matches!(edited, Err(WriteMemoryError::Archived)),
        "{edited:?}"
    );
    assert!(
        w.store
            .memory(&w.workspace, &store, &row.id)
            .await
            .unwrap()
            .is_some()
    );
    w.store
        .delete_memory(&w.workspace, &store, &row.id, removal(&w))
        .await
        .unwrap();
}

async fn a_deleted_memory_store_takes_all_with_it(w: World) {
    let (store, other) = (w.memory_store().await, w.memory_store().await);
    let row = create(&w, &store, "/a").await.unwrap();
    create(&w, &other, "/a").await.unwrap();
    assert!(
        w.store
            .delete_memory_store(&w.workspace, &store)
            .await
            .unwrap()
    );
    assert!(
        !w.store
            .delete_memory_store(&w.workspace, &store)
            .await
            .unwrap()
    );
    assert_eq!(
        w.store.memory(&w.workspace, &store, &row.id).await.unwrap(),
        None
    );
    let listed = w
        .store
        .list_memories(&w.workspace, &store, query())
        .await
        .unwrap();
    assert_eq!(listed, None);
    let gone = create(&w, &store, "/b").await;
    assert!(
        matches!(gone, Err(WriteMemoryError::StoreNotFound)),
        "{gone:?}"
    );
    let kept = w
        .store
        .list_memories(&w.workspace, &other, query())
        .await
        .unwrap();
    assert_eq!(kept.unwrap().len(), 1);
    assert_eq!(versions(&w, &other, Default::default()).await.len(), 1);
}

async fn another_workspace_sees_no_memory(w: World) {
    let store = w.memory_store().await;
    let row = create(&w, &store, "/a").await.unwrap();
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    assert_eq!(w.store.memory_store(&other, &store).await.unwrap(), None);
    assert_eq!(
        w.store.archive_memory_store(&other, &store).await.unwrap(),
        None
    );
    assert!(!w.store.delete_memory_store(&other, &store).await.unwrap());
    assert_eq!(w.store.memory(&other, &store, &row.id).await.unwrap(), None);
    assert_eq!(
        w.store
            .list_memories(&other, &store, query())
            .await
            .unwrap(),
        None
    );
    let versions = w
        .store
        .list_memory_versions(&other, &store, Default::default())
        .await;
    assert_eq!(versions.unwrap(), None);
    assert_eq!(
        w.store
            .memory_version(&other, &store, &row.version_id)
            .await
            .unwrap(),
        None
    );
    let removed = w
        .store
        .delete_memory(&other, &store, &row.id, removal(&w))
        .await;
    assert!(
        matches!(removed, Err(WriteMemoryError::StoreNotFound)),
        "{removed:?}"
    );
    let redacted = w
        .store
        .redact_memory_version(&other, &store, &row.version_id, api())
        .await;
    assert!(
        matches!(redacted, Err(RedactError::NotFound)),
        "{redacted:?}"
    );
    // Nor through a store of its own.
    let own = w.memory_store().await;
    let missed: MemoryId = row.id.clone();
    assert_eq!(
        w.store.memory(&w.workspace, &own, &missed).await.unwrap(),
        None
    );
}

async fn only_an_open_memory_store_is_attached(w: World) {
    let (open, archived) = (w.memory_store().await, w.memory_store().await);
    w.store
        .archive_memory_store(&w.workspace, &archived)
        .await
        .unwrap();
    let attach = async |store: &MemoryStoreId| {
        let mut new = w.new_session();
        new.resources.push(NewResource {
            id: w.ids.next(),
            kind: "memory_store".into(),
            mount_path: Some("/mnt/memory/m".into()),
            file: None,
            memory_store_id: Some(store.clone()),
            body: r#"{"b":1}"#.into(),
        });
        w.store.create_session(new).await
    };
    let session = attach(&open).await.unwrap();
    let attached = w.store.session_memory_stores(&session.id).await.unwrap();
    assert_eq!(attached.len(), 1);
    assert_eq!(
        (&attached[0].store, attached[0].mount_path.as_str()),
        (&open, "/mnt/memory/m")
    );
    for bad in [archived, w.ids.next()] {
        match attach(&bad).await {
            Err(CreateSessionError::MemoryStoreGone(id)) => assert_eq!(id, bad),
            other => panic!("{other:?}"),
        }
    }
    // The session goes on, and can be deleted, when the store is gone.
    w.store
        .delete_memory_store(&w.workspace, &open)
        .await
        .unwrap();
    w.store
        .delete_session(&w.workspace, &session.id)
        .await
        .unwrap();
}
