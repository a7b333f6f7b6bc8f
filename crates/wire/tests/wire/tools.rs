//! Contract 10, "Tools".

use serde_json::{Value, json};

use crate::support::*;

fn agent(tools: Value) -> Value {
    with(&minimal_agent(), json!({ "tools": tools }))
}
fn resolved(tools: Value) -> Value {
    serde_json::to_value(create(&agent(tools)).unwrap().tools).unwrap()
}
fn toolset(config: Value) -> Value {
    json!([{"type": "agent_toolset_20260401", "configs": [config]}])
}

#[test]
fn toolsets_are_resolved() {
    assert_eq!(
        resolved(json!([{"type": "agent_toolset_20260401"}])),
        json!([{"type": "agent_toolset_20260401", "configs": [],
            "default_config": {"enabled": true, "permission_policy": {"type": "always_allow"}}}])
    );
    // Entries inherit what they leave out from default_config.
    assert_eq!(
        resolved(json!([{"type": "agent_toolset_20260401",
            "default_config": {"enabled": false, "permission_policy": {"type": "always_ask"}},
            "configs": [{"name": "bash", "enabled": true}, {"name": "read", "type": "read", "permission_policy": {"type": "auto"}}]}])),
        json!([{"type": "agent_toolset_20260401",
            "default_config": {"enabled": false, "permission_policy": {"type": "always_ask"}},
            "configs": [
                {"name": "bash", "type": "bash", "enabled": true, "permission_policy": {"type": "always_ask"}},
                {"name": "read", "type": "read", "enabled": false, "permission_policy": {"type": "auto"}}]}])
    );
}

#[test]
fn web_entries_keep_their_settings() {
    let policy = json!({"type": "always_allow"});
    // url_sources is there, null, on every web_fetch entry and on no other.
    assert_eq!(
        resolved(toolset(
            json!({"name": "web_fetch", "allowed_domains": ["example.com"], "max_content_tokens": 10})
        ))[0]["configs"],
        json!([{"name": "web_fetch", "type": "web_fetch", "enabled": true, "permission_policy": policy,
            "allowed_domains": ["example.com"], "max_content_tokens": 10, "url_sources": null}])
    );
    assert_eq!(
        resolved(toolset(
            json!({"name": "web_search", "blocked_domains": ["example.com"], "allowed_domains": null,
            "user_location": {"type": "approximate", "country": "DE", "city": null, "timezone": "Europe/Berlin"}})
        ))[0]["configs"],
        json!([{"name": "web_search", "type": "web_search", "enabled": true, "permission_policy": policy,
            "blocked_domains": ["example.com"],
            "user_location": {"type": "approximate", "country": "DE", "timezone": "Europe/Berlin"}}])
    );
}

#[test]
fn null_url_sources_survives_the_store() {
    let agent = create(&agent(toolset(json!({"name": "web_fetch"})))).unwrap();
    let stored = serde_json::to_string(&agent).unwrap();
    assert!(stored.contains(r#""url_sources":null"#));
    let back: freehold_wire::agent::Agent = serde_json::from_str(&stored).unwrap();
    assert_eq!(back, agent);
    assert_eq!(serde_json::to_string(&back).unwrap(), stored);
}

#[test]
fn url_sources_are_normalised() {
    let tools = json!([
        {"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch", "url_sources": {
            "user_input": "none",
            "server_tool_results": {"type": "only", "tools": [{"type": "tool_reference", "name": "web_search"}]},
            "client_tool_results": {"type": "except", "tools": [{"type": "tool_reference", "name": "mine"}]}}}]},
        {"type": "custom", "name": "mine", "description": "d", "input_schema": {"type": "object"}}
    ]);
    assert_eq!(
        resolved(tools)[0]["configs"][0]["url_sources"],
        json!({
            "user_input": {"type": "none"},
            "server_tool_results": {"type": "only", "tools": [{"type": "tool_reference", "name": "web_search"}]},
            "client_tool_results": {"type": "except", "tools": [{"type": "tool_reference", "name": "mine"}]}})
    );
    assert_eq!(
        resolved(toolset(json!({"name": "web_fetch", "url_sources": {}})))[0]["configs"][0]["url_sources"],
        json!({"user_input": {"type": "all"}, "server_tool_results": {"type": "all"}, "client_tool_results": {"type": "all"}})
    );
}

