//! A sign of life while there is nothing to show.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Between two frames of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// A spinner on standard error; shows nothing where that is no terminal.
pub(super) struct Spinner {
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Spinner {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted: wanted && std::io::stderr().is_terminal(),
            bar: None,
        }
    }

    /// Turns, beside a word.
    pub(super) fn spin(&mut self, word: &'static str) {
        if !self.wanted {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(word);
    }

    /// Goes, leaving no trace.
    pub(super) fn stop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop();
    }
}
