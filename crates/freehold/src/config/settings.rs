//! What is in force, after flags, environment, file and defaults have been put together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_base::Secret;
use freehold_base::limits;
use freehold_base::net::Exception;
use freehold_engine::Backoff;
use freehold_model::CatalogConfig;
use freehold_sandbox::{HostPattern, Isolation, Limits, Runtime};

use super::file::{self, File};
use super::flags::{LogFormat, SandboxKind, ServeFlags};
use super::isolation::MicrovmSettings;
use super::replicas::ReplicaSettings;
use super::storage::StorageSettings;
use super::tunnels::TunnelSettings;
use crate::environment;
use crate::exit::Failure;

/// The settings of a server.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    /// Absolute.
    pub(crate) data_dir: PathBuf,
    pub(crate) model_url: Option<String>,
    pub(crate) model_key_file: Option<PathBuf>,
    pub(crate) bootstrap_key_file: Option<PathBuf>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) sandbox: SandboxSettings,
    pub(crate) mcp: McpSettings,
    pub(crate) tunnels: TunnelSettings,
    pub(crate) replicas: ReplicaSettings,
    pub(crate) search_url: Option<String>,
    pub(crate) backoff: Backoff,
    /// Of work items, unless their workers ask for another.
    pub(crate) lease_seconds: u64,
    pub(crate) master_keys: MasterKeys,
    pub(crate) database: DatabaseSettings,
    /// Object storage for blobs. None: they are in the data directory.
    pub(crate) storage: Option<StorageSettings>,
    pub(crate) catalog: CatalogConfig,
}

/// Where the master keys of secrets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MasterKeys {
    /// In a file of the data directory that the server makes itself.
    Own,
    /// In a file of the operator's.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// Settings of the connector to MCP servers.
#[derive(Debug, Clone)]
pub(crate) struct McpSettings {
    /// Reached although not public, or without TLS.
    pub(crate) allow: Vec<Exception>,
    /// PEM file of further certificate authorities.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where PostgreSQL is; without a URL, here and in the environment, the database is SQLite.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseSettings {
    pub(crate) url: Option<Secret<String>>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
}

/// Settings of sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct SandboxSettings {
    pub(crate) kind: SandboxKind,
    pub(crate) min_isolation: Isolation,
    pub(crate) image: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) max_live: usize,
    pub(crate) idle: Duration,
    /// Bytes of the data disk that stay free.
    pub(crate) min_free: u64,
    pub(crate) package_hosts: Vec<HostPattern>,
    pub(crate) package_env: Vec<(String, String)>,
    pub(crate) oci: Runtime,
    pub(crate) microvm: MicrovmSettings,
    pub(crate) log_network: bool,
}

/// Of the data disk, what sandboxes leave free: more than the database takes in hours, and than one
/// sandbox can have in memory, still to be written.
const MIN_FREE: u64 = 2 << 30;
/// Hosts of package managers that can be listed.
const MAX_PACKAGE_HOSTS: usize = 200;
/// Retries beyond this would outlast any client.
const MAX_ATTEMPTS: u32 = 20;

