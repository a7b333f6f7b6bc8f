//! Workspaces and API keys.

use freehold_base::{Clock, WorkspaceId};

use super::cases;
use super::world::World;
use crate::{
    ApiKeyRow, CredentialKind, CredentialRow, KeyId, NewApiKey, NewEnvironmentKey, StoreError,
};

cases! {
    there_is_one_organization_and_a_default_workspace,
    workspaces_are_archived_but_the_default,
    a_key_is_found_by_its_hash,
    a_revoked_key_stops_working,
    an_archived_workspace_stops_its_keys,
    use_is_noted_forwards_only,
}

async fn key(w: &World, workspace: &WorkspaceId, byte: u8) -> ApiKeyRow {
    let new = NewApiKey {
        workspace_id: workspace.clone(),
        name: format!("k{byte}"),
        admin: byte.is_multiple_of(2),
        scope: None,
        hash: [byte; 32],
        last4: "abcd".into(),
    };
    w.store.create_key(new).await.unwrap()
}

async fn there_is_one_organization_and_a_default_workspace(w: World) {
    let organization = w.store.organization().await.unwrap();
    assert_eq!(w.store.organization().await.unwrap(), organization);
    let all = w.store.list_workspaces(true).await.unwrap();
    assert_eq!(all, [w.store.default_workspace().await.unwrap()]);
    assert!(all[0].is_default);
}

async fn workspaces_are_archived_but_the_default(w: World) {
    w.tick();
    let made = w.store.create_workspace("b".into()).await.unwrap();
    assert!(!made.is_default);
    assert_eq!(
        w.store.workspace(&made.id).await.unwrap(),
        Some(made.clone())
    );
    w.tick();
    let archived = w.store.archive_workspace(&made.id).await.unwrap().unwrap();
    assert_eq!(archived.archived_at, Some(w.clock.now()));
    w.tick();
    assert_eq!(
        w.store.archive_workspace(&made.id).await.unwrap(),
        Some(archived.clone())
    );
    assert_eq!(w.store.archive_workspace(&w.workspace).await.unwrap(), None);
    assert_eq!(w.store.list_workspaces(false).await.unwrap().len(), 1);
    assert_eq!(w.store.list_workspaces(true).await.unwrap()[1], archived);
}

async fn a_key_is_found_by_its_hash(w: World) {
    assert!(w.store.keys_is_empty().await.unwrap());
    let (a, b) = (
        key(&w, &w.workspace, 1).await,
        key(&w, &w.workspace, 2).await,
    );
    assert!(!w.store.keys_is_empty().await.unwrap());
    for key in [&a, &b] {
        let found = w.store.credential_by_hash(&key.hash).await.unwrap();
        let kind = CredentialKind::ApiKey {
            id: key.id.clone(),
            admin: key.admin,
        };
        let workspace_id = w.workspace.clone();
        assert_eq!(found, Some(CredentialRow { workspace_id, kind }));
    }
    assert_eq!(w.store.credential_by_hash(&[3; 32]).await.unwrap(), None);
    assert_eq!((a.admin, b.admin, b.hash), (false, true, [2; 32]));
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let c = key(&w, &other, 3).await;
    assert_eq!(w.store.list_keys(Some(&other)).await.unwrap(), [c]);
    assert_eq!(w.store.list_keys(None).await.unwrap().len(), 3);
    let twice = NewApiKey {
        workspace_id: other,
        name: "again".into(),
        admin: false,
        scope: None,
        hash: [1; 32],
        last4: String::new(),
    };
    let twice = w.store.create_key(twice).await;
    assert!(matches!(twice, Err(StoreError::Unique(_))), "{twice:?}");
}

async fn a_revoked_key_stops_working(w: World) {
    let made = key(&w, &w.workspace, 1).await;
    let revoked = w.store.revoke_key(&made.id).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(w.clock.now()));
    assert_eq!(w.store.credential_by_hash(&[1; 32]).await.unwrap(), None);
    w.tick();
    assert_eq!(
        w.store.revoke_key(&made.id).await.unwrap(),
        Some(revoked.clone())
    );
    assert_eq!(w.store.list_keys(None).await.unwrap(), [revoked]);
    assert_eq!(w.store.revoke_key(&w.ids.next()).await.unwrap(), None);
    assert!(
        !w.store.keys_is_empty().await.unwrap(),
        "the first start is over for good"
    );
}

async fn an_archived_workspace_stops_its_keys(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    key(&w, &other, 1).await;
    key(&w, &w.workspace, 2).await;
    w.store.archive_workspace(&other).await.unwrap();
    assert_eq!(w.store.credential_by_hash(&[1; 32]).await.unwrap(), None);
    assert!(
        w.store
            .credential_by_hash(&[2; 32])
            .await
            .unwrap()
            .is_some()
    );
}

async fn use_is_noted_forwards_only(w: World) {
    let api = key(&w, &w.workspace, 1).await;
    let of_environment = NewEnvironmentKey {
        environment_id: w.environment.clone(),
        name: "k".into(),
        hash: [2; 32],
        last4: "abcd".into(),
    };
    let of_environment = w.store.create_environment_key(of_environment).await;
    let of_environment = of_environment.unwrap();
    let (early, late) = (w.clock.now(), w.clock.now().plus_millis(5));
    for at in [late, early] {
        let used = vec![
            (KeyId::Api(api.id.clone()), at),
            (KeyId::Environment(of_environment.id.clone()), at),
        ];
        w.store.touch_keys(used).await.unwrap();
    }
    let api = w.store.list_keys(None).await.unwrap();
    assert_eq!(api[0].last_used_at, Some(late));
    let keys = w.store.list_environment_keys(&w.environment).await.unwrap();
    assert_eq!(keys[0].last_used_at, Some(late));
}
