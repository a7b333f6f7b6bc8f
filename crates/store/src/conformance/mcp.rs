//! What is known of MCP servers, decisions over them, and the record.

use freehold_base::limits::{MAX_MCP_CATALOGUE_TOOLS, MAX_MCP_TOOL_VERSIONS};
use freehold_base::{Clock, McpServerId, Timestamp};
use freehold_wire::mcp_catalogue::ToolClass;

use super::cases;
use super::world::World;
use crate::{
    DecideError, McpAuditQuery, McpServerQuery, McpServerRow, McpToolRow, NewMcpAudit,
    ObserveError, SeenTool, ServerChange, ToolDecision,
};

cases! {
    mcp_what_is_listed_is_remembered,
    mcp_nothing_is_written_while_nothing_changes,
    mcp_a_pin_approves_what_is_served_and_nothing_later,
    mcp_a_decision_names_a_definition_that_was_seen,
    mcp_refused_definitions_stay_refused,
    mcp_knowledge_stays_in_its_workspace,
    mcp_a_server_that_renames_its_tools_fills_nothing,
    mcp_old_definitions_go_but_what_was_decided_over,
    mcp_the_record_is_listed_and_trimmed,
}

const URL: &str = "https://mcp.example.com/mcp";

fn seen(name: &str, fingerprint: &str) -> SeenTool {
    SeenTool {
        name: name.into(),
        fingerprint: fingerprint.into(),
        definition: format!("{{\"is\":\"{fingerprint}\"}}"),
        claimed: ToolClass::Write,
    }
}

async fn observe(w: &World, tools: &[(&str, &str)]) -> (McpServerRow, Vec<McpToolRow>) {
    w.tick();
    let tools = tools
        .iter()
        .map(|(name, print)| seen(name, print))
        .collect();
    let observed = w.store.observe_mcp_server(&w.workspace, URL, tools);
    observed.await.unwrap()
}

async fn decide(
    w: &World,
    id: &McpServerId,
    name: &str,
    decision: ToolDecision,
) -> Result<McpToolRow, DecideError> {
    let decided = w.store.decide_mcp_tool(&w.workspace, id, name, decision);
    decided.await.map(|(_, tool)| tool)
}

fn current(tools: &[McpToolRow]) -> Vec<(&str, Option<&str>)> {
    let each = tools
        .iter()
        .map(|t| (t.name.as_str(), t.current.as_deref()));
    each.collect()
}

async fn mcp_what_is_listed_is_remembered(w: World) {
    let (server, tools) = observe(&w, &[("b", "b1"), ("a", "a1")]).await;
    assert_eq!((server.url.as_str(), server.pinned), (URL, false));
    assert_eq!(current(&tools), [("a", Some("a1")), ("b", Some("b1"))]);
    let first = tools[0].first_seen_at;
    let (again, tools) = observe(&w, &[("a", "a2")]).await;
    assert_eq!(again.id, server.id);
    assert_eq!(current(&tools), [("a", Some("a2")), ("b", None)]);
    assert_eq!((tools[0].versions, tools[0].first_seen_at), (2, first));
    assert_eq!(tools[0].claimed, Some(ToolClass::Write));
    let versions = w
        .store
        .mcp_tool_versions(&server.id, Some("a"))
        .await
        .unwrap();
    let prints: Vec<_> = versions.iter().map(|v| v.fingerprint.as_str()).collect();
    assert_eq!(prints, ["a1", "a2"]);
    let found = w.store.mcp_tool_at(&w.workspace, URL, "a").await.unwrap();
    assert_eq!(found.unwrap().1, tools[0]);
    let none = w.store.mcp_tool_at(&w.workspace, URL, "c").await.unwrap();
    assert_eq!(none, None);
}

async fn mcp_nothing_is_written_while_nothing_changes(w: World) {
    let (first, _) = observe(&w, &[("a", "a1")]).await;
    let (same, _) = observe(&w, &[("a", "a1")]).await;
    assert_eq!(same.last_seen_at, first.last_seen_at);
    w.clock.advance_millis(2 * 60 * 60 * 1000);
    let (later, tools) = observe(&w, &[("a", "a1")]).await;
    assert_eq!(later.last_seen_at, w.clock.now());
    assert_eq!(tools[0].last_seen_at, w.clock.now());
}

