//! Credentials: their form, their hash, the first one.
//!
//! An API key we make is `sk-fh-` or, for an admin key, `sk-fh-admin-`, for one with a scope
//! `sk-fh-SCOPE-`, and 64 hex digits (256 random bits); an environment key `sk-ant-oat01-` and as many, a session token `sk-ant-req-`: the
//! prefixes the vendor's workers know. Any other string works as a key if the operator chose it as the bootstrap key. Only the
//! SHA-256 of a key and its last four characters are stored; a high-entropy key needs no slow hash.

use freehold_base::{IdSource, Secret};
use freehold_store::{KeyScope, NewApiKey, Store, StoreError};
use sha2::{Digest, Sha256};

/// Bytes of randomness in a key we make.
const RANDOM_BYTES: usize = 32;
/// A bootstrap key shorter than this, in bytes, is taken with a warning: it might be guessed.
pub const MIN_BOOTSTRAP_KEY: usize = 16;
/// Longest credential that is looked at, in bytes.
pub const MAX_KEY: usize = 512;

/// A fresh key.
pub fn generate(ids: &IdSource, admin: bool) -> Secret<String> {
    let prefix = if admin { "sk-fh-admin-" } else { "sk-fh-" };
    Secret::new(format!("{prefix}{}", ids.hex(RANDOM_BYTES)))
}

/// A fresh key that opens one API only.
pub fn generate_scoped(ids: &IdSource, scope: KeyScope) -> Secret<String> {
    let random = ids.hex(RANDOM_BYTES);
    Secret::new(format!("sk-fh-{}-{random}", scope.as_str()))
}

/// A fresh environment key.
pub fn generate_environment_key(ids: &IdSource) -> Secret<String> {
    Secret::new(format!("sk-ant-oat01-{}", ids.hex(RANDOM_BYTES)))
}

/// A fresh session token.
pub fn generate_session_token(ids: &IdSource) -> Secret<String> {
    Secret::new(format!("sk-ant-req-{}", ids.hex(RANDOM_BYTES)))
}

/// What is stored of a key.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The last four characters, for telling keys apart in a list.
pub fn last4(key: &str) -> String {
    let skip = key.chars().count().saturating_sub(4);
    key.chars().skip(skip).collect()
}

/// Why there is no first key.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The operator's key cannot be sent in a header.
    #[error("the bootstrap key must have 1 to {MAX_KEY} visible ASCII characters")]
    Unfit,
    /// The store failed.
    #[error("the first API key was not stored")]
    Store(#[from] StoreError),
}

/// Makes the first API key, an admin key of the default workspace, if there is none yet. Gives the
/// key if it was generated here, to be printed once; a key the operator gave is not repeated.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn bootstrap(
    store: &Store,
    ids: &IdSource,
    given: Option<&Secret<String>>,
) -> Result<Option<Secret<String>>, BootstrapError> {
    if !store.keys_is_empty().await? {
        return Ok(None);
    }
    let generated = given.is_none();
    let key = given.cloned().unwrap_or_else(|| generate(ids, true));
    let text = key.expose();
    if !(1..=MAX_KEY).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(BootstrapError::Unfit);
    }
    if text.len() < MIN_BOOTSTRAP_KEY {
        tracing::warn!(
            "the bootstrap key is shorter than {MIN_BOOTSTRAP_KEY} characters and might be \
             guessed: use it for trying out only"
        );
    }
    let workspace = store.default_workspace().await?;
    store
        .create_key(NewApiKey {
            workspace_id: workspace.id,
            name: "bootstrap".into(),
            admin: true,
            scope: None,
            hash: hash(text),
            last4: last4(text),
        })
        .await?;
    Ok(generated.then_some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_random_and_tell_their_kind() {
        let ids = IdSource::system();
        let (a, b) = (generate(&ids, false), generate(&ids, true));
        assert_eq!(a.expose().len(), "sk-fh-".len() + 64);
        assert!(b.expose().starts_with("sk-fh-admin-"));
        assert_ne!(hash(a.expose()), hash(b.expose()));
        assert_eq!(last4("abcdef"), "cdef");
        assert_eq!(last4("ab"), "ab");
    }
}
