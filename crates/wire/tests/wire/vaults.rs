//! Contract 64.

use freehold_base::Timestamp;
use freehold_wire::ApiError;
use freehold_wire::credential::{CreateCredential, Credential, NewSecret, UpdateCredential};
use freehold_wire::environment::{LimitedNetwork, Networking};
use freehold_wire::vault::{CreateVault, UpdateVault, Vault};
use serde_json::{Value, json};

use crate::support::*;

fn vault(body: &Value) -> Result<Vault, ApiError> {
    let data = read::<CreateVault>(body)?.into_data();
    Ok(data.into_vault("vlt_01V".parse().unwrap(), at(0), at(0)))
}

fn now() -> Timestamp {
    "2026-11-20T08:00:00Z".parse().unwrap()
}

fn made(body: &Value) -> Result<(Credential, Vec<NewSecret>), ApiError> {
    let (data, secrets) = read::<CreateCredential>(body)?.resolve(now())?;
    let (id, vault) = ("vcrd_01C".parse().unwrap(), "vlt_01V".parse().unwrap());
    Ok((data.into_credential(id, vault, now(), now()), secrets))
}

/// Makes a credential of an `auth`; gives how it is shown, and its secrets as `field=value`.
fn auth(auth: Value) -> (Value, Vec<String>) {
    let (credential, secrets) = made(&json!({ "auth": auth })).unwrap();
    let shown = serde_json::to_value(&credential.auth).unwrap();
    (shown, flat(&secrets))
}

fn flat(secrets: &[NewSecret]) -> Vec<String> {
    let each = secrets.iter();
    each.map(|(field, s)| format!("{field}={}", s.expose()))
        .collect()
}

fn refused(auth: Value) -> String {
    match made(&json!({ "auth": auth })) {
        Ok((credential, _)) => panic!("accepted: {credential:?}"),
        Err(e) => e.message,
    }
}

fn variable() -> Value {
    json!({"type": "environment_variable", "secret_name": "ACME_KEY", "secret_value": "s3cret",
        "networking": {"type": "limited", "allowed_hosts": ["api.acme.test"]}})
}

fn oauth() -> Value {
    json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com/mcp", "access_token": "at",
        "expires_at": "2026-11-20T09:00:00Z",
        "refresh": {"token_endpoint": "https://id.example.com/token", "client_id": "abc",
            "refresh_token": "rt", "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "cs"}}})
}

#[test]
fn vaults() {
    let made = vault(&json!({"display_name": "Dana", "metadata": {"uid": "77"}})).unwrap();
    let update = |body: Value| read::<UpdateVault>(&body).unwrap().resolve(&made);
    for same in [
        json!({}),
        json!({"display_name": null, "metadata": null}),
        json!({"display_name": "Dana", "metadata": {"uid": "77", "gone": null}}),
    ] {
        assert_eq!(update(same).unwrap(), None);
    }
    let changed = update(json!({"metadata": {"a": "b", "uid": null}})).unwrap();
    let changed = changed.unwrap().into_vault(made.id.clone(), at(0), at(1));
    assert_eq!(changed.display_name, "Dana");
    assert_eq!(changed.metadata, [("a".to_owned(), "b".to_owned())].into());
    for (body, message) in [
        (json!({}), "display_name: Field required"),
        (
            json!({"display_name": ""}),
            "display_name: String should have at least 1 character",
        ),
        (
            json!({"display_name": "x".repeat(256)}),
            "display_name: String should have at most 255 characters",
        ),
        (
            json!({"display_name": null}),
            "display_name: Input should be a valid string",
        ),
        (
            json!({"display_name": "x", "type": "vault"}),
            "type: Extra inputs are not permitted",
        ),
    ] {
        assert_eq!(refusal::<CreateVault>(&body), message);
    }
    let archived = Vault {
        archived_at: Some(at(1)),
        ..made
    };
    let update = read::<UpdateVault>(&json!({})).unwrap().resolve(&archived);
    assert_eq!(update.unwrap_err().code, Some("vault_archived"));
}

#[test]
fn secrets_are_taken_out_of_what_is_shown() {
    let (shown, secrets) = auth(oauth());
    assert_eq!(
        shown,
        json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com/mcp",
            "expires_at": "2026-11-20T09:00:00.000000Z",
            "refresh": {"token_endpoint": "https://id.example.com/token", "client_id": "abc",
                "scope": null, "resource": null, "token_endpoint_auth": {"type": "client_secret_post"}}})
    );
    assert_eq!(
        secrets,
        ["access_token=at", "refresh_token=rt", "client_secret=cs"]
    );
    let (shown, secrets) = auth(
        json!({"type": "static_bearer", "mcp_server_url": "https://mcp2.example.com/", "token": "t"}),
    );
    assert_eq!(
        shown,
        json!({"type": "static_bearer", "mcp_server_url": "https://mcp2.example.com/"})
    );
    assert_eq!(secrets, ["token=t"]);
    let (shown, secrets) = auth(variable());
    assert_eq!(
        shown,
        json!({"type": "environment_variable", "secret_name": "ACME_KEY",
            "networking": {"type": "limited", "allowed_hosts": ["api.acme.test"]},
            "injection_location": {"header": true, "body": true}})
    );
    assert_eq!(secrets, ["secret_value=s3cret"]);
    let (credential, secrets) = made(&json!({ "auth": variable() })).unwrap();
    let debug = format!("{credential:?} {secrets:?}");
    assert!(!debug.contains("s3cret"), "{debug}");
    let request = read::<CreateCredential>(&json!({ "auth": oauth() })).unwrap();
    let debug = format!("{request:?}");
    assert!(
        !debug.contains("\"rt\"") && debug.contains("Secret(…)"),
        "{debug}"
    );
}

