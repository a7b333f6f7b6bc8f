//! Everything durable: the event log, the inbox, the leases and the work queue; agents,
//! environments, sessions, files, skills and memories; vaults with their secrets; tunnels; workspaces
//! and keys; and the bytes of files. Start at [`Store`]; the log's rules are in
//! [`log`].
//!
//! One set of noun files in portable SQL over the small [`backend`] trait; `sqlite` is the backend.
//! All list methods return up to `limit + 1` rows, so that a caller can tell whether there is more.
//! Everything but the log is filtered by workspace in SQL; the log's callers have found the session
//! in its workspace before.

pub mod agents;
pub mod backend;
pub mod backup;
pub mod blob;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod credentials;
mod data_dir;
mod due;
pub mod environment_keys;
pub mod environments;
mod error;
pub mod files;
pub mod gc;
pub mod history;
mod job;
pub mod keys;
pub mod log;
pub mod mcp_audit;
pub mod mcp_servers;
pub mod memories;
pub mod memory_stores;
pub mod memory_versions;
mod migrate;
pub mod outputs;
mod peers;
pub mod postgres;
mod reading;
pub mod resources;
pub mod sandboxes;
mod schema;
pub mod secrets;
pub mod sessions;
pub mod skills;
mod sql;
pub mod sqlite;
mod store;
mod together;
pub mod traces;
pub mod transfer;
pub mod tunnels;
pub mod vaults;
pub mod work;
pub mod workspaces;

pub use agents::{AgentQuery, AgentRow, NewAgent, UpdateAgentError};
pub use blob::{
    Blob, BlobError, BlobPin, BlobStore, Blobs, LocalBlobs, ObjectBlobs, ObjectStorage,
    StorageCause,
};
pub use credentials::{CredentialKind, CredentialRow, KeyId};
pub use environment_keys::{EnvironmentKeyRow, NewEnvironmentKey};
pub use environments::{
    DeleteEnvironmentError, EnvironmentChange, EnvironmentQuery, EnvironmentRow, NewEnvironment,
    UpdateEnvironmentError,
};
pub use error::{DatabaseFailure, StoreError};
pub use files::{FileQuery, FileRow, NewFile};
pub use gc::Collected;
pub use history::{Checked, HistoryAudit, Standing};
pub use keys::{ApiKeyRow, KeyScope, NewApiKey};
pub use log::{
    AcceptError, Accepted, Append, AppendError, Appended, Claim, EventQuery, Inbox, InboxItem,
    Input, Listed, NewEvent, StoredEvent, Then,
};
pub use mcp_audit::{McpAuditQuery, McpAuditRow, NewMcpAudit};
pub use mcp_servers::{
    DecideError, McpServerQuery, McpServerRow, McpToolRow, McpToolVersionRow, ObserveError,
    SeenTool, ServerChange, ToolDecision,
};
pub use memories::{
    MemoryChange, MemoryEntry, MemoryQuery, MemoryRemoval, MemoryRow, NewMemory, WriteMemoryError,
};
pub use memory_stores::{
    AttachedMemoryStore, MemoryStoreQuery, MemoryStoreRow, NewMemoryStore, UpdateMemoryStoreError,
};
pub use memory_versions::{MemoryVersionQuery, MemoryVersionRow, RedactError};
pub use migrate::MigrationStep;
pub use outputs::{NewOutput, OutputError};
pub use peers::Peer;
pub use resources::{FileCopy, NewResource, ResourceError, ResourceRow};
pub use sandboxes::{EnterSandboxError, SandboxFiles, SavedFiles};
pub use secrets::{Keyring, KeyringError, RotateError, SecretError};
pub use sessions::{
    ArchiveError, CreateSessionError, DeleteSessionError, Direction, NewSession, SessionChange,
    SessionCursor, SessionQuery, SessionRow, UpdateSessionError,
};
pub use skills::{
    AddSkillVersionError, DeleteSkillVersionError, NewSkill, NewSkillVersion, SkillQuery, SkillRow,
    SkillVersionRow, VersionName,
};
pub use store::{CommitListener, NoListener, Place, Store};
pub use traces::{Kept, Trace, Traces};
pub use tunnels::certificates::{
    AddCertificateError, CertificateQuery, NewTunnelCertificate, TunnelCertificateRow,
};
pub use tunnels::{
    CreateTunnelError, NewTunnel, OpenTunnel, RevealError, RotateTokenError, TunnelQuery,
    TunnelRow, TunnelToken,
};
pub use vaults::credentials::{
    CreateCredentialError, CredentialChange, CredentialQuery, McpCredential, NewCredential,
    SessionCredential, UpdateCredentialError, VaultCredentialRow,
};
pub use vaults::{NewVault, UpdateVaultError, VaultQuery, VaultRow};
pub use work::{
    AckError, Beat, BeatError, NewBeat, NewPoll, QueueStats, StopError, WorkQuery, WorkRow,
};
pub use workspaces::{OrganizationRow, WorkspaceRow};
