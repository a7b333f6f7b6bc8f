//! `freehold gateway status`: from its file, or from the gateway itself.

use std::path::Path;
use std::time::Duration;

use freehold_tunnel::gateway::Status;

use crate::cli::StatusSource;
use crate::exit::{Exit, Failure};
use crate::terminal::{self, clean_line};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn status(from: &StatusSource, json: bool) -> Result<Exit, Failure> {
    let text = match (&from.file, &from.address) {
        (Some(file), _) => read(file)?,
        (None, Some(address)) => fetch(address).await?,
        (None, None) => return Err(Failure::usage("--file or --address is needed")),
    };
    let status: Status = serde_json::from_str(&text)
        .map_err(|e| Failure::failed(format!("that is no status of a gateway: {e}")))?;
    if json {
        terminal::print_json(&status)?;
    } else {
        terminal::print(&shown(&status))?;
    }
    Ok(if status.ready { Exit::Ok } else { Exit::Failed })
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|e| {
        Failure::new(Exit::NotFound, format!("{}: {e}", file.display()))
            .hint("set status_file in the gateway's configuration, and see that it runs")
    })
}

async fn fetch(address: &str) -> Result<String, Failure> {
    let failed = |error: reqwest::Error| {
        Failure::new(
            Exit::NotFound,
            format!("{address}: {}", error.without_url()),
        )
        .hint("set status_addr in the gateway's configuration, and see that it runs")
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(failed)?;
    let answer = client.get(format!("http://{address}/")).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map_err(failed)?.text().await.map_err(failed)
}

fn shown(status: &Status) -> String {
    let line = |text: &str| clean_line(text, 200);
    let ready = match (status.ready, status.stopping) {
        (true, _) => "ready",
        (false, true) => "stopping",
        (false, false) => "not connected",
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
    for (outcome, count) in &status.requests {
        out.push_str(&format!("requests, {}: {count}\n", line(outcome)));
    }
    for note in &status.notes {
        out.push_str(&format!("note: {}\n", line(note)));
    }
    if let Some((at, error)) = &status.last_error {
        out.push_str(&format!("last error, {at}: {}\n", line(error)));
    }
    out.trim_end().to_owned()
}