#[test]
fn builtin_rules() {
    let fetch = |extra: Value| agent(toolset(with(&json!({"name": "web_fetch"}), extra)));
    let search = |extra: Value| agent(toolset(with(&json!({"name": "web_search"}), extra)));
    let sources = |extra: Value| fetch(json!({ "url_sources": extra }));
    let tool = |name: &str| json!({"type": "tool_reference", "name": name});
    let many: Vec<String> = (0..65).map(|i| format!("a{i}.example.com")).collect();
    let names: Vec<Value> = (0..129).map(|i| tool(&format!("t{i}"))).collect();
    for (body, message) in [
        (agent(json!([{}])), "tools.0.type: Field required"),
        (
            agent(json!([{"type": 5}])),
            "tools.0.type: Input should be a valid string",
        ),
        (
            agent(json!([{"type": "bash_20250124"}])),
            "tools.0.type: Input tag 'bash_20250124' does not match any of the expected tags: 'agent_toolset_20260401', 'mcp_toolset' or 'custom'",
        ),
        (
            agent(json!([{"type": "agent_toolset_20260401"}, {"type": "agent_toolset_20260401"}])),
            "tools.1: Only one agent_toolset_20260401 is allowed",
        ),
        (
            agent(json!([{"type": "agent_toolset_20260401", "enabled": true}])),
            "tools.0.enabled: Extra inputs are not permitted",
        ),
        (
            agent(
                json!([{"type": "agent_toolset_20260401", "default_config": {"enabled": "yes"}}]),
            ),
            "tools.0.default_config.enabled: Input should be a valid boolean",
        ),
        (
            agent(
                json!([{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "never"}}}]),
            ),
            "tools.0.default_config.permission_policy.type: Input tag 'never' does not match any of the expected tags: 'always_allow', 'always_ask' or 'auto'",
        ),
        (
            agent(toolset(json!({}))),
            "tools.0.configs.0.name: Field required",
        ),
        (
            agent(toolset(json!({"name": "task"}))),
            "tools.0.configs.0.name: Input should be 'bash', 'read', 'write', 'edit', 'glob', 'grep', 'web_fetch' or 'web_search'",
        ),
        (
            agent(toolset(json!({"name": "bash", "type": "read"}))),
            "tools.0.configs.0.type: Input should be 'bash', the same as `name`, not 'read'",
        ),
        (
            agent(
                json!([{"type": "agent_toolset_20260401", "configs": [{"name": "bash"}, {"name": "bash"}]}]),
            ),
            "tools.0.configs.1.name: Only one entry per tool is allowed; `bash` has two",
        ),
        (
            agent(toolset(
                json!({"name": "bash", "allowed_domains": ["example.com"]}),
            )),
            "tools.0.configs.0.allowed_domains: Extra inputs are not permitted",
        ),
        (
            search(json!({"max_content_tokens": 5})),
            "tools.0.configs.0.max_content_tokens: Extra inputs are not permitted",
        ),
        (
            fetch(json!({"user_location": {}})),
            "tools.0.configs.0.user_location: Extra inputs are not permitted",
        ),
        (
            fetch(json!({"max_uses": 1})),
            "tools.0.configs.0.max_uses: Extra inputs are not permitted",
        ),
        (
            fetch(json!({"max_content_tokens": 0})),
            "tools.0.configs.0.max_content_tokens: Input should be greater than or equal to 1",
        ),
        (
            fetch(json!({"max_content_tokens": -1})),
            "tools.0.configs.0.max_content_tokens: Input should be greater than or equal to 1",
        ),
        (
            fetch(
                json!({"allowed_domains": ["a.example.com"], "blocked_domains": ["b.example.com"]}),
            ),
            "tools.0.configs.0: Only one of allowed_domains or blocked_domains may be set.",
        ),
        (
            fetch(json!({"allowed_domains": []})),
            "tools.0.configs.0.allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
        ),
        (
            search(json!({"blocked_domains": many})),
            "tools.0.configs.0.blocked_domains: List should have at most 64 items, not 65",
        ),
        (
            search(json!({"blocked_domains": [""]})),
            "tools.0.configs.0.blocked_domains.0: String should have at least 1 character",
        ),
        (
            search(json!({"user_location": {"type": "approximate", "country": "de"}})),
            "tools.0.configs.0.user_location.country: not a country the search provider supports",
        ),
        (
            search(json!({"user_location": {"type": "approximate", "country": "ZZ"}})),
            "tools.0.configs.0.user_location.country: not a country the search provider supports",
        ),
        (
            search(json!({"user_location": {"type": "exact"}})),
            "tools.0.configs.0.user_location.type: Input tag 'exact' does not match any of the expected tags: 'approximate'",
        ),
        (
            search(json!({"user_location": {"type": "approximate", "timezone": "../etc"}})),
            "tools.0.configs.0.user_location.timezone: Input should be an IANA time zone such as 'America/Los_Angeles'",
        ),
        (
            sources(json!({"user_input": "some"})),
            "tools.0.configs.0.url_sources.user_input: Input should be 'all' or 'none', or an object",
        ),
        (
            sources(json!({"user_input": {"type": "only", "tools": []}})),
            "tools.0.configs.0.url_sources.user_input.type: Input tag 'only' does not match any of the expected tags: 'all' or 'none'",
        ),
        (
            sources(json!({"server_tool_results": {"type": "only", "tools": []}})),
            "tools.0.configs.0.url_sources.server_tool_results.tools: List should have at least 1 item",
        ),
        (
            sources(json!({"server_tool_results": {"type": "only", "tools": [tool("bash")]}})),
            "tools.0.configs.0.url_sources.server_tool_results.tools.0.name: Input should be 'web_search' or 'web_fetch', not 'bash'",
        ),
        (
            sources(json!({"client_tool_results": {"type": "only", "tools": [tool("mine")]}})),
            "tools.0.configs.0.url_sources.client_tool_results: `mine` is not a custom tool of this agent",
        ),
        (
            sources(
                json!({"client_tool_results": {"type": "only", "tools": [tool("a"), tool("a")]}}),
            ),
            "tools.0.configs.0.url_sources.client_tool_results.tools.1.name: Tool names must be distinct",
        ),
        (
            sources(json!({"client_tool_results": {"type": "only", "tools": names}})),
            "tools.0.configs.0.url_sources.client_tool_results.tools: List should have at most 128 items, not 129",
        ),
        (
            sources(
                json!({"user_input": "none", "server_tool_results": "none", "client_tool_results": {"type": "none"}}),
            ),
            "tools.0.configs.0.url_sources: At least one source must not be none",
        ),
    ] {
        assert_eq!(agent_refusal(&body), message, "{body}");
    }
}