#[test]
fn a_location_left_out_of_the_object_is_off() {
    let location = |given: Value| {
        let shown = auth(with(&variable(), json!({ "injection_location": given }))).0;
        shown["injection_location"].clone()
    };
    let both = |header: bool, body: bool| json!({"header": header, "body": body});
    assert_eq!(location(json!({"header": true})), both(true, false));
    assert_eq!(location(json!({"body": true})), both(false, true));
    assert_eq!(location(both(true, true)), both(true, true));
    let off = "auth.injection_location: At least one of header and body should be true";
    let null = "Input should not be null; omit the field instead";
    for (given, message) in [
        (json!({}), off.to_owned()),
        (both(false, false), off.to_owned()),
        (json!(null), format!("auth.injection_location: {null}")),
        (
            json!({"header": null, "body": true}),
            format!("auth.injection_location.header: {null}"),
        ),
        (
            json!({"header": 1}),
            "auth.injection_location.header: Input should be a valid boolean".to_owned(),
        ),
    ] {
        let body = with(&variable(), json!({ "injection_location": given }));
        assert_eq!(refused(body), message);
    }
}

#[test]
fn hosts_are_names_addresses_and_wildcards() {
    let hosts = |hosts: Value| {
        with(
            &variable(),
            json!({"networking": {"type": "limited", "allowed_hosts": hosts}}),
        )
    };
    let good = json!(["api.example.com", "192.0.2.1", "*.example.com", "localhost"]);
    assert_eq!(
        auth(hosts(good.clone())).0["networking"]["allowed_hosts"],
        good
    );
    auth(hosts(json!(vec!["a.example"; 16])));
    auth(with(
        &variable(),
        json!({"networking": {"type": "unrestricted"}}),
    ));
    for bad in [
        "https://example.com",
        "example.com:443",
        "example.com/x",
        "::1",
        "[::1]",
        "*",
        "*.*.com",
        "a.*.com",
        "",
        "exa mple.com",
        "300.1.1.1",
        "1.2.3",
        "*.2.3.4",
        "user@example.com",
    ] {
        let message = refused(hosts(json!([bad])));
        assert!(
            message.starts_with("auth.networking.allowed_hosts.0: Input should be a host name"),
            "{bad}: {message}"
        );
    }
    for (networking, message) in [
        (
            json!({"type": "limited"}),
            "auth.networking.allowed_hosts: Field required",
        ),
        (
            json!({"type": "limited", "allowed_hosts": []}),
            "auth.networking.allowed_hosts: List should have at least 1 item",
        ),
        (
            json!({"type": "limited", "allowed_hosts": vec!["a.example"; 17]}),
            "auth.networking.allowed_hosts: List should have at most 16 items, not 17",
        ),
    ] {
        let body = with(&variable(), json!({ "networking": networking }));
        assert_eq!(refused(body), message);
    }
}

