//! Tunnels, their tokens and certificates.

use std::collections::HashSet;

use freehold_base::{Clock, Timestamp, TunnelId, WorkspaceId, limits};
use sha2::{Digest, Sha256};

use super::cases;
use super::world::World;
use crate::{
    AddCertificateError, CertificateQuery, CreateTunnelError, NewTunnel, NewTunnelCertificate,
    RevealError, RotateTokenError, TunnelCertificateRow, TunnelQuery, TunnelRow,
};

cases! {
    a_domain_is_never_used_twice,
    there_are_only_so_many_tunnels,
    a_token_is_the_same_until_it_is_rotated,
    an_archived_tunnel_opens_nothing,
    an_archived_workspace_closes_its_tunnels,
    another_workspace_sees_no_tunnel,
    tunnels_and_certificates_are_listed_newest_first,
    a_tunnel_trusts_only_so_many,
}

async fn make(w: &World, workspace: &WorkspaceId) -> Result<TunnelRow, CreateTunnelError> {
    w.tick();
    let new = NewTunnel {
        workspace_id: workspace.clone(),
        display_name: Some("office".into()),
        base_domain: "tunnel.example".into(),
    };
    w.store.create_tunnel(new).await
}

async fn tunnel(w: &World) -> TunnelRow {
    make(w, &w.workspace).await.unwrap()
}

fn authority(w: &World, tunnel: &TunnelId, byte: u8) -> NewTunnelCertificate {
    w.tick();
    NewTunnelCertificate {
        workspace_id: w.workspace.clone(),
        tunnel_id: tunnel.clone(),
        fingerprint: format!("{byte:064x}"),
        der: vec![byte],
        expires_at: Timestamp::from_micros(5),
    }
}

async fn trust(w: &World, tunnel: &TunnelId, byte: u8) -> TunnelCertificateRow {
    let new = authority(w, tunnel, byte);
    w.store.add_tunnel_certificate(new).await.unwrap()
}

/// The token of a tunnel, and the id of the tunnel that it opens.
async fn token(w: &World, id: &TunnelId) -> (String, Option<TunnelId>) {
    let shown = w.store.reveal_tunnel_token(&w.workspace, id).await.unwrap();
    let value = shown.value.expose().clone();
    let found = opens(w, &value).await;
    (value, found)
}

async fn opens(w: &World, token: &str) -> Option<TunnelId> {
    let hash = Sha256::digest(token.as_bytes()).into();
    let found = w.store.tunnel_by_token(hash).await.unwrap();
    found.map(|found| found.tunnel)
}

async fn a_domain_is_never_used_twice(w: World) {
    let mut seen = HashSet::new();
    for _ in 0..2 * limits::MAX_TUNNELS {
        let made = tunnel(&w).await;
        let label = made.domain.strip_suffix(".tunnel.example").unwrap();
        assert_eq!(label.len(), 8);
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(label.bytes().all(fits), "{label}");
        assert!(seen.insert(made.domain));
        let archived = w.store.archive_tunnel(&w.workspace, &made.id).await;
        assert!(archived.unwrap().unwrap().archived_at.is_some());
    }
}

async fn there_are_only_so_many_tunnels(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let mut last = make(&w, &other).await.unwrap();
    for _ in 1..limits::MAX_TUNNELS {
        last = tunnel(&w).await;
    }
    let full = make(&w, &w.workspace).await;
    assert!(matches!(full, Err(CreateTunnelError::Full)), "{full:?}");
    w.store
        .archive_tunnel(&w.workspace, &last.id)
        .await
        .unwrap();
    tunnel(&w).await;
    // Nobody could archive the tunnels of an archived workspace, so they do not count.
    w.store.archive_workspace(&other).await.unwrap();
    tunnel(&w).await;
    let full = make(&w, &w.workspace).await;
    assert!(matches!(full, Err(CreateTunnelError::Full)), "{full:?}");
}

