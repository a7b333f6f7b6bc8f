//! `freehold models`.

use crate::cli::{Connection, Output};
use crate::commands::connect::{client, text};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Lists the models.
pub(crate) async fn models(connection: Connection, output: Output) -> Result<Exit, Failure> {
    let models = client(&connection)?.models().await?;
    if output.json {
        terminal::print_json(&models)?;
        return Ok(Exit::Ok);
    }
    let number = |m: &serde_json::Value, key: &str| match m[key].as_u64() {
        Some(n) => n.to_string(),
        None => String::new(),
    };
    let rows: Vec<Vec<String>> = models
        .iter()
        .map(|m| {
            vec![
                text(m, "/id").to_owned(),
                text(m, "/display_name").to_owned(),
                number(m, "max_input_tokens"),
                number(m, "max_tokens"),
            ]
        })
        .collect();
    let empty = "no models are configured; ids may still go to the server's --model-url";
    terminal::print(&terminal::table(
        &["ID", "NAME", "INPUT", "OUTPUT"],
        &rows,
        empty,
    ))?;
    Ok(Exit::Ok)
}
