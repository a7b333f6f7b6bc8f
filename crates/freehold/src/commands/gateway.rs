//! `freehold gateway`: the private network's half of a tunnel.

mod doctor;
mod setup;

use std::path::Path;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_tunnel::gateway::upstream::SystemResolver;
use freehold_tunnel::gateway::{Config, Gateway, Limits, Start, Status, config};
use tokio_util::sync::CancellationToken;

use super::signals;
use crate::cli::{GatewayCommand, GatewayFile};
use crate::config::LogFormat;
use crate::environment;
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::terminal::{self, clean_line};

/// Where the token is looked for if the configuration names no file.
const TOKEN: &str = "TUNNEL_TOKEN";

/// Does what is asked.
pub(crate) async fn gateway(command: GatewayCommand) -> Result<Exit, Failure> {
    match command {
        GatewayCommand::Run(file) => run(file).await,
        GatewayCommand::Status { file, output } => status(&file, output.json),
        GatewayCommand::Doctor { file, output } => doctor::doctor(&file.config, output.json).await,
        GatewayCommand::Setup(command) => setup::setup(command).await,
    }
}

/// Reads a configuration file.
fn read(path: &Path) -> Result<Config, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("the configuration {shown} cannot be read: {e}")))?;
    config::parse(&text).map_err(|e| Failure::usage(format!("{shown}: {e}")))
}

fn start(file: &Path) -> Result<Start, Failure> {
    Ok(Start {
        config: read(file)?,
        file: Some(file.to_owned()),
        token: environment::secret(TOKEN)?,
        resolver: Arc::new(SystemResolver),
        ids: IdSource::system(),
        limits: Limits::default(),
    })
}

async fn run(file: GatewayFile) -> Result<Exit, Failure> {
    let start = start(&file.config)?;
    logging::start(LogFormat::Json, &start.config.log_level)?;
    let gateway = Gateway::new(start).map_err(Failure::usage)?;
    let stop = CancellationToken::new();
    signals::watch(stop.clone())?;
    gateway.run(stop).await;
    Ok(Exit::Ok)
}

fn status(file: &Path, json: bool) -> Result<Exit, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::new(Exit::NotFound, format!("{}: {e}", file.display()))
            .hint("set status_file in the gateway's configuration, and see that it runs")
    })?;
    let status: Status = serde_json::from_str(&text)
        .map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?;
    if json {
        terminal::print_json(&status)?;
    } else {
        terminal::print(&shown(&status))?;
    }
    Ok(if status.ready { Exit::Ok } else { Exit::Failed })
}

fn shown(status: &Status) -> String {
    let line = |text: &str| clean_line(text, 200);
    let ready = if status.ready {
        "ready"
    } else {
        "not connected"
    };
    let domain = status.domain.as_deref().unwrap_or("not told yet");
    let mut out = format!("{ready}; domain {}\n", line(domain));
    for (index, connection) in &status.connections {
        let state = match (&connection.id, &connection.error) {
            (Some(id), _) => format!("up, {}", line(id)),
            (None, Some(error)) => format!("down: {}", line(error)),
            (None, None) => "not tried yet".to_owned(),
        };
        out.push_str(&format!("connection {index}: {state}\n"));
    }
    for (name, target) in &status.routes {
        out.push_str(&format!("route {} → {}\n", line(name), line(target)));
    }
    let days = status.certificate_days_left;
    out.push_str(&format!("certificate: {days} days left\n"));
    for note in &status.notes {
        out.push_str(&format!("note: {}\n", line(note)));
    }
    if let Some((at, error)) = &status.last_error {
        out.push_str(&format!("last error, {at}: {}\n", line(error)));
    }
    out.trim_end().to_owned()
}
