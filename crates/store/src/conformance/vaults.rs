//! Vaults and their credentials.

use freehold_base::{Clock, CredentialId, Secret, VaultId, WorkspaceId, limits};

use super::cases;
use super::world::World;
use crate::{
    CreateCredentialError, CreateSessionError, CredentialChange, CredentialQuery, NewCredential,
    NewVault, SessionChange, UpdateCredentialError, UpdateSessionError, UpdateVaultError,
    VaultCredentialRow, VaultQuery, VaultRow,
};

cases! {
    a_vault_changes_once_per_look,
    an_archived_vault_takes_its_credentials_along,
    a_deleted_vault_takes_its_credentials_along,
    vaults_are_listed_newest_first,
    credentials_are_listed_newest_first,
    a_credential_changes_once_per_look,
    a_target_is_taken_until_archived,
    a_vault_holds_only_so_many,
    another_workspace_sees_no_vault,
    a_session_needs_vaults_that_are_there,
    the_first_vault_that_has_a_variable_wins,
    changes_reach_a_session_at_once,
    a_vault_of_another_workspace_serves_no_session,
}

async fn vault(w: &World, workspace: &WorkspaceId) -> VaultRow {
    w.tick();
    let new = NewVault {
        id: w.ids.next(),
        workspace_id: workspace.clone(),
        body: r#"{"v":1}"#.into(),
    };
    w.store.create_vault(new).await.unwrap()
}

fn new(w: &World, vault: &VaultId, target: &str, value: &str) -> NewCredential {
    NewCredential {
        id: w.ids.next(),
        vault_id: vault.clone(),
        workspace_id: w.workspace.clone(),
        kind: "environment_variable",
        target: target.into(),
        body: format!("{{\"target\":\"{target}\"}}"),
        secrets: vec![("secret_value", Secret::new(value.to_owned()))],
    }
}

async fn variable(w: &World, vault: &VaultId, target: &str, value: &str) -> VaultCredentialRow {
    w.tick();
    let new = new(w, vault, target, value);
    w.store.create_credential(new).await.unwrap()
}

/// A session's credentials as ids and values.
async fn resolved(w: &World, vaults: &[&VaultId]) -> Vec<(CredentialId, String)> {
    let mut session = w.new_session();
    session.vault_ids = serde_json::to_string(vaults).unwrap();
    let session = w.store.create_session(session).await.unwrap().id;
    values(w, &session).await
}

async fn values(w: &World, session: &freehold_base::SessionId) -> Vec<(CredentialId, String)> {
    let all = w.store.session_environment_credentials(session);
    let all = all.await.unwrap().into_iter();
    all.map(|c| (c.row.id, c.value.unwrap().expose().clone()))
        .collect()
}

