//! Every documented example of the contract: responses are read and written back unchanged, requests
//! are accepted.

use freehold_wire::ErrorKind;
use freehold_wire::agent::Agent;
use freehold_wire::credential::Credential;
use freehold_wire::environment::Environment;
use freehold_wire::event::{EventBody, SendEvents};
use freehold_wire::file::File;
use freehold_wire::memory::MemoryItem;
use freehold_wire::memory_store::MemoryStore;
use freehold_wire::memory_version::MemoryVersion;
use freehold_wire::models::ModelInfo;
use freehold_wire::resource::Resource;
use freehold_wire::session::Session;
use freehold_wire::thread::Thread;
use freehold_wire::usage::Budget;
use freehold_wire::vault::Vault;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::*;

/// Checks that every key of the example comes back with its value; times may gain a fraction, and
/// keys that the contract calls optional may be added.
fn round_trip<T: DeserializeOwned + Serialize>(example: &str) {
    let value: Value = serde_json::from_str(example).unwrap();
    // From text, as clients read it, so that raw parts work too.
    let read: T = serde_json::from_str(example).unwrap();
    contains(&serde_json::to_value(&read).unwrap(), &value, "");
}

fn contains(written: &Value, example: &Value, path: &str) {
    match (written, example) {
        (Value::Object(written), Value::Object(example)) => {
            for (key, value) in example {
                let path = format!("{path}.{key}");
                contains(
                    written.get(key).unwrap_or_else(|| panic!("{path} is gone")),
                    value,
                    &path,
                );
            }
        }
        (Value::Array(written), Value::Array(example)) => {
            assert_eq!(written.len(), example.len(), "{path}");
            for (n, (w, e)) in written.iter().zip(example).enumerate() {
                contains(w, e, &format!("{path}.{n}"));
            }
        }
        (Value::String(w), Value::String(e)) if w != e => {
            let time = |s: &str| {
                s.parse::<freehold_base::Timestamp>()
                    .unwrap_or_else(|_| panic!("{path}: {w} for {e}"))
            };
            assert_eq!(time(w), time(e), "{path}");
        }
        (Value::Number(w), Value::Number(e)) => assert_eq!(w.as_f64(), e.as_f64(), "{path}"),
        (w, e) => assert_eq!(w, e, "{path}"),
    }
}

#[test]
fn agents() {
    round_trip::<Agent>(
        r#"{"id":"agent_01a","type":"agent","name":"helper","description":null,"system":"be terse",
 "model":{"id":"claude-opus-5-5","effort":{"type":"high"},"speed":"standard"},
 "tools":[{"type":"agent_toolset_20260401","configs":[],
   "default_config":{"enabled":true,"permission_policy":{"type":"always_allow"}}}],
 "mcp_servers":[],"skills":[],"multiagent":null,"execution_identity":{"type":"service_account"},
 "metadata":{},"version":1,"created_at":"2026-11-01T10:00:00Z","updated_at":"2026-11-01T10:00:00Z","archived_at":null}"#,
    );
    create(&with(
        &minimal_agent(),
        json!({
            "mcp_servers": [{"type":"url","name":"gh","url":"https://mcp.example.com/"}],
            "tools": [{"type":"mcp_toolset","mcp_server_name":"gh",
                "default_config":{"enabled":false,"permission_policy":{"type":"always_ask"}},
                "configs":[{"name":"get_issue","enabled":true,"permission_policy":{"type":"always_allow"}}]}],
            "execution_identity": {"type":"aws_role","role_arn":"arn:aws:iam::123456789012:role/x"}}),
    ))
    .unwrap();
}

#[test]
fn environments() {
    round_trip::<Environment>(
        r#"{"id":"env_01a","type":"environment","name":"py","description":null,
 "config":{"type":"cloud","networking":{"type":"limited","allowed_hosts":["api.example.com"],"allow_mcp_servers":false,"allow_package_managers":true},
           "packages":{"type":"packages","apt":[],"cargo":[],"gem":[],"go":[],"npm":[],"pip":["pandas"]}},
 "metadata":{},"scope":"organization","created_at":"2026-11-01T10:00:00Z","updated_at":"2026-11-01T10:00:00Z","archived_at":null}"#,
    );
}

