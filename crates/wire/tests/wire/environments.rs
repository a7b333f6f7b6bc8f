//! Contract 20.

use freehold_wire::environment::{CreateEnvironment, Environment, UpdateEnvironment};
use freehold_wire::{ApiError, environment::EnvironmentConfig};
use serde_json::{Value, json};

use crate::support::*;

fn create(body: &Value) -> Result<Environment, ApiError> {
    let data = read::<CreateEnvironment>(body)?.resolve()?;
    Ok(data.into_environment("env_01a".parse().unwrap(), at(0), at(0)))
}
fn update(stored: &Environment, body: &Value) -> Result<Option<Environment>, ApiError> {
    let data = read::<UpdateEnvironment>(body)?.resolve(stored)?;
    Ok(data.map(|d| d.into_environment(stored.id.clone(), at(0), at(1))))
}
fn packages(pip: Value) -> Value {
    json!({"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": pip})
}

#[test]
fn left_out_parts_take_their_defaults() {
    let shown = |body: Value| serde_json::to_value(create(&body).unwrap()).unwrap();
    let cloud = json!({"type": "cloud", "networking": {"type": "unrestricted"}, "packages": packages(json!([]))});
    for body in [
        json!({"name": "py"}),
        json!({"name": "py", "config": null, "description": null, "scope": null}),
        json!({"name": "py", "config": {"type": "cloud"}, "scope": "organization"}),
        json!({"name": "py", "config": {"type": "cloud", "networking": null, "packages": {"type": "packages", "pip": null}}}),
    ] {
        assert_eq!(
            shown(body),
            json!({"id": "env_01a", "type": "environment", "name": "py", "description": null,
                "config": cloud, "metadata": {}, "scope": "organization",
                "created_at": "1970-01-01T00:00:00.000000Z", "updated_at": "1970-01-01T00:00:00.000000Z", "archived_at": null})
        );
    }
    assert_eq!(
        shown(
            json!({"name": "x", "config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.com"]}}})
        )["config"]["networking"],
        json!({"type": "limited", "allowed_hosts": ["api.example.com", "*.example.com"], "allow_mcp_servers": false, "allow_package_managers": false})
    );
    assert_eq!(
        shown(json!({"name": "x", "config": {"type": "self_hosted"}}))["config"],
        json!({"type": "self_hosted"})
    );
}