#[test]
fn create_rules() {
    let without = |body: Value, key: &str| {
        let mut body = body;
        body.as_object_mut().unwrap().remove(key);
        body
    };
    let name = "auth.secret_name: Input should be the name of an environment variable: letters, digits and underscores, not starting with a digit";
    let bearer =
        json!({"type": "static_bearer", "mcp_server_url": "https://a.example", "token": "t"});
    for (body, message) in [
        (
            json!({"type": "basic"}),
            "auth.type: Input tag 'basic' does not match any of the expected tags: 'mcp_oauth', 'static_bearer' or 'environment_variable'",
        ),
        (
            without(variable(), "secret_value"),
            "auth.secret_value: Field required",
        ),
        (
            without(variable(), "networking"),
            "auth.networking: Field required",
        ),
        (with(&variable(), json!({"secret_name": "1A"})), name),
        (with(&variable(), json!({"secret_name": "A-B"})), name),
        (with(&variable(), json!({"secret_name": "A=B"})), name),
        (
            with(&variable(), json!({"secret_value": ""})),
            "auth.secret_value: String should have at least 1 character",
        ),
        (
            with(&variable(), json!({"secret_value": "x".repeat(16_385)})),
            "auth.secret_value: String should have at most 16384 characters",
        ),
        (
            with(&variable(), json!({"token": "t"})),
            "auth.token: Extra inputs are not permitted",
        ),
        (
            with(&bearer, json!({"token": "a\r\nb: c"})),
            "auth.token: String should not contain control characters",
        ),
        (
            with(&bearer, json!({"mcp_server_url": "ftp://a"})),
            "auth.mcp_server_url: URL scheme should be 'http' or 'https'",
        ),
        (
            with(&bearer, json!({"mcp_server_url": "https://u:p@a"})),
            "auth.mcp_server_url: URL should not contain credentials",
        ),
        (
            with(&oauth(), json!({"expires_at": "2026-11-20T08:00:00Z"})),
            "auth.expires_at: Input should be in the future",
        ),
        (
            with(&oauth(), json!({"expires_at": "tomorrow"})),
            "auth.expires_at: Input should be an RFC 3339 date and time",
        ),
        (
            with(
                &oauth(),
                json!({"refresh": {"token_endpoint": "https://a.example"}}),
            ),
            "auth.refresh.client_id: Field required",
        ),
        (
            with(
                &oauth(),
                json!({"refresh": {"token_endpoint": "javascript:alert(1)"}}),
            ),
            "auth.refresh.token_endpoint: URL scheme should be 'http' or 'https'",
        ),
        (
            with(
                &oauth(),
                json!({"refresh": {"token_endpoint": "https://id@a.example"}}),
            ),
            "auth.refresh.token_endpoint: URL should not contain credentials",
        ),
        (
            with(
                &oauth(),
                json!({"refresh": {"token_endpoint": "https://a.example", "client_id": "c", "refresh_token": "r",
            "token_endpoint_auth": {"type": "none", "client_secret": "x"}}}),
            ),
            "auth.refresh.token_endpoint_auth.client_secret: Extra inputs are not permitted",
        ),
    ] {
        assert_eq!(refused(body), message);
    }
    let long = json!({"auth": variable(), "display_name": "x".repeat(256)});
    assert_eq!(
        refusal::<CreateCredential>(&long),
        "display_name: String should have at most 255 characters"
    );
    for fine in [
        with(&oauth(), json!({"expires_at": null, "refresh": null})),
        with(&variable(), json!({"secret_value": "two\nlines"})),
    ] {
        auth(fine);
    }
    made(&json!({"auth": variable(), "display_name": null})).unwrap();
}