async fn mcp_a_pin_approves_what_is_served_and_nothing_later(w: World) {
    let (server, _) = observe(&w, &[("a", "a1"), ("gone", "g1")]).await;
    observe(&w, &[("a", "a1"), ("b", "b1")]).await;
    decide(&w, &server.id, "b", ToolDecision::Refuse("b1".into()))
        .await
        .unwrap();
    let change = |change| w.store.change_mcp_server(&w.workspace, &server.id, change);
    assert!(change(ServerChange::Pin).await.unwrap().pinned);
    let (_, tools) = observe(&w, &[("a", "a2"), ("b", "b1"), ("c", "c1")]).await;
    let approved: Vec<_> = tools.iter().map(|t| t.approved.as_deref()).collect();
    assert_eq!(approved, [Some("a1"), None, None, None], "a, b, c, gone");
    // Pinning what is pinned is no second approval.
    assert!(change(ServerChange::Pin).await.unwrap().pinned);
    let (row, tools) = observe(&w, &[("a", "a2")]).await;
    assert_eq!(tools[0].approved.as_deref(), Some("a1"));
    assert_eq!(row.confirm, []);
    let confirm = vec![ToolClass::Write, ToolClass::Admin];
    let row = change(ServerChange::Confirm(confirm.clone()))
        .await
        .unwrap();
    assert_eq!((row.pinned, row.confirm), (true, confirm));
    let row = change(ServerChange::Unpin).await.unwrap();
    assert!(!row.pinned);
}

async fn mcp_a_decision_names_a_definition_that_was_seen(w: World) {
    let (server, _) = observe(&w, &[("a", "a1")]).await;
    observe(&w, &[("a", "a2")]).await;
    let approve = |print: &str| ToolDecision::Approve(print.into());
    let unseen = decide(&w, &server.id, "a", approve("a3")).await;
    assert!(matches!(unseen, Err(DecideError::NoDefinition)));
    let unknown = decide(&w, &server.id, "x", approve("a1")).await;
    assert!(matches!(unknown, Err(DecideError::NoTool)));
    let other: McpServerId = w.ids.next();
    let nowhere = decide(&w, &other, "a", approve("a1")).await;
    assert!(matches!(nowhere, Err(DecideError::NoServer)));
    let early = decide(&w, &server.id, "a", approve("a1")).await;
    assert!(matches!(early, Err(DecideError::NotPinned)));
    let pin = w
        .store
        .change_mcp_server(&w.workspace, &server.id, ServerChange::Pin);
    pin.await.unwrap();
    decide(&w, &server.id, "a", ToolDecision::Deprecate)
        .await
        .unwrap();
    let back = decide(&w, &server.id, "a", approve("a1")).await.unwrap();
    assert_eq!(back.approved.as_deref(), Some("a1"));
    assert!(!back.deprecated);
    let class = ToolDecision::Class(Some(ToolClass::Admin));
    let set = decide(&w, &server.id, "a", class).await.unwrap();
    assert_eq!(set.class, Some(ToolClass::Admin));
    let cleared = decide(&w, &server.id, "a", ToolDecision::Class(None)).await;
    assert_eq!(cleared.unwrap().class, None);
}

async fn mcp_refused_definitions_stay_refused(w: World) {
    let (server, _) = observe(&w, &[("a", "a1")]).await;
    let refuse = ToolDecision::Refuse("a1".into());
    let tool = decide(&w, &server.id, "a", refuse).await.unwrap();
    assert_eq!(tool.refused, ["a1"]);
    observe(&w, &[("a", "a2")]).await;
    let (_, tools) = observe(&w, &[("a", "a1")]).await;
    assert_eq!(tools[0].refused, ["a1"]);
    let approve = ToolDecision::Approve("a1".into());
    let tool = decide(&w, &server.id, "a", approve).await.unwrap();
    assert_eq!(
        (tool.refused.len(), tool.approved.as_deref()),
        (0, Some("a1"))
    );
    let refuse = ToolDecision::Refuse("a1".into());
    let tool = decide(&w, &server.id, "a", refuse).await.unwrap();
    assert_eq!(tool.approved, None, "what is refused is not approved");
}

async fn mcp_knowledge_stays_in_its_workspace(w: World) {
    let (server, _) = observe(&w, &[("a", "a1")]).await;
    let other = w.store.create_workspace("other".into()).await.unwrap().id;
    assert_eq!(w.store.mcp_server(&other, &server.id).await.unwrap(), None);
    assert_eq!(
        w.store.list_mcp_tools(&other, &server.id).await.unwrap(),
        None
    );
    assert_eq!(w.store.mcp_tool_at(&other, URL, "a").await.unwrap(), None);
    let listed = |workspace| {
        let query = McpServerQuery {
            limit: 10,
            ..McpServerQuery::default()
        };
        w.store.list_mcp_servers(workspace, query)
    };
    assert_eq!(listed(&other).await.unwrap(), []);
    assert_eq!(listed(&w.workspace).await.unwrap(), vec![server.clone()]);
    let pin = w
        .store
        .change_mcp_server(&other, &server.id, ServerChange::Pin);
    assert!(matches!(pin.await, Err(DecideError::NoServer)));
    let refuse = ToolDecision::Refuse("a1".into());
    let decided = w.store.decide_mcp_tool(&other, &server.id, "a", refuse);
    assert!(matches!(decided.await, Err(DecideError::NoServer)));
    let of_other = w
        .store
        .observe_mcp_server(&other, URL, vec![seen("a", "x1")]);
    assert_ne!(of_other.await.unwrap().0.id, server.id);
}