async fn a_vault_changes_once_per_look(w: World) {
    let row = vault(&w, &w.workspace).await;
    let change = || {
        w.store
            .update_vault(&w.workspace, &row.id, row.updated_at, r#"{"v":2}"#.into())
    };
    let changed = change().await.unwrap();
    assert_eq!(changed.body, r#"{"v":2}"#);
    assert!(
        changed.updated_at > row.updated_at,
        "though the clock stood"
    );
    assert_eq!(changed.created_at, row.created_at);
    let stale = change().await;
    assert!(
        matches!(stale, Err(UpdateVaultError::Conflict)),
        "{stale:?}"
    );
    assert_eq!(
        w.store.vault(&w.workspace, &row.id).await.unwrap(),
        Some(changed)
    );
}

async fn an_archived_vault_takes_its_credentials_along(w: World) {
    let v = vault(&w, &w.workspace).await;
    let c = variable(&w, &v.id, "A", "secret").await;
    let mut session = w.new_session();
    session.vault_ids = serde_json::to_string(&[&v.id]).unwrap();
    let session = w.store.create_session(session).await.unwrap().id;
    assert_eq!(values(&w, &session).await.len(), 1);
    w.tick();
    let archived = w.store.archive_vault(&w.workspace, &v.id).await.unwrap();
    let archived = archived.unwrap();
    assert_eq!(archived.archived_at, Some(w.clock.now()));
    let credential = w
        .store
        .credential(&w.workspace, &v.id, &c.id)
        .await
        .unwrap();
    assert_eq!(credential.unwrap().archived_at, Some(w.clock.now()));
    // The session goes on, without.
    assert_eq!(values(&w, &session).await, []);
    w.tick();
    let again = w.store.archive_vault(&w.workspace, &v.id).await.unwrap();
    assert_eq!(again, Some(archived.clone()));
    let change = w
        .store
        .update_vault(&w.workspace, &v.id, archived.updated_at, "{}".into())
        .await;
    assert!(
        matches!(change, Err(UpdateVaultError::Archived)),
        "{change:?}"
    );
    let more = w.store.create_credential(new(&w, &v.id, "B", "x")).await;
    assert!(
        matches!(more, Err(CreateCredentialError::VaultArchived)),
        "{more:?}"
    );
}

async fn a_deleted_vault_takes_its_credentials_along(w: World) {
    let v = vault(&w, &w.workspace).await;
    let c = variable(&w, &v.id, "A", "secret").await;
    let archived = variable(&w, &v.id, "B", "secret").await;
    w.store
        .archive_credential(&w.workspace, &v.id, &archived.id)
        .await
        .unwrap();
    assert!(w.store.delete_vault(&w.workspace, &v.id).await.unwrap());
    assert_eq!(w.store.vault(&w.workspace, &v.id).await.unwrap(), None);
    for id in [&c.id, &archived.id] {
        let gone = w.store.credential(&w.workspace, &v.id, id).await.unwrap();
        assert_eq!(gone, None);
    }
    assert!(!w.store.delete_vault(&w.workspace, &v.id).await.unwrap());
    let more = w.store.create_credential(new(&w, &v.id, "B", "x")).await;
    assert!(
        matches!(more, Err(CreateCredentialError::VaultNotFound)),
        "{more:?}"
    );
}

async fn vaults_are_listed_newest_first(w: World) {
    let mut made = Vec::new();
    for _ in 0..4 {
        made.insert(0, vault(&w, &w.workspace).await.id);
    }
    w.store.archive_vault(&w.workspace, &made[1]).await.unwrap();
    let list = async |q: VaultQuery| w.store.list_vaults(&w.workspace, q).await.unwrap();
    let q = |limit| VaultQuery {
        include_archived: true,
        limit,
        ..Default::default()
    };
    let all = list(q(10)).await;
    assert_eq!(all.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), made);
    assert_eq!(list(q(2)).await, all[..3]);
    let after = Some((all[1].created_at, all[1].id.clone()));
    assert_eq!(list(VaultQuery { after, ..q(10) }).await, all[2..]);
    let open = list(VaultQuery {
        include_archived: false,
        ..q(10)
    });
    assert_eq!(open.await.len(), 3);
}

async fn credentials_are_listed_newest_first(w: World) {
    let (v, other) = (
        vault(&w, &w.workspace).await.id,
        vault(&w, &w.workspace).await.id,
    );
    variable(&w, &other, "A", "x").await;
    let mut made = Vec::new();
    for name in ["A", "B", "C", "D"] {
        made.insert(0, variable(&w, &v, name, "x").await.id);
    }
    w.store
        .archive_credential(&w.workspace, &v, &made[1])
        .await
        .unwrap();
    let list = async |q: CredentialQuery| {
        let rows = w.store.list_credentials(&w.workspace, &v, q);
        rows.await.unwrap()
    };
    let q = |limit| CredentialQuery {
        include_archived: true,
        limit,
        ..Default::default()
    };
    let all = list(q(10)).await;
    assert_eq!(all.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), made);
    assert_eq!(list(q(2)).await, all[..3]);
    let after = Some((all[1].created_at, all[1].id.clone()));
    assert_eq!(list(CredentialQuery { after, ..q(10) }).await, all[2..]);
    let open = list(CredentialQuery {
        include_archived: false,
        ..q(10)
    });
    assert_eq!(open.await.len(), 3);
}

async fn a_credential_changes_once_per_look(w: World) {
    let v = vault(&w, &w.workspace).await.id;
    let row = variable(&w, &v, "A", "old").await;
    let change = |body: &str, secret: Option<&str>| {
        let secrets = secret.map(|s| ("secret_value", Secret::new(s.to_owned())));
        let change = CredentialChange {
            expected: row.updated_at,
            body: body.into(),
            secrets: secrets.into_iter().collect(),
        };
        w.store.update_credential(&w.workspace, &v, &row.id, change)
    };
    let changed = change("{}", Some("new")).await.unwrap();
    assert_eq!(changed.body, "{}");
    assert!(
        changed.updated_at > row.updated_at,
        "though the clock stood"
    );
    let stale = change("[]", Some("newer")).await;
    assert!(
        matches!(stale, Err(UpdateCredentialError::Conflict)),
        "{stale:?}"
    );
    assert_eq!(
        resolved(&w, &[&v]).await,
        [(row.id.clone(), "new".to_owned())]
    );
    w.store
        .archive_credential(&w.workspace, &v, &row.id)
        .await
        .unwrap();
    let refused = change("[]", None).await;
    assert!(
        matches!(refused, Err(UpdateCredentialError::Archived)),
        "{refused:?}"
    );
    assert!(
        w.store
            .delete_credential(&w.workspace, &v, &row.id)
            .await
            .unwrap()
    );
    let refused = change("[]", None).await;
    assert!(
        matches!(refused, Err(UpdateCredentialError::NotFound)),
        "{refused:?}"
    );
}