#[test]
fn custom_rules() {
    let base = json!({"type": "custom", "name": "lookup", "description": "d", "input_schema": {"type": "object"}});
    let custom = |extra: Value| agent(json!([with(&base, extra)]));
    let schema = |schema: Value| custom(json!({ "input_schema": schema }));
    create(&custom(json!({"name": "a_b-C9".repeat(21)}))).unwrap();
    create(&schema(json!({"type": "object", "properties": {"a.b-c_D": {"anyOf": [{"type": "string"}]}, "x": true},
        "required": ["x"], "additionalProperties": false, "$defs": {}})))
    .unwrap();
    create(&schema(
        json!({"type": "object", "properties": null, "required": null}),
    ))
    .unwrap();
    for (body, message) in [
        (
            custom(json!({"name": ""})),
            "tools.0.name: String should have at least 1 character",
        ),
        (
            custom(json!({"name": "n".repeat(129)})),
            "tools.0.name: String should have at most 128 characters",
        ),
        (
            custom(json!({"name": "a b"})),
            "tools.0.name: Tool names may hold only letters, digits, '_' and '-'",
        ),
        (
            custom(json!({"name": "é"})),
            "tools.0.name: Tool names may hold only letters, digits, '_' and '-'",
        ),
        (
            custom(json!({"name": "bash"})),
            "tools.0.name: `bash` is the name of a built-in tool",
        ),
        (
            custom(json!({"name": "mcp__x"})),
            "tools.0.name: The prefix `mcp__` is reserved for tools of MCP servers",
        ),
        (
            custom(json!({"description": ""})),
            "tools.0.description: String should have at least 1 character",
        ),
        (
            custom(json!({"permission_policy": {"type": "always_ask"}})),
            "tools.0.permission_policy: Extra inputs are not permitted",
        ),
        (
            agent(json!([base, base])),
            "tools.1.name: Tool names must be unique; `lookup` is used twice",
        ),
        (
            schema(json!(null)),
            "tools.0.input_schema: Input should be an object",
        ),
        (
            schema(json!({})),
            "tools.0.input_schema.type: Field required",
        ),
        (
            schema(json!({"type": "string"})),
            "tools.0.input_schema.type: Input should be 'object'",
        ),
        (
            schema(json!({"type": "object", "oneOf": []})),
            "tools.0.input_schema.oneOf: oneOf, anyOf and allOf are not supported at the top level of input_schema",
        ),
        (
            schema(json!({"type": "object", "properties": []})),
            "tools.0.input_schema.properties: Input should be an object",
        ),
        (
            schema(json!({"type": "object", "properties": {"a": 5}})),
            "tools.0.input_schema.properties.a: Input should be a JSON schema",
        ),
        (
            schema(json!({"type": "object", "properties": {"a b": {}}})),
            "tools.0.input_schema.properties.a b: Property names should be 1 to 64 letters, digits, '_', '.' or '-', not 'a b'",
        ),
        (
            schema(json!({"type": "object", "required": [1]})),
            "tools.0.input_schema.required: Input should be a list of strings",
        ),
        (
            schema(json!({"type": "object", "properties": {"a": {"items": [{"$ref": "#/x"}]}}})),
            "tools.0.input_schema: $ref is not supported in input_schema",
        ),
    ] {
        assert_eq!(agent_refusal(&body), message, "{body}");
    }
}

