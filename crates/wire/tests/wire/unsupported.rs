//! What is stored but not run yet is refused, by name.

use freehold_wire::agent::SessionAgent;
use freehold_wire::environment::{CreateEnvironment, EnvironmentConfig};
use freehold_wire::session::CreateSession;
use serde_json::{Value, json};

use crate::support::*;

fn agent(extra: Value) -> SessionAgent {
    create(&with(&minimal_agent(), extra))
        .unwrap()
        .session_agent()
}
fn environment(config: Value) -> EnvironmentConfig {
    let body = json!({"name": "x", "config": config});
    read::<CreateEnvironment>(&body)
        .unwrap()
        .resolve()
        .unwrap()
        .config
}
fn session(extra: Value) -> CreateSession {
    read(&with(
        &json!({"agent": "agent_01a", "environment_id": "env_01a"}),
        extra,
    ))
    .unwrap()
}

#[test]
fn agents() {
    let toolset = json!([{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "auto"}}}]);
    assert_eq!(agent(json!({ "tools": toolset })).unsupported(), None);
    let all = json!([{"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch", "url_sources": {"user_input": "all"}}]}]);
    assert_eq!(agent(json!({ "tools": all })).unsupported(), None);
    for (extra, what) in [
        (
            json!({"multiagent": {"type": "multiagent_20261001"}}),
            "multiagent",
        ),
        (
            json!({"execution_identity": {"type": "aws_role", "role_arn": "arn:aws:iam::1:role/x"}}),
            "aws_role",
        ),
        (
            json!({"model": {"id": "claude-opus-5-5", "inference_geo": "us"}}),
            "inference_geo",
        ),
        (
            json!({"tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch", "url_sources": {"user_input": "none"}}]}]}),
            "url_sources",
        ),
        (
            json!({"tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "web_search", "user_location": {"type": "approximate", "country": "DE"}}]}]}),
            "user_location",
        ),
    ] {
        let error = agent(extra).unsupported().unwrap();
        assert_eq!(
            (error.kind.status(), error.code),
            (400, Some("not_supported_yet"))
        );
        assert!(error.message.contains(what), "{error}");
    }
}

#[test]
fn sessions() {
    let file = json!({"type": "file", "file_id": "file_1"});
    let budget = json!({"type": "limit", "max_list_cost": {"amount": "5", "currency": "USD"}});
    assert_eq!(session(json!({"resources": [file, {"type": "memory_store", "memory_store_id": "memstore_1"}], "budget": budget, "vault_ids": ["vlt_1"], "initial_events": [{"type": "user.message", "content": [{"type": "text", "text": "x"}]}]})).unsupported(), None);
    for (extra, what) in [
        (
            json!({"resources": [file, {"type": "github_repository", "url": "https://github.com/o/r"}]}),
            "github_repository",
        ),
        (
            json!({"initial_events": [{"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "c"}}]}),
            "define_outcome",
        ),
    ] {
        let error = session(extra).unsupported().unwrap();
        assert_eq!(error.code, Some("not_supported_yet"));
        assert!(error.message.contains(what), "{error}");
    }
}

#[test]
fn self_hosted_environments_take_no_mounts() {
    let self_hosted = EnvironmentConfig::SelfHosted;
    let file = json!({"resources": [{"type": "file", "file_id": "file_1"}]});
    assert_eq!(
        session(file.clone())
            .check_environment(&self_hosted)
            .unwrap_err()
            .message,
        "Environment env_01a is a self-hosted environment. `resources` are not supported with self-hosted environments."
    );
    session(file)
        .check_environment(&environment(json!({"type": "cloud"})))
        .unwrap();
    let store = json!({"resources": [{"type": "memory_store", "memory_store_id": "memstore_1"}]});
    session(store).check_environment(&self_hosted).unwrap();
}
