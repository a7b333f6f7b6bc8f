//! Secrets in the files of a data directory: none can be read there, and master keys can change.

use std::path::Path;
use std::sync::Arc;

use freehold_base::{CredentialId, IdSource, Secret, SessionId, VaultId};
use freehold_store::conformance::{Fixture, World};
use freehold_store::secrets::KEY_FILE;
use freehold_store::{
    CredentialChange, Keyring, NewCredential, NewTunnel, NoListener, Place, RevealError,
    RotateError, SecretError, Store,
};

const VALUE: &str = "sk-live-PLAINTEXT-0123456789";
const OTHER: &str = "sk-live-SECONDTEXT-0123456789";

async fn world(dir: &Path) -> World {
    World::new(&|ids, listener| Fixture {
        store: Store::open(dir, ids, listener).unwrap(),
        keep: Box::new(()),
    })
    .await
}

fn reopen(dir: &Path, keys: Option<Keyring>) -> Store {
    let place = Place {
        keys,
        ..Place::default()
    };
    Store::open_with(dir, place, IdSource::system(), Arc::new(NoListener)).unwrap()
}

async fn credential(w: &World, vault: &VaultId, name: &str, value: &str) -> CredentialId {
    w.tick();
    let new = NewCredential {
        id: w.ids.next(),
        vault_id: vault.clone(),
        workspace_id: w.workspace.clone(),
        kind: "environment_variable",
        target: name.into(),
        body: "{}".into(),
        secrets: vec![("secret_value", Secret::new(value.to_owned()))],
    };
    w.store.create_credential(new).await.unwrap().id
}

/// A vault with two credentials and a session that uses it.
async fn filled(w: &World) -> (VaultId, [CredentialId; 2], SessionId) {
    let vault = w.vault().await;
    let made = [
        credential(w, &vault, "A", VALUE).await,
        credential(w, &vault, "B", OTHER).await,
    ];
    let mut session = w.new_session();
    session.vault_ids = format!("[\"{vault}\"]");
    let session = w.store.create_session(session).await.unwrap().id;
    (vault, made, session)
}

async fn values(store: &Store, session: &SessionId) -> Vec<Result<String, SecretError>> {
    let all = store.session_environment_credentials(session).await;
    let all = all.unwrap().into_iter();
    all.map(|c| c.value.map(|v| v.expose().clone())).collect()
}

fn good() -> Vec<Result<String, SecretError>> {
    vec![Ok(VALUE.to_owned()), Ok(OTHER.to_owned())]
}

/// The bytes of every file of the data directory.
fn bytes(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let files = files.filter(|p| p.is_file()).map(|p| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(&p).unwrap())
    });
    files.collect()
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|w| w == text)
}

/// Runs statements; gives how many rows the last one changed.
fn sql(dir: &Path, sql: &str) -> u64 {
    let db = rusqlite::Connection::open(dir.join("freehold.db")).unwrap();
    db.execute_batch(sql).unwrap();
    db.changes()
}

fn blob(dir: &Path, sql: &str) -> Vec<u8> {
    let db = rusqlite::Connection::open(dir.join("freehold.db")).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn no_file_holds_a_plaintext() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let (vault, [a, _], session) = filled(&w).await;
    let row = w.store.credential(&w.workspace, &vault, &a).await.unwrap();
    let change = CredentialChange {
        expected: row.unwrap().updated_at,
        body: "{}".into(),
        secrets: vec![("secret_value", Secret::new(OTHER.to_owned()))],
    };
    w.store
        .update_credential(&w.workspace, &vault, &a, change)
        .await
        .unwrap();
    assert_eq!(values(&w.store, &session).await.len(), 2);
    let check = || {
        let files = bytes(dir.path());
        let names: Vec<&str> = files.iter().map(|(n, _)| n.as_str()).collect();
        assert!(names.contains(&"freehold.db"), "{names:?}");
        let mut known = false;
        for (name, bytes) in &files {
            // What is looked for would be found: the ids are there in the clear.
            known |= holds(bytes, vault.as_str().as_bytes());
            for secret in [VALUE, OTHER] {
                assert!(!holds(bytes, secret.as_bytes()), "{name} holds {secret}");
            }
        }
        assert!(known);
        names.iter().any(|n| n.ends_with("-wal"))
    };
    assert!(check(), "there was no write-ahead log to look at");
    w.store.close().await;
    check();
}

