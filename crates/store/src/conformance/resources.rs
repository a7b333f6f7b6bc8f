//! What is attached to sessions.

use freehold_base::{Clock, SessionResourceId, limits};

use super::cases;
use super::world::World;
use crate::{FileCopy, NewFile, NewResource, ResourceError};

cases! {
    an_attached_file_is_a_copy,
    detaching_deletes_the_copy_only,
    resources_are_listed_in_order,
    an_expired_or_foreign_file_is_not_attached,
    a_closed_session_takes_no_resource,
    attached_resources_are_bounded,
    another_workspace_sees_no_resource,
}

fn plain(w: &World) -> NewResource {
    NewResource {
        id: w.ids.next(),
        kind: "github_repository".into(),
        mount_path: None,
        file: None,
        memory_store_id: None,
        body: r#"{"a":1}"#.into(),
    }
}

fn file(w: &World, source: &freehold_base::FileId, path: &str) -> NewResource {
    NewResource {
        kind: "file".into(),
        mount_path: Some(path.into()),
        file: Some(FileCopy {
            source: source.clone(),
            id: w.file_id(),
        }),
        ..plain(w)
    }
}

async fn an_attached_file_is_a_copy(w: World) {
    let s = w.session().await.id;
    let source = w.file("hello").await;
    w.tick();
    let new = file(&w, &source.id, "/mnt/session/uploads/a");
    let row = w
        .store
        .add_resource(&w.workspace, &s, new.clone())
        .await
        .unwrap();
    assert_eq!(
        w.store.resource(&w.workspace, &s, &row.id).await.unwrap(),
        Some(row.clone())
    );
    let copy_id = row.file_id.unwrap();
    assert_ne!(copy_id, source.id);
    let copy = w.store.file(&w.workspace, &copy_id).await.unwrap().unwrap();
    assert_eq!(copy.scope_session.as_ref(), Some(&s));
    assert_eq!(
        (&copy.blob, copy.size, &copy.filename),
        (&source.blob, 5, &source.filename)
    );
    assert_eq!(copy.created_at, w.clock.now());
    let uploads = w.store.session_uploads(&s).await.unwrap();
    assert_eq!(
        uploads,
        [("/mnt/session/uploads/a".to_owned(), source.blob.clone())]
    );
    // The source may go; the session keeps the bytes.
    assert!(w.store.delete_file(&w.workspace, &source.id).await.unwrap());
    assert_eq!(w.content(&source.blob).await.as_deref(), Some("hello"));
}

