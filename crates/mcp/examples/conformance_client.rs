//! The client that the official conformance suite drives (`cargo xtask test --only mcp`): our connector,
//! with OAuth by `rmcp` over our HTTP layer, and the client of the tests with real servers. Loopback and
//! http are allowed here, nowhere else. Prints a line of JSON for the list and for each call.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use freehold_base::net::{AddressPolicy, Exception};
use freehold_base::{IdSource, Secret, WorkspaceId};
use freehold_mcp::options::Elicit;
use freehold_mcp::{Connector, Direct, Endpoint, Listing, McpError, Options, ToolCall};
use rmcp::transport::auth::{
    AuthorizationRequest, OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest, OAuthState,
};
use serde_json::{Map, Value, json, value::to_raw_value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const REDIRECT: &str = "http://localhost:3000/callback";
const METADATA: &str = "https://conformance-test.local/client-metadata.json";
/// How often more scopes are asked for before the client gives up.
const MAX_AUTHORIZATIONS: usize = 3;

/// Accepts every form with its defaults.
struct Defaults;

impl Elicit for Defaults {
    fn elicit(&self, params: &Value) -> Value {
        let mut content = Map::new();
        let properties = params["requestedSchema"]["properties"].as_object();
        for (name, schema) in properties.into_iter().flatten() {
            if let Some(value) = schema.get("default") {
                content.insert(name.clone(), value.clone());
            }
        }
        json!({"action": "accept", "content": content})
    }
}

/// OAuth's requests go through the connector's client.
struct OverHttp(freehold_mcp::Http, WorkspaceId);

impl OAuthHttpClient for OverHttp {
    fn execute(&self, operation: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let request = operation.request.map(Bytes::from);
            let wait = operation.timeout.unwrap_or(Duration::from_secs(30));
            let answer = self.0.fetch(&self.1, request, 1 << 20, wait).await?;
            let mut response = http::Response::new(answer.body.to_vec());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

struct Client {
    connector: Connector,
    endpoint: Endpoint,
    context: Value,
}

impl Client {
    /// Lists the tools and calls them: those the suite names, or all with made-up arguments.
    async fn exercise(&self) -> Result<(), McpError> {
        let listing = self.connector.list(&self.endpoint).await?;
        let names: Vec<&str> = listing.tools.iter().map(|t| t.name.as_str()).collect();
        println!("{}", json!({"tools": names, "left_out": listing.left_out}));
        for (name, arguments) in self.calls(&listing) {
            let call = ToolCall {
                name: name.clone(),
                arguments: to_raw_value(&arguments).expect("made of JSON"),
                input_schema: None,
                request_id: IdSource::system().next(),
            };
            let cancel = CancellationToken::new();
            match self.connector.call(&self.endpoint, &call, &cancel).await {
                Err(McpError::Authentication(why)) => return Err(McpError::Authentication(why)),
                Ok(outcome) => println!(
                    "{}",
                    json!({"tool": name, "content": outcome.content, "is_error": outcome.is_error})
                ),
                Err(error) => println!("{}", json!({"tool": name, "error": error.to_string()})),
            }
        }
        self.connector.close(&self.endpoint.owner).await;
        Ok(())
    }

    fn calls(&self, listing: &Listing) -> Vec<(String, Value)> {
        let named = self.context["toolCalls"]
            .as_array()
            .or(self.context["tool_calls"].as_array());
        if let Some(named) = named {
            let call = |call: &Value| {
                let name = call["name"].as_str().unwrap_or_default().to_owned();
                (name, call.get("arguments").cloned().unwrap_or(json!({})))
            };
            return named.iter().map(call).collect();
        }
        let of = |tool: &freehold_mcp::ToolDefinition| {
            let mut arguments = Map::new();
            let properties = tool
                .input_schema
                .get("properties")
                .and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let value = match schema["type"].as_str() {
                    Some("number" | "integer") => json!(5),
                    Some("boolean") => json!(true),
                    Some("object") => json!({}),
                    Some("array") => json!([]),
                    _ => json!("test"),
                };
                arguments.insert(name.clone(), value);
            }
            (tool.name.clone(), Value::Object(arguments))
        };
        listing.tools.iter().map(of).collect()
    }

    async fn challenge(&self) -> Option<String> {
        match self.connector.probe(&self.endpoint).await {
            freehold_mcp::Probe::Failed { challenge, .. } => challenge,
            freehold_mcp::Probe::Works => None,
        }
    }

    /// Goes through the whole of OAuth without a person.
    async fn authorize(&self, scopes: &[&str]) -> Result<Secret<String>> {
        let http = OverHttp(
            self.connector.http().clone(),
            self.endpoint.workspace.clone(),
        );
        let mut oauth =
            OAuthState::new_with_oauth_http_client(&self.endpoint.url, Arc::new(http)).await?;
        let mut request = AuthorizationRequest::new(REDIRECT)
            .with_client_name("conformance-client")
            .with_client_metadata_url(METADATA)
            .with_application_type("native")
            .with_scopes(scopes.iter().copied());
        let text = |name: &str| self.context[name].as_str();
        if let Some(id) = text("client_id") {
            request = request.with_preregistered_client(id);
            if let Some(secret) = text("client_secret") {
                request = request.with_client_secret(secret);
            }
        }
        if let Some(challenge) = self.challenge().await {
            request = request.with_challenge(challenge);
        }
        oauth.start_authorization(request).await?;
        let location = browse(&oauth.get_authorization_url().await?).await?;
        oauth.handle_callback_url(&location).await?;
        let manager = oauth
            .into_authorization_manager()
            .context("no authorization came of it")?;
        Ok(Secret::new(manager.get_access_token().await?))
    }
}

/// What a browser does with the authorization URL: it learns where it is sent back to.
async fn browse(address: &str) -> Result<String> {
    let address = url::Url::parse(address)?;
    let authority = format!(
        "{}:{}",
        address.host_str().context("no host")?,
        address.port_or_known_default().context("no port")?
    );
    let mut stream = tokio::net::TcpStream::connect(&authority).await?;
    let target = &address[url::Position::BeforePath..url::Position::AfterQuery];
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim())
    });
    Ok(location
        .context("the browser was not sent back")?
        .to_owned())
}

