//! `freehold doctor --history`: what must hold of a session, read from its store.

use freehold_base::{IdSource, SessionId};
use freehold_engine::invariants::{Checker, Work};
use freehold_store::{Checked, HistoryAudit, Standing, Store};
use serde_json::{Value, json};

use crate::cli::Output;
use crate::commands::store::{failed, reading};
use crate::config::Settings;
use crate::exit::{Exit, Failure};
use crate::terminal::{self, Style, Styles, clean};

/// Events read together, and the bytes of them.
const EVENTS: usize = 500;
const BYTES: usize = 4 << 20;

/// Checks a session; fails if something does not hold.
pub(super) async fn history(
    settings: &Settings,
    id: &str,
    output: Output,
) -> Result<Exit, Failure> {
    let session: SessionId = id
        .parse()
        .map_err(|e| Failure::usage(format!("session: {e}")))?;
    let store = reading(settings, &IdSource::system()).await?;
    let standing = store.standing(&session).await.map_err(failed)?;
    let standing = standing
        .ok_or_else(|| Failure::new(Exit::NotFound, format!("session `{session}` not found")))?;
    let (mut checks, work) = events(&store, &session, &standing).await?;
    checks.push(store.check_blobs(&session).await.map_err(failed)?);
    store.close().await;
    let good = checks.iter().all(|c| c.violations.is_empty());
    if output.json {
        terminal::print_json(&json!({
            "ok": good, "session": session, "status": standing.status.as_str(),
            "settled": standing.settled(),
            "checks": checks.iter().map(shape).collect::<Vec<_>>(),
            "seen": { "events": work.events, "messages": work.messages, "tool_uses": work.uses,
                "results": work.results, "model_requests": work.requests, "turns": work.idles },
        }))?;
    } else {
        show(&checks, &work)?;
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}

/// Reads the log up to the head, a page at a time, through both checkers.
async fn events(
    store: &Store,
    session: &SessionId,
    standing: &Standing,
) -> Result<(Vec<Checked>, Work), Failure> {
    let (mut audit, mut checker) = (HistoryAudit::new(standing.clone()), Checker::default());
    let mut after = 0;
    loop {
        let page = store.tail_within(session, after, EVENTS, BYTES).await;
        let page = page.map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        // What came since belongs to a later standing.
        for event in page.iter().filter(|e| e.seq <= standing.head) {
            audit.event(event);
            checker.event(&serde_json::from_str(&event.wire()).unwrap_or_default());
        }
        if standing.head <= after {
            break;
        }
    }
    let (work, bad) = checker.finish(standing.settled());
    let mut checks = audit.finish();
    checks.push(Checked {
        rule: "turns, model requests, tool uses and their results are in order",
        count: work.events,
        violations: bad.into_iter().map(|v| v.0).collect(),
    });
    Ok((checks, work))
}

fn shape(check: &Checked) -> Value {
    json!({ "rule": check.rule, "count": check.count, "violations": check.violations })
}

fn show(checks: &[Checked], work: &Work) -> Result<(), Failure> {
    let styles = Styles::stdout();
    for check in checks {
        let (style, word) = match check.violations.is_empty() {
            true => (Style::Good, "ok     "),
            false => (Style::Bad, "broken "),
        };
        let word = styles.paint(style, word);
        terminal::print(&format!("{word} {:>8}  {}", check.count, check.rule))?;
        for violation in &check.violations {
            terminal::print(&format!("                  → {}", clean(violation)))?;
        }
    }
    terminal::print(&format!(
        "{} events: {} messages, {} tool uses with {} results, {} model requests, {} turns ended",
        work.events, work.messages, work.uses, work.results, work.requests, work.idles
    ))
}
