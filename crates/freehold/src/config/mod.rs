//! What the operator sets: flags before environment variables before the file before defaults.
//! Documented in `docs/configuration.md`; a test compares it with the types here.

mod file;
mod flags;
mod isolation;
mod keys;
mod replicas;
mod settings;
mod storage;
mod tunnels;

pub(crate) use flags::{LogFormat, SandboxKind, ServeFlags};
pub(crate) use keys::{bootstrap_key, model_key, place, provider_keys};
pub(crate) use settings::{McpSettings, SandboxSettings, Settings, sandbox_settings};
pub(crate) use storage::object_storage;
pub(crate) use tunnels::TunnelSettings;