async fn detaching_deletes_the_copy_only(w: World) {
    let s = w.session().await.id;
    let source = w.file("hello").await;
    let row = w
        .store
        .add_resource(&w.workspace, &s, file(&w, &source.id, "/a"))
        .await
        .unwrap();
    assert!(
        w.store
            .delete_resource(&w.workspace, &s, &row.id)
            .await
            .unwrap()
    );
    assert!(
        !w.store
            .delete_resource(&w.workspace, &s, &row.id)
            .await
            .unwrap()
    );
    assert!(
        w.store
            .file(&w.workspace, &row.file_id.unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        w.store
            .file(&w.workspace, &source.id)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(w.content(&source.blob).await.as_deref(), Some("hello"));
}

async fn resources_are_listed_in_order(w: World) {
    let (s, other) = (w.session().await.id, w.session().await.id);
    let mut made: Vec<SessionResourceId> = Vec::new();
    for _ in 0..5 {
        made.push(
            w.store
                .add_resource(&w.workspace, &s, plain(&w))
                .await
                .unwrap()
                .id,
        );
        w.store
            .add_resource(&w.workspace, &other, plain(&w))
            .await
            .unwrap();
    }
    let all = w
        .store
        .list_resources(&w.workspace, &s, None, 10)
        .await
        .unwrap();
    assert_eq!(all.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), made);
    let page = w
        .store
        .list_resources(&w.workspace, &s, None, 2)
        .await
        .unwrap();
    assert_eq!(page, all[..3], "one more than asked for");
    let rest = w
        .store
        .list_resources(&w.workspace, &s, Some(page[1].position), 10)
        .await;
    assert_eq!(rest.unwrap(), all[2..]);
    w.tick();
    let changed = w
        .store
        .update_resource(&w.workspace, &s, &made[1], r#"{"b":2}"#.into())
        .await;
    let changed = changed.unwrap().unwrap();
    assert_eq!(
        (changed.body.as_str(), changed.position),
        (r#"{"b":2}"#, all[1].position)
    );
    assert!(changed.updated_at > changed.created_at);
    let both = w
        .store
        .resources_of(&w.workspace, vec![s.clone(), other])
        .await
        .unwrap();
    assert_eq!(both.len(), 10);
    let of_s: Vec<_> = both
        .into_iter()
        .filter(|r| r.session_id == s)
        .map(|r| r.id)
        .collect();
    assert_eq!(of_s, made);
}

async fn an_expired_or_foreign_file_is_not_attached(w: World) {
    let s = w.session().await.id;
    let blob = w.store.blobs().put(&b"x"[..], 10).await.unwrap();
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let new = |workspace_id, expires_at| NewFile {
        id: w.file_id(),
        workspace_id,
        filename: "a".into(),
        mime_type: "text/plain".into(),
        size: 1,
        blob: blob.key.clone(),
        downloadable: false,
        expires_at,
    };
    let soon = w.clock.now().plus_millis(10);
    let expiring = w
        .store
        .create_file(new(w.workspace.clone(), Some(soon)))
        .await
        .unwrap();
    let foreign = w.store.create_file(new(other, None)).await.unwrap();
    w.store
        .add_resource(&w.workspace, &s, file(&w, &expiring.id, "/a"))
        .await
        .unwrap();
    w.clock.advance_millis(10);
    for source in [&expiring.id, &foreign.id, &w.file_id()] {
        match w
            .store
            .add_resource(&w.workspace, &s, file(&w, source, "/b"))
            .await
        {
            Err(ResourceError::FileGone(id)) => assert_eq!(id, *source),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        w.store
            .list_resources(&w.workspace, &s, None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn a_closed_session_takes_no_resource(w: World) {
    let s = w.session().await.id;
    w.store
        .archive_session(&w.workspace, &s, vec![])
        .await
        .unwrap();
    let refused = w.store.add_resource(&w.workspace, &s, plain(&w)).await;
    assert!(matches!(refused, Err(ResourceError::Closed)), "{refused:?}");
    let refused = w
        .store
        .add_resource(&w.workspace, &w.ids.next(), plain(&w))
        .await;
    assert!(
        matches!(refused, Err(ResourceError::SessionGone)),
        "{refused:?}"
    );
}

async fn attached_resources_are_bounded(w: World) {
    let mut new = w.new_session();
    new.resources = (0..limits::MAX_SESSION_FILES).map(|_| plain(&w)).collect();
    let s = w.store.create_session(new).await.unwrap().id;
    let refused = w.store.add_resource(&w.workspace, &s, plain(&w)).await;
    assert!(
        matches!(refused, Err(ResourceError::TooMany)),
        "{refused:?}"
    );
}

async fn another_workspace_sees_no_resource(w: World) {
    let s = w.session().await.id;
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let row = w
        .store
        .add_resource(&w.workspace, &s, plain(&w))
        .await
        .unwrap();
    assert!(
        w.store
            .resource(&other, &s, &row.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        w.store
            .list_resources(&other, &s, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        w.store
            .resources_of(&other, vec![s.clone()])
            .await
            .unwrap()
            .is_empty()
    );
    let body = || "{}".to_owned();
    assert!(
        w.store
            .update_resource(&other, &s, &row.id, body())
            .await
            .unwrap()
            .is_none()
    );
    assert!(!w.store.delete_resource(&other, &s, &row.id).await.unwrap());
    let refused = w.store.add_resource(&other, &s, plain(&w)).await;
    assert!(
        matches!(refused, Err(ResourceError::SessionGone)),
        "{refused:?}"
    );
    let second = w.session().await.id;
    assert!(
        w.store
            .resource(&w.workspace, &second, &row.id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        w.store.resource(&w.workspace, &s, &row.id).await.unwrap(),
        Some(row)
    );
}