#[test]
fn mcp_rules() {
    let server =
        |name: &str| json!({"type": "url", "name": name, "url": "https://mcp.example.com/"});
    let set = |name: &str| json!({"type": "mcp_toolset", "mcp_server_name": name});
    let body = |tools: Value, servers: Value| {
        with(
            &minimal_agent(),
            json!({"tools": tools, "mcp_servers": servers}),
        )
    };
    let agent = create(&body(
        json!([{"type": "mcp_toolset", "mcp_server_name": "gh", "default_config": {"enabled": false},
            "configs": [{"name": "get_issue", "enabled": true, "permission_policy": {"type": "always_allow"}}, {"name": "x"}]}]),
        json!([server("gh")]),
    ))
    .unwrap();
    assert_eq!(
        serde_json::to_value(&agent.tools).unwrap(),
        json!([{"type": "mcp_toolset", "mcp_server_name": "gh",
            "default_config": {"enabled": false, "permission_policy": {"type": "always_ask"}},
            "configs": [{"name": "get_issue", "enabled": true, "permission_policy": {"type": "always_allow"}},
                {"name": "x", "enabled": false, "permission_policy": {"type": "always_ask"}}]}])
    );
    assert_eq!(
        serde_json::to_value(&agent.mcp_servers).unwrap(),
        json!([server("gh")])
    );
    let url = |url: &str| {
        body(
            json!([set("gh")]),
            json!([{"type": "url", "name": "gh", "url": url}]),
        )
    };
    let servers: Vec<Value> = (0..21).map(|i| server(&format!("s{i}"))).collect();
    for (body, message) in [
        (
            body(json!([set("gh")]), json!([])),
            "tools.0.mcp_server_name: mcp_toolset names MCP server `gh`, which is not in mcp_servers",
        ),
        (
            body(json!([]), json!([server("gh")])),
            "mcp_servers.0.name: MCP server `gh` is not referenced by any mcp_toolset in tools",
        ),
        (
            body(json!([set("gh")]), json!([server("gh"), server("gh")])),
            "mcp_servers.1.name: MCP server names must be unique; `gh` is used twice",
        ),
        (
            body(json!([set("gh"), set("gh")]), json!([server("gh")])),
            "tools.1.mcp_server_name: Only one mcp_toolset per MCP server is allowed",
        ),
        (
            body(json!([]), json!(servers)),
            "mcp_servers: List should have at most 20 items, not 21",
        ),
        (
            body(
                json!([with(
                    &set("gh"),
                    json!({"configs": [{"name": "x", "type": "x"}]})
                )]),
                json!([server("gh")]),
            ),
            "tools.0.configs.0.type: Extra inputs are not permitted",
        ),
        (
            body(
                json!([]),
                json!([with(&server("gh"), json!({"authorization_token": "s"}))]),
            ),
            "mcp_servers.0.authorization_token: Extra inputs are not permitted",
        ),
        (
            url("ftp://example.com"),
            "mcp_servers.0.url: URL scheme should be 'http' or 'https'",
        ),
        (url("https://"), "mcp_servers.0.url: URL should have a host"),
        (
            url("https://u:p@example.com"),
            "mcp_servers.0.url: URL should not contain credentials",
        ),
        (
            url("https://example.com/ a"),
            "mcp_servers.0.url: URL should not contain whitespace or control characters",
        ),
        (
            url(&format!("https://example.com/{}", "a".repeat(2048))),
            "mcp_servers.0.url: String should have at most 2048 characters",
        ),
    ] {
        assert_eq!(agent_refusal(&body), message, "{body}");
    }
}

