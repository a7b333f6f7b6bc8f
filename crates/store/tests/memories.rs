//! The limit of a memory store.

use std::sync::Arc;

use freehold_base::{IdSource, limits};
use freehold_store::{
    MemoryChange, MemoryRow, NewMemory, NewMemoryStore, NoListener, Store, WriteMemoryError,
};
use freehold_wire::memory_version::Actor;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_takes_changes_only() {
    let (dir, ids) = (tempfile::tempdir().unwrap(), IdSource::system());
    let store = Store::open(dir.path(), ids.clone(), Arc::new(NoListener)).unwrap();
    let workspace = store.default_workspace().await.unwrap().id;
    let new = NewMemoryStore {
        id: ids.next(),
        workspace_id: workspace.clone(),
        body: "{}".into(),
    };
    let memories = store.create_memory_store(new).await.unwrap().id;
    let actor = Actor::ApiActor {
        api_key_id: ids.next(),
    };
    let create = |n: usize| {
        let new = NewMemory {
            id: ids.next(),
            version_id: ids.next(),
            path: format!("/{n}"),
            content: String::new(),
            actor: actor.clone(),
        };
        let (store, workspace, memories) = (store.clone(), workspace.clone(), memories.clone());
        async move { store.create_memory(&workspace, &memories, new).await }
    };
    let made: Vec<_> = (0..limits::MAX_MEMORIES + 8)
        .map(|n| tokio::spawn(create(n)))
        .collect();
    let (mut held, mut refused): (Vec<MemoryRow>, usize) = (Vec::new(), 0);
    for made in made {
        match made.await.unwrap() {
            Ok(row) => held.push(row),
            Err(WriteMemoryError::Full) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((held.len(), refused), (limits::MAX_MEMORIES, 8));
    let change = MemoryChange {
        version_id: ids.next(),
        path: Some("/elsewhere".into()),
        content: Some("x".into()),
        expected_sha256: None,
        actor,
    };
    store
        .update_memory(&workspace, &memories, &held[0].id, change)
        .await
        .unwrap();
}
