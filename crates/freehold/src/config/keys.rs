//! Keys of model providers and master keys of secrets: from environment variables or files, never from the command line.

use std::collections::HashMap;
use std::path::Path;

use freehold_base::Secret;
use freehold_store::Keyring;

use super::settings::{MasterKeys, Settings};
use crate::environment;
use crate::exit::Failure;

/// Greatest key file, bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// The key of `--model-url`: `FREEHOLD_MODEL_KEY`, else the file the configuration names.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn model_key(settings: &Settings) -> Result<Option<Secret<String>>, Failure> {
    match environment::secret("FREEHOLD_MODEL_KEY")? {
        Some(key) => Ok(Some(key)),
        None => settings
            .model_key_file
            .as_deref()
            .map(|p| read("model_key_file", p))
            .transpose(),
    }
}

/// The keys of the configured providers, by their names.
///
/// # Errors
/// A variable or a file that is named is not there.
pub(crate) fn provider_keys(
    settings: &Settings,
) -> Result<HashMap<String, Secret<String>>, Failure> {
    let mut keys = HashMap::new();
    for (i, provider) in settings.catalog.providers.iter().enumerate() {
        let key = match (&provider.key_env, &provider.key_file) {
            (Some(name), _) => Some(environment::secret(name)?.ok_or_else(|| {
                Failure::usage(format!(
                    "providers[{i}].key_env: the environment variable {name} is not set"
                ))
            })?),
            (None, Some(path)) => Some(read(&format!("providers[{i}].key_file"), path)?),
            (None, None) => None,
        };
        keys.extend(key.map(|key| (provider.name.clone(), key)));
    }
    Ok(keys)
}

/// The master keys of secrets that the configuration names; `None` if the server keeps its own.
///
/// # Errors
/// The variable or the file that is named is not there or holds no keys.
pub(crate) fn master_keys(settings: &Settings) -> Result<Option<Keyring>, Failure> {
    let (setting, text) = match &settings.master_keys {
        MasterKeys::Own => return Ok(None),
        MasterKeys::File(path) => ("secrets.key_file", read("secrets.key_file", path)?),
        MasterKeys::Variable(name) => {
            let text = environment::secret(name)?.ok_or_else(|| {
                Failure::usage(format!(
                    "secrets.key_env: the environment variable {name} is not set"
                ))
            })?;
            ("secrets.key_env", text)
        }
    };
    let keys = Keyring::parse(&text);
    keys.map(Some).map_err(|e| {
        Failure::usage(format!("{setting}: {e}")).hint("make one with `openssl rand -hex 32`")
    })
}

pub(super) fn read(setting: &str, path: &Path) -> Result<Secret<String>, Failure> {
    let shown = path.display();
    let cannot = |e: std::io::Error| Failure::usage(format!("{setting}: {shown}: {e}"));
    if std::fs::metadata(path).map_err(cannot)?.len() > MAX_KEY_FILE {
        return Err(Failure::usage(format!(
            "{setting}: {shown} is too large to be a key"
        )));
    }
    let key = std::fs::read_to_string(path).map_err(cannot)?;
    match key.trim() {
        "" => Err(Failure::usage(format!("{setting}: {shown} is empty"))),
        key => Ok(Secret::new(key.to_owned())),
    }
}