#[tokio::test]
async fn an_archived_secret_leaves_nothing_even_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let (vault, [a, b], _) = filled(&w).await;
    w.store.close().await;
    let sealed = |id: &CredentialId| {
        let sql = format!("SELECT sealed FROM credential_secret WHERE credential_id = '{id}'");
        blob(dir.path(), &sql)
    };
    let (gone, kept) = (sealed(&a), sealed(&b));
    let store = reopen(dir.path(), None);
    store
        .archive_credential(&w.workspace, &vault, &a)
        .await
        .unwrap();
    let anywhere = |text: &[u8]| bytes(dir.path()).iter().any(|(_, b)| holds(b, text));
    assert!(!anywhere(&gone), "the archived one is still in some file");
    assert!(anywhere(&kept));
    store.archive_vault(&w.workspace, &vault).await.unwrap();
    assert!(!anywhere(&kept), "the vault's is still in some file");
    store.close().await;
}

#[tokio::test]
async fn secrets_outlive_a_restart_and_need_their_key() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let (.., session) = filled(&w).await;
    w.store.close().await;

    let store = reopen(dir.path(), None);
    assert_eq!(values(&store, &session).await, good());
    assert_eq!(store.missing_master_keys().await.unwrap(), [""; 0]);
    store.close().await;

    let wrong = Keyring::generate(&IdSource::system());
    let right = Keyring::load(&dir.path().join(KEY_FILE)).unwrap();
    let store = reopen(dir.path(), Some(wrong));
    let needed = right.ids();
    let missing = SecretError::UnknownKey {
        master: needed[0].clone(),
    };
    assert_eq!(values(&store, &session).await, vec![Err(missing); 2]);
    assert_eq!(store.missing_master_keys().await.unwrap(), needed);
    store.close().await;
}

#[tokio::test]
async fn rotation_moves_every_secret() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let (.., session) = filled(&w).await;
    w.store.close().await;

    let ids = IdSource::system();
    let old = Keyring::load(&dir.path().join(KEY_FILE)).unwrap();
    let both = old.with_new(&ids);
    let store = reopen(dir.path(), Some(both.clone()));
    assert_eq!(values(&store, &session).await, good(), "older keys decrypt");
    assert_eq!(store.rewrap_secrets(&both).await.unwrap(), 2);
    assert_eq!(store.rewrap_secrets(&both).await.unwrap(), 0);
    store.close().await;

    let store = reopen(dir.path(), Some(both.newest_only()));
    assert_eq!(values(&store, &session).await, good());
    assert!(store.missing_master_keys().await.unwrap().is_empty());
    // A keyring without the key in use moves nothing and loses nothing.
    let stranger = Keyring::generate(&ids);
    let stuck = store.rewrap_secrets(&stranger).await.unwrap_err();
    assert!(matches!(stuck, RotateError::Secret { .. }), "{stuck}");
    assert_eq!(values(&store, &session).await, good());
    store.close().await;

    let store = reopen(dir.path(), Some(old));
    let lost = values(&store, &session).await;
    assert!(
        lost.iter()
            .all(|v| matches!(v, Err(SecretError::UnknownKey { .. }))),
        "the old key is worth nothing now: {lost:?}"
    );
    store.close().await;
}

