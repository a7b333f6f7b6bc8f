//! Reading the environment. Variables that are also flags are read by clap; here are the secrets,
//! which are never flags because other users can see a command line.

use freehold_base::Secret;

use crate::exit::Failure;

/// A variable; `None` if it is unset or empty.
///
/// # Errors
/// It is not UTF-8.
#[allow(
    clippy::disallowed_methods,
    reason = "the binary reads the environment, here"
)]
pub(crate) fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!(
            "the environment variable {name} is not UTF-8"
        ))),
    }
}

/// A secret; white space around it is not part of it.
///
/// # Errors
/// See [`variable`].
pub(crate) fn secret(name: &str) -> Result<Option<Secret<String>>, Failure> {
    let value = variable(name)?.map(|v| v.trim().to_owned());
    Ok(value.filter(|v| !v.is_empty()).map(Secret::new))
}