impl Settings {
    /// Reads the file the flags name, if any, and puts everything together.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(crate) fn load(flags: &ServeFlags) -> Result<Self, Failure> {
        let file = flags.config.as_deref().map(file::read).transpose()?;
        Self::from_parts(flags, file.unwrap_or_default())
    }

    pub(super) fn from_parts(flags: &ServeFlags, file: File) -> Result<Self, Failure> {
        let data_dir = match flags.data_dir.clone().or(file.data_dir) {
            Some(dir) => dir,
            None => default_data_dir()?,
        };
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|e| Failure::usage(format!("data directory {}: {e}", data_dir.display())))?;
        let mut rehearsal = file.rehearsal;
        rehearsal.delay_ms = flags.rehearsal_delay_ms.unwrap_or(rehearsal.delay_ms);
        let settings = Self {
            listen: flags
                .listen
                .or(file.listen)
                .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 8787).into()),
            data_dir,
            model_url: flags
                .model_url
                .clone()
                .or(file.model_url)
                .filter(|u| !u.is_empty()),
            model_key_file: file.model_key_file,
            bootstrap_key_file: file.bootstrap_key_file,
            log_format: flags
                .log_format
                .or(file.log.format)
                .unwrap_or(LogFormat::Human),
            log_level: flags
                .log_level
                .clone()
                .or(file.log.level)
                .unwrap_or_else(|| "info".into()),
            sandbox: sandbox(flags.sandbox, file.sandbox)?,
            mcp: mcp(file.mcp)?,
            tunnels: file.tunnels.settings()?,
            replicas: file.replicas.settings()?,
            search_url: flags
                .search_url
                .clone()
                .or(file.web.search_url)
                .filter(|u| !u.is_empty()),
            backoff: backoff(flags.retry_base_ms, &file.retry)?,
            lease_seconds: lease(&file.work)?,
            master_keys: master_keys(file.secrets)?,
            database: DatabaseSettings {
                url: file.database_url.map(Secret::new),
                password_file: file.database_password_file,
                ca_file: file.database_ca_file,
            },
            storage: file.storage.settings(flags.blobs.clone())?,
            catalog: CatalogConfig {
                providers: file.providers,
                models: file.models,
                rehearsal,
                rates: file.rates,
            },
        };
        settings
            .catalog
            .check()
            .map_err(|e| Failure::usage(e.to_string()))?;
        Ok(settings)
    }

    /// Where content on its way to object storage is received.
    pub(crate) fn spool(&self) -> PathBuf {
        self.data_dir.join("spool")
    }

    /// Where sandboxes keep their files.
    pub(crate) fn sandbox_root(&self) -> PathBuf {
        self.data_dir.join("sandboxes")
    }
}

fn master_keys(file: file::Secrets) -> Result<MasterKeys, Failure> {
    match (file.key_env, file.key_file) {
        (None, None) => Ok(MasterKeys::Own),
        (Some(name), None) => Ok(MasterKeys::Variable(name)),
        (None, Some(path)) => Ok(MasterKeys::File(path)),
        (Some(_), Some(_)) => Err(Failure::usage(
            "secrets: key_env and key_file cannot both be set",
        )),
    }
}

/// The settings of sandboxes alone, for a worker: flags before the file before defaults.
///
/// # Errors
/// Names the setting that cannot be used.
pub(crate) fn sandbox_settings(
    config: Option<&Path>,
    kind: Option<SandboxKind>,
    min_isolation: Option<Isolation>,
) -> Result<SandboxSettings, Failure> {
    let mut file = config
        .map(file::read)
        .transpose()?
        .unwrap_or_default()
        .sandbox;
    file.min_isolation = min_isolation.or(file.min_isolation);
    sandbox(kind, file)
}

fn mcp(file: file::Mcp) -> Result<McpSettings, Failure> {
    let allowed = |(i, text): (usize, &String)| {
        let wrong = |why| Failure::usage(format!("mcp.allow[{i}]: '{text}': {why}"));
        text.parse().map_err(wrong)
    };
    Ok(McpSettings {
        allow: file
            .allow
            .iter()
            .enumerate()
            .map(allowed)
            .collect::<Result<_, _>>()?,
        ca_file: file.ca_file,
    })
}

