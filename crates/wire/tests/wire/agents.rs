//! Contract 10 but for tools and multiagent.

use freehold_wire::agent::{CreateAgent, UpdateAgent};
use serde_json::{Value, json};

use crate::support::*;

#[test]
fn a_minimal_agent_has_every_field() {
    let agent = create(&minimal_agent()).unwrap();
    assert_eq!(
        serde_json::to_value(&agent).unwrap(),
        json!({
            "type": "agent", "id": "agent_01a", "version": 1, "name": "helper",
            "description": null, "system": null,
            "model": {"id": "claude-opus-5-5", "effort": {"type": "high"}, "speed": "standard"},
            "tools": [], "mcp_servers": [], "skills": [], "multiagent": null,
            "execution_identity": {"type": "service_account"}, "metadata": {},
            "created_at": "1970-01-01T00:00:00.000000Z",
            "updated_at": "1970-01-01T00:00:00.000000Z", "archived_at": null
        })
    );
}

#[test]
fn create_names_the_place_and_the_rule() {
    let long = |n: usize| "x".repeat(n);
    let base = minimal_agent();
    for (body, message) in [
        (json!({"name": "x"}), "model: Field required"),
        (json!({"model": "claude-opus-5-5"}), "name: Field required"),
        (json!([]), "Input should be an object"),
        (
            with(&base, json!({"name": ""})),
            "name: String should have at least 1 character",
        ),
        (
            with(&base, json!({"name": null})),
            "name: Input should be a valid string",
        ),
        (
            with(&base, json!({"name": long(257)})),
            "name: String should have at most 256 characters",
        ),
        (
            with(&base, json!({"name": "a\u{0}b"})),
            "name: String should not contain null characters",
        ),
        (
            with(&base, json!({"description": long(2049)})),
            "description: String should have at most 2048 characters",
        ),
        (
            with(&base, json!({"system": long(100_001)})),
            "system: String should have at most 100000 characters",
        ),
        (
            with(&base, json!({"system": 5})),
            "system: Input should be a valid string",
        ),
        (
            with(&base, json!({"max_tokens": 5})),
            "max_tokens: Extra inputs are not permitted",
        ),
        (
            with(&base, json!({"thinking": {}})),
            "thinking: Extra inputs are not permitted",
        ),
        (
            with(&base, json!({"tools": null})),
            "tools: Input should be a valid list",
        ),
        (
            with(&base, json!({"metadata": null})),
            "metadata: Input should be an object",
        ),
        (
            with(&base, json!({"metadata": {"a": 1}})),
            "metadata.a: Input should be a valid string",
        ),
        (
            with(&base, json!({"model": 5})),
            "model: Input should be a model id or a model configuration object",
        ),
        (
            with(&base, json!({"model": ""})),
            "model: String should have at least 1 character",
        ),
        (
            with(&base, json!({"model": {}})),
            "model.id: Field required",
        ),
        (
            with(&base, json!({"model": "gpt"})),
            "model: `gpt` is not configured",
        ),
        (
            with(
                &base,
                json!({"model": {"id": "claude-opus-5-5", "effort": "huge"}}),
            ),
            "model.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        (
            with(
                &base,
                json!({"model": {"id": "claude-opus-5-5", "effort": {"type": "huge"}}}),
            ),
            "model.effort.type: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        (
            with(
                &base,
                json!({"model": {"id": "claude-opus-5-5", "speed": "slow"}}),
            ),
            "model.speed: Input should be 'standard' or 'fast'",
        ),
        (
            with(
                &base,
                json!({"model": {"id": "claude-opus-5-5", "temperature": 1}}),
            ),
            "model.temperature: Extra inputs are not permitted",
        ),
        (
            with(&base, json!({"model": {"id": "chat", "effort": "low"}})),
            "model.effort: effort `low` is not supported by model `chat`; it always runs at `high`",
        ),
        (
            with(&base, json!({"model": {"id": "chat", "speed": "fast"}})),
            "model.speed: speed `fast` is not supported by model `chat`",
        ),
        (
            with(&base, json!({"execution_identity": {"type": "root"}})),
            "execution_identity.type: Input tag 'root' does not match any of the expected tags: 'service_account' or 'aws_role'",
        ),
        (
            with(
                &base,
                json!({"execution_identity": {"type": "aws_role", "role_arn": "nope"}}),
            ),
            "execution_identity.role_arn: Input should be an IAM role ARN",
        ),
    ] {
        assert_eq!(agent_refusal(&body), message, "{body}");
    }
}