async fn a_token_is_the_same_until_it_is_rotated(w: World) {
    let made = tunnel(&w).await;
    let (first, opened) = token(&w, &made.id).await;
    assert!(first.starts_with("fht_") && first.len() == 68, "{first}");
    assert_eq!(opened, Some(made.id.clone()));
    assert_eq!(token(&w, &made.id).await.0, first);
    let rotated = w.store.rotate_tunnel_token(&w.workspace, &made.id).await;
    let rotated = rotated.unwrap();
    assert_ne!(*rotated.value.expose(), first);
    let shown = w.store.reveal_tunnel_token(&w.workspace, &made.id).await;
    assert_eq!(shown.unwrap(), rotated);
    assert_eq!(opens(&w, &first).await, None);
    assert_eq!(opens(&w, rotated.value.expose()).await, Some(made.id));
}

async fn an_archived_tunnel_opens_nothing(w: World) {
    let made = tunnel(&w).await;
    let certificate = trust(&w, &made.id, 1).await;
    let (value, _) = token(&w, &made.id).await;
    let found = w.store.tunnel_by_domain(&made.domain).await.unwrap();
    let found = found.unwrap();
    assert_eq!((&found.id, &found.workspace), (&made.id, &w.workspace));
    assert_eq!(found.authorities, [[1]]);
    w.tick();
    let archive = || w.store.archive_tunnel(&w.workspace, &made.id);
    let archived = archive().await.unwrap().unwrap();
    assert_eq!(archived.archived_at, Some(w.clock.now()));
    w.tick();
    assert_eq!(archive().await.unwrap(), Some(archived.clone()));
    assert_eq!(opens(&w, &value).await, None);
    let found = w.store.tunnel_by_domain(&made.domain).await.unwrap();
    assert_eq!(found, None);
    let kept = w
        .store
        .tunnel_certificate(&w.workspace, &made.id, &certificate.id);
    let kept = kept.await.unwrap().unwrap();
    assert_eq!(kept.archived_at, archived.archived_at);
    let shown = w.store.reveal_tunnel_token(&w.workspace, &made.id).await;
    assert!(matches!(shown, Err(RevealError::Archived)), "{shown:?}");
    let rotated = w.store.rotate_tunnel_token(&w.workspace, &made.id).await;
    assert!(
        matches!(rotated, Err(RotateTokenError::Archived)),
        "{rotated:?}"
    );
    let added = w
        .store
        .add_tunnel_certificate(authority(&w, &made.id, 2))
        .await;
    assert!(
        matches!(added, Err(AddCertificateError::TunnelArchived)),
        "{added:?}"
    );
}

async fn an_archived_workspace_closes_its_tunnels(w: World) {
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let made = make(&w, &other).await.unwrap();
    let shown = w.store.reveal_tunnel_token(&other, &made.id).await.unwrap();
    let open = w.store.open_tunnel(&made.id).await.unwrap().unwrap();
    assert_eq!((open.id, open.workspace), (made.id.clone(), other.clone()));
    w.store.archive_workspace(&other).await.unwrap();
    assert_eq!(opens(&w, shown.value.expose()).await, None);
    let found = w.store.tunnel_by_domain(&made.domain).await.unwrap();
    assert_eq!(found, None);
    assert_eq!(w.store.open_tunnel(&made.id).await.unwrap(), None);
}

async fn another_workspace_sees_no_tunnel(w: World) {
    let made = tunnel(&w).await;
    let certificate = trust(&w, &made.id, 1).await;
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    let s = &w.store;
    assert_eq!(s.tunnel(&other, &made.id).await.unwrap(), None);
    assert_eq!(s.archive_tunnel(&other, &made.id).await.unwrap(), None);
    let q = TunnelQuery {
        limit: 9,
        ..TunnelQuery::default()
    };
    assert_eq!(s.list_tunnels(&other, q).await.unwrap(), []);
    let shown = s.reveal_tunnel_token(&other, &made.id).await;
    assert!(matches!(shown, Err(RevealError::NotFound)), "{shown:?}");
    let rotated = s.rotate_tunnel_token(&other, &made.id).await;
    assert!(
        matches!(rotated, Err(RotateTokenError::NotFound)),
        "{rotated:?}"
    );
    let foreign = NewTunnelCertificate {
        workspace_id: other.clone(),
        ..authority(&w, &made.id, 2)
    };
    let added = s.add_tunnel_certificate(foreign).await;
    assert!(
        matches!(added, Err(AddCertificateError::TunnelNotFound)),
        "{added:?}"
    );
    let found = s
        .tunnel_certificate(&other, &made.id, &certificate.id)
        .await;
    assert_eq!(found.unwrap(), None);
    let archived = s
        .archive_tunnel_certificate(&other, &made.id, &certificate.id)
        .await;
    assert_eq!(archived.unwrap(), None);
    // Nor is a certificate found through another tunnel of its own workspace.
    let second = tunnel(&w).await;
    let found = s
        .tunnel_certificate(&w.workspace, &second.id, &certificate.id)
        .await;
    assert_eq!(found.unwrap(), None);
    let listed = s
        .list_tunnel_certificates(&other, &made.id, CertificateQuery::default())
        .await;
    assert_eq!(listed.unwrap(), []);
    let found = s.tunnel_by_domain(&made.domain).await.unwrap().unwrap();
    assert_eq!(found.authorities, [[1]], "untouched");
}