async fn mcp_a_server_that_renames_its_tools_fills_nothing(w: World) {
    let names = |round: usize| -> Vec<SeenTool> {
        let each = (0..MAX_MCP_CATALOGUE_TOOLS / 2).map(|n| seen(&format!("{round}-{n}"), "f"));
        each.collect()
    };
    let mut tools = Vec::new();
    for round in 0..3 {
        w.tick();
        let observed = w.store.observe_mcp_server(&w.workspace, URL, names(round));
        tools = observed.await.unwrap().1;
        let decision = ToolDecision::Deprecate;
        if round == 0 {
            let server = w.store.observe_mcp_server(&w.workspace, URL, names(0));
            let id = server.await.unwrap().0.id;
            decide(&w, &id, "0-0", decision).await.unwrap();
        }
    }
    assert_eq!(tools.len(), MAX_MCP_CATALOGUE_TOOLS);
    assert!(tools.iter().any(|t| t.name == "0-0"), "it was decided over");
    assert!(!tools.iter().any(|t| t.name == "0-1"));
    let all = (0..=MAX_MCP_CATALOGUE_TOOLS).map(|n| seen(&format!("t{n}"), "f"));
    let refused = w.store.observe_mcp_server(&w.workspace, URL, all.collect());
    assert!(matches!(refused.await, Err(ObserveError::TooManyTools)));
}

async fn mcp_old_definitions_go_but_what_was_decided_over(w: World) {
    let (server, _) = observe(&w, &[("a", "first")]).await;
    let refuse = ToolDecision::Refuse("first".into());
    decide(&w, &server.id, "a", refuse).await.unwrap();
    for n in 0..MAX_MCP_TOOL_VERSIONS + 5 {
        observe(&w, &[("a", &format!("v{n:03}"))]).await;
    }
    let versions = w.store.mcp_tool_versions(&server.id, Some("a")).await;
    let versions = versions.unwrap();
    let has = |print: &str| versions.iter().any(|v| v.fingerprint == print);
    assert!(has("first") && !has("v000") && has(&format!("v{:03}", MAX_MCP_TOOL_VERSIONS + 4)));
    assert!(versions.len() <= MAX_MCP_TOOL_VERSIONS + 1);
}

async fn mcp_the_record_is_listed_and_trimmed(w: World) {
    let other = w.store.create_workspace("other".into()).await.unwrap().id;
    let entry = |n: i64, outcome: &str| NewMcpAudit {
        workspace: w.workspace.clone(),
        at: Timestamp::from_micros(n),
        server: URL.into(),
        action: "tools/call".into(),
        tool: Some(format!("t{n}")),
        outcome: outcome.into(),
        body: "{}".into(),
    };
    let mut entries: Vec<_> = (1..=9).map(|n| entry(n, "ok")).collect();
    entries.push(entry(10, "held"));
    w.store.add_mcp_audit(entries).await.unwrap();
    let query = |limit| McpAuditQuery {
        limit,
        ..McpAuditQuery::default()
    };
    let first = w
        .store
        .list_mcp_audit(&w.workspace, query(4))
        .await
        .unwrap();
    let tools = |rows: &[crate::McpAuditRow]| -> Vec<String> {
        rows.iter().filter_map(|r| r.entry.tool.clone()).collect()
    };
    assert_eq!(tools(&first), ["t10", "t9", "t8", "t7", "t6"]);
    let after = McpAuditQuery {
        after: Some((first[3].entry.at, first[3].id.clone())),
        ..query(2)
    };
    let next = w.store.list_mcp_audit(&w.workspace, after).await.unwrap();
    assert_eq!(tools(&next), ["t6", "t5", "t4"]);
    let held = McpAuditQuery {
        outcome: Some("held".into()),
        ..query(9)
    };
    let held = w.store.list_mcp_audit(&w.workspace, held).await.unwrap();
    assert_eq!(tools(&held), ["t10"]);
    assert_eq!(w.store.list_mcp_audit(&other, query(9)).await.unwrap(), []);

    let trim = |before, most, batch| {
        let before = Timestamp::from_micros(before);
        w.store.trim_mcp_audit(before, most, batch)
    };
    assert_eq!(trim(4, 100, 2).await.unwrap(), 2, "a batch");
    assert_eq!(trim(4, 100, 2).await.unwrap(), 1, "the rest");
    assert_eq!(trim(0, 3, 100).await.unwrap(), 4, "beyond the newest three");
    let left = w
        .store
        .list_mcp_audit(&w.workspace, query(9))
        .await
        .unwrap();
    assert_eq!(tools(&left), ["t10", "t9", "t8"]);
}
