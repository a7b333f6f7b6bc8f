//! Vaults (contract 64 §1): named sets of credentials that sessions may use.

use freehold_base::{Timestamp, VaultId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ApiError;
use crate::agent::Metadata;
use crate::decode::{At, Decode, Object, text};
use crate::metadata::{self, MetadataPatch};
use crate::request::Request;

/// Characters of the name of a vault or credential.
pub(crate) const MAX_DISPLAY_NAME: usize = 255;

/// The constant `vault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultTag {
    /// `vault`.
    #[default]
    Vault,
}

/// A vault as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// `vlt_…`.
    pub id: VaultId,
    /// Always `vault`.
    pub r#type: VaultTag,
    /// 1 to 255 characters.
    pub display_name: String,
    /// Metadata.
    pub metadata: Metadata,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Everything of a vault that a request can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultData {
    display_name: String,
    metadata: Metadata,
}

impl VaultData {
    /// The vault with its identity and times.
    pub fn into_vault(self, id: VaultId, created_at: Timestamp, updated_at: Timestamp) -> Vault {
        Vault {
            id,
            r#type: VaultTag::Vault,
            display_name: self.display_name,
            metadata: self.metadata,
            created_at,
            updated_at,
            archived_at: None,
        }
    }
}

/// `POST /v1/vaults`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVault(VaultData);

impl Request for CreateVault {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let data = VaultData {
            display_name: o.required("display_name", text(1, MAX_DISPLAY_NAME))?,
            metadata: o.present("metadata", metadata::bag)?.unwrap_or_default(),
        };
        o.finish()?;
        Ok(Self(data))
    }
}

impl CreateVault {
    /// The vault asked for.
    pub fn into_data(self) -> VaultData {
        self.0
    }
}

/// `POST /v1/vaults/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateVault {
    display_name: Option<String>,
    metadata: Option<MetadataPatch>,
}

impl Request for UpdateVault {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            display_name: o.optional("display_name", text(1, MAX_DISPLAY_NAME))?,
            metadata: o.optional("metadata", metadata::patch)?,
        };
        o.finish()?;
        Ok(request)
    }
}

impl UpdateVault {
    /// The stored vault with this change, or `None` when nothing would change.
    ///
    /// # Errors
    /// It is archived, or the result breaks a rule.
    pub fn resolve(self, stored: &Vault) -> Decode<Option<VaultData>> {
        if stored.archived_at.is_some() {
            return Err(archived(&stored.id));
        }
        let before = VaultData {
            display_name: stored.display_name.clone(),
            metadata: stored.metadata.clone(),
        };
        let mut after = before.clone();
        if let Some(name) = self.display_name {
            after.display_name = name;
        }
        if let Some(patch) = self.metadata {
            after.metadata = patch.apply(&stored.metadata)?;
        }
        Ok((after != before).then_some(after))
    }
}

/// The refusal to change an archived vault, or what is in it, or to use it.
pub fn archived(id: &VaultId) -> ApiError {
    ApiError::invalid(format!(
        "Vault `{id}` is archived and cannot be changed or used."
    ))
    .with_code("vault_archived")
}