#[test]
fn lengths_count_characters_and_their_bounds_are_inclusive() {
    let base = minimal_agent();
    for body in [
        with(&base, json!({"name": "é".repeat(256)})),
        with(&base, json!({"description": "😀".repeat(2048)})),
        with(&base, json!({"system": "é".repeat(100_000)})),
    ] {
        create(&body).unwrap();
    }
    assert!(agent_refusal(&with(&base, json!({"name": "é".repeat(257)}))).contains("at most 256"));
}

#[test]
fn metadata_limits_carry_their_code() {
    let pairs = |n: usize| {
        (0..n)
            .map(|i| (format!("k{i}"), Value::from("v")))
            .collect::<serde_json::Map<_, _>>()
    };
    let base = minimal_agent();
    create(&with(&base, json!({"metadata": pairs(16)}))).unwrap();
    create(&with(
        &base,
        json!({"metadata": {"k".repeat(64): "v".repeat(512)}}),
    ))
    .unwrap();
    for (bag, message) in [
        (
            json!(pairs(17)),
            "metadata: Metadata should have at most 16 pairs, not 17",
        ),
        (
            json!({"": "v"}),
            "metadata.: Metadata keys should have 1 to 64 characters",
        ),
        (
            json!({"a": "v".repeat(513)}),
            "metadata.a: Metadata values should have at most 512 characters",
        ),
    ] {
        let error = read::<CreateAgent>(&with(&base, json!({"metadata": bag}))).unwrap_err();
        assert_eq!(error.message, message);
        assert_eq!(error.code, Some("invalid_metadata"));
    }
    // The key is echoed cut short.
    let error = refusal::<CreateAgent>(&with(&base, json!({"metadata": {"k".repeat(9000): "v"}})));
    assert!(error.len() < 200, "{error}");
}

#[test]
fn skills_need_read_and_are_resolved() {
    let base = minimal_agent();
    let tools = json!([{"type": "agent_toolset_20260401"}]);
    let skilled = |skills: Value| with(&base, json!({"tools": tools, "skills": skills}));
    let agent = create(&skilled(json!([
        {"type": "anthropic", "skill_id": "xlsx"},
        {"type": "custom", "skill_id": "skill_01", "version": "skver_2"},
        {"type": "anthropic", "skill_id": "pdf", "version": null}
    ])))
    .unwrap();
    assert_eq!(
        serde_json::to_value(&agent.skills).unwrap(),
        json!([
            {"type": "anthropic", "skill_id": "xlsx", "version": "latest"},
            {"type": "custom", "skill_id": "skill_01", "version": "skver_2"},
            {"type": "anthropic", "skill_id": "pdf", "version": "latest"}
        ])
    );
    for (skills, message) in [
        (
            json!([{"type": "anthropic", "skill_id": "odt"}]),
            "skills.0.skill_id: Input should be 'pptx', 'xlsx', 'docx' or 'pdf'",
        ),
        (
            json!([{"type": "custom", "skill_id": "xlsx"}]),
            "skills.0.skill_id: not a valid id: expected the form skill_…",
        ),
        (
            json!([{"type": "anthropic", "skill_id": "pdf"}, {"type": "anthropic", "skill_id": "pdf", "version": "1"}]),
            "skills.1.skill_id: Skills must be distinct; `pdf` is given twice",
        ),
    ] {
        assert_eq!(agent_refusal(&skilled(skills)), message);
    }
    let needs_read =
        "skills: Skills need the `read` tool of agent_toolset_20260401 to be enabled in tools";
    let skill = json!([{"type": "anthropic", "skill_id": "pdf"}]);
    assert_eq!(
        agent_refusal(&with(&base, json!({"skills": skill}))),
        needs_read
    );
    let no_read = json!([{"type": "agent_toolset_20260401", "configs": [{"name": "read", "enabled": false}]}]);
    assert_eq!(
        agent_refusal(&with(&base, json!({"skills": skill, "tools": no_read}))),
        needs_read
    );
    assert_eq!(
        update(&agent, &json!({"tools": null})).unwrap_err().message,
        needs_read
    );
}

