//! What the model is told of attached memory stores.

use freehold_engine::{Facts, Media, Placement, Purpose, State, build_request};
use freehold_wire::resource::{Access, MemoryStoreResource};
use serde_json::{Value, json};

fn store(name: &str, access: Access) -> MemoryStoreResource {
    MemoryStoreResource {
        memory_store_id: "memstore_1".parse().unwrap(),
        access,
        instructions: None,
        name: Some(name.into()),
        description: String::new(),
        mount_path: Some(format!("/mnt/memory/{name}")),
    }
}

/// The texts of the system prompt of an agent with this toolset.
fn system(toolset: Value, stores: Vec<MemoryStoreResource>) -> Vec<String> {
    let agent = json!({"type": "agent", "id": "agent_1", "version": 1, "name": "a",
        "description": null, "system": "be brief",
        "model": {"id": "rehearsal", "effort": {"type": "high"}, "speed": "standard"},
        "tools": [toolset], "mcp_servers": [], "skills": [], "multiagent": null,
        "execution_identity": {"type": "service_account"}});
    let agent = serde_json::from_value(agent).unwrap();
    let thread = "sthr_1".parse().unwrap();
    let state = State::new(thread, agent, Placement::Cloud, None).with_memory(stores);
    let facts = Facts {
        context_window: 100_000,
        max_output_tokens: 1000,
        system_messages: true,
        effort: true,
        unavailable: Vec::new(),
        mcp: None,
    };
    let body = build_request(&state, &facts, &Media::default(), Purpose::Turn).unwrap();
    let body: Value = serde_json::from_str(body.get()).unwrap();
    let texts = body["system"].as_array().unwrap().iter();
    texts
        .map(|t| t["text"].as_str().unwrap().to_owned())
        .collect()
}

fn toolset(enabled: bool) -> Value {
    json!({"type": "agent_toolset_20260401", "configs": [],
        "default_config": {"enabled": enabled, "permission_policy": {"type": "always_allow"}}})
}

#[test]
fn name_place_access_description_and_instructions() {
    let described = MemoryStoreResource {
        description: "how we write".into(),
        instructions: Some("look here first".into()),
        ..store("style", Access::ReadOnly)
    };
    let all = system(
        toolset(true),
        vec![described, store("notes", Access::ReadWrite)],
    );
    assert_eq!((all.len(), all[0].as_str()), (3, "be brief"));
    let told = &all[2];
    for part in [
        "## style\nFolder: /mnt/memory/style (read only)\nDescription: how we write\nInstructions: look here first\n",
        "## notes\nFolder: /mnt/memory/notes (read and write)",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(
        told.ends_with("(read and write)"),
        "nothing empty is said: {told}"
    );
}

#[test]
fn nothing_is_said_of_what_is_not_there() {
    assert_eq!(system(toolset(true), Vec::new()).len(), 2);
    let unreachable = system(toolset(false), vec![store("notes", Access::ReadWrite)]);
    assert_eq!(unreachable, ["be brief"]);
}