async fn tunnels_and_certificates_are_listed_newest_first(w: World) {
    let (first, second) = (tunnel(&w).await, tunnel(&w).await);
    let list = |after: Option<&TunnelRow>, include_archived| {
        let q = TunnelQuery {
            include_archived,
            after: after.map(|row| (row.created_at, row.id.clone())),
            limit: 5,
        };
        w.store.list_tunnels(&w.workspace, q)
    };
    assert_eq!(
        list(None, false).await.unwrap(),
        [second.clone(), first.clone()]
    );
    assert_eq!(
        list(Some(&second), false).await.unwrap(),
        std::slice::from_ref(&first)
    );
    w.store
        .archive_tunnel(&w.workspace, &first.id)
        .await
        .unwrap();
    assert_eq!(
        list(None, false).await.unwrap(),
        std::slice::from_ref(&second)
    );
    assert_eq!(list(None, true).await.unwrap().len(), 2);
    let (one, two) = (
        trust(&w, &second.id, 1).await,
        trust(&w, &second.id, 2).await,
    );
    let list = |after: Option<&TunnelCertificateRow>, include_archived| {
        let q = CertificateQuery {
            include_archived,
            after: after.map(|row| (row.created_at, row.id.clone())),
            limit: 5,
        };
        w.store
            .list_tunnel_certificates(&w.workspace, &second.id, q)
    };
    assert_eq!(list(None, false).await.unwrap(), [two.clone(), one.clone()]);
    assert_eq!(
        list(Some(&two), false).await.unwrap(),
        std::slice::from_ref(&one)
    );
    let archive = w
        .store
        .archive_tunnel_certificate(&w.workspace, &second.id, &one.id);
    archive.await.unwrap();
    assert_eq!(list(None, false).await.unwrap(), [two]);
    assert_eq!(list(None, true).await.unwrap().len(), 2);
}

async fn a_tunnel_trusts_only_so_many(w: World) {
    let made = tunnel(&w).await;
    let first = trust(&w, &made.id, 1).await;
    trust(&w, &made.id, 2).await;
    let add = |byte| {
        w.store
            .add_tunnel_certificate(authority(&w, &made.id, byte))
    };
    let full = add(3).await;
    assert!(matches!(full, Err(AddCertificateError::Full)), "{full:?}");
    let twice = add(2).await;
    assert!(
        matches!(twice, Err(AddCertificateError::Registered)),
        "{twice:?}"
    );
    w.tick();
    let archive = || {
        w.store
            .archive_tunnel_certificate(&w.workspace, &made.id, &first.id)
    };
    let archived = archive().await.unwrap().unwrap();
    assert_eq!(archived.archived_at, Some(w.clock.now()));
    w.tick();
    assert_eq!(archive().await.unwrap(), Some(archived));
    let trusted = || w.store.tunnel_by_domain(&made.domain);
    assert_eq!(trusted().await.unwrap().unwrap().authorities, [[2]]);
    // It may come back, and another tunnel may trust the same.
    add(1).await.unwrap();
    assert_eq!(trusted().await.unwrap().unwrap().authorities, [[2], [1]]);
    let other = tunnel(&w).await;
    trust(&w, &other.id, 1).await;
}
