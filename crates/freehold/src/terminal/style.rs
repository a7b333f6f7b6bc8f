//! Colours, where they are wanted.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Effects};

use crate::environment;

/// A kind of text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// Secondary.
    Dim,
    /// Names of tools, headings.
    Bold,
    /// Done well.
    Good,
    /// Needs attention.
    Warn,
    /// Failed.
    Bad,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Styles(bool);

impl Styles {
    /// For standard output: if it is a terminal and `NO_COLOR` is not set.
    pub(crate) fn stdout() -> Self {
        let refused = environment::variable("NO_COLOR").is_ok_and(|v| v.is_some());
        Self(std::io::stdout().is_terminal() && !refused)
    }
    /// For standard error.
    pub(crate) fn stderr() -> Self {
        let refused = environment::variable("NO_COLOR").is_ok_and(|v| v.is_some());
        Self(std::io::stderr().is_terminal() && !refused)
    }
    /// The text in a style. The text must be clean.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let style = match style {
            Style::Dim => anstyle::Style::new() | Effects::DIMMED,
            Style::Bold => anstyle::Style::new() | Effects::BOLD,
            Style::Good => AnsiColor::Green.on_default(),
            Style::Warn => AnsiColor::Yellow.on_default(),
            Style::Bad => AnsiColor::Red.on_default(),
        };
        format!("{style}{text}{style:#}")
    }
}
