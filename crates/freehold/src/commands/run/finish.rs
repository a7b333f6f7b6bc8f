//! After the turn: what it cost, what it left, and whether the session stays.

use freehold_base::chain;
use freehold_client::Client;

use super::follow::Ended;
use crate::commands::connect::{dollars, text};
use crate::exit::{Exit, Failure};
use crate::terminal::{Style, Styles, clean_line, seconds};

/// Most files shown.
const MAX_FILES: usize = 50;

/// Says it on standard error, so that standard output holds the answer alone.
pub(super) async fn finish(
    client: &Client,
    session: &str,
    ended: &Ended,
    keep: bool,
) -> Result<(), Failure> {
    let files = client.session_files(session).take(MAX_FILES).await?;
    let styles = Styles::stderr();
    if let Some(usage) = &ended.usage {
        let cost = usage
            .list_cost
            .as_ref()
            .map_or("cost unknown".to_owned(), |c| dollars(&c.amount));
        let line = format!(
            "{} · {} tokens in, {} out, {} from cache · {cost}",
            seconds(usage.active_seconds),
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
        );
        eprintln!("{}", styles.paint(Style::Dim, &line));
    }
    for file in &files {
        let (id, name) = (text(file, "/id"), text(file, "/filename"));
        eprintln!("file {} {}", clean_line(id, 100), clean_line(name, 255));
    }
    if let Some(said) = outcome(ended.exit) {
        eprintln!("{}", styles.paint(Style::Warn, said));
    }
    if keep || ended.exit != Exit::Ok || !files.is_empty() {
        let session = clean_line(session, 100);
        eprintln!("session kept: freehold sessions show {session}");
        return Ok(());
    }
    if let Err(error) = client.delete_session(session).await {
        // The answer is out; a session too many is worth a word, not a failure.
        eprintln!(
            "the session was not deleted: {}",
            clean_line(&chain(&error), 500)
        );
    }
    Ok(())
}

fn outcome(exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::SessionFailed => Some("the turn failed"),
        Exit::ActionRequired => Some("the session waits for an answer"),
        Exit::Refused => Some("the model refused"),
        Exit::BudgetReached => Some("the session's budget is spent"),
        Exit::Interrupted => Some("interrupted"),
        _ => None,
    }
}