#[test]
fn create_rules() {
    let config = |config: Value| json!({"name": "x", "config": config});
    let hosts = |hosts: Value| {
        config(json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": hosts}}))
    };
    let bad_host = "config.networking.allowed_hosts.0: Input should be a host name such as 'api.example.com' or '*.example.com', without scheme, port or path";
    for (body, message) in [
        (json!({}), "name: Field required"),
        (
            json!({"name": ""}),
            "name: String should have at least 1 character",
        ),
        (
            json!({"name": "x", "foo": 1}),
            "foo: Extra inputs are not permitted",
        ),
        (
            json!({"name": "x", "scope": "account"}),
            "scope: scope 'account' is not available; use 'organization'",
        ),
        (
            json!({"name": "x", "scope": "world"}),
            "scope: Input should be 'organization' or 'account'",
        ),
        (
            config(json!({"type": "vm"})),
            "config.type: Input tag 'vm' does not match any of the expected tags: 'cloud' or 'self_hosted'",
        ),
        (
            config(json!({"type": "self_hosted", "networking": null})),
            "config.networking: Extra inputs are not permitted",
        ),
        (
            config(
                json!({"type": "cloud", "networking": {"type": "unrestricted", "allowed_hosts": []}}),
            ),
            "config.networking.allowed_hosts: Extra inputs are not permitted",
        ),
        (
            config(json!({"type": "cloud", "packages": {"brew": []}})),
            "config.packages.brew: Extra inputs are not permitted",
        ),
        (
            config(json!({"type": "cloud", "packages": {"type": "stuff"}})),
            "config.packages.type: Input should be 'packages'",
        ),
        (
            config(json!({"type": "cloud", "packages": {"pip": ["--index-url=http://x"]}})),
            "config.packages.pip.0: Input should be one package, without whitespace and not starting with '-'",
        ),
        (
            config(json!({"type": "cloud", "packages": {"apt": ["a b"]}})),
            "config.packages.apt.0: Input should be one package, without whitespace and not starting with '-'",
        ),
        (
            config(
                json!({"type": "cloud", "networking": {"type": "limited"}, "packages": {"pip": ["pandas"]}}),
            ),
            "config.packages: Packages need networking.allow_package_managers to be true under limited networking",
        ),
        (hosts(json!(["https://example.com"])), bad_host),
        (hosts(json!(["example.com:443"])), bad_host),
        (hosts(json!(["example.com/x"])), bad_host),
        (hosts(json!(["*.*.com"])), bad_host),
        (hosts(json!(["*"])), bad_host),
        (hosts(json!([""])), bad_host),
        (hosts(json!(["a..b"])), bad_host),
        (hosts(json!(["-a.example.com"])), bad_host),
    ] {
        let error = create(&body).unwrap_err();
        assert_eq!(
            (error.kind.status(), error.message.as_str()),
            (400, message),
            "{body}"
        );
    }
    let error = create(&json!({"name": "x", "metadata": {"a": "v".repeat(513)}})).unwrap_err();
    assert_eq!(error.code, Some("invalid_metadata"));
}

#[test]
fn an_update_is_merged_key_by_key() {
    let stored = create(&json!({"name": "x", "description": "d", "metadata": {"a": "1", "b": "2"}, "config": {"type": "cloud",
        "networking": {"type": "limited", "allowed_hosts": ["a.example.com"], "allow_package_managers": true},
        "packages": {"pip": ["pandas"]}}}))
    .unwrap();
    let changed = |body: Value| {
        serde_json::to_value(update(&stored, &body).unwrap().expect("a change")).unwrap()
    };
    let cloud = |extra: Value| json!({"config": with(&json!({"type": "cloud"}), extra)});
    let result = changed(cloud(
        json!({"networking": {"type": "limited", "allow_mcp_servers": true}}),
    ));
    assert_eq!(
        result["config"]["networking"],
        json!({"type": "limited", "allowed_hosts": ["a.example.com"], "allow_mcp_servers": true, "allow_package_managers": true})
    );
    assert_eq!(result["config"]["packages"], packages(json!(["pandas"])));
    let result = changed(cloud(json!({"packages": {"npm": ["x@1"], "pip": null}})));
    assert_eq!(result["config"]["packages"]["pip"], json!(["pandas"]));
    assert_eq!(result["config"]["packages"]["npm"], json!(["x@1"]));
    let result = changed(cloud(json!({"networking": {"type": "unrestricted"}})));
    assert_eq!(
        result["config"]["networking"],
        json!({"type": "unrestricted"})
    );
    assert_eq!(
        changed(json!({"description": null}))["description"],
        json!(null)
    );
    assert_eq!(
        changed(json!({"description": ""}))["description"],
        json!("")
    );
    assert_eq!(
        changed(json!({"metadata": {"a": null, "b": "", "c": "3"}}))["metadata"],
        json!({"c": "3"})
    );
    for body in [
        json!({}),
        json!({"name": null, "config": null, "scope": null, "metadata": {}}),
        cloud(json!({})),
        cloud(json!({"networking": {"type": "limited"}})),
    ] {
        assert!(update(&stored, &body).unwrap().is_none(), "{body}");
    }
    // Rules hold for the merged result.
    let error = update(
        &stored,
        &cloud(json!({"networking": {"type": "limited", "allow_package_managers": false}})),
    )
    .unwrap_err();
    assert!(error.message.starts_with("config.packages: "), "{error}");
}

#[test]
fn typed_refusals() {
    let mut stored = create(&json!({"name": "x"})).unwrap();
    let error = update(&stored, &json!({"config": {"type": "self_hosted"}})).unwrap_err();
    assert_eq!(
        (error.kind.status(), error.code),
        (400, Some("invalid_config_type_change"))
    );
    stored.config = EnvironmentConfig::SelfHosted;
    let error = update(&stored, &json!({"config": {"type": "cloud"}})).unwrap_err();
    assert_eq!(error.code, Some("invalid_config_type_change"));
    stored.archived_at = Some(at(1));
    let error = update(&stored, &json!({"name": "y"})).unwrap_err();
    assert_eq!(
        (error.kind.status(), error.code),
        (400, Some("environment_archived"))
    );
}
