//! Contract 10, "Multiagent".

use std::collections::BTreeMap;

use freehold_base::AgentId;
use freehold_wire::ApiError;
use freehold_wire::agent::{Agent, CreateAgent, FoundAgent, Reference, UpdateAgent};
use serde_json::{Value, json};

use crate::support::*;

fn agent_id(text: &str) -> AgentId {
    text.parse().unwrap()
}

/// Answers look-ups: `agent_b` is at version 4, `agent_c` at 2; the others are special.
fn look_up(references: Vec<Reference>) -> BTreeMap<Reference, FoundAgent> {
    references
        .into_iter()
        .filter(|(id, _)| id.as_str() != "agent_missing")
        .map(|(id, version)| {
            let latest = if id.as_str() == "agent_b" { 4 } else { 2 };
            let agent = FoundAgent {
                version: version.unwrap_or(latest),
                name: if id.as_str() == "agent_named" {
                    "anthropic.advisor"
                } else {
                    "x"
                }
                .into(),
                archived: id.as_str() == "agent_archived",
                has_multiagent: id.as_str() == "agent_nested",
                inference_geo: (id.as_str() == "agent_pinned").then(|| "us".to_owned()),
                id: id.clone(),
            };
            ((id, version), agent)
        })
        .collect()
}

fn create_with(multiagent: Value) -> Result<Agent, ApiError> {
    let id = agent_id("agent_own");
    let body = with(&minimal_agent(), json!({ "multiagent": multiagent }));
    let draft = read::<CreateAgent>(&body)?.resolve(&TestModels)?;
    let found = look_up(draft.references());
    Ok(draft.finish(&id, &found)?.into_agent(id, 1, at(0), at(0)))
}

fn update_with(stored: &Agent, body: &Value) -> Result<Option<Agent>, ApiError> {
    let update = read::<UpdateAgent>(body)?.resolve(stored, &TestModels)?;
    let found = look_up(update.references());
    let next = stored.version + 1;
    Ok(update
        .finish(stored, &found)?
        .map(|c| c.into_agent(stored.id.clone(), next, at(0), at(1))))
}

fn shown(multiagent: Value) -> Value {
    create_with(multiagent).unwrap().multiagent.unwrap()
}

fn agent(id: &str, version: u64) -> Value {
    json!({"type": "agent", "id": id, "version": version})
}

#[test]
fn a_coordinator_pins_every_reference() {
    assert_eq!(
        shown(json!({"type": "coordinator", "agents": [
            {"type": "advisor", "model": "claude-opus-5-5"}, "agent_b", {"type": "agent", "id": "agent_c", "version": 1}, {"type": "self"}]})),
        json!({"type": "coordinator", "agents": [
            agent("agent_b", 4), agent("agent_c", 1), agent("agent_own", 1), {"type": "advisor", "model": "claude-opus-5-5"}]})
    );
}

#[test]
fn the_newer_form_fills_in_defaults() {
    let on =
        json!({"type": "enabled", "inline_agents": {"type": "enabled"}, "predefined_agents": []});
    let off = json!({"type": "disabled"});
    for body in [
        json!({"type": "multiagent_20261001"}),
        json!({"type": "multiagent_20261001", "subagents": null, "workflows": null, "advisor": null}),
        json!({"type": "multiagent_20261001", "subagents": {"type": "enabled", "inline_agents": null, "predefined_agents": null}}),
    ] {
        assert_eq!(
            shown(body),
            json!({"type": "multiagent_20261001", "subagents": on, "workflows": on, "advisor": off})
        );
    }
    // The contract's own example.
    assert_eq!(
        shown(json!({"type": "multiagent_20261001",
            "subagents": {"type": "enabled", "predefined_agents": ["agent_b", {"type": "self"}]},
            "workflows": {"type": "disabled"}, "advisor": {"type": "enabled", "model": "claude-opus-5-5"}})),
        json!({"type": "multiagent_20261001",
            "subagents": {"type": "enabled", "inline_agents": {"type": "enabled"}, "predefined_agents": [agent("agent_b", 4), agent("agent_own", 1)]},
            "workflows": {"type": "disabled"}, "advisor": {"type": "enabled", "model": "claude-opus-5-5"}})
    );
}