fn sandbox(kind: Option<SandboxKind>, file: file::Sandbox) -> Result<SandboxSettings, Failure> {
    let mib = |given: Option<u32>, default: u64| given.map_or(default, |m| u64::from(m) << 20);
    let default = Limits::default();
    let limits = Limits {
        memory_bytes: mib(file.memory_mib, default.memory_bytes),
        pids: file.pids.unwrap_or(default.pids),
        cpu_millis: file.cpu_millis.unwrap_or(default.cpu_millis),
        tmp_bytes: mib(file.tmp_mib, default.tmp_bytes),
        file_bytes: mib(file.file_mib, default.file_bytes),
        disk_bytes: mib(file.disk_mib, default.disk_bytes),
        disk_inodes: file.disk_inodes.map_or(default.disk_inodes, u64::from),
    };
    let wrong = |key: &str, what: &str| Err(Failure::usage(format!("sandbox.{key}: {what}")));
    if limits.memory_bytes < 64 << 20 {
        return wrong("memory_mib", "must be at least 64");
    }
    if limits.tmp_bytes == 0 || limits.file_bytes == 0 {
        return wrong("tmp_mib", "sizes must be above zero");
    }
    if limits.pids < 16 || limits.cpu_millis < 10 {
        return wrong(
            "pids",
            "at least 16 tasks and 10 thousandths of a core are needed",
        );
    }
    if limits.disk_bytes < 16 << 20 || limits.disk_inodes < 256 {
        return wrong("disk_mib", "at least 16 MiB and 256 files are needed");
    }
    let max_live = file.max_live.unwrap_or(64);
    let idle_minutes = file.idle_minutes.unwrap_or(30);
    if max_live == 0 || idle_minutes == 0 {
        return wrong("max_live", "max_live and idle_minutes must be above zero");
    }
    if file.package_hosts.len() > MAX_PACKAGE_HOSTS {
        return wrong("package_hosts", "must have at most 200 entries");
    }
    let mut package_hosts = Vec::new();
    for (i, host) in file.package_hosts.iter().enumerate() {
        match host.parse() {
            Ok(pattern) => package_hosts.push(pattern),
            Err(e) => return wrong(&format!("package_hosts[{i}]"), &format!("{e}")),
        }
    }
    let package_env: Vec<(String, String)> = file.package_env.into_iter().collect();
    let usable = |(name, value): &(String, String)| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
    };
    if !package_env.iter().all(usable) {
        return wrong("package_env", "names must not be empty or hold '='");
    }
    let kind = kind.or(file.provider).unwrap_or(SandboxKind::Namespaces);
    let min_isolation = match kind {
        SandboxKind::Namespaces | SandboxKind::Oci => {
            file.min_isolation.unwrap_or(Isolation::Namespaces)
        }
        SandboxKind::Microvm => file.min_isolation.unwrap_or(Isolation::Microvm),
        SandboxKind::Process => Isolation::None,
    };
    Ok(SandboxSettings {
        kind,
        min_isolation,
        image: file.image,
        limits,
        max_live: max_live as usize,
        idle: Duration::from_secs(u64::from(idle_minutes) * 60),
        min_free: mib(file.min_free_mib, MIN_FREE),
        package_hosts,
        package_env,
        oci: file.oci.runtime()?,
        microvm: file.microvm.settings(),
        log_network: file.log_network,
    })
}

fn backoff(base_ms: Option<u32>, file: &file::Retry) -> Result<Backoff, Failure> {
    let attempts = file
        .attempts
        .unwrap_or(freehold_base::limits::MAX_MODEL_ATTEMPTS);
    if !(1..=MAX_ATTEMPTS).contains(&attempts) {
        return Err(Failure::usage(format!(
            "retry.attempts: must be 1 to {MAX_ATTEMPTS}"
        )));
    }
    let base_ms = base_ms.or(file.base_ms).unwrap_or(1_000);
    let max_ms = file.max_ms.unwrap_or(60_000).max(base_ms);
    Ok(Backoff {
        base_ms: base_ms.into(),
        max_ms: max_ms.into(),
        attempts,
    })
}

fn lease(file: &file::Work) -> Result<u64, Failure> {
    let (least, default, greatest) = limits::WORK_LEASE_SECONDS;
    let seconds = file.lease_seconds.unwrap_or(default);
    if !(least..=greatest).contains(&seconds) {
        return Err(Failure::usage(format!(
            "work.lease_seconds: must be {least} to {greatest}"
        )));
    }
    Ok(seconds)
}

