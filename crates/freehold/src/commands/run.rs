//! `freehold run`: one prompt in a new session, shown live.

mod confirm;
mod defaults;
mod finish;
mod follow;
mod spinner;
mod view;

use std::io::Read;

use serde_json::json;

use crate::cli::RunArgs;
use crate::commands::connect::{client, id};
use crate::exit::{Exit, Failure};
use crate::terminal::clean_line;

pub(super) use view::View;

/// Longest prompt from standard input, bytes.
const MAX_PROMPT: u64 = 4 * 1024 * 1024;
/// Characters of the prompt that become the session's title.
const TITLE_CHARS: usize = 60;

/// Runs the prompt. The status says how the turn ended.
pub(crate) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let prompt = prompt(&args.prompt)?;
    let client = client(&args.connection)?;
    let agent = match &args.agent {
        Some(id) => id.clone(),
        None => defaults::agent(&client, args.model.as_deref()).await?,
    };
    let environment = match &args.environment {
        Some(id) => id.clone(),
        None => defaults::environment(&client).await?,
    };
    let session = client
        .create_session(&json!({
            "agent": agent,
            "environment_id": environment,
            "title": clean_line(&prompt, TITLE_CHARS),
        }))
        .await?;
    let session = id(&session)?;
    eprintln!("session {}", clean_line(&session, 100));
    let ended = follow::follow(&client, &session, &prompt, args.json).await?;
    finish::finish(&client, &session, &ended, args.keep).await?;
    Ok(ended.exit)
}

fn prompt(argument: &str) -> Result<String, Failure> {
    let prompt = if argument == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(MAX_PROMPT + 1)
            .read_to_string(&mut text)
            .map_err(|e| Failure::usage(format!("cannot read the prompt: {e}")))?;
        if text.len() as u64 > MAX_PROMPT {
            return Err(Failure::usage(format!(
                "the prompt is longer than {MAX_PROMPT} bytes"
            )));
        }
        text
    } else {
        argument.to_owned()
    };
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the prompt is empty"));
    }
    Ok(prompt)
}
