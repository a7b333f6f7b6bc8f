//! Secrets at rest. Each secret is encrypted under a data key of its own, and that under a master
//! key, which is not in the database: a copy of the database alone tells nothing. Whose secret it
//! is goes into both encryptions as additional data, so that a row moved to another owner does not
//! open. A new master key re-wraps data keys and leaves the secrets as they are.
//!
//! Both layers are AES-256-GCM with random nonces: `nonce ‖ ciphertext ‖ tag`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use freehold_base::{IdSource, Secret, WorkspaceId};

use crate::StoreError;
use crate::backend::Row;

mod keyring;
mod rotate;

pub use keyring::{KEY_FILE, Keyring, KeyringError};
pub use rotate::RotateError;

/// Bytes of a key.
const KEY: usize = 32;

/// Whose secret it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretOwner {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Id of the vault or tunnel.
    pub holder: String,
    /// Id of the credential or of the tunnel's token.
    pub item: String,
    /// The item's field, as it is named on the wire.
    pub field: String,
}

/// An encrypted secret, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Id of the master key.
    pub master: String,
    /// The data key, encrypted under the master key.
    pub wrapped: Vec<u8>,
    /// The secret, encrypted under the data key.
    pub sealed: Vec<u8>,
}

/// Why a secret cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The master key is not in the keyring.
    #[error("the secret is encrypted under the master key {master}, which is not at hand")]
    UnknownKey {
        /// Its id.
        master: String,
    },
    /// It was changed, or belongs to somebody else.
    #[error("the stored secret is damaged or is not its owner's")]
    Damaged,
}

/// Columns of a `credential_secret s` and its `credential c`.
pub(crate) const COLUMNS: &str =
    "c.workspace_id, c.vault_id, c.id, s.field, s.master, s.wrapped, s.sealed";

/// The columns of [`COLUMNS`].
pub(crate) fn stored_secret(row: &mut Row) -> Result<(SecretOwner, SealedSecret), StoreError> {
    let owner = SecretOwner {
        workspace: row.id("secret workspace")?,
        holder: row.text("secret holder")?,
        item: row.text("secret item")?,
        field: row.text("secret field")?,
    };
    let sealed = SealedSecret {
        master: row.text("secret key")?,
        wrapped: row.bytes("secret")?,
        sealed: row.bytes("secret")?,
    };
    Ok((owner, sealed))
}

impl Keyring {
    /// Encrypts a secret under the newest master key.
    pub fn seal(
        &self,
        ids: &IdSource,
        owner: &SecretOwner,
        secret: &Secret<String>,
    ) -> SealedSecret {
        let mut data_key = [0; KEY];
        ids.fill(&mut data_key);
        let value = secret.expose().as_bytes();
        SealedSecret {
            master: self.newest().id().to_owned(),
            wrapped: encrypt(ids, self.newest().bytes(), &owner.bound("key"), &data_key),
            sealed: encrypt(ids, &data_key, &owner.bound("value"), value),
        }
    }

    /// Decrypts a secret.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn open(
        &self,
        owner: &SecretOwner,
        stored: &SealedSecret,
    ) -> Result<Secret<String>, SecretError> {
        let data_key = self.unwrap(owner, stored)?;
        let value = decrypt(&data_key, &owner.bound("value"), &stored.sealed)?;
        let text = String::from_utf8(value).map_err(|_| SecretError::Damaged)?;
        Ok(Secret::new(text))
    }

    /// The same secret with its data key under the newest master key.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn rewrap(
        &self,
        ids: &IdSource,
        owner: &SecretOwner,
        stored: SealedSecret,
    ) -> Result<SealedSecret, SecretError> {
        let data_key = self.unwrap(owner, &stored)?;
        Ok(SealedSecret {
            master: self.newest().id().to_owned(),
            wrapped: encrypt(ids, self.newest().bytes(), &owner.bound("key"), &data_key),
            sealed: stored.sealed,
        })
    }

    fn unwrap(&self, owner: &SecretOwner, stored: &SealedSecret) -> Result<[u8; KEY], SecretError> {
        let master = self
            .find(&stored.master)
            .ok_or_else(|| SecretError::UnknownKey {
                master: stored.master.clone(),
            })?;
        let data_key = decrypt(master.bytes(), &owner.bound("key"), &stored.wrapped)?;
        data_key.try_into().map_err(|_| SecretError::Damaged)
    }
}

impl SecretOwner {
    /// The additional data of one layer. Each part is preceded by its length, so that no two owners
    /// give the same bytes.
    fn bound(&self, layer: &str) -> Vec<u8> {
        let parts = [
            "freehold secret 1",
            layer,
            self.workspace.as_str(),
            &self.holder,
            &self.item,
            &self.field,
        ];
        let mut bound = Vec::new();
        for part in parts {
            bound.extend((part.len() as u64).to_be_bytes());
            bound.extend(part.as_bytes());
        }
        bound
    }
}

fn cipher(key: &[u8; KEY]) -> LessSafeKey {
    // The length is right by its type.
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

fn encrypt(ids: &IdSource, key: &[u8; KEY], bound: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    ids.fill(&mut nonce);
    let mut text = plain.to_vec();
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound),
            &mut text,
        )
        // Fails only above 64 GiB, and secrets are bounded by their requests.
        .expect("a secret is short");
    [&nonce[..], &text].concat()
}