/// `$XDG_DATA_HOME/freehold`, else `~/.local/share/freehold`, else `/var/lib/freehold`.
///
/// # Errors
/// A variable is not UTF-8.
fn default_data_dir() -> Result<PathBuf, Failure> {
    let base = match environment::variable("XDG_DATA_HOME")? {
        Some(dir) if Path::new(&dir).is_absolute() => Some(PathBuf::from(dir)),
        _ => environment::variable("HOME")?.map(|home| Path::new(&home).join(".local/share")),
    };
    Ok(base
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("freehold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: ServeFlags, text: &str) -> Result<Settings, Failure> {
        Settings::from_parts(&flags, file::parse(text).unwrap())
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let text = "listen = '127.0.0.1:1'\ndata_dir = '/file'\n[sandbox]\nprovider = 'process'\n\
                    [rehearsal]\ndelay_ms = 7\n[retry]\nbase_ms = 3\nattempts = 2\n";
        let from_file = settings(ServeFlags::default(), text).unwrap();
        assert_eq!(from_file.listen.port(), 1);
        assert_eq!(from_file.data_dir, Path::new("/file"));
        assert_eq!(from_file.sandbox.kind, SandboxKind::Process);
        assert_eq!(from_file.catalog.rehearsal.delay_ms, 7);
        assert_eq!(
            (from_file.backoff.base_ms, from_file.backoff.attempts),
            (3, 2)
        );
        let flags = ServeFlags {
            listen: Some("127.0.0.1:2".parse().unwrap()),
            data_dir: Some("/flag".into()),
            sandbox: Some(SandboxKind::Namespaces),
            rehearsal_delay_ms: Some(0),
            retry_base_ms: Some(9),
            ..ServeFlags::default()
        };
        let from_flags = settings(flags, text).unwrap();
        assert_eq!(from_flags.listen.port(), 2);
        assert_eq!(from_flags.data_dir, Path::new("/flag"));
        assert_eq!(from_flags.sandbox.kind, SandboxKind::Namespaces);
        assert_eq!(from_flags.catalog.rehearsal.delay_ms, 0);
        assert_eq!(from_flags.backoff.base_ms, 9);
        let defaults = settings(
            ServeFlags {
                data_dir: Some("/d".into()),
                ..ServeFlags::default()
            },
            "",
        )
        .unwrap();
        assert_eq!(defaults.listen.to_string(), "127.0.0.1:8787");
        assert_eq!(defaults.sandbox.kind, SandboxKind::Namespaces);
        assert_eq!(defaults.sandbox.min_isolation, Isolation::Namespaces);
        assert!(defaults.sandbox.package_hosts.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, part) in [
            ("[sandbox]\nmemory_mib = 1", "sandbox.memory_mib"),
            (
                "[sandbox]\npackage_hosts = ['https://x']",
                "sandbox.package_hosts[0]",
            ),
            ("[sandbox.package_env]\n'A=B' = 'x'", "sandbox.package_env"),
            ("[sandbox]\nmax_live = 0", "sandbox.max_live"),
            ("[sandbox.oci]\nruntime = 'youki'", "sandbox.oci.runtime"),
            ("[retry]\nattempts = 0", "retry.attempts"),
            ("[replicas]\naddress = '10.0.0.7'", "replicas.address"),
            ("[replicas]\naddress = 'a:0'", "replicas.address"),
            ("[tunnels]\ndomain = 'localhost'", "tunnels.domain"),
            ("[tunnels]\ndomain = 'Tunnel.example'", "tunnels.domain"),
            ("[tunnels]\ndomain = 'a..example'", "tunnels.domain"),
            ("[tunnels]\ndomain = '10.0.0.1'", "tunnels.domain"),
            ("[tunnels]\nkey = 'a'", "tunnels.certificate"),
            ("[tunnels]\nbandwidth_kib = 63", "tunnels.bandwidth_kib"),
            ("[work]\nlease_seconds = 4", "work.lease_seconds"),
            (
                "[secrets]\nkey_env = 'A'\nkey_file = 'b'",
                "secrets: key_env and key_file",
            ),
            ("[storage]\nblobs = '/var/blobs'", "storage.blobs"),
            ("[storage]\nblobs = 's3://'", "storage.blobs"),
            ("[storage]\nblobs = 's3://Bucket'", "storage.blobs"),
            ("[storage]\nblobs = 's3://bucket/a//b'", "storage.blobs"),
            ("[storage]\nblobs = 's3://bucket/../b'", "storage.blobs"),
            (
                "[storage]\nblobs = 's3://bucket'\nendpoint = 'http://me:pw@host'",
                "storage.endpoint",
            ),
            (
                "[storage]\nblobs = 's3://bucket'\nendpoint = 'ftp://host'",
                "storage.endpoint",
            ),
            (
                "[[models]]\nid = 'a'\nprovider = 'none'",
                "models[0].provider",
            ),
        ] {
            let failure = settings(ServeFlags::default(), text).unwrap_err();
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }
}
