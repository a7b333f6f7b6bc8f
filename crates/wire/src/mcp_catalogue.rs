//! What a workspace says of an MCP server's tools: classes, states, and which classes must be
//! confirmed. Our own, not of the contract.

use serde::{Deserialize, Serialize};

/// How much harm a tool can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolClass {
    /// Changes nothing.
    Read,
    /// Changes something.
    Write,
    /// Destroys, or decides over others.
    Admin,
}

impl ToolClass {
    /// Every class with its name, mildest first.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("read", Self::Read),
        ("write", Self::Write),
        ("admin", Self::Admin),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The class of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, class)| *class)
    }
}

/// Where a tool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolState {
    /// The server serves the definition that an operator approved.
    Approved,
    /// Nobody has decided over it, and it was never different.
    New,
    /// The server serves another definition than before, and nobody has decided over that.
    Changed,
    /// The server no longer lists it.
    Removed,
    /// An operator refused the definition that the server serves.
    Refused,
    /// An operator took it out of use, whatever its definition.
    Deprecated,
}

impl ToolState {
    /// Every state with its name.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("approved", Self::Approved),
        ("new", Self::New),
        ("changed", Self::Changed),
        ("removed", Self::Removed),
        ("refused", Self::Refused),
        ("deprecated", Self::Deprecated),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        let own = Self::NAMES.iter().find(|(_, state)| *state == self);
        own.map_or("", |(name, _)| *name) // Every state is named.
    }
}