async fn a_target_is_taken_until_archived(w: World) {
    let (v, other) = (
        vault(&w, &w.workspace).await.id,
        vault(&w, &w.workspace).await.id,
    );
    let first = variable(&w, &v, "A", "x").await;
    let twice = w.store.create_credential(new(&w, &v, "A", "y")).await;
    assert!(
        matches!(twice, Err(CreateCredentialError::TargetTaken)),
        "{twice:?}"
    );
    variable(&w, &other, "A", "z").await;
    let archived = w
        .store
        .archive_credential(&w.workspace, &v, &first.id)
        .await
        .unwrap();
    assert!(archived.unwrap().archived_at.is_some());
    variable(&w, &v, "A", "y").await;
    let missing = w
        .store
        .archive_credential(&w.workspace, &other, &first.id)
        .await;
    assert_eq!(missing.unwrap(), None, "it is in another vault");
}

async fn a_vault_holds_only_so_many(w: World) {
    let v = vault(&w, &w.workspace).await.id;
    let mut last = None;
    for n in 0..limits::MAX_CREDENTIALS {
        last = Some(variable(&w, &v, &format!("V{n}"), "x").await);
    }
    let more = w.store.create_credential(new(&w, &v, "MORE", "x")).await;
    assert!(matches!(more, Err(CreateCredentialError::Full)), "{more:?}");
    let twice = w.store.create_credential(new(&w, &v, "V0", "x")).await;
    assert!(
        matches!(twice, Err(CreateCredentialError::TargetTaken)),
        "{twice:?}"
    );
    w.store
        .archive_credential(&w.workspace, &v, &last.unwrap().id)
        .await
        .unwrap();
    variable(&w, &v, "MORE", "x").await;
}

async fn another_workspace_sees_no_vault(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let v = vault(&w, &w.workspace).await.id;
    let c = variable(&w, &v, "A", "x").await;
    let store = &w.store;
    assert_eq!(store.vault(&other, &v).await.unwrap(), None);
    assert_eq!(store.archive_vault(&other, &v).await.unwrap(), None);
    assert!(!store.delete_vault(&other, &v).await.unwrap());
    let change = store
        .update_vault(&other, &v, c.updated_at, "{}".into())
        .await;
    assert!(
        matches!(change, Err(UpdateVaultError::NotFound)),
        "{change:?}"
    );
    let q = || CredentialQuery {
        limit: 10,
        ..Default::default()
    };
    let all = VaultQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(store.list_vaults(&other, all).await.unwrap().is_empty());
    let rows = store.list_credentials(&other, &v, q()).await.unwrap();
    assert!(rows.is_empty());
    assert_eq!(store.credential(&other, &v, &c.id).await.unwrap(), None);
    let none = store.archive_credential(&other, &v, &c.id).await.unwrap();
    assert_eq!(none, None);
    assert!(!store.delete_credential(&other, &v, &c.id).await.unwrap());
    let change = CredentialChange {
        expected: c.updated_at,
        body: "{}".into(),
        secrets: Vec::new(),
    };
    let change = store.update_credential(&other, &v, &c.id, change).await;
    assert!(
        matches!(change, Err(UpdateCredentialError::NotFound)),
        "{change:?}"
    );
    let foreign = NewCredential {
        workspace_id: other.clone(),
        ..new(&w, &v, "B", "x")
    };
    let made = store.create_credential(foreign).await;
    assert!(
        matches!(made, Err(CreateCredentialError::VaultNotFound)),
        "{made:?}"
    );
    let row = store.credential(&w.workspace, &v, &c.id).await.unwrap();
    assert_eq!(row, Some(c));
}

