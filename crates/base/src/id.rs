//! Prefixed ids (contract 00 §7): a kind prefix and 26 characters of base 32 that hold 48 bits of
//! milliseconds and 80 random bits, so ids of one kind sort by creation time. Opaque to clients.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A kind of resource; its prefix includes no underscore.
pub trait Kind: Send + Sync + 'static {
    /// For example `sesn`.
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $alias:ident;)*) => {
        /// Marker types, one for each kind of id.
        pub mod kind {
            $($(#[$doc])* #[derive(Debug, Clone, Copy)] pub enum $name {}
              impl super::Kind for $name { const PREFIX: &'static str = $prefix; })*
        }
        $($(#[$doc])* pub type $alias = Id<kind::$name>;)*
    };
}

kinds! {
    /// An organization.
    Organization = "org", OrganizationId;
    /// A workspace.
    Workspace = "wrkspc", WorkspaceId;
    /// An API key's row (not the key).
    ApiKey = "apikey", ApiKeyId;
    /// An agent.
    Agent = "agent", AgentId;
    /// An environment.
    Environment = "env", EnvironmentId;
    /// A session.
    Session = "sesn", SessionId;
    /// A session event.
    Event = "sevt", EventId;
    /// A session thread.
    Thread = "sthr", ThreadId;
    /// A resource attached to a session.
    SessionResource = "sesrsc", SessionResourceId;
    /// An outcome.
    Outcome = "outc", OutcomeId;
    /// A file.
    File = "file", FileId;
    /// A request.
    Request = "req", RequestId;
    /// A message of `POST /v1/messages`.
    Message = "msg", MessageId;
    /// A client-side tool use block of a message.
    ToolUse = "toolu", ToolUseId;
    /// A server process, random for each start.
    Replica = "repl", ReplicaId;
    /// An MCP tunnel.
    Tunnel = "tnl", TunnelId;
    /// One value of a tunnel's token (not the token).
    TunnelToken = "ttok", TunnelTokenId;
    /// A certificate authority that a tunnel trusts.
    TunnelCertificate = "tcrt", TunnelCertificateId;
    /// A call of an MCP tool in a message of `POST /v1/messages`.
    McpToolUse = "mcptoolu", McpToolUseId;
    /// A workspace's record of an MCP server's tools.
    McpServer = "mcpsrv", McpServerId;
    /// An entry of the record of what was asked of MCP servers.
    McpAudit = "mcpaud", McpAuditId;
    /// An item of an environment's work queue.
    Work = "work", WorkId;
    /// An environment key's row (not the key).
    EnvironmentKey = "envkey", EnvironmentKeyId;
    /// A skill.
    Skill = "skill", SkillId;
    /// A version of a skill.
    SkillVersion = "skver", SkillVersionId;
    /// A memory store.
    MemoryStore = "memstore", MemoryStoreId;
    /// A memory.
    Memory = "mem", MemoryId;
    /// A version of a memory.
    MemoryVersion = "memver", MemoryVersionId;
    /// A vault.
    Vault = "vlt", VaultId;
    /// A credential of a vault.
    Credential = "vcrd", CredentialId;
}

/// An id of kind `K`. Cheap to clone; compares and hashes as its text.
pub struct Id<K> {
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// The prefix that was expected.
    pub expected: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid id: expected the form {}_…", self.expected)
    }
}
impl std::error::Error for InvalidId {}

/// Longest accepted text after the prefix; ours are 26, foreign ones may differ.
const MAX_BODY: usize = 64;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl<K: Kind> Id<K> {
    /// Builds the id for a time and ten random bytes.
    pub fn from_parts(millis: u64, random: [u8; 10]) -> Self {
        let mut bits = [0u8; 16];
        bits[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bits[6..].copy_from_slice(&random);
        let mut value = u128::from_be_bytes(bits);
        let mut body = [0u8; 26];
        for slot in body.iter_mut().rev() {
            *slot = ALPHABET[(value & 31) as usize];
            value >>= 5;
        }
        let body = std::str::from_utf8(&body).unwrap_or_default();
        Self::wrap(&format!("{}_{body}", K::PREFIX))
    }
    fn wrap(text: &str) -> Self {
        Self {
            text: text.into(),
            kind: PhantomData,
        }
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;
    /// Accepts `PREFIX_` and 1 to 64 ASCII letters or digits.
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let body = s.strip_prefix(K::PREFIX).and_then(|r| r.strip_prefix('_'));
        match body {
            Some(b)
                if (1..=MAX_BODY).contains(&b.len())
                    && b.bytes().all(|c| c.is_ascii_alphanumeric()) =>
            {
                Ok(Self::wrap(s))
            }
            _ => Err(InvalidId {
                expected: K::PREFIX,
            }),
        }
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            kind: PhantomData,
        }
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, h: &mut H) {
        self.text.hash(h);
    }
}
impl<K> AsRef<str> for Id<K> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}
impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_time_and_parses_back() {
        let a = SessionId::from_parts(1, [255; 10]);
        let b = SessionId::from_parts(2, [0; 10]);
        assert!(a < b);
        assert_eq!(a.as_str().parse::<SessionId>().unwrap(), a);
        assert!(a.as_str().parse::<EventId>().is_err());
        for bad in [
            "sesn_",
            "sesn_a/b",
            "sesn_\u{e9}",
            "sesn",
            "SESN_a",
            "sesn_a b",
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