#[test]
fn sessions() {
    let session = r#"{"id":"sesn_01a","type":"session","agent":{"type":"agent","id":"agent_01a","version":1,"name":"helper","description":null,"system":null,
 "model":{"id":"claude-opus-5-5","effort":{"type":"high"},"speed":"standard"},"tools":[],"mcp_servers":[],"skills":[],
 "multiagent":null,"execution_identity":{"type":"service_account"}},
 "environment_id":"env_01a","status":"idle","title":null,"metadata":{},"resources":[],"vault_ids":[],"budget":null,
 "usage":{"input_tokens":0,"output_tokens":0},"stats":{"active_seconds":0,"duration_seconds":0},"outcome_evaluations":[],
 "created_at":"2026-11-01T10:00:00Z","updated_at":"2026-11-01T10:00:00Z","archived_at":null,"deployment_id":null}"#;
    round_trip::<Session>(session);
    round_trip::<Session<Box<serde_json::value::RawValue>>>(session);
    for resource in [
        r#"{"id":"sesrsc_01a","type":"file","file_id":"file_01copy","mount_path":"/mnt/session/uploads/data.csv","created_at":"2026-11-01T10:00:00Z","updated_at":"2026-11-01T10:00:00Z"}"#,
        r#"{"id":"sesrsc_01b","type":"github_repository","url":"https://github.com/o/r","mount_path":"/workspace/r","checkout":{"type":"branch","name":"main"},"created_at":"2026-11-01T10:00:00Z","updated_at":"2026-11-01T10:00:00Z"}"#,
        r#"{"type":"memory_store","memory_store_id":"memstore_01a","access":"read_write","name":"Team Notes","description":"","instructions":null,"mount_path":"/mnt/memory/team-notes"}"#,
    ] {
        round_trip::<Resource>(resource);
    }
    round_trip::<Budget>(r#"{"type":"limit","max_list_cost":{"amount":"2500","currency":"USD"}}"#);
}

#[test]
fn threads() {
    round_trip::<Thread>(
        r#"{"id":"sthr_01a","type":"session_thread","session_id":"sesn_01a","parent_thread_id":null,"workflow_run_id":null,
 "agent":{"type":"agent","id":"agent_01a","version":1,"name":"lead","description":null,"system":null,"model":{"id":"claude-opus-5-5","effort":{"type":"high"},"speed":"standard"},"tools":[],"mcp_servers":[],"skills":[],"execution_identity":{"type":"service_account"}},
 "status":"idle","stats":null,"usage":null,"created_at":"2026-11-01T10:00:00Z","updated_at":"2026-11-01T10:00:00Z","archived_at":null}"#,
    );
}

#[test]
fn events() {
    read::<SendEvents>(
        &json!({"events":[{"type":"user.message","content":[{"type":"text","text":"go"}]}]}),
    )
    .unwrap();
    for example in [
        r#"{"id":"sevt_01a","type":"user.message","content":[{"type":"text","text":"go"}],"processed_at":null}"#,
        r#"{"type":"agent.message","id":"sevt_01b","content":[{"type":"text","text":"hi"}],"processed_at":"2026-11-01T10:00:02Z"}"#,
        r#"{"id":"sevt_01c","type":"agent.tool_use","name":"bash","input":{"command":"ls"},"evaluated_permission":"ask","evaluation":{"type":"always_ask"},"processed_at":"2026-11-01T10:00:03Z"}"#,
        r#"{"id":"sevt_01d","type":"session.status_idle","stop_reason":{"type":"requires_action","event_ids":["sevt_01c"]},"stop_details":null,"processed_at":"2026-11-01T10:00:03Z"}"#,
        r#"{"id":"sevt_01e","type":"session.error","error":{"type":"credential_host_unreachable_error","credential_id":"vcrd_01C","vault_id":"vlt_01V","message":"not permitted","retry_status":{"type":"retrying"}},"processed_at":"2026-11-01T10:00:04Z"}"#,
        r#"{"id":"sevt_01f","type":"session.usage","usage":{"input_tokens":10,"output_tokens":3,"list_cost":{"amount":"1","currency":"USD"}},"budget":null,"processed_at":"2026-11-01T10:00:05Z"}"#,
    ] {
        let value: Value = serde_json::from_str(example).unwrap();
        let kind = value["type"].as_str().unwrap();
        let id = value["id"].as_str().unwrap().parse().unwrap();
        let body = EventBody::parse(kind, example).unwrap().unwrap();
        let at = value["processed_at"].as_str().map(|t| t.parse().unwrap());
        let written = freehold_wire::event::with_processed_at(&body.payload(&id), at);
        contains(&serde_json::from_str(&written).unwrap(), &value, kind);
    }
}

