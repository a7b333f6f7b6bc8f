//! No input makes a reader panic, and every refusal is small.

use freehold_base::AgentId;
use freehold_wire::agent::{CreateAgent, UpdateAgent};
use freehold_wire::credential::{CreateCredential, UpdateCredential};
use freehold_wire::cursor::{Order, Position};
use freehold_wire::environment::{CreateEnvironment, UpdateEnvironment};
use freehold_wire::event::SendEvents;
use freehold_wire::list::*;
use freehold_wire::resource::{AddResource, UpdateResource, normalise};
use freehold_wire::session::{CreateSession, UpdateSession};
use freehold_wire::vault::{CreateVault, UpdateVault};
use freehold_wire::{ApiError, Query, parse};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::*;

/// Strings that the readers know, and any others.
fn string() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "type",
        "name",
        "id",
        "model",
        "tools",
        "agent",
        "content",
        "text",
        "source",
        "data",
        "media_type",
        "url",
        "file_id",
        "file",
        "base64",
        "image",
        "document",
        "custom",
        "mcp_toolset",
        "agent_toolset_20260401",
        "configs",
        "default_config",
        "enabled",
        "disabled",
        "permission_policy",
        "always_ask",
        "auto",
        "allowed_domains",
        "blocked_domains",
        "web_fetch",
        "web_search",
        "url_sources",
        "user_input",
        "only",
        "all",
        "none",
        "user_location",
        "approximate",
        "country",
        "timezone",
        "input_schema",
        "object",
        "properties",
        "required",
        "$ref",
        "description",
        "system",
        "metadata",
        "mcp_servers",
        "skills",
        "anthropic",
        "skill_id",
        "pdf",
        "multiagent",
        "coordinator",
        "agents",
        "self",
        "advisor",
        "multiagent_20261001",
        "subagents",
        "workflows",
        "predefined_agents",
        "inline_agents",
        "execution_identity",
        "aws_role",
        "role_arn",
        "events",
        "user.message",
        "user.interrupt",
        "user.tool_confirmation",
        "user.custom_tool_result",
        "user.tool_result",
        "system.message",
        "user.define_outcome",
        "tool_use_id",
        "custom_tool_use_id",
        "result",
        "allow",
        "deny",
        "deny_message",
        "rubric",
        "environment_id",
        "initial_events",
        "resources",
        "mount_path",
        "budget",
        "limit",
        "max_list_cost",
        "amount",
        "currency",
        "USD",
        "config",
        "cloud",
        "self_hosted",
        "networking",
        "limited",
        "allowed_hosts",
        "packages",
        "pip",
        "agent_with_overrides",
        "version",
        "agent_1",
        "env_1",
        "file_1",
        "sevt_1",
        "https://a.example.com",
        "/a",
        "claude-a",
        "1",
        "aGVsbG8=",
        "image/png",
        "example.com",
        "mcp_server_name",
        "effort",
        "high",
        "speed",
        "fast",
    ];
    prop_oneof![
        4 => proptest::sample::select(KNOWN).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        string().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((string(), inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn small(error: &ApiError) {
    assert!(error.message.len() < 4096, "{}", error.message.len());
    assert!([400, 404].contains(&error.kind.status()));
    assert!(
        !error.message.chars().any(char::is_control),
        "{:?}",
        error.message
    );
}

fn every_reader(body: &[u8]) {
    macro_rules! read {
        ($($t:ty),*) => { $(if let Err(error) = parse::<$t>(body) { small(&error); })* };
    }
    read!(
        CreateAgent,
        UpdateAgent,
        CreateEnvironment,
        UpdateEnvironment,
        CreateSession,
        UpdateSession,
        SendEvents,
        AddResource,
        UpdateResource,
        CreateVault,
        UpdateVault,
        CreateCredential,
        UpdateCredential
    );
}

/// Valid bodies to damage.
fn seeds() -> Vec<Value> {
    vec![
        with(
            &minimal_agent(),
            json!({"system": "s", "metadata": {"a": "b"},
            "tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch", "allowed_domains": ["example.com"],
                "url_sources": {"user_input": "none"}}]},
                {"type": "custom", "name": "c", "description": "d", "input_schema": {"type": "object", "properties": {"a": {}}}}],
            "multiagent": {"type": "coordinator", "agents": ["agent_1", {"type": "self"}]}}),
        ),
        json!({"name": "x", "config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["a.example.com"]}, "packages": {"pip": []}}}),
        json!({"agent": {"type": "agent_with_overrides", "id": "agent_1", "tools": []}, "environment_id": "env_1",
            "resources": [{"type": "file", "file_id": "file_1", "mount_path": "/a"}],
            "budget": {"type": "limit", "max_list_cost": {"amount": "5", "currency": "USD"}},
            "initial_events": [{"type": "user.message", "content": [{"type": "text", "text": "x"}]}]}),
        json!({"events": [{"type": "user.message", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}]},
            {"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "deny", "deny_message": "x"}]}),
        json!({"display_name": "d", "auth": {"type": "mcp_oauth", "mcp_server_url": "https://a.example", "access_token": "t",
            "expires_at": "2100-01-01T00:00:00Z", "refresh": {"token_endpoint": "https://a.example", "client_id": "c",
                "refresh_token": "r", "scope": "s", "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "s"}}}}),
        json!({"auth": {"type": "environment_variable", "secret_name": "A", "secret_value": "v",
            "networking": {"type": "limited", "allowed_hosts": ["a.example"]}, "injection_location": {"header": true}}}),
    ]
}

/// Puts `with` in the place of the `n`-th value of the tree.
fn damage(value: &mut Value, n: &mut usize, with: &Value) {
    if *n == 0 {
        *value = with.clone();
    }
    *n = n.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|v| damage(v, n, with)),
        Value::Object(map) => map.values_mut().for_each(|v| damage(v, n, with)),
        _ => {}
    }
}

#[test]
fn the_seeds_are_valid() {
    let [agent, environment, session, events, credentials @ ..] = &seeds()[..] else {
        panic!("six seeds")
    };
    for credential in credentials {
        read::<CreateCredential>(credential).unwrap();
    }
    read::<CreateAgent>(agent).unwrap();
    read::<CreateEnvironment>(environment).unwrap();
    read::<CreateSession>(session).unwrap();
    read::<SendEvents>(events).unwrap();
}

proptest! {
    #[test]
    fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..256)) {
        every_reader(&body);
    }

    #[test]
    fn any_json(body in json_value()) {
        every_reader(body.to_string().as_bytes());
    }

    #[test]
    fn valid_bodies_with_one_value_replaced(seed in 0usize..6, n in 0usize..60, by in json_value()) {
        let mut body = seeds()[seed].clone();
        damage(&mut body, &mut { n }, &by);
        every_reader(body.to_string().as_bytes());
        // What is accepted can be resolved or refused, without a panic.
        if let Ok(request) = read::<CreateAgent>(&body)
            && let Ok(draft) = request.resolve(&TestModels)
        {
            let own: AgentId = "agent_own".parse().unwrap();
            let _ = draft.finish(&own, &Default::default());
        }
        if let Ok(request) = read::<CreateEnvironment>(&body) {
            let _ = request.resolve();
        }
    }

    #[test]
    fn an_accepted_agent_survives_the_store(n in 0usize..60, by in json_value()) {
        let mut body = seeds()[0].clone();
        body["multiagent"] = Value::Null;
        damage(&mut body, &mut { n }, &by);
        if let Ok(agent) = create(&body) {
            let stored = serde_json::to_string(&agent).unwrap();
            let back: freehold_wire::agent::Agent = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(&back, &agent);
            // And what it shows can be sent back without making a version.
            let shown = serde_json::to_value(&agent).unwrap();
            let echo = json!({"name": shown["name"], "model": shown["model"], "tools": shown["tools"],
                "mcp_servers": shown["mcp_servers"], "skills": shown["skills"], "metadata": shown["metadata"],
                "system": shown["system"], "description": shown["description"],
                "execution_identity": shown["execution_identity"]});
            prop_assert!(update(&agent, &echo).unwrap().is_none());
        }
    }

    #[test]
    fn any_query(raw in prop_oneof![any::<String>(), "(limit|page|order|types\\[\\]|created_at%5Bgt%5D|ids|scope_id|agent_id)=[ -~]{0,40}"]) {
        let session = "sesn_1".parse().unwrap();
        match Query::parse(&raw) {
            Err(error) => small(&error),
            Ok(query) => {
                for error in [
                    ListAgents::read(&query).err(),
                    ListEnvironments::read(&query).err(),
                    ListSessions::read(&query).err(),
                    ListEvents::read(&query, &session).err(),
                    ListThreads::read(&query, &session).err(),
                    ListPlain::resources(&query, &session).err(),
                    ListFiles::read(&query).err(),
                    ListVaults::vaults(&query).err(),
                    ListModels::read(&query).err(),
                ].into_iter().flatten() {
                    small(&error);
                }
            }
        }
    }

    #[test]
    fn any_cursor(body in proptest::collection::vec(any::<u8>(), 0..64), micros: i64, id in "[ -~]{0,40}") {
        use base64::Engine as _;
        let text = format!("page_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(body));
        let scope = ListSessions::scope(Order::Asc);
        let _ = scope.decode(&text);
        let position = Position::Created(micros, id);
        prop_assert_eq!(scope.decode(&scope.prev(position.clone())).unwrap().position, position);
    }

    #[test]
    fn a_mount_path_never_leaves_its_root(path in "[/.a-c]{0,20}|\\PC{0,40}") {
        if let Ok(rooted) = normalise(&path, "/mnt/session/uploads") {
            prop_assert!(rooted.starts_with("/mnt/session/uploads/"));
            prop_assert!(rooted.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")));
            prop_assert_eq!(normalise(&rooted, "/mnt/session/uploads").unwrap(), rooted);
        }
    }
}