fn update(stored: &Value, patch: Value) -> Result<Option<(Value, Vec<String>)>, ApiError> {
    let (stored, _) = made(&json!({ "auth": stored })).unwrap();
    let body = json!({ "auth": patch });
    let changed = read::<UpdateCredential>(&body)?.resolve(&stored, now())?;
    Ok(changed.map(|(data, secrets)| (serde_json::to_value(&data.auth).unwrap(), flat(&secrets))))
}

#[test]
fn updates_replace_secrets_one_by_one() {
    let unchanged = |stored: &Value, patch: Value| {
        assert!(update(stored, patch.clone()).unwrap().is_none(), "{patch}");
    };
    let is = |stored: &Value, patch: Value, place: &str, value: Value, secrets: &[&str]| {
        let (shown, replaced) = update(stored, patch).unwrap().unwrap();
        assert_eq!(shown.pointer(place).unwrap(), &value);
        assert_eq!(replaced, secrets);
    };
    let patch = |extra: Value| with(&json!({"type": "mcp_oauth"}), extra);
    unchanged(&oauth(), patch(json!({})));
    unchanged(
        &oauth(),
        patch(json!({"access_token": null, "expires_at": null, "refresh": null})),
    );
    // A new token keeps the old expiry unless it brings its own.
    let old = json!("2026-11-20T09:00:00.000000Z");
    is(
        &oauth(),
        patch(json!({"access_token": "at2"})),
        "/expires_at",
        old,
        &["access_token=at2"],
    );
    let new = json!("2026-11-21T00:00:00.000000Z");
    is(
        &oauth(),
        patch(json!({"expires_at": "2026-11-21T00:00:00Z"})),
        "/expires_at",
        new,
        &[],
    );
    let refresh = |extra: Value| patch(json!({ "refresh": extra }));
    is(
        &oauth(),
        refresh(json!({"scope": "a b"})),
        "/refresh/scope",
        json!("a b"),
        &[],
    );
    let scoped = {
        let mut o = oauth();
        o["refresh"]["scope"] = json!("a");
        o
    };
    is(
        &scoped,
        refresh(json!({"scope": ""})),
        "/refresh/scope",
        Value::Null,
        &[],
    );
    // The stored kind stays, whichever is sent.
    is(
        &oauth(),
        refresh(
            json!({"refresh_token": "rt2", "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "cs2"}}),
        ),
        "/refresh/token_endpoint_auth/type",
        json!("client_secret_post"),
        &["refresh_token=rt2", "client_secret=cs2"],
    );
    let patch = |extra: Value| with(&json!({"type": "environment_variable"}), extra);
    is(
        &variable(),
        patch(json!({"secret_value": "new", "injection_location": {"body": false}})),
        "/injection_location",
        json!({"header": true, "body": false}),
        &["secret_value=new"],
    );
    is(
        &variable(),
        patch(json!({"networking": {"type": "unrestricted"}})),
        "/networking",
        json!({"type": "unrestricted"}),
        &[],
    );
    unchanged(
        &variable(),
        patch(json!({"networking": null, "injection_location": {}})),
    );
}

#[test]
fn update_rules() {
    let fixed = "The field cannot be changed; create a new credential instead";
    let typed = |kind: &str, extra: Value| with(&json!({ "type": kind }), extra);
    let (oauth_patch, variable_patch) = ("mcp_oauth", "environment_variable");
    let public = {
        let mut o = oauth();
        o["refresh"]["token_endpoint_auth"] = json!({"type": "none"});
        o
    };
    let bare = with(&oauth(), json!({"refresh": null}));
    let bearer =
        json!({"type": "static_bearer", "mcp_server_url": "https://a.example", "token": "t"});
    for (stored, patch, message) in [
        (&variable(), json!({}), "auth.type: Field required".to_owned()),
        (&variable(), typed("static_bearer", json!({})), "auth.type: The type of a credential cannot be changed; it is 'environment_variable'".to_owned()),
        (&variable(), typed(variable_patch, json!({"secret_name": "ACME_KEY"})), format!("auth.secret_name: {fixed}")),
        (&variable(), typed(variable_patch, json!({"injection_location": {"header": false, "body": false}})), "auth.injection_location: At least one of header and body should be true".to_owned()),
        (&variable(), typed(variable_patch, json!({"injection_location": null})), "auth.injection_location: Input should not be null; omit the field instead".to_owned()),
        (&bearer, typed("static_bearer", json!({"mcp_server_url": "https://b.example"})), format!("auth.mcp_server_url: {fixed}")),
        (&oauth(), typed(oauth_patch, json!({"mcp_server_url": "https://b.example"})), format!("auth.mcp_server_url: {fixed}")),
        (&oauth(), typed(oauth_patch, json!({"expires_at": "2020-01-01T00:00:00Z"})), "auth.expires_at: Input should be in the future".to_owned()),
        (&oauth(), typed(oauth_patch, json!({"refresh": {"token_endpoint": "https://b.example"}})), format!("auth.refresh.token_endpoint: {fixed}")),
        (&oauth(), typed(oauth_patch, json!({"refresh": {"client_id": "x"}})), format!("auth.refresh.client_id: {fixed}")),
        (&oauth(), typed(oauth_patch, json!({"refresh": {"resource": "x"}})), format!("auth.refresh.resource: {fixed}")),
        (&bare, typed(oauth_patch, json!({"refresh": {"refresh_token": "x"}})), "auth.refresh: The credential has no refresh configuration; create a new credential instead".to_owned()),
        (&public, typed(oauth_patch, json!({"refresh": {"token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "x"}}})), "auth.refresh.token_endpoint_auth: The credential's client has no secret; create a new credential instead".to_owned()),
    ] {
        assert_eq!(update(stored, patch).unwrap_err().message, message);
    }
    let (mut stored, _) = made(&json!({ "auth": variable() })).unwrap();
    let name = read::<UpdateCredential>(&json!({"display_name": "n"})).unwrap();
    let (data, secrets) = name.clone().resolve(&stored, now()).unwrap().unwrap();
    assert_eq!(data.display_name.as_deref(), Some("n"));
    assert!(secrets.is_empty());
    stored.archived_at = Some(now());
    let archived = name.resolve(&stored, now()).unwrap_err();
    assert_eq!(archived.code, Some("credential_archived"));
}

#[test]
fn a_target_is_a_name_or_a_normalised_url() {
    let target = |auth: Value| made(&json!({ "auth": auth })).unwrap().0.auth.target();
    assert_eq!(target(variable()), "ACME_KEY");
    assert_eq!(target(oauth()), "https://mcp.example.com/mcp");
    let bearer = json!({"type": "static_bearer", "mcp_server_url": "HTTPS://MCP.example.com:443/mcp/", "token": "t"});
    assert_eq!(target(bearer), "https://mcp.example.com/mcp");
}

#[test]
fn what_an_environment_permits() {
    let limited = |hosts: &[&str]| {
        Networking::Limited(LimitedNetwork {
            allowed_hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            ..LimitedNetwork::default()
        })
    };
    assert!(Networking::Unrestricted.permits("api.acme.test"));
    assert!(!limited(&[]).permits("api.acme.test"));
    for (allowed, host, permitted) in [
        ("api.acme.test", "API.acme.TEST", true),
        ("api.acme.test", "acme.test", false),
        ("*.acme.test", "api.acme.test", true),
        ("*.acme.test", "a.b.acme.test", true),
        ("*.acme.test", "acme.test", false),
        ("*.acme.test", "evilacme.test", false),
        // A wildcard is in reach if any host below it is.
        ("api.acme.test", "*.acme.test", true),
        ("acme.test", "*.acme.test", false),
        ("*.acme.test", "*.acme.test", true),
        ("*.test", "*.acme.test", true),
        ("*.a.acme.test", "*.acme.test", true),
        ("*.other.test", "*.acme.test", false),
    ] {
        assert_eq!(
            limited(&[allowed]).permits(host),
            permitted,
            "{allowed} {host}"
        );
    }
}

#[test]
fn variables_that_programs_rely_on_are_refused() {
    for name in ["PATH", "LD_PRELOAD", "https_proxy", "Bash_Env"] {
        let mut auth = variable();
        auth["secret_name"] = json!(name);
        assert!(refused(auth).contains("rely on"), "{name}");
    }
    let mut auth = variable();
    auth["secret_name"] = json!("PATHS");
    made(&json!({ "auth": auth })).unwrap();
}
