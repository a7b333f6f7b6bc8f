//! Keys of model providers, master keys of secrets, the address of the database: from environment
//! variables or files, never from the command line.

use std::collections::HashMap;
use std::path::Path;

use freehold_base::Secret;
use freehold_store::postgres::Address;
use freehold_store::{Keyring, Place};

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

/// The first API key: `FREEHOLD_BOOTSTRAP_KEY`, else the file the configuration names.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn bootstrap_key(settings: &Settings) -> Result<Option<Secret<String>>, Failure> {
    match environment::secret("FREEHOLD_BOOTSTRAP_KEY")? {
        Some(key) => Ok(Some(key)),
        None => settings
            .bootstrap_key_file
            .as_deref()
            .map(|p| read("bootstrap_key_file", p))
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
fn master_keys(settings: &Settings) -> Result<Option<Keyring>, Failure> {
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

/// Where the server keeps what it keeps, but for blobs.
///
/// # Errors
/// A variable or file that is named is not there, or does not hold what it should.
pub(crate) fn place(settings: &Settings) -> Result<Place, Failure> {
    Ok(Place {
        database: database(settings)?,
        keys: master_keys(settings)?,
        blobs: None,
    })
}

/// PostgreSQL's address: `FREEHOLD_DATABASE_URL`, else the configuration's.
fn database(settings: &Settings) -> Result<Option<Address>, Failure> {
    let of = &settings.database;
    let (setting, url) = match (environment::secret("FREEHOLD_DATABASE_URL")?, &of.url) {
        (Some(url), _) => ("FREEHOLD_DATABASE_URL", url),
        (None, Some(url)) => ("database_url", url.clone()),
        (None, None) => return Ok(None),
    };
    let password = match environment::secret("FREEHOLD_DATABASE_PASSWORD")? {
        Some(password) => Some(password),
        None => {
            let file = of.password_file.as_deref();
            file.map(|p| read("database_password_file", p))
                .transpose()?
        }
    };
    let authorities = of.ca_file.as_deref().map(|path| {
        std::fs::read(path)
            .map_err(|e| Failure::usage(format!("database_ca_file: {}: {e}", path.display())))
    });
    let authorities = authorities.transpose()?;
    Address::new(&url, password.as_ref(), authorities.as_deref())
        .map(Some)
        .map_err(|e| Failure::because(setting, &e))
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
