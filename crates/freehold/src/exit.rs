//! How commands end: an exit status scripts can rely on, and for people one clear line and a hint.
//! Documented in `docs/cli.md`.

use std::error::Error;
use std::fmt::Write as _;

use freehold_base::chain;
use freehold_client::ClientError;

use crate::terminal::clean;

/// Exit statuses. 2 is clap's, for arguments that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done; a session ended its turn well.
    Ok = 0,
    /// Anything not listed below.
    Failed = 1,
    /// The arguments or the configuration cannot be used.
    Usage = 2,
    /// The session's turn failed, or the session is terminated.
    SessionFailed = 3,
    /// The session waits for an answer this command cannot give.
    ActionRequired = 4,
    /// The model refused.
    Refused = 5,
    /// The session's budget is spent.
    BudgetReached = 6,
    /// No server answers.
    Unreachable = 7,
    /// The server refused the API key.
    NotAllowed = 8,
    /// There is no such thing.
    NotFound = 9,
    /// Interrupted by the user.
    Interrupted = 130,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The status to end with.
    pub(crate) exit: Exit,
    /// One line; empty if everything has been said.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }
    /// A failure of no special kind.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }
    /// Arguments or configuration that cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
    /// Ends with a status when everything has been said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// A failure with an error and all its causes.
    pub(crate) fn because(what: &str, error: &(dyn Error + 'static)) -> Self {
        Self::failed(format!("{what}: {}", chain(error)))
    }
    /// Says what happened.
    pub(crate) fn report(&self) {
        if !self.message.is_empty() {
            eprintln!("error: {}", one_line(&self.message));
        }
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", clean(hint));
        }
    }
}

/// Parts of it may come from a server.
fn one_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Connect { url, .. } => {
                Self::new(Exit::Unreachable, format!("no server answers at {url}"))
                    .hint("start one with `freehold serve`, or set FREEHOLD_URL")
            }
            ClientError::Configuration(_) => Self::usage(error.to_string()),
            ClientError::Broken(_) | ClientError::Silent(_) => {
                Self::new(Exit::Unreachable, chain(&error))
            }
            ClientError::Protocol(_) => {
                Self::failed(chain(&error)).hint("is FREEHOLD_URL the URL of a Freehold server?")
            }
            ClientError::Api(failure) => {
                let exit = match failure.status {
                    401 | 403 => Exit::NotAllowed,
                    404 => Exit::NotFound,
                    _ => Exit::Failed,
                };
                let mut text = failure.message.clone();
                if let (500.., Some(id)) = (failure.status, &failure.request_id) {
                    let _ = write!(text, " (request {id})");
                }
                let failed = Self::new(exit, text);
                match failure.status {
                    401 => failed.hint("set FREEHOLD_API_KEY; `freehold keys create` makes a key"),
                    _ => failed,
                }
            }
        }
    }
}

impl From<std::io::Error> for Failure {
    /// For writing to standard output: a reader that has left is no failure of ours.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::silent(Exit::Ok),
            _ => Self::failed(format!("cannot write: {error}")),
        }
    }
}