#[test]
fn files_and_models() {
    round_trip::<File>(
        r#"{"type":"file","id":"file_01F","filename":"report.csv","mime_type":"text/csv","size_bytes":812,"created_at":"2026-11-20T08:00:00Z","downloadable":true,"expires_at":null,"scope":{"type":"session","id":"sesn_01S"}}"#,
    );
    round_trip::<ModelInfo>(
        r#"{"id":"claude-opus-5","type":"model","display_name":"Claude Opus 5","created_at":"2026-06-01T00:00:00Z","lifecycle":"active","line":"opus","max_input_tokens":200000,"max_tokens":64000,"deprecated_at":null,"retires_at":null,"capabilities":null}"#,
    );
}

#[test]
fn memory_stores() {
    round_trip::<MemoryStore>(
        r#"{"type":"memory_store","id":"memstore_01M","name":"Team Notes","description":"","metadata":{},"created_at":"2026-11-20T08:00:00Z","updated_at":"2026-11-20T08:00:00Z","archived_at":null}"#,
    );
    for item in [
        r#"{"type":"memory","id":"mem_01A","memory_store_id":"memstore_01M","memory_version_id":"memver_01A","path":"/style.md","content":null,"content_sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","content_size_bytes":4,"created_at":"2026-11-20T08:00:00Z","updated_at":"2026-11-20T08:00:00Z"}"#,
        r#"{"type":"memory_prefix","path":"/projects/"}"#,
    ] {
        round_trip::<MemoryItem>(item);
    }
    round_trip::<MemoryVersion>(
        r#"{"type":"memory_version","id":"memver_01A","memory_store_id":"memstore_01M","memory_id":"mem_01A","operation":"created","path":"/style.md","content":"tabs","content_sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","content_size_bytes":4,"created_at":"2026-11-20T08:00:00Z","created_by":{"type":"api_actor","api_key_id":"apikey_01"},"redacted_at":null}"#,
    );
    let taken = freehold_wire::ApiError::new(ErrorKind::MemoryPathConflict, "path is taken")
        .with_field("conflicting_memory_id", "mem_01A".into())
        .with_field("conflicting_path", "/style.md".into());
    assert_eq!(
        taken.envelope("req_01"),
        json!({"type":"error","error":{"type":"memory_path_conflict_error","message":"path is taken","conflicting_memory_id":"mem_01A","conflicting_path":"/style.md"},"request_id":"req_01"})
    );
    assert_eq!(
        (taken.kind.status(), taken.should_retry),
        (409, Some(false))
    );
}

#[test]
fn vaults_and_credentials() {
    round_trip::<Vault>(
        r#"{"type":"vault","id":"vlt_01V","display_name":"Dana","metadata":{"uid":"77"},"created_at":"2026-11-20T08:00:00Z","updated_at":"2026-11-20T08:00:00Z","archived_at":null}"#,
    );
    for example in [
        r#"{"type":"vault_credential","id":"vcrd_01C","vault_id":"vlt_01V","display_name":"tracker","metadata":{},"auth":{"type":"mcp_oauth","mcp_server_url":"https://mcp.example.com/mcp","expires_at":"2026-11-20T09:00:00Z","refresh":{"token_endpoint":"https://id.example.com/token","client_id":"abc","scope":null,"resource":null,"token_endpoint_auth":{"type":"client_secret_post"}}},"created_at":"2026-11-20T08:00:00Z","updated_at":"2026-11-20T08:00:00Z","archived_at":null}"#,
        r#"{"type":"vault_credential","id":"vcrd_02C","vault_id":"vlt_01V","display_name":null,"metadata":{},"auth":{"type":"static_bearer","mcp_server_url":"https://mcp2.example.com/"},"created_at":"2026-11-20T08:00:00Z","updated_at":"2026-11-20T08:00:00Z","archived_at":null}"#,
        r#"{"type":"vault_credential","id":"vcrd_03C","vault_id":"vlt_01V","display_name":null,"metadata":{},"auth":{"type":"environment_variable","secret_name":"ACME_KEY","networking":{"type":"limited","allowed_hosts":["api.acme.test"]},"injection_location":{"header":true,"body":false}},"created_at":"2026-11-20T08:00:00Z","updated_at":"2026-11-20T08:00:00Z","archived_at":null}"#,
    ] {
        round_trip::<Credential>(example);
    }
}

#[test]
fn the_error_envelope() {
    let error = freehold_wire::ApiError::invalid("tools.0.type: unknown value")
        .with_code("environment_archived");
    assert_eq!(
        error.envelope("req_01abc"),
        json!({"type":"error",
 "error":{"type":"invalid_request_error","message":"tools.0.type: unknown value",
          "details":{"error_code":"environment_archived"}},
 "request_id":"req_01abc"})
    );
}