async fn a_session_needs_vaults_that_are_there(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let good = vault(&w, &w.workspace).await.id;
    let archived = vault(&w, &w.workspace).await.id;
    w.store
        .archive_vault(&w.workspace, &archived)
        .await
        .unwrap();
    let foreign = vault(&w, &other).await.id;
    let unknown: VaultId = w.ids.next();
    let s = w.session().await.id;
    for bad in [archived, foreign, unknown] {
        let json = serde_json::to_string(&[&good, &bad]).unwrap();
        let mut session = w.new_session();
        session.vault_ids = json.clone();
        let made = w.store.create_session(session).await;
        assert!(
            matches!(&made, Err(CreateSessionError::VaultGone(id)) if *id == bad),
            "{made:?}"
        );
        let change = SessionChange {
            vault_ids: Some(json),
            ..SessionChange::default()
        };
        let changed = w.store.update_session(&w.workspace, &s, change).await;
        assert!(
            matches!(&changed, Err(UpdateSessionError::VaultGone(id)) if *id == bad),
            "{changed:?}"
        );
    }
    assert_eq!(w.row(&s).await.vault_ids, "[]");
}

async fn the_first_vault_that_has_a_variable_wins(w: World) {
    let (a, b) = (
        vault(&w, &w.workspace).await.id,
        vault(&w, &w.workspace).await.id,
    );
    let in_b = variable(&w, &b, "X", "b").await.id;
    let only_b = variable(&w, &b, "Y", "y").await.id;
    let in_a = variable(&w, &a, "X", "a").await.id;
    let token = NewCredential {
        kind: "static_bearer",
        secrets: vec![("token", Secret::new("t".to_owned()))],
        ..new(&w, &a, "https://mcp.example.com", "")
    };
    w.store.create_credential(token).await.unwrap();
    let pair = |id: &CredentialId, value: &str| (id.clone(), value.to_owned());
    assert_eq!(
        resolved(&w, &[&a, &b]).await,
        [pair(&in_a, "a"), pair(&only_b, "y")]
    );
    assert_eq!(
        resolved(&w, &[&b, &a, &b]).await,
        [pair(&in_b, "b"), pair(&only_b, "y")]
    );
    assert_eq!(resolved(&w, &[]).await, []);
    let nobody = w.ids.next();
    assert_eq!(values(&w, &nobody).await, []);
}

async fn changes_reach_a_session_at_once(w: World) {
    let (a, b) = (
        vault(&w, &w.workspace).await.id,
        vault(&w, &w.workspace).await.id,
    );
    let (one, two) = (
        variable(&w, &a, "X", "one").await,
        variable(&w, &b, "X", "two").await,
    );
    let mut session = w.new_session();
    session.vault_ids = serde_json::to_string(&[&a, &b]).unwrap();
    let s = w.store.create_session(session).await.unwrap().id;
    let now = async || {
        values(&w, &s)
            .await
            .into_iter()
            .map(|(_, v)| v)
            .collect::<Vec<_>>()
    };
    assert_eq!(now().await, ["one"]);
    let change = CredentialChange {
        expected: one.updated_at,
        body: one.body.clone(),
        secrets: vec![("secret_value", Secret::new("rotated".to_owned()))],
    };
    w.store
        .update_credential(&w.workspace, &a, &one.id, change)
        .await
        .unwrap();
    assert_eq!(now().await, ["rotated"]);
    w.store
        .archive_credential(&w.workspace, &a, &one.id)
        .await
        .unwrap();
    assert_eq!(now().await, ["two"]);
    w.store
        .delete_credential(&w.workspace, &b, &two.id)
        .await
        .unwrap();
    assert_eq!(now().await, [""; 0]);
    variable(&w, &b, "X", "three").await;
    assert_eq!(now().await, ["three"]);
    let change = SessionChange {
        vault_ids: Some("[]".into()),
        ..SessionChange::default()
    };
    w.store
        .update_session(&w.workspace, &s, change)
        .await
        .unwrap();
    assert_eq!(now().await, [""; 0]);
}

/// Not even if its id got into the row.
async fn a_vault_of_another_workspace_serves_no_session(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let v = vault(&w, &other).await.id;
    let foreign = NewCredential {
        workspace_id: other,
        ..new(&w, &v, "X", "secret")
    };
    w.store.create_credential(foreign).await.unwrap();
    let s = w.session().await.id;
    let json = serde_json::to_string(&[&v]).unwrap();
    let tampered: Result<(), crate::StoreError> = {
        let s = s.clone();
        w.store
            .write(move |tx| {
                let sql = "UPDATE session_body SET vault_ids = ?2 WHERE session_id = ?1";
                let params = crate::backend::params![&s, &json];
                tx.execute(sql, params).map(drop)
            })
            .await
    };
    tampered.unwrap();
    assert_eq!(values(&w, &s).await, []);
}
