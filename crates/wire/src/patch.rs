//! The three states of a field in an update: left out, null, or a value.

use serde::{Deserialize, Deserializer};

/// A field of an update request. Use with `#[serde(default)]` so that an absent key is `Keep`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// The key was left out: the stored value stays.
    #[default]
    Keep,
    /// The key was null.
    Clear,
    /// The key had a value.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether the key was left out.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
    /// Applies the patch to an optional stored value.
    pub fn apply(self, stored: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *stored = None,
            Self::Set(v) => *stored = Some(v),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(d)?.map_or(Self::Clear, Self::Set))
    }
}