// The suite's runner says in the environment what it wants.
#[allow(clippy::disallowed_methods)]
fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::args()
        .nth(1)
        .context("expected the server's URL")?;
    let scenario = from_environment("MCP_CONFORMANCE_SCENARIO");
    let context = from_environment("MCP_CONFORMANCE_CONTEXT");
    let loopback: Vec<Exception> = vec!["127.0.0.0/8".parse()?, "::1/128".parse()?];
    let dial = Direct::new(AddressPolicy::allowing(loopback), None)?;
    let elicit = scenario.contains("elicitation") || scenario.contains("request-state");
    let options = Options {
        elicit: elicit.then(|| Arc::new(Defaults) as Arc<dyn Elicit>),
        ..Options::default()
    };
    let ids = IdSource::system();
    let mut client = Client {
        connector: Connector::new(Arc::new(dial), options),
        endpoint: Endpoint {
            workspace: ids.next(),
            owner: "conformance".into(),
            url,
            bearer: None,
        },
        context: serde_json::from_str(&context).unwrap_or_default(),
    };
    for attempt in 0..MAX_AUTHORIZATIONS {
        match client.exercise().await {
            Ok(()) => return Ok(()),
            Err(McpError::Authentication(why)) => {
                eprintln!("{why}");
                // The scopes that the scenario's tools need beyond those to list them.
                let more: &[&str] = match attempt {
                    0 => &[],
                    _ => &["mcp:basic", "mcp:write"],
                };
                client.endpoint.bearer = Some(client.authorize(more).await?);
            }
            Err(error) => bail!(error),
        }
    }
    bail!("the server asks for more scopes again and again")
}
