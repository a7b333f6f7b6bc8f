//! `freehold sessions show`.

use serde_json::{Value, json};

use crate::cli::{Connection, Output};
use crate::commands::connect::{client, dollars, text};
use crate::exit::{Exit, Failure};
use crate::terminal::{self, clean_line};

/// Most files shown.
const MAX_FILES: usize = 1_000;
/// Longest value shown, in characters.
const MAX_VALUE: usize = 200;

/// Shows one session.
pub(super) async fn show(
    id: &str,
    connection: Connection,
    output: Output,
) -> Result<Exit, Failure> {
    let client = client(&connection)?;
    let session = client.session(id).await?;
    let files = client.session_files(id).take(MAX_FILES).await?;
    if output.json {
        terminal::print_json(&json!({ "session": session, "files": files }))?;
        return Ok(Exit::Ok);
    }
    let number = |pointer: &str| {
        session
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    };
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name:<12} {}", clean_line(value, MAX_VALUE)));
        }
    };
    line("session", text(&session, "/id"));
    line("title", text(&session, "/title"));
    line("status", text(&session, "/status"));
    line(
        "agent",
        &format!(
            "{} version {} ({})",
            text(&session, "/agent/id"),
            number("/agent/version"),
            text(&session, "/agent/name"),
        ),
    );
    line("model", text(&session, "/agent/model/id"));
    line("environment", text(&session, "/environment_id"));
    line("created", text(&session, "/created_at"));
    line("archived", text(&session, "/archived_at"));
    line(
        "tokens",
        &format!(
            "{} in, {} out, {} from cache",
            number("/usage/input_tokens"),
            number("/usage/output_tokens"),
            number("/usage/cache_read_input_tokens"),
        ),
    );
    line("cost", &dollars(text(&session, "/usage/list_cost/amount")));
    if let Some(budget) = session
        .pointer("/budget/max_list_cost/amount")
        .and_then(Value::as_str)
    {
        line("budget", &dollars(budget));
    }
    line(
        "running for",
        &terminal::seconds(number("/stats/active_seconds")),
    );
    for file in &files {
        line(
            "file",
            &format!(
                "{} {} ({} bytes)",
                text(file, "/id"),
                text(file, "/filename"),
                file["size_bytes"],
            ),
        );
    }
    terminal::print(&lines.join("\n"))?;
    Ok(Exit::Ok)
}
