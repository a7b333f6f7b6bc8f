//! `cargo xtask demo tunnel`: an agent calls an MCP server in a private network that nobody can reach.
//! The network is a namespace; from there one port can be reached, the edge's, and nobody gets in.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::PATIENCE;
use super::server::{Folder, Server, serve};
use crate::run::{Steps, cargo, command, quiet, shown};
use crate::{http, paths, setup};

/// The private network, and the cable to it. Addresses of documentation, which nobody has.
const NAMESPACE: &str = "freehold-demo";
const CABLE: &str = "fhdemo";
const HERE: &str = "192.0.2.9";
const THERE: &str = "192.0.2.10";
const EDGE_PORT: u16 = 8788;
const MCP_PORT: u16 = 3100;
/// How long is tried to get in.
const KNOCK: Duration = Duration::from_secs(1);
/// What the agent is asked: a script for the rehearsal model, the call is real.
const PROMPT: &str = "\
Ask the private server.
tool: mcp__private__get-sum {\"a\": 19, \"b\": 23}
say: It says: {result}";
const ANSWER: &str = "42";

/// Runs the demonstration.
///
/// # Errors
/// A step failed, or the agent did not get the answer.
pub fn run(exit: bool) -> Result<()> {
    let mut steps = Steps::new();
    steps.command("build", cargo().args(["build", "-p", "freehold"]))?;
    let packages = steps.own("MCP server", "packages", setup::mcp)?;
    let network = steps.own("private network", "a namespace on a cable", || {
        setup::hosts()?;
        Network::new()
    })?;
    let folder = Folder::new(true)?;
    let key = folder.key(&[])?;
    let operator = folder.key(&["--scope", "tunnels"])?;
    let config = folder.path.join("freehold.toml");
    let listen =
        format!("[tunnels]\ndomain = \"tunnel.internal\"\nlisten = \"{HERE}:{EDGE_PORT}\"\n");
    std::fs::write(&config, listen)?;
    let mut command = serve(&folder.path, true)?;
    command.arg("--config").arg(&config);
    let mut server = Server::start(command, &key)?;

    let mut everything = network.command("node");
    let program = "node_modules/@modelcontextprotocol/server-everything/dist/index.js";
    everything.arg(packages.join(program)).arg("streamableHttp");
    everything.env("PORT", MCP_PORT.to_string());
    let _everything = Background::start("MCP server, inside", everything)?;

    let made = folder.path.join("gateway");
    let mut init = freehold(&server, &operator)?;
    init.args(["gateway", "setup", "init", "--output"]);
    init.arg(format!("dir:{}", made.display()));
    show("set-up", &mut init)?;
    let (id, domain) = (read(&made, "tunnel-id")?, read(&made, "tunnel-domain")?);
    let config = gateway(&made, &domain, &server.said())?;
    let mut doctor = network.command(paths::freehold()?);
    doctor.args(["gateway", "doctor", "--config"]).arg(&config);
    until("the MCP server listens", || network.listens())?;
    show("doctor, inside", &mut doctor)?;
    let mut run = network.command(paths::freehold()?);
    run.args(["gateway", "run", "--config"]).arg(&config);
    let _gateway = Background::start("gateway, inside", run)?;
    until("the gateway is connected", || {
        let path = format!("/v1/tunnels/{id}/connections");
        let found = http::get_json(&server.url, &path, &operator)?;
        Ok(found["data"].as_array().is_some_and(|all| !all.is_empty()))
    })?;

    let inside = SocketAddr::new(THERE.parse()?, MCP_PORT);
    ensure!(
        TcpStream::connect_timeout(&inside, KNOCK).is_err(),
        "the MCP server can be reached without the tunnel"
    );
    println!("\n==> from outside, {inside} cannot be reached");
    session(&server, &key, &domain)?;

    println!("\nThe agent got its answer through the tunnel.");
    if !exit {
        println!(
            "Try it yourself, with {} in the private network:\n\n  \
             export FREEHOLD_URL={} FREEHOLD_API_KEY={operator}\n  \
             {} tunnels show {id}\n\nReturn ends it.",
            shown(&network.command("COMMAND")),
            server.url,
            paths::freehold()?.display(),
        );
        std::io::stdin().read_line(&mut String::new())?;
    }
    server.stop()
}

/// An agent with the MCP server, asked live; then what it left behind is checked.
fn session(server: &Server, key: &str, domain: &str) -> Result<()> {
    let agent = json!({
        "name": "tunnel demo",
        "model": "rehearsal",
        "mcp_servers": [{"type": "url", "name": "private", "url": format!("https://app.{domain}/mcp")}],
        "tools": [{
            "type": "mcp_toolset",
            "mcp_server_name": "private",
            "default_config": {"permission_policy": {"type": "always_allow"}},
        }],
    });
    let agent = http::post(&server.url, "/v1/agents", key, &agent)?;
    let agent = agent["id"].as_str().context("the agent has no id")?;
    println!("\n==> session: freehold run --agent {agent} …\n");
    std::io::stdout().flush()?;
    let mut run = freehold(server, key)?;
    let status = run
        .args(["run", "--keep", "--agent", agent, PROMPT])
        .status()?;
    ensure!(status.success(), "`freehold run` ended with {status}");
    let (_, events) = super::newest(&server.url, key)?;
    check(&events)
}

/// The one call had the right answer.
fn check(events: &[Value]) -> Result<()> {
    let mut results = events
        .iter()
        .filter(|e| e["type"] == "agent.mcp_tool_result");
    let result = results
        .next()
        .context("no tool of the MCP server was called")?;
    let said = result["content"][0]["text"].as_str().unwrap_or_default();
    ensure!(
        result["is_error"] != true && said.contains(ANSWER),
        "the tool answered {result}"
    );
    Ok(())
}

fn freehold(server: &Server, key: &str) -> Result<Command> {
    let mut freehold = command(paths::freehold()?);
    freehold
        .env("FREEHOLD_URL", &server.url)
        .env("FREEHOLD_API_KEY", key);
    Ok(freehold)
}

/// The gateway's configuration; the server has printed whom to trust.
fn gateway(made: &Path, domain: &str, said: &str) -> Result<PathBuf> {
    let words = said.split(|c: char| !c.is_ascii_hexdigit());
    let fingerprint = words.into_iter().find(|word| word.len() == 64);
    let fingerprint = fingerprint.context("the server did not print the edge's fingerprint")?;
    let d = made.display();
    let text = format!(
        "tunnel_domain: {domain}\n\
         tls:\n  cert_file: {d}/tls.crt\n  key_file: {d}/tls.key\n\
         routes:\n  app: http://{THERE}:{MCP_PORT}\n\
         upstream:\n  allowed_ips: [{THERE}]\n\
         edge:\n  address: {HERE}:{EDGE_PORT}\n  fingerprint: {fingerprint}\n  \
         token_file: {d}/tunnel-token\n"
    );
    let path = made.join("config.yaml");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn read(folder: &Path, name: &str) -> Result<String> {
    Ok(crate::run::read(&folder.join(name))?.trim().to_owned())
}

/// Runs it for the eyes.
fn show(name: &str, command: &mut Command) -> Result<()> {
    println!("\n==> {name}: {}\n", shown(command));
    std::io::stdout().flush()?;
    let status = command.status()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn until(what: &str, is: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is()? {
        if end < Instant::now() {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A process that goes with the demonstration.
struct Background(Child);

impl Background {
    fn start(name: &str, mut command: Command) -> Result<Self> {
        println!("\n==> {name}: {}", shown(&command));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(
            child.with_context(|| format!("cannot start the {name}"))?,
        ))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The private network; gone when dropped.
struct Network;

impl Network {
    fn new() -> Result<Self> {
        // What an interrupted one left.
        Self::remove();
        let ip = |line: &str| quiet(command("ip").args(line.split(' ')));
        ip(&format!("netns add {NAMESPACE}"))?;
        let made = Self;
        ip(&format!(
            "link add {CABLE} type veth peer name {CABLE} netns {NAMESPACE}"
        ))?;
        for (at, address) in [(None, HERE), (Some(NAMESPACE), THERE)] {
            let at = at.map_or(String::new(), |name| format!("-n {name} "));
            ip(&format!("{at}address add {address}/30 dev {CABLE}"))?;
            ip(&format!("{at}link set {CABLE} up"))?;
        }
        ip(&format!("-n {NAMESPACE} link set lo up"))?;
        let rules = format!(
            "table inet demo {{\n\
             chain input {{ type filter hook input priority 0; policy drop;\n\
             iifname lo accept; ct state established,related accept; }}\n\
             chain output {{ type filter hook output priority 0; policy drop;\n\
             oifname lo accept; ct state established,related accept;\n\
             ip daddr {HERE} tcp dport {EDGE_PORT} accept; }}\n}}\n"
        );
        let file = paths::own()?.join("demo.nft");
        std::fs::write(&file, rules)?;
        quiet(made.command("nft").arg("-f").arg(&file))?;
        Ok(made)
    }

    /// Runs a program inside.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut inside = command("ip");
        inside.args(["netns", "exec", NAMESPACE]).arg(program);
        inside
    }

    /// Whether the MCP server is there.
    fn listens(&self) -> Result<bool> {
        let sockets = quiet(
            self.command("cat")
                .arg("/proc/net/tcp")
                .arg("/proc/net/tcp6"),
        )?;
        let port = format!(":{MCP_PORT:04X} ");
        // 0A is a socket that listens.
        Ok(sockets
            .lines()
            .any(|l| l.contains(&port) && l.contains(" 0A ")))
    }

    fn remove() {
        let there = Path::new("/run/netns").join(NAMESPACE).exists();
        // The cable goes with it.
        let _ = there.then(|| quiet(command("ip").args(["netns", "delete", NAMESPACE])));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        Self::remove();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check, gateway};

    #[test]
    fn only_the_right_answer_is_good() {
        let result = |text: &str| json!({"type": "agent.mcp_tool_result", "content": [{"type": "text", "text": text}]});
        check(&[result("The sum is 42.")]).unwrap();
        check(&[result("no")]).unwrap_err();
        check(&[]).unwrap_err();
    }

    #[test]
    fn the_fingerprint_is_what_the_server_printed() {
        let dir = std::env::temp_dir().join(format!("xtask-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let print = "0a".repeat(32);
        let path = gateway(&dir, "d.t", &format!("WARN x\nedge fingerprint={print}\n")).unwrap();
        assert!(std::fs::read_to_string(path).unwrap().contains(&print));
        gateway(&dir, "d.t", "nothing of it").unwrap_err();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
