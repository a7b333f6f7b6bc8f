//! A tool of a real MCP server, called by our connector directly and through the tunnel in turn.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use freehold_base::net::AddressPolicy;
use freehold_base::{IdSource, WorkspaceId};
use freehold_mcp::{
    Connection, Connector, Destination, Dial, DialError, Direct, Endpoint, Options, ToolCall,
};
use freehold_tunnel::edge::Edge;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::super::Lab;
use super::ours::Private;
use super::way::free;
use crate::edge::{self, HOST};
use crate::load::program::Program;
use crate::plan::PATIENCE;

/// The server.
const SERVER: &str = include_str!("../../../peers/mcp.py");

/// As servers dial: tunnels by name, all else directly.
struct Ways {
    edge: Edge,
    direct: Direct,
}

#[async_trait::async_trait]
impl Dial for Ways {
    async fn dial(&self, to: &Destination) -> Result<Connection, DialError> {
        if !self.edge.covers(&to.host) {
            return self.direct.dial(to).await;
        }
        let dialled = self.edge.dial(&to.workspace, &to.host).await;
        let stream = dialled.map_err(|e| DialError(e.to_string()))?;
        Ok(Box::new(stream))
    }
}

pub(super) async fn measure(lab: &mut Lab, dir: &Path) -> Result<()> {
    let Some(python) = &lab.peers.python else {
        lab.board
            .note("no MCP server to call: no Python".to_owned());
        return Ok(());
    };
    let (server, gateways) = (free()?, free()?);
    let mut command = Command::new(python);
    command.args(["-c", SERVER, &server.port().to_string()]);
    let _server = Program::start(command)?;
    let private = Private::new(&dir.join("mcp"), gateways, server)?;
    let (edge, workspace) = edge::serve(&private.dir, gateways).await?;
    let _gateway = private.gateway(&lab.binary)?;
    let policy = AddressPolicy::allowing([server]);
    let direct = Direct::new(policy, None)?;
    let connector = Connector::new(Arc::new(Ways { edge, direct }), Options::default());

    let endpoints = [
        format!("http://{server}/mcp"),
        format!("https://{HOST}/mcp"),
    ];
    let endpoints = endpoints.map(|url| endpoint(&workspace, url));
    let mut schema = Map::new();
    for endpoint in &endpoints {
        schema = ready(&connector, endpoint).await?;
    }
    let rounds = lab.plan.requests / 4;
    // On the runtime's threads, where a server's sessions are.
    let calling = tokio::spawn(async move { calls(&connector, &endpoints, &schema, rounds).await });
    let [times, judged] = calling.await??;
    lab.put_millis(
        "tunnel.mcp.direct",
        "a FastMCP tool, called directly",
        &times[0],
    );
    lab.put_millis(
        "tunnel.mcp.tunnel",
        "the same through the tunnel",
        &times[1],
    );
    for (id, what, times) in [
        ("tunnel.mcp.added", "added by the tunnel, p50", times),
        (
            "tunnel.mcp.added.judged",
            "added where the server's list is looked at first, p50",
            judged,
        ),
    ] {
        let [direct, tunnel] = times.map(|times| super::median(&times).unwrap_or(f64::NAN));
        lab.put(id, what, "ms", tunnel - direct);
    }
    Ok(())
}

/// What so many calls took, milliseconds, for each endpoint: the call alone, and with a look at what the
/// server says of its tools before it, as sessions do it.
async fn calls(
    connector: &Connector,
    endpoints: &[Endpoint; 2],
    schema: &Map<String, Value>,
    rounds: usize,
) -> Result<[[Vec<f64>; 2]; 2]> {
    let mut times = [const { Vec::new() }; 2];
    let mut judged = times.clone();
    for _ in 0..rounds {
        for (n, endpoint) in endpoints.iter().enumerate() {
            let begun = Instant::now();
            connector.refresh(endpoint).await?;
            let looked = Instant::now();
            call(connector, endpoint, schema).await?;
            times[n].push(looked.elapsed().as_secs_f64() * 1e3);
            judged[n].push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok([times, judged])
}

fn endpoint(workspace: &WorkspaceId, url: String) -> Endpoint {
    Endpoint {
        workspace: workspace.clone(),
        owner: "bench".to_owned(),
        url,
        bearer: None,
    }
}

/// Waits until the server answers; gives the schema of its only tool.
async fn ready(connector: &Connector, endpoint: &Endpoint) -> Result<Map<String, Value>> {
    let begun = Instant::now();
    loop {
        match connector.refresh(endpoint).await {
            Ok(listing) => {
                let tool = listing.tools.first().context("no tool")?;
                return Ok(tool.input_schema.clone());
            }
            Err(why) if PATIENCE < begun.elapsed() => {
                return Err(why).context(endpoint.url.clone());
            }
            Err(_) => tokio::time::sleep(super::POLL).await,
        }
    }
}

async fn call(
    connector: &Connector,
    endpoint: &Endpoint,
    schema: &Map<String, Value>,
) -> Result<()> {
    let call = ToolCall {
        name: "add".to_owned(),
        arguments: RawValue::from_string(r#"{"a":1,"b":2}"#.to_owned())?,
        input_schema: Some(schema.clone()),
        request_id: IdSource::system().next(),
    };
    let cancel = CancellationToken::new();
    let outcome = connector.call(endpoint, &call, &cancel).await?;
    if outcome.is_error {
        bail!("the tool failed");
    }
    Ok(())
}
