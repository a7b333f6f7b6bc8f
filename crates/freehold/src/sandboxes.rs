//! Which sandbox provider, from the settings.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freehold_sandbox::egress::EgressConfig;
use freehold_sandbox::{
    Capabilities, Feature, Isolation, Launcher, MicrovmConfig, MicrovmProvider, NamespaceConfig,
    NamespaceProvider, OciConfig, OciProvider, PATH, ProcessConfig, ProcessProvider, Provider,
    Status,
};
use freehold_worker::local;

use crate::config::{SandboxKind, SandboxSettings};

/// How many sandboxes there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One or none: nothing is prepared ahead.
    One,
    Many,
}

/// The provider. `instance` tells its control groups from those of others on this host;
/// `probe_dir` is where it may try itself out.
pub(crate) fn provider(
    sandbox: &SandboxSettings,
    instance: String,
    probe_dir: PathBuf,
    expected: Expected,
) -> Arc<dyn Provider> {
    let launcher = Launcher {
        // Stays this very program when the file is replaced by a new version.
        program: PathBuf::from("/proc/self/exe"),
        args: vec![crate::SANDBOX_AGENT.to_owned()],
    };
    match sandbox.kind {
        SandboxKind::Namespaces => {
            let mut config = NamespaceConfig::new(launcher, instance, probe_dir);
            config.image = sandbox.image.clone();
            config.egress.log = sandbox.log_network;
            if expected == Expected::Many {
                config.prepare_ahead();
            }
            Arc::new(NamespaceProvider::new(config))
        }
        SandboxKind::Oci => Arc::new(OciProvider::new(OciConfig {
            runtime: sandbox.oci.clone(),
            launcher,
            run_dir: run_dir(&instance),
            instance,
            probe_dir,
            image: sandbox.image.clone(),
            egress: EgressConfig::default(),
        })),
        SandboxKind::Microvm => {
            let microvm = sandbox.microvm.clone();
            Arc::new(MicrovmProvider::new(MicrovmConfig {
                launcher,
                run_dir: run_dir(&instance),
                instance,
                probe_dir,
                image: sandbox.image.clone(),
                monitor: microvm.qemu,
                file_server: microvm.virtiofsd,
                kernel: microvm.kernel.unwrap_or_default(),
                modules: microvm.modules,
                accelerator: microvm.accelerator,
                allow_emulation: microvm.allow_emulation,
            }))
        }
        SandboxKind::Process => {
            let path = PATH.to_owned();
            Arc::new(ProcessProvider::new(ProcessConfig {
                launcher,
                path,
                probe_dir,
            }))
        }
    }
}

/// Where sandboxes made by other programs keep what lasts as long as they do. These providers need
/// root, so it is there to be made.
fn run_dir(instance: &str) -> PathBuf {
    Path::new("/run/freehold").join(instance)
}

/// A name for a data directory that no other directory of this host has, and that stays when the
/// server restarts.
///
/// # Errors
/// The directory cannot be looked at.
pub(crate) fn instance(data_dir: &Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(data_dir)?;
    Ok(format!("d{:x}_{:x}", meta.dev(), meta.ino()))
}

/// The options of sandboxes that keep their files in `root`.
pub(crate) fn options(sandbox: &SandboxSettings, root: PathBuf) -> local::Options {
    local::Options {
        root,
        limits: sandbox.limits,
        min_isolation: sandbox.min_isolation,
        max_live: sandbox.max_live,
        idle: sandbox.idle,
        min_free: sandbox.min_free,
        package_hosts: sandbox.package_hosts.clone(),
        package_env: sandbox.package_env.clone(),
        skills_at: freehold_worker::skills::IN_CLOUD,
    }
}

/// Why sessions that are to have the isolation cannot run on this host, if so, and what to do.
pub(crate) fn refusal(wanted: Isolation, found: &Capabilities) -> Option<String> {
    if found.works && found.isolation >= wanted {
        return None;
    }
    let weak = |f: &&Feature| f.remedy.is_some() || f.status == Status::Missing;
    let weak = found.features.iter().filter(weak);
    let why: Vec<String> = weak.map(|f| format!("{}: {}", f.name, f.detail)).collect();
    let what = if found.works {
        format!(
            "it offers isolation '{}' and '{wanted}' is required",
            found.isolation
        )
    } else {
        "a sandbox could not be started".to_owned()
    };
    Some(format!(
        "this host cannot isolate tools: {what} ({}); `freehold doctor` says how to mend it",
        why.join("; "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_missing_also_where_nobody_knows_a_remedy() {
        let found = Capabilities {
            provider: "namespaces",
            isolation: Isolation::None,
            works: false,
            features: vec![Feature {
                name: "sandbox start",
                status: Status::Missing,
                detail: "making a control group failed: no space".to_owned(),
                remedy: None,
            }],
            unsupported: Vec::new(),
        };
        let said = refusal(Isolation::Namespaces, &found).unwrap();
        assert!(said.contains("failed: no space"), "{said}");
    }
}
