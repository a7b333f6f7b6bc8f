//! The configuration file. Unknown keys are refused with their position.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use freehold_model::Rates;
use freehold_model::config::{ModelConfig, ProviderConfig, RehearsalConfig};
use freehold_sandbox::Isolation;
use serde::Deserialize;

use super::flags::{LogFormat, SandboxKind};
use super::isolation::{MicrovmTable, OciTable};
use crate::exit::Failure;

/// Greatest file, bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Everything a file can hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) model_url: Option<String>,
    pub(super) model_key_file: Option<PathBuf>,
    pub(super) bootstrap_key_file: Option<PathBuf>,
    pub(super) database_url: Option<String>,
    pub(super) database_password_file: Option<PathBuf>,
    pub(super) database_ca_file: Option<PathBuf>,
    pub(super) log: Log,
    pub(super) sandbox: Sandbox,
    pub(super) web: Web,
    pub(super) mcp: Mcp,
    pub(super) tunnels: Tunnels,
    pub(super) replicas: Replicas,
    pub(super) retry: Retry,
    pub(super) work: Work,
    pub(super) secrets: Secrets,
    pub(super) storage: Storage,
    pub(super) providers: Vec<ProviderConfig>,
    pub(super) models: Vec<ModelConfig>,
    pub(super) rehearsal: RehearsalConfig,
    pub(super) rates: Rates,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: Option<LogFormat>,
    pub(super) level: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sandbox {
    pub(super) provider: Option<SandboxKind>,
    pub(super) min_isolation: Option<Isolation>,
    pub(super) image: Option<PathBuf>,
    pub(super) memory_mib: Option<u32>,
    pub(super) pids: Option<u32>,
    pub(super) cpu_millis: Option<u32>,
    pub(super) tmp_mib: Option<u32>,
    pub(super) file_mib: Option<u32>,
    pub(super) disk_mib: Option<u32>,
    pub(super) disk_inodes: Option<u32>,
    pub(super) max_live: Option<u32>,
    pub(super) min_free_mib: Option<u32>,
    pub(super) idle_minutes: Option<u32>,
    pub(super) package_hosts: Vec<String>,
    pub(super) package_env: BTreeMap<String, String>,
    pub(super) oci: OciTable,
    pub(super) microvm: MicrovmTable,
    pub(super) log_network: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Web {
    pub(super) search_url: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mcp {
    pub(super) allow: Vec<String>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tunnels {
    pub(super) domain: Option<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) bandwidth_kib: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Replicas {
    pub(super) listen: Option<SocketAddr>,
    pub(super) address: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    pub(super) base_ms: Option<u32>,
    pub(super) max_ms: Option<u32>,
    pub(super) attempts: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Work {
    pub(super) lease_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Secrets {
    pub(super) key_env: Option<String>,
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Storage {
    pub(super) blobs: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) access_key_id: Option<String>,
    pub(super) secret_key_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

/// Reads a file.
///
/// # Errors
/// With the path, and the position inside it.
pub(super) fn read(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot read {shown}: {e}"));
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > MAX_FILE {
        return Err(Failure::usage(format!(
            "{shown} is larger than {MAX_FILE} bytes"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    parse(&text).map_err(|problem| {
        Failure::usage(format!("{shown}{problem}"))
            .hint("every key is described in docs/configuration.md")
    })
}

/// Parses a file's text; the error begins with its position.
pub(super) fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map_or(String::new(), |span| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            format!(":{line}:{column}")
        });
        format!("{place}: {}", error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_where_they_stand() {
        for (text, place) in [
            (
                "listen = \"127.0.0.1:1\"\nlistn = 3\n",
                ":2:1: unknown field `listn`",
            ),
            ("[sandbox]\nmemory = 1\n", ":2:1: unknown field `memory`"),
            (
                "[[models]]\nid='a'\nprovider='b'\nprize=1\n",
                ":4:1: unknown field `prize`",
            ),
            ("[rehearsal]\n  dely = 1\n", ":2:3: unknown field `dely`"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.starts_with(place), "{problem}");
        }
        let wrong = parse("[sandbox]\nprovider = \"docker\"\n").unwrap_err();
        assert!(
            wrong.starts_with(":2:12: unknown variant `docker`"),
            "{wrong}"
        );
    }

    /// The keys serde knows in the table that `prefix` opens.
    fn keys(prefix: &str) -> Vec<String> {
        let problem = parse(&format!("{prefix}\nno_such_key = 1\n")).unwrap_err();
        let (_, list) = problem.split_once("expected ").expect(&problem);
        list.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_documentation_names_every_key_and_no_other() {
        let doc = include_str!("../../../../docs/configuration.md");
        let mut documented: Vec<&str> = doc
            .lines()
            .filter_map(|l| l.strip_prefix("| `"))
            .filter_map(|l| l.split_once('`').map(|(key, _)| key))
            .filter(|key| !key.starts_with("--"))
            .filter(|key| key.chars().any(|c| c.is_ascii_lowercase()))
            .collect();
        let mut actual = Vec::new();
        let provider = "[[providers]]\nname='a'\ntype='chat'\nbase_url='b'";
        let model = "[[models]]\nid='a'\nprovider='b'";
        for (table, prefix) in [
            ("", ""),
            ("log.", "[log]"),
            ("sandbox.", "[sandbox]"),
            ("sandbox.oci.", "[sandbox.oci]"),
            ("sandbox.microvm.", "[sandbox.microvm]"),
            ("web.", "[web]"),
            ("mcp.", "[mcp]"),
            ("tunnels.", "[tunnels]"),
            ("replicas.", "[replicas]"),
            ("retry.", "[retry]"),
            ("work.", "[work]"),
            ("secrets.", "[secrets]"),
            ("storage.", "[storage]"),
            ("rehearsal.", "[rehearsal]"),
            ("rates.", "[rates]"),
            ("providers.", provider),
            (
                "providers.timeouts.",
                &format!("{provider}\n[providers.timeouts]"),
            ),
            ("models.", model),
            ("models.supports.", &format!("{model}\n[models.supports]")),
            (
                "models.price.",
                &format!("{model}\n[models.price]\ninput=1\noutput=1"),
            ),
        ] {
            actual.extend(keys(prefix).into_iter().map(|k| format!("{table}{k}")));
        }
        // Tables stand as their keys; the price of the rehearsal model is a price like any other.
        let tables = [
            "log",
            "sandbox",
            "sandbox.oci",
            "sandbox.microvm",
            "web",
            "mcp",
            "tunnels",
            "replicas",
            "retry",
            "work",
            "secrets",
            "storage",
            "rehearsal",
            "rates",
            "providers",
            "models",
            "providers.timeouts",
            "models.supports",
            "models.price",
        ];
        actual.retain(|k| !tables.contains(&k.as_str()));
        actual.sort();
        documented.sort_unstable();
        assert_eq!(documented, actual);
    }

    #[test]
    fn the_example_in_the_documentation_is_valid() {
        let doc = include_str!("../../../../docs/configuration.md");
        let examples = doc.split("```toml\n").skip(1);
        let mut examples: Vec<&str> = examples.filter_map(|e| e.split("```").next()).collect();
        assert!(!examples.is_empty());
        examples.push(include_str!("../../../../deploy/freehold.toml"));
        examples.push(include_str!("../../../../deploy/compose/freehold.toml"));
        for text in examples {
            let file = parse(text).unwrap();
            super::super::settings::Settings::from_parts(&Default::default(), file).unwrap();
        }
    }
}
