//! Logs go to standard error: a line each, for people or as JSON. No content at info level.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use crate::exit::Failure;

/// Starts logging.
///
/// # Errors
/// The level cannot be read.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Failure> {
    start_with(format, level, std::io::stderr)
}

/// Starts logging to a writer that ends up on standard error.
///
/// # Errors
/// The level cannot be read.
pub(crate) fn start_with<W>(format: LogFormat, level: &str, writer: W) -> Result<(), Failure>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(level).map_err(|e| {
        Failure::usage(format!("log level: {e}")).hint(
            "one of error, warn, info, debug, trace; or per part, as `info,freehold_store=debug`",
        )
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match format {
        LogFormat::Json => logs
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .init(),
        LogFormat::Human => {
            logs.with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .init();
        }
    }
    Ok(())
}