#[test]
fn update_follows_the_table_of_the_contract() {
    let stored = create(&with(
        &minimal_agent(),
        json!({
            "description": "d", "system": "s", "metadata": {"a": "1", "b": "2"},
            "model": {"id": "claude-opus-5-5", "effort": "low", "speed": "fast", "inference_geo": "us"},
            "execution_identity": {"type": "aws_role", "role_arn": "arn:aws:iam::1:role/x"},
            "tools": [{"type": "agent_toolset_20260401"}]
        }),
    ))
    .unwrap();
    let changed = |body: Value| {
        let agent = update(&stored, &body).unwrap().expect("a new version");
        assert_eq!(agent.version, 2);
        serde_json::to_value(agent).unwrap()
    };
    for (body, key, value) in [
        (json!({"name": "n"}), "name", json!("n")),
        (json!({"description": ""}), "description", json!(null)),
        (json!({"description": null}), "description", json!(null)),
        (json!({"system": null}), "system", json!(null)),
        (json!({"system": ""}), "system", json!(null)),
        (json!({"system": "t"}), "system", json!("t")),
        (json!({"tools": []}), "tools", json!([])),
        (json!({"tools": null}), "tools", json!([])),
        (
            json!({"metadata": {"a": null, "c": "3"}}),
            "metadata",
            json!({"b": "2", "c": "3"}),
        ),
        (
            json!({"execution_identity": null}),
            "execution_identity",
            json!({"type": "service_account"}),
        ),
        // Same id, no effort: the stored one stays, the rest takes its defaults.
        (
            json!({"model": "claude-opus-5-5"}),
            "model",
            json!({"id": "claude-opus-5-5", "effort": {"type": "low"}, "speed": "standard"}),
        ),
        // Another id, no effort: its default.
        (
            json!({"model": {"id": "claude-sonnet-5", "inference_geo": "us"}}),
            "model",
            json!({"id": "claude-sonnet-5", "effort": {"type": "high"}, "speed": "standard", "inference_geo": "us"}),
        ),
        (
            json!({"model": {"id": "claude-opus-5-5", "effort": {"type": "max"}}}),
            "model",
            json!({"id": "claude-opus-5-5", "effort": {"type": "max"}, "speed": "standard"}),
        ),
    ] {
        assert_eq!(changed(body.clone())[key], value, "{body}");
    }
    for body in [
        json!({}),
        json!({"name": "helper", "version": 1}),
        json!({"metadata": null}),
        json!({"metadata": {"a": "1", "missing": null}}),
        json!({"tools": [{"type": "agent_toolset_20260401", "configs": [], "default_config": {"enabled": true}}]}),
        json!({"multiagent": null}),
        json!({"model": {"id": "claude-opus-5-5", "speed": "fast", "inference_geo": "us"}}),
    ] {
        assert!(update(&stored, &body).unwrap().is_none(), "{body}");
    }
    for (body, message) in [
        (
            json!({"name": ""}),
            "name: String should have at least 1 character",
        ),
        (
            json!({"name": null}),
            "name: Input should be a valid string",
        ),
        (
            json!({"model": null}),
            "model: Input should be a model id or a model configuration object",
        ),
        (
            json!({"version": 0}),
            "version: Input should be greater than or equal to 1",
        ),
        (
            json!({"version": 1.5}),
            "version: Input should be a valid integer",
        ),
        (
            json!({"version": "1"}),
            "version: Input should be a valid integer",
        ),
        (
            json!({"archived": true}),
            "archived: Extra inputs are not permitted",
        ),
    ] {
        assert_eq!(refusal::<UpdateAgent>(&body), message);
    }
    let many: serde_json::Map<_, _> = (0..15).map(|i| (format!("k{i}"), json!("v"))).collect();
    assert_eq!(
        update(&stored, &json!({"metadata": many}))
            .unwrap_err()
            .message,
        "metadata: Metadata should have at most 16 pairs, not 17"
    );
}

#[test]
fn a_wrong_version_is_a_conflict_even_without_a_change() {
    let stored = create(&minimal_agent()).unwrap();
    let error = update(&stored, &json!({"version": 2})).unwrap_err();
    assert_eq!(error.kind.status(), 409);
    assert_eq!(error.kind.as_str(), "conflict_error");
    // The SDKs would try again twice otherwise.
    assert_eq!(error.should_retry, Some(false));
}

#[test]
fn an_archived_agent_is_read_only() {
    let mut stored = create(&minimal_agent()).unwrap();
    stored.archived_at = Some(at(1));
    let error = update(&stored, &json!({"name": "n"})).unwrap_err();
    assert_eq!(error.kind.status(), 400);
    assert_eq!(
        error.message,
        "Agent `agent_01a` is archived and cannot be updated."
    );
}