#[test]
fn rules() {
    let coordinator = |agents: Value| json!({"type": "coordinator", "agents": agents});
    let newer = |extra: Value| with(&json!({"type": "multiagent_20261001"}), extra);
    let many: Vec<Value> = (0..21).map(|i| json!(format!("agent_x{i}"))).collect();
    for (body, message) in [
        (
            json!({"type": "swarm"}),
            "multiagent.type: Input tag 'swarm' does not match any of the expected tags: 'coordinator' or 'multiagent_20261001'",
        ),
        (
            coordinator(json!([])),
            "multiagent.agents: List should have at least 1 item",
        ),
        (
            coordinator(json!(many)),
            "multiagent.agents: List should have at most 20 items, not 21",
        ),
        (
            coordinator(json!(["sesn_1"])),
            "multiagent.agents.0: not a valid id: expected the form agent_…",
        ),
        (
            coordinator(json!([{"type": "self"}, {"type": "self"}])),
            "multiagent.agents.1: At most one `self` entry is allowed",
        ),
        (
            coordinator(
                json!([{"type": "advisor", "model": "claude-a"}, {"type": "advisor", "model": "claude-b"}]),
            ),
            "multiagent.agents.1: At most one `advisor` entry is allowed",
        ),
        (
            coordinator(json!([{"type": "advisor", "model": "gpt"}])),
            "model: `gpt` is not configured",
        ),
        (
            coordinator(json!([{"type": "advisor", "model": "claude-a", "effort": "low"}])),
            "multiagent.agents.0.effort: Extra inputs are not permitted",
        ),
        (
            coordinator(json!(["agent_b", agent("agent_b", 1)])),
            "multiagent.agents.1: Entries must reference distinct agents",
        ),
        (
            coordinator(json!(["agent_missing"])),
            "multiagent.agents.0: Agent `agent_missing` not found.",
        ),
        (
            coordinator(json!([agent("agent_missing", 9)])),
            "multiagent.agents.0: Agent `agent_missing` version 9 not found.",
        ),
        (
            coordinator(json!(["agent_archived"])),
            "multiagent.agents.0: Agent `agent_archived` is archived",
        ),
        (
            coordinator(json!(["agent_nested"])),
            "multiagent.agents.0: Agent `agent_nested` has a multiagent configuration itself",
        ),
        (
            coordinator(json!(["agent_b", "agent_pinned"])),
            "multiagent.agents.1: All agents must have the same inference_geo, or none",
        ),
        (
            coordinator(json!(["agent_named", {"type": "advisor", "model": "claude-a"}])),
            "multiagent.agents.0: The name `anthropic.advisor` is taken by the advisor",
        ),
        (
            newer(
                json!({"subagents": {"type": "enabled", "predefined_agents": [{"type": "advisor", "model": "claude-a"}]}}),
            ),
            "multiagent.subagents.predefined_agents.0.type: Input tag 'advisor' does not match any of the expected tags: 'agent' or 'self'",
        ),
        (
            newer(json!({"subagents": {}})),
            "multiagent.subagents.type: Field required",
        ),
        (
            newer(json!({"subagents": {"type": "disabled", "predefined_agents": []}})),
            "multiagent.subagents.predefined_agents: Extra inputs are not permitted",
        ),
        (
            newer(json!({"advisor": {"type": "enabled"}})),
            "multiagent.advisor.model: Field required",
        ),
        (
            newer(json!({"workflows": {"type": "enabled", "inline_agents": {"type": "disabled"}}})),
            "multiagent.workflows.predefined_agents: At least one agent is required when inline_agents is disabled",
        ),
    ] {
        assert_eq!(
            create_with(body.clone()).unwrap_err().message,
            message,
            "{body}"
        );
    }
    // The two lists are independent of each other.
    create_with(newer(json!({
        "subagents": {"type": "enabled", "predefined_agents": ["agent_b"]},
        "workflows": {"type": "enabled", "predefined_agents": ["agent_b"]}})))
    .unwrap();
}