/// Tokens of tunnels are kept as other secrets are: no file holds one, each opens for its tunnel
/// only, and a new master key takes them along.
#[tokio::test]
async fn tokens_of_tunnels_are_secrets_too() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let new = NewTunnel {
            workspace_id: w.workspace.clone(),
            display_name: None,
            base_domain: "t.example".into(),
        };
        tunnels.push(w.store.create_tunnel(new).await.unwrap().id);
    }
    let shown = w.store.reveal_tunnel_token(&w.workspace, &tunnels[0]);
    let shown = shown.await.unwrap();
    w.store.close().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            let bytes = std::fs::read(&file).unwrap();
            let token = shown.value.expose().as_bytes();
            assert!(!bytes.windows(token.len()).any(|w| w == token), "{file:?}");
        }
    }

    let ids = IdSource::system();
    let old = Keyring::load(&dir.path().join(KEY_FILE)).unwrap();
    let both = old.with_new(&ids);
    let store = reopen(dir.path(), Some(both.clone()));
    assert_eq!(store.rewrap_secrets(&both).await.unwrap(), 2);
    store.close().await;
    let store = reopen(dir.path(), Some(both.newest_only()));
    let reveal = |store: &Store, i: usize| {
        let (store, workspace, id) = (store.clone(), w.workspace.clone(), tunnels[i].clone());
        async move { store.reveal_tunnel_token(&workspace, &id).await }
    };
    assert_eq!(reveal(&store, 0).await.unwrap(), shown);
    store.close().await;
    let store = reopen(dir.path(), Some(old));
    assert_eq!(store.missing_master_keys().await.unwrap().len(), 1);
    let lost = reveal(&store, 0).await;
    assert!(matches!(lost, Err(RevealError::Secret(_))), "{lost:?}");
    store.close().await;

    let moved = "CREATE TEMP TABLE o AS SELECT * FROM tunnel_token;
      UPDATE tunnel_token SET (wrapped, sealed) = (SELECT o.wrapped, o.sealed FROM o
        WHERE o.tunnel_id <> tunnel_token.tunnel_id)";
    assert_eq!(sql(dir.path(), moved), 2);
    let store = reopen(dir.path(), Some(both));
    for i in 0..2 {
        let foreign = reveal(&store, i).await;
        assert!(
            matches!(foreign, Err(RevealError::Secret(SecretError::Damaged))),
            "{foreign:?}"
        );
    }
    store.close().await;
}

/// Whoever can write the database, but does not have the key, can neither change a secret nor give
/// it to another credential.
#[tokio::test]
async fn an_edited_database_gives_no_secret_away() {
    for edit in [
        // Another first byte, whichever it was.
        "UPDATE credential_secret SET sealed = CAST(
           CASE substr(sealed, 1, 1) WHEN x'00' THEN x'01' ELSE x'00' END || substr(sealed, 2) AS BLOB)",
        "UPDATE credential_secret SET wrapped = substr(wrapped, 1, 20)",
        "UPDATE credential_secret SET sealed = x''",
        // Each gets the other's row, whole.
        "CREATE TEMP TABLE o AS SELECT * FROM credential_secret;
         UPDATE credential_secret SET (wrapped, sealed) = (SELECT o.wrapped, o.sealed FROM o
           WHERE o.credential_id <> credential_secret.credential_id)",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let w = world(dir.path()).await;
        let (.., session) = filled(&w).await;
        w.store.close().await;
        assert_eq!(sql(dir.path(), edit), 2, "{edit}");
        let store = reopen(dir.path(), None);
        let read = values(&store, &session).await;
        assert_eq!(read, vec![Err(SecretError::Damaged); 2], "{edit}");
        store.close().await;
    }
}

/// A credential moved into a vault that other sessions use does not open there.
#[tokio::test]
async fn a_credential_moved_to_another_vault_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let (mine, ..) = filled(&w).await;
    let (theirs, [x, y], session) = filled(&w).await;
    for id in [&x, &y] {
        w.store
            .archive_credential(&w.workspace, &theirs, id)
            .await
            .unwrap();
    }
    w.store.close().await;
    let moved = format!("UPDATE credential SET vault_id = '{theirs}' WHERE vault_id = '{mine}'");
    assert_eq!(sql(dir.path(), &moved), 2);
    let store = reopen(dir.path(), None);
    let read = values(&store, &session).await;
    assert_eq!(read, vec![Err(SecretError::Damaged); 2]);
    store.close().await;
}