fn decrypt(key: &[u8; KEY], bound: &[u8], stored: &[u8]) -> Result<Vec<u8>, SecretError> {
    let (nonce, text) = stored
        .split_first_chunk::<NONCE_LEN>()
        .ok_or(SecretError::Damaged)?;
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = cipher(key)
        .open_in_place(nonce, Aad::from(bound), &mut text)
        .map_err(|_| SecretError::Damaged)?
        .len();
    text.truncate(plain);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> SecretOwner {
        let ids = IdSource::system();
        SecretOwner {
            workspace: ids.next(),
            holder: ids.next::<freehold_base::kind::Vault>().to_string(),
            item: ids.next::<freehold_base::kind::Credential>().to_string(),
            field: "token".into(),
        }
    }

    #[test]
    fn only_its_owner_opens_a_secret() {
        let (ids, keys, owner) = (
            IdSource::system(),
            &Keyring::generate(&IdSource::system()),
            owner(),
        );
        let secret = Secret::new("hunter2".to_owned());
        let sealed = keys.seal(&ids, &owner, &secret);
        assert_eq!(keys.open(&owner, &sealed), Ok(secret));
        let others = [
            SecretOwner {
                workspace: ids.next(),
                ..owner.clone()
            },
            SecretOwner {
                holder: ids.next::<freehold_base::kind::Vault>().to_string(),
                ..owner.clone()
            },
            SecretOwner {
                item: ids.next::<freehold_base::kind::Credential>().to_string(),
                ..owner.clone()
            },
            SecretOwner {
                field: "access_token".into(),
                ..owner.clone()
            },
        ];
        for other in others {
            assert_eq!(
                keys.open(&other, &sealed),
                Err(SecretError::Damaged),
                "{other:?}"
            );
            let moved = keys.rewrap(&ids, &other, sealed.clone());
            assert_eq!(moved, Err(SecretError::Damaged), "{other:?}");
        }
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let (ids, keys, owner) = (
            IdSource::system(),
            Keyring::generate(&IdSource::system()),
            owner(),
        );
        let sealed = keys.seal(&ids, &owner, &Secret::new("hunter2".to_owned()));
        for i in 0..sealed.wrapped.len() {
            let mut bad = sealed.clone();
            bad.wrapped[i] ^= 1;
            assert_eq!(keys.open(&owner, &bad), Err(SecretError::Damaged), "{i}");
        }
        for i in 0..sealed.sealed.len() {
            let mut bad = sealed.clone();
            bad.sealed[i] ^= 1;
            assert_eq!(keys.open(&owner, &bad), Err(SecretError::Damaged), "{i}");
        }
        for short in 0..sealed.sealed.len() {
            let mut bad = sealed.clone();
            bad.sealed.truncate(short);
            assert_eq!(
                keys.open(&owner, &bad),
                Err(SecretError::Damaged),
                "{short}"
            );
        }
        // The data key of one secret does not open another of the same owner.
        let other = keys.seal(&ids, &owner, &Secret::new("hunter2".to_owned()));
        let mixed = SealedSecret {
            sealed: other.sealed,
            ..sealed
        };
        assert_eq!(keys.open(&owner, &mixed), Err(SecretError::Damaged));
    }

    #[test]
    fn equal_secrets_look_different() {
        let (ids, keys, owner) = (
            IdSource::system(),
            Keyring::generate(&IdSource::system()),
            owner(),
        );
        let secret = Secret::new("hunter2".to_owned());
        let (a, b) = (
            keys.seal(&ids, &owner, &secret),
            keys.seal(&ids, &owner, &secret),
        );
        assert_ne!(a.wrapped, b.wrapped);
        assert_ne!(a.sealed, b.sealed);
    }

    #[test]
    fn a_new_master_key_takes_over_and_the_old_one_can_go() {
        let (ids, old, owner) = (
            IdSource::system(),
            Keyring::generate(&IdSource::system()),
            owner(),
        );
        let secret = Secret::new("hunter2".to_owned());
        let sealed = old.seal(&ids, &owner, &secret);
        let both = old.with_new(&ids);
        assert_eq!(both.open(&owner, &sealed), Ok(secret.clone()));
        let moved = both.rewrap(&ids, &owner, sealed.clone()).unwrap();
        assert_eq!(moved.sealed, sealed.sealed, "the secret itself stays");
        let new = both.newest_only();
        assert_eq!(new.open(&owner, &moved), Ok(secret));
        let master = old.ids().remove(0);
        assert_eq!(
            new.open(&owner, &sealed),
            Err(SecretError::UnknownKey {
                master: master.clone()
            })
        );
        assert!(matches!(
            old.open(&owner, &moved),
            Err(SecretError::UnknownKey { .. })
        ));
        // A wrong key under the right name does not open it either.
        let named = SealedSecret {
            master: new.ids().remove(0),
            ..sealed
        };
        assert_eq!(new.open(&owner, &named), Err(SecretError::Damaged));
    }
}
