//! `freehold gateway`: the private network's half of a tunnel.

mod doctor;
mod setup;
mod status;

use std::path::Path;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_tunnel::gateway::upstream::SystemResolver;
use freehold_tunnel::gateway::{Config, Gateway, Limits, Start, config};
use tokio_util::sync::CancellationToken;

use super::signals;
use crate::cli::{GatewayCommand, GatewayFile};
use crate::config::LogFormat;
use crate::environment;
use crate::exit::{Exit, Failure};
use crate::logging;

/// Where the token is looked for if the configuration names no file.
const TOKEN: &str = "TUNNEL_TOKEN";

/// Does what is asked.
pub(crate) async fn gateway(command: GatewayCommand) -> Result<Exit, Failure> {
    match command {
        GatewayCommand::Run(file) => run(file).await,
        GatewayCommand::Status { from, output } => status::status(&from, output.json).await,
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
