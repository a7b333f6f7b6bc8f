//! What the model is told beside the conversation.

use freehold_engine::{Facts, Media, Placement, Purpose, SkillNote, State, build_request};
use freehold_wire::agent::SessionAgent;
use serde_json::{Value, json};

fn agent(tools: Value) -> SessionAgent {
    serde_json::from_value(json!({
        "type": "agent", "id": "agent_1", "version": 1, "name": "a", "description": null,
        "system": "be brief",
        "model": { "id": "m", "effort": { "type": "high" }, "speed": "standard" },
        "tools": tools, "mcp_servers": [], "skills": [], "multiagent": null,
        "execution_identity": { "type": "service_account" },
    }))
    .expect("a valid agent")
}

fn toolset(read: bool) -> Value {
    let policy = json!({ "type": "always_allow" });
    json!([{
        "type": "agent_toolset_20260401",
        "default_config": { "enabled": true, "permission_policy": policy },
        "configs": [{ "name": "read", "type": "read", "enabled": read, "permission_policy": policy }],
    }])
}

/// The texts of the system prompt.
fn system(state: &State) -> Vec<String> {
    let facts = Facts {
        context_window: 100_000,
        max_output_tokens: 1000,
        system_messages: true,
        effort: true,
        unavailable: Vec::new(),
        mcp: None,
    };
    let body = build_request(state, &facts, &Media::default(), Purpose::Turn).expect("a request");
    let body: Value = serde_json::from_str(body.get()).expect("JSON");
    let system = body["system"].as_array().expect("a system prompt");
    let cached = |block: &&Value| block.get("cache_control").is_some();
    assert_eq!(
        system.iter().filter(cached).count(),
        1,
        "one mark, and that on"
    );
    assert!(cached(&system.last().expect("a block")), "the last");
    let text = |block: &Value| block["text"].as_str().expect("a text").to_owned();
    system.iter().map(text).collect()
}

fn state(placement: Placement, read: bool, skills: &[(&str, &str)]) -> State {
    let skills = skills.iter().map(|(name, description)| SkillNote {
        name: (*name).to_owned(),
        description: (*description).to_owned(),
    });
    let thread = "sthr_1".parse().expect("an id");
    State::new(thread, agent(toolset(read)), placement, None).with_skills(skills.collect())
}

#[test]
fn skills_are_named_with_what_they_are_for_and_where_they_are() {
    let two = [
        ("invoices", "Checks them.\n  Use for\tPDFs."),
        ("tax", "Knows it."),
    ];
    for (placement, root) in [
        (Placement::Cloud, "/skills"),
        (Placement::SelfHosted, "/workspace/skills"),
    ] {
        let texts = system(&state(placement, true, &two));
        assert_eq!(texts.len(), 3);
        let lines: Vec<_> = texts[2].lines().collect();
        let expected = [
            format!("- invoices: Checks them. Use for PDFs. ({root}/invoices/SKILL.md)"),
            format!("- tax: Knows it. ({root}/tax/SKILL.md)"),
        ];
        assert_eq!(lines[1..], expected);
    }
}

#[test]
fn nothing_is_said_of_skills_that_are_not_there_or_cannot_be_read() {
    assert_eq!(system(&state(Placement::Cloud, true, &[])).len(), 2);
    assert_eq!(
        system(&state(Placement::Cloud, false, &[("a", "b")])).len(),
        2
    );
}