#[test]
fn two_hundred_fifty_six_tools_across_all_toolsets() {
    let custom = |i: usize| json!({"type": "custom", "name": format!("t{i}"), "description": "d", "input_schema": {"type": "object"}});
    let tools = |n: usize, more: Value| {
        let mut tools: Vec<Value> = (0..n).map(custom).collect();
        tools.push(more);
        agent(json!(tools))
    };
    let all = json!({"type": "agent_toolset_20260401"});
    let one = json!({"type": "agent_toolset_20260401", "default_config": {"enabled": false}, "configs": [{"name": "bash", "enabled": true}]});
    create(&tools(248, all.clone())).unwrap();
    create(&tools(255, one)).unwrap();
    assert_eq!(
        agent_refusal(&tools(249, all)),
        "tools: At most 256 tools across all toolsets are allowed, not 257"
    );
    assert_eq!(
        agent_refusal(&tools(256, custom(999))),
        "tools: List should have at most 256 items, not 257"
    );
}

#[test]
fn domain_lists_name_the_entry() {
    let list = |name: &str, domains: Value| {
        agent(toolset(json!({"name": name, "allowed_domains": domains})))
    };
    assert_eq!(
        agent_refusal(&list("web_fetch", json!(["docs.example.com", "127.1"]))),
        "tools.0.configs.0.allowed_domains.1: IP addresses are not supported; provide a plain hostname like \"example.com\""
    );
    create(&list("web_search", json!(["example.com/docs"]))).unwrap();
    for (name, domains, place) in [
        (
            "web_fetch",
            json!(["example.com/docs"]),
            "allowed_domains.0: ",
        ),
        (
            "web_fetch",
            json!(["https://example.com"]),
            "allowed_domains.0: ",
        ),
        (
            "web_search",
            json!(["a.example.com", "localhost"]),
            "allowed_domains.1: ",
        ),
        (
            "web_search",
            json!(["example.com", "EXAMPLE.com/"]),
            "allowed_domains.1: ",
        ),
    ] {
        let message = agent_refusal(&list(name, domains));
        assert!(message.contains(place), "{message}");
    }
}
