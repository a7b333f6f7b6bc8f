//! `freehold sessions list`.

use crate::cli::{Connection, Output};
use crate::commands::connect::{client, dollars, text};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Most that can be asked for.
const MAX_LISTED: usize = 100_000;

/// What to list.
pub(super) struct Filter {
    pub(super) status: Vec<String>,
    pub(super) agent: Option<String>,
    pub(super) archived: bool,
    pub(super) limit: usize,
}

/// Lists sessions.
pub(super) async fn list(
    filter: Filter,
    connection: Connection,
    output: Output,
) -> Result<Exit, Failure> {
    let page = filter.limit.clamp(1, 100).to_string();
    let mut query = vec![("limit", page.as_str())];
    query.extend(filter.status.iter().map(|s| ("statuses[]", s.as_str())));
    query.extend(filter.agent.iter().map(|a| ("agent_id", a.as_str())));
    if filter.archived {
        query.push(("include_archived", "true"));
    }
    let client = client(&connection)?;
    let sessions = client
        .sessions(&query)
        .take(filter.limit.min(MAX_LISTED))
        .await?;
    if output.json {
        terminal::print_json(&sessions)?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|s| {
            vec![
                text(s, "/id").to_owned(),
                text(s, "/status").to_owned(),
                terminal::age(text(s, "/created_at")),
                text(s, "/agent/model/id").to_owned(),
                dollars(text(s, "/usage/list_cost/amount")),
                text(s, "/title").to_owned(),
            ]
        })
        .collect();
    let headings = ["ID", "STATUS", "CREATED", "MODEL", "COST", "TITLE"];
    terminal::print(&terminal::table(&headings, &rows, "no sessions"))?;
    Ok(Exit::Ok)
}