#[test]
fn an_update_merges_into_the_same_form_level_by_level() {
    let stored = create_with(json!({"type": "multiagent_20261001",
        "subagents": {"type": "enabled", "inline_agents": {"type": "disabled"}, "predefined_agents": ["agent_b", {"type": "self"}]},
        "workflows": {"type": "disabled"}, "advisor": {"type": "enabled", "model": "claude-a"}}))
    .unwrap();
    let merged = |patch: Value| {
        let body = json!({"multiagent": with(&json!({"type": "multiagent_20261001"}), patch)});
        update_with(&stored, &body)
            .unwrap()
            .expect("a change")
            .multiagent
            .unwrap()
    };
    let result = merged(json!({"advisor": null}));
    // `self` follows the owner to the version being made; the others stay pinned.
    assert_eq!(
        result["subagents"],
        json!({"type": "enabled", "inline_agents": {"type": "disabled"}, "predefined_agents": [agent("agent_b", 4), agent("agent_own", 2)]})
    );
    assert_eq!(result["workflows"], json!({"type": "disabled"}));
    assert_eq!(result["advisor"], json!({"type": "disabled"}));
    let result = merged(json!({"subagents": {"type": "enabled", "inline_agents": null}}));
    assert_eq!(
        result["subagents"]["inline_agents"],
        json!({"type": "enabled"})
    );
    assert_eq!(
        result["subagents"]["predefined_agents"],
        json!([agent("agent_b", 4), agent("agent_own", 2)])
    );
    let result =
        merged(json!({"subagents": {"type": "enabled", "predefined_agents": ["agent_c"]}}));
    assert_eq!(
        result["subagents"]["predefined_agents"],
        json!([agent("agent_c", 2)])
    );
    assert_eq!(
        result["subagents"]["inline_agents"],
        json!({"type": "disabled"})
    );
    // Another type replaces the object, and its omitted keys take defaults.
    let result =
        merged(json!({"workflows": {"type": "enabled"}, "subagents": {"type": "disabled"}}));
    assert_eq!(
        result["workflows"],
        json!({"type": "enabled", "inline_agents": {"type": "enabled"}, "predefined_agents": []})
    );
    assert_eq!(result["subagents"], json!({"type": "disabled"}));
    // Rules hold for the merged result.
    let emptied = json!({"multiagent": {"type": "multiagent_20261001", "subagents": {"type": "enabled", "predefined_agents": []}}});
    assert_eq!(
        update_with(&stored, &emptied).unwrap_err().message,
        "multiagent.subagents.predefined_agents: At least one agent is required when inline_agents is disabled"
    );
    // Nothing sent, nothing changed.
    let same = json!({"multiagent": {"type": "multiagent_20261001"}});
    assert!(update_with(&stored, &same).unwrap().is_none());
}

#[test]
fn a_coordinator_replaces_and_a_kept_roster_stays_pinned() {
    let stored = create_with(
        json!({"type": "coordinator", "agents": [agent("agent_b", 1), {"type": "self"}]}),
    )
    .unwrap();
    let update = |body: Value| update_with(&stored, &body).unwrap();
    // Another field changes: the roster is not looked at again, but `self` is the new version.
    let next = update(json!({"name": "other"})).unwrap();
    assert_eq!(
        next.multiagent.unwrap(),
        json!({"type": "coordinator", "agents": [agent("agent_b", 1), agent("agent_own", 2)]})
    );
    // Sent again, references are resolved again.
    let next =
        update(json!({"multiagent": {"type": "coordinator", "agents": ["agent_b", "agent_own"]}}))
            .unwrap();
    assert_eq!(
        next.multiagent.unwrap(),
        json!({"type": "coordinator", "agents": [agent("agent_b", 4), agent("agent_own", 2)]})
    );
    assert!(update(json!({"multiagent": {"type": "coordinator", "agents": [agent("agent_b", 1), {"type": "self"}]}})).is_none());
    assert_eq!(
        update(json!({"multiagent": null})).unwrap().multiagent,
        None
    );
    // The other form does not merge into it.
    let next = update(json!({"multiagent": {"type": "multiagent_20261001"}})).unwrap();
    assert_eq!(
        next.multiagent.unwrap()["advisor"],
        json!({"type": "disabled"})
    );
}
