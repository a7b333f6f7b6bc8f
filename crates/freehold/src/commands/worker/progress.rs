//! What a worker is doing: on a terminal a line that is always the last one, elsewhere logs alone.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use freehold_worker::service::Status;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::config::LogFormat;
use crate::exit::Failure;
use crate::logging;

/// Between two frames.
const TICK: Duration = Duration::from_millis(200);

/// The line, if there is one.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Starts logging, and shows the line where people can see it.
    ///
    /// # Errors
    /// The log level cannot be read.
    pub(super) fn start(
        format: LogFormat,
        level: &str,
        mut status: watch::Receiver<Status>,
    ) -> Result<Self, Failure> {
        if format == LogFormat::Json || !io::stderr().is_terminal() {
            logging::start(format, level)?;
            return Ok(Self(None));
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let beside = bar.clone();
        logging::start_with(format, level, move || Beside(beside.clone()))?;
        bar.enable_steady_tick(TICK);
        let shown = bar.clone();
        tokio::spawn(async move {
            loop {
                let now = *status.borrow_and_update();
                shown.set_message(line(now));
                if status.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Self(Some(bar)))
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(status: Status) -> String {
    let plural = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    format!(
        "{}, {} running; {} claimed, {} answered so far",
        plural(status.sessions, "session"),
        plural(status.running, "call"),
        status.claimed,
        plural(status.calls, "call"),
    )
}

/// Standard error above the line.
struct Beside(ProgressBar);

impl Write for Beside {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(text))
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_it_stands() {
        let status = Status {
            sessions: 1,
            running: 2,
            claimed: 3,
            calls: 1,
        };
        assert_eq!(
            line(status),
            "1 session, 2 calls running; 3 claimed, 1 call answered so far"
        );
    }
}
