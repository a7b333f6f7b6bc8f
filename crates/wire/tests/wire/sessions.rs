//! Contract 30: create, update, budgets.

use freehold_wire::agent::Agent;
use freehold_wire::session::{CreateSession, SessionChanges, Updatable, UpdateSession};
use freehold_wire::usage::Budget;
use freehold_wire::{ApiError, agent::SessionAgent};
use serde_json::{Value, json};

use crate::support::*;

fn minimal() -> Value {
    json!({"agent": "agent_01a", "environment_id": "env_01a"})
}
fn budget(amount: &str) -> Value {
    json!({"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}})
}

#[test]
fn create_rules() {
    let base = minimal();
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": "go"}]});
    let outcome = json!({"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "c"}});
    let document = json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}});
    let documents =
        |n: usize| json!({"type": "user.message", "content": vec![document.clone(); n]});
    let initial = |events: Value| with(&base, json!({ "initial_events": events }));
    let amount = "budget.max_list_cost.amount: Input should be a whole number of cents greater than zero, as a string of at most 15 digits without leading zeros";
    for body in [
        with(
            &base,
            json!({"title": null, "metadata": {}, "vault_ids": [], "resources": [], "initial_events": []}),
        ),
        initial(json!([message, outcome])),
        initial(json!(vec![message.clone(); 50])),
        initial(json!([documents(60), documents(40)])),
        with(&base, json!({"budget": budget("2500")})),
    ] {
        read::<CreateSession>(&body).unwrap();
    }
    for (body, text) in [
        (
            json!({"environment_id": "env_01a"}),
            "agent: Field required",
        ),
        (
            json!({"agent": "agent_01a"}),
            "environment_id: Field required",
        ),
        (
            with(&base, json!({"agent": 5})),
            "agent: Input should be an agent id or an agent object",
        ),
        (
            with(&base, json!({"agent": "env_1"})),
            "agent: not a valid id: expected the form agent_…",
        ),
        (
            with(&base, json!({"agent": {"type": "agent"}})),
            "agent.id: Field required",
        ),
        (
            with(&base, json!({"agent": {"id": "agent_1"}})),
            "agent.type: Field required",
        ),
        (
            with(
                &base,
                json!({"agent": {"type": "agent", "id": "agent_1", "version": 0}}),
            ),
            "agent.version: Input should be greater than or equal to 1",
        ),
        (
            with(
                &base,
                json!({"agent": {"type": "agent", "id": "agent_1", "system": "x"}}),
            ),
            "agent.system: Extra inputs are not permitted",
        ),
        (
            with(&base, json!({"foo": 1})),
            "foo: Extra inputs are not permitted",
        ),
        (
            with(&base, json!({"budget": null})),
            "budget: Input should be an object",
        ),
        (with(&base, json!({"budget": budget("0")})), amount),
        (with(&base, json!({"budget": budget("025")})), amount),
        (with(&base, json!({"budget": budget("2.5")})), amount),
        (with(&base, json!({"budget": budget("-5")})), amount),
        (with(&base, json!({"budget": budget("")})), amount),
        (with(&base, json!({"budget": budget("１")})), amount),
        (
            with(
                &base,
                json!({"budget": {"type": "limit", "max_list_cost": {"amount": 25, "currency": "USD"}}}),
            ),
            "budget.max_list_cost.amount: Input should be a valid string",
        ),
        (
            with(
                &base,
                json!({"budget": {"type": "limit", "max_list_cost": {"amount": "25", "currency": "EUR"}}}),
            ),
            "budget.max_list_cost.currency: Input should be 'USD'",
        ),
        (
            with(&base, json!({"vault_ids": ["x"]})),
            "vault_ids.0: not a valid id: expected the form vlt_…",
        ),
        (
            with(&base, json!({"vault_ids": ["vlt_a/b"]})),
            "Vault `vlt_a/b` not found.",
        ),
        (
            with(&base, json!({"vault_ids": vec!["vlt_1"; 51]})),
            "vault_ids: List should have at most 50 items, not 51",
        ),
        (
            initial(json!(vec![message.clone(); 51])),
            "initial_events: List should have at most 50 items, not 51",
        ),
        (
            initial(json!([outcome, outcome])),
            "initial_events.1: At most one user.define_outcome is allowed in initial_events",
        ),
        (
            initial(json!([{"type": "user.define_outcome", "description": "d"}])),
            "initial_events.0.rubric: Field required",
        ),
        (
            initial(json!([{"type": "user.interrupt"}])),
            "initial_events.0.type: Input tag 'user.interrupt' is not allowed in initial_events; expected 'user.message' or 'user.define_outcome'",
        ),
        (
            initial(
                json!([message, {"type": "system.message", "content": [{"type": "text", "text": "x"}]}]),
            ),
            "initial_events.1.type: Input tag 'system.message' is not allowed in initial_events; expected 'user.message' or 'user.define_outcome'",
        ),
        (
            initial(json!([documents(60), documents(41)])),
            "initial_events: At most 100 file-sourced document blocks are allowed across initial_events, not 101",
        ),
    ] {
        assert_eq!(refusal::<CreateSession>(&body), text, "{body}");
    }
}

#[test]
fn a_well_formed_reference_that_cannot_exist_is_not_found() {
    let error = read::<CreateSession>(&with(
        &minimal(),
        json!({"environment_id": "env_does_not_exist"}),
    ))
    .unwrap_err();
    assert_eq!(error.kind.status(), 404);
    assert_eq!(error.message, "Environment `env_does_not_exist` not found.");
}

fn base_agent() -> Agent {
    create(&with(
        &minimal_agent(),
        json!({"system": "s", "model": {"id": "claude-opus-5-5", "effort": "low", "inference_geo": "us"},
            "tools": [{"type": "agent_toolset_20260401"}, {"type": "mcp_toolset", "mcp_server_name": "gh"}],
            "mcp_servers": [{"type": "url", "name": "gh", "url": "https://mcp.example.com/"}],
            "skills": [{"type": "anthropic", "skill_id": "pdf"}]}),
    ))
    .unwrap()
}

fn started(agent: &Agent, form: Value) -> Result<SessionAgent, ApiError> {
    let request = read::<CreateSession>(&with(&minimal(), json!({ "agent": form })))?;
    assert_eq!(request.agent.id, agent.id);
    request.agent.resolve(agent, &TestModels)
}

#[test]
fn the_three_agent_forms() {
    let agent = base_agent();
    let plain = started(&agent, json!("agent_01a")).unwrap();
    assert_eq!(plain, agent.session_agent());
    let form = json!({"type": "agent", "id": "agent_01a", "version": 3});
    let request = read::<CreateSession>(&with(&minimal(), json!({ "agent": form }))).unwrap();
    assert_eq!(request.agent.version, Some(3));
    assert_eq!(started(&agent, form).unwrap(), plain);
    assert_eq!(
        started(
            &agent,
            json!({"type": "agent_with_overrides", "id": "agent_01a"})
        )
        .unwrap(),
        plain
    );
}

#[test]
fn the_override_table() {
    let agent = base_agent();
    let over = |extra: Value| {
        started(
            &agent,
            with(
                &json!({"type": "agent_with_overrides", "id": "agent_01a"}),
                extra,
            ),
        )
    };
    let toolset = json!({"type": "agent_toolset_20260401"});
    // The model: whole replacement, its effort ignored, the geo pin dropped.
    let session = over(json!({"model": {"id": "claude-opus-5-5", "effort": "max"}})).unwrap();
    assert_eq!(
        serde_json::to_value(&session.model).unwrap(),
        json!({"id": "claude-opus-5-5", "effort": {"type": "high"}, "speed": "standard"})
    );
    assert_eq!((session.id.as_str(), session.version), ("agent_01a", 1));
    let error = over(json!({"model": null})).unwrap_err();
    assert_eq!(
        (error.kind.status(), error.code),
        (400, Some("agent_model_required"))
    );
    assert!(error.message.contains("agent_model_required"));
    // The system prompt.
    assert_eq!(over(json!({"system": null})).unwrap().system, None);
    assert_eq!(
        over(json!({"system": "t"})).unwrap().system.as_deref(),
        Some("t")
    );
    // Tools and skills hang together, tools and servers too.
    for empty in [json!(null), json!([])] {
        assert_eq!(
            over(json!({"tools": empty, "mcp_servers": []}))
                .unwrap_err()
                .message,
            "skills: Skills need the `read` tool of agent_toolset_20260401 to be enabled in tools"
        );
        let cleared = over(json!({"tools": empty, "mcp_servers": empty, "skills": empty})).unwrap();
        assert!(
            cleared.tools.is_empty() && cleared.mcp_servers.is_empty() && cleared.skills.is_empty()
        );
        assert_eq!(
            over(json!({"mcp_servers": empty})).unwrap_err().message,
            "tools.1.mcp_server_name: mcp_toolset names MCP server `gh`, which is not in mcp_servers"
        );
    }
    let replaced = over(json!({"tools": [toolset], "mcp_servers": []})).unwrap();
    assert_eq!((replaced.tools.len(), replaced.skills.len()), (1, 1));
}

#[test]
fn an_archived_agent_starts_no_session() {
    let mut agent = base_agent();
    agent.archived_at = Some(at(1));
    assert_eq!(
        started(&agent, json!("agent_01a")).unwrap_err().message,
        "agent: Agent `agent_01a` is archived and cannot be used for new sessions."
    );
}

fn change(
    agent: &SessionAgent,
    budget: Option<&Budget>,
    consumed: Option<u128>,
    body: &Value,
) -> Result<SessionChanges, ApiError> {
    let metadata = [("a".to_owned(), "1".to_owned())].into();
    let now = Updatable {
        agent,
        title: Some("t"),
        metadata: &metadata,
        budget,
        vault_ids: &[],
        consumed,
    };
    read::<UpdateSession>(body)?.changes(&now, &TestModels)
}

#[test]
fn update_reports_what_changes() {
    let agent = create(&minimal_agent()).unwrap().session_agent();
    let changes = |body: Value| change(&agent, None, Some(0), &body).unwrap();
    for body in [
        json!({}),
        json!({"title": "t", "metadata": {"a": "1", "gone": null}, "agent": {}, "budget": null}),
        json!({"agent": {"tools": [], "mcp_servers": []}}),
        json!({"vault_ids": []}),
    ] {
        assert!(changes(body.clone()).is_empty(), "{body}");
    }
    let event = |body: Value| serde_json::to_value(changes(body).event()).unwrap();
    assert_eq!(event(json!({"title": "u"})), json!({"title": "u"}));
    assert_eq!(event(json!({"title": null})), json!({"title": null}));
    assert_eq!(
        event(json!({"metadata": {"b": "2"}})),
        json!({"metadata": {"a": "1", "b": "2"}})
    );
    let vaults = changes(json!({"vault_ids": ["vlt_1", "vlt_2"]}));
    assert_eq!(vaults.vault_ids.unwrap().len(), 2);
    // An emptied bag is absent.
    assert_eq!(event(json!({"metadata": {"a": null}})), json!({}));
    let with_tools = event(json!({"agent": {"tools": [{"type": "agent_toolset_20260401"}]}}));
    assert_eq!(with_tools["agent"]["name"], "helper");
    assert_eq!(with_tools["agent"]["tools"][0]["configs"], json!([]));
    for (body, message) in [
        (
            json!({"vault_ids": null}),
            "vault_ids: Input should be a valid list",
        ),
        (
            json!({"agent": {"system": "x"}}),
            "agent.system: Extra inputs are not permitted",
        ),
        (
            json!({"agent": {"tools": null}}),
            "agent.tools: Input should be a valid list",
        ),
        (json!({"agent": null}), "agent: Input should be an object"),
        (
            json!({"resources": []}),
            "resources: Extra inputs are not permitted",
        ),
    ] {
        assert_eq!(refusal::<UpdateSession>(&body), message);
    }
}

#[test]
fn the_budget_table() {
    const CENT: u128 = 10_000_000_000;
    let agent = create(&minimal_agent()).unwrap().session_agent();
    let unpriced = create(&json!({"model": "chat", "name": "x"}))
        .unwrap()
        .session_agent();
    let stored: Budget = serde_json::from_value(budget("100")).unwrap();
    let set = |amount: &str| json!({"budget": budget(amount)});
    // Higher and lower are fine while they exceed the exact cost.
    let lowered = change(&agent, Some(&stored), Some(50 * CENT), &set("51")).unwrap();
    assert_eq!(serde_json::to_value(lowered.event()).unwrap(), set("51"));
    change(&agent, Some(&stored), Some(50 * CENT + 1), &set("51")).unwrap();
    let removed = change(&agent, Some(&stored), Some(0), &json!({"budget": null})).unwrap();
    assert_eq!(
        serde_json::to_value(removed.event()).unwrap(),
        json!({"budget": null})
    );
    for (agent, stored, consumed, amount, code) in [
        (
            &agent,
            Some(&stored),
            Some(51 * CENT),
            "51",
            "budget_not_raised",
        ),
        (
            &agent,
            Some(&stored),
            Some(50 * CENT + CENT),
            "50",
            "budget_not_raised",
        ),
        (&agent, None, Some(0), "51", "budget_create_only"),
        (&agent, Some(&stored), None, "200", "model_not_budgetable"),
        (
            &unpriced,
            Some(&stored),
            Some(0),
            "200",
            "model_not_budgetable",
        ),
    ] {
        let error = change(agent, stored, consumed, &set(amount)).unwrap_err();
        assert_eq!((error.kind.status(), error.code), (400, Some(code)));
    }
    let error = change(&agent, Some(&stored), Some(51 * CENT), &set("51")).unwrap_err();
    assert_eq!(
        error.message,
        "budget.max_list_cost must be greater than the session's consumed list cost"
    );
    // On create.
    let request = read::<CreateSession>(&with(&minimal(), set("5"))).unwrap();
    request.check_budget(&agent, &TestModels).unwrap();
    let error = request.check_budget(&unpriced, &TestModels).unwrap_err();
    assert_eq!(error.code, Some("model_not_budgetable"));
}
