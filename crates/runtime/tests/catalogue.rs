//! The catalogue of MCP servers' tools over a real store: it fails closed, and its record is written.

use std::sync::Arc;

use freehold_base::{IdSource, WorkspaceId};
use freehold_mcp::catalogue::{Fingerprint, ToolClass, Why};
use freehold_mcp::{Listing, ToolDefinition};
use freehold_runtime::mcp::audit::Entry;
use freehold_runtime::mcp::{AuditLog, Catalogue, CatalogueError, Verdict};
use freehold_store::{McpAuditQuery, NoListener, SeenTool, ServerChange, Store};
use serde_json::{Map, json};

const URL: &str = "https://mcp.example.com/mcp";

struct World {
    catalogue: Catalogue,
    store: Store,
    workspace: WorkspaceId,
    ids: IdSource,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let ids = IdSource::system();
    let store = Store::open(dir.path(), ids.clone(), Arc::new(NoListener)).unwrap();
    let audit = AuditLog::start(store.clone(), Arc::clone(ids.clock()));
    World {
        catalogue: Catalogue::new(store.clone(), audit),
        workspace: store.default_workspace().await.unwrap().id,
        store,
        ids,
        _dir: dir,
    }
}

fn listing(tools: &[(&str, &str)]) -> Listing {
    let tools = tools.iter().map(|(name, description)| {
        let definition = json!({"name": name, "description": description,
            "input_schema": {"type": "object"}});
        serde_json::from_value::<ToolDefinition>(definition).unwrap()
    });
    Listing {
        tools: tools.collect(),
        left_out: Vec::new(),
    }
}

/// What an edited database would hold.
async fn put(w: &World, fingerprint: &str, definition: &str) {
    let tool = SeenTool {
        name: "read".into(),
        fingerprint: fingerprint.into(),
        definition: definition.into(),
        claimed: ToolClass::Write,
    };
    let (server, _) = w
        .store
        .observe_mcp_server(&w.workspace, URL, vec![tool])
        .await
        .unwrap();
    let pin = w
        .store
        .change_mcp_server(&w.workspace, &server.id, ServerChange::Pin);
    pin.await.unwrap();
}

#[tokio::test]
async fn a_damaged_pin_offers_nothing() {
    let w = world().await;
    put(&w, "not a fingerprint", "{}").await;
    let now = listing(&[("read", "Reads")]);
    let observed = w.catalogue.observe(&w.workspace, URL, &now).await;
    assert!(matches!(observed, Err(CatalogueError::Damaged(tool)) if tool == "read"));
    let shown = Fingerprint::of(&now.tools[0]).unwrap();
    let checked = w
        .catalogue
        .check(&w.workspace, URL, "sesn_1", "read", &shown);
    assert!(matches!(checked.await, Err(CatalogueError::Damaged(_))));
}

#[tokio::test]
async fn a_definition_that_is_not_its_fingerprints_is_not_shown_for_approval() {
    let w = world().await;
    let harmless = serde_json::to_string(&listing(&[("read", "Harmless")]).tools[0]).unwrap();
    let hostile = &listing(&[("read", "Hostile")]).tools[0];
    put(&w, Fingerprint::of(hostile).unwrap().as_str(), &harmless).await;
    let server = w
        .store
        .list_mcp_servers(&w.workspace, Default::default())
        .await;
    let id = server.unwrap()[0].id.clone();
    let diff = w.catalogue.diff(&w.workspace, &id, None).await;
    assert!(matches!(diff, Err(CatalogueError::Damaged(_))));
}

#[tokio::test]
async fn a_name_that_stands_twice_counts_once_and_unknown_tools_are_stopped() {
    let w = world().await;
    let twice = listing(&[("read", "1"), ("read", "2"), ("other", "3")]);
    let judged = w
        .catalogue
        .observe(&w.workspace, URL, &twice)
        .await
        .unwrap();
    let shown: Vec<_> = judged
        .iter()
        .map(|j| j.definition.description.clone())
        .collect();
    assert_eq!(shown, [Some("1".into()), Some("3".into())]);
    let check = |url: &'static str, tool: &'static str| {
        let shown = judged[0].fingerprint.clone();
        let w = &w;
        async move {
            w.catalogue
                .check(&w.workspace, url, "o", tool, &shown)
                .await
                .unwrap()
        }
    };
    assert!(matches!(check(URL, "read").await, Verdict::Go { .. }));
    assert_eq!(check(URL, "READ").await, Verdict::Stop(Why::Unknown));
    assert_eq!(check(URL, "other").await, Verdict::Stop(Why::Changed));
    let elsewhere = "https://mcp.example.com/other";
    assert_eq!(check(elsewhere, "read").await, Verdict::Stop(Why::Unknown));
    let other = w.store.create_workspace("o".into()).await.unwrap().id;
    let foreign = w
        .catalogue
        .check(&other, URL, "o", "read", &judged[0].fingerprint);
    assert_eq!(foreign.await.unwrap(), Verdict::Stop(Why::Unknown));
}

#[tokio::test]
async fn what_was_recorded_is_written_before_a_flush_ends() {
    let w = world().await;
    let n_entries = 1_000;
    for n in 0..n_entries {
        w.catalogue.audit().record(Entry {
            workspace: w.workspace.clone(),
            at: Some(w.ids.clock().now()),
            server: format!("HTTPS://MCP.example.com/mcp?key=secret-{n}"),
            action: "tools/call".into(),
            tool: Some(format!("t{n}")),
            outcome: "ok".into(),
            body: Map::new(),
        });
    }
    let audit = w.catalogue.audit();
    audit.flush().await;
    let query = McpAuditQuery {
        limit: n_entries,
        ..McpAuditQuery::default()
    };
    let rows = w.store.list_mcp_audit(&w.workspace, query).await.unwrap();
    assert_eq!(rows.len(), n_entries);
    assert!(
        rows.iter().all(|row| row.entry.server == URL),
        "without the query"
    );
    // After the store is closed nothing hangs.
    w.store.close().await;
    audit.flush().await;
}
