//! `freehold doctor`: what this host can do, and how to mend what it cannot. Needs no server.

mod checks;
mod history;
mod reach;

use serde::Serialize;

use crate::cli::Output;
use crate::config::{ServeFlags, Settings};
use crate::exit::{Exit, Failure};
use crate::terminal::{self, Style, Styles, clean};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Good.
    Ok,
    /// Works, but could be better.
    Warning,
    /// Does not work.
    Problem,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) level: Level,
    pub(super) detail: String,
    /// What to do about it.
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, level: Level, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            level,
            detail: detail.into(),
            remedy: None,
        }
    }
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Checks the host, or one session; fails if something does not work.
pub(crate) async fn doctor(
    history: Option<String>,
    flags: ServeFlags,
    output: Output,
) -> Result<Exit, Failure> {
    let settings = Settings::load(&flags)?;
    if let Some(session) = history {
        return history::history(&settings, &session, output).await;
    }
    let mut all = vec![Check::new("configuration", Level::Ok, configured(&flags))];
    all.push(checks::system());
    all.extend(checks::data_dir(&settings));
    all.extend(reach::storage(&settings).await);
    all.push(checks::open_files());
    all.push(checks::all_open_files());
    all.extend(checks::sandbox(&settings).await);
    all.extend(reach::models(&settings).await);
    all.extend(reach::search(&settings).await);
    let good = all.iter().all(|c| c.level != Level::Problem);
    if output.json {
        terminal::print_json(&serde_json::json!({ "ok": good, "checks": all }))?;
    } else {
        show(&all)?;
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}

fn configured(flags: &ServeFlags) -> String {
    match &flags.config {
        Some(path) => format!("{} can be used", path.display()),
        None => "no file; flags, environment and defaults".to_owned(),
    }
}

pub(super) fn show(checks: &[Check]) -> Result<(), Failure> {
    let styles = Styles::stdout();
    for check in checks {
        let (style, word) = match check.level {
            Level::Ok => (Style::Good, "ok     "),
            Level::Warning => (Style::Warn, "warning"),
            Level::Problem => (Style::Bad, "problem"),
        };
        let word = styles.paint(style, word);
        terminal::print(&format!(
            "{word}  {:<20} {}",
            clean(&check.name),
            clean(&check.detail)
        ))?;
        if let Some(remedy) = &check.remedy {
            terminal::print(&format!("         {:<20} → {}", "", clean(remedy)))?;
        }
    }
    Ok(())
}
