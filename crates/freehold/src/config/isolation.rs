//! Settings of the providers that need something of the host: a runtime, a machine monitor.

use std::path::{Path, PathBuf};

use freehold_sandbox::{Accelerator, Runtime, RuntimeKind};
use serde::Deserialize;

use crate::exit::Failure;

/// The table `sandbox.oci`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OciTable {
    runtime: Option<String>,
}

/// The table `sandbox.microvm`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MicrovmTable {
    kernel: Option<PathBuf>,
    modules: Option<PathBuf>,
    qemu: Option<PathBuf>,
    virtiofsd: Option<PathBuf>,
    accelerator: Option<AcceleratorName>,
    allow_emulation: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AcceleratorName {
    Kvm,
    Tcg,
}

/// What the `microvm` provider needs of the host.
#[derive(Debug, Clone)]
pub(crate) struct MicrovmSettings {
    /// `None`: the setting is missing, and the provider will say so.
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) modules: Option<PathBuf>,
    pub(crate) qemu: PathBuf,
    pub(crate) virtiofsd: PathBuf,
    pub(crate) accelerator: Accelerator,
    pub(crate) allow_emulation: bool,
}

/// Where QEMU and virtiofsd usually are; the first is taken if neither exists.
const QEMU: [&str; 2] = [
    "/usr/bin/qemu-system-x86_64",
    "/usr/local/bin/qemu-system-x86_64",
];
const VIRTIOFSD: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/bin/virtiofsd",
];

impl OciTable {
    /// The runtime that is named, else the first that is found; runc's usual place if none is.
    pub(super) fn runtime(self) -> Result<Runtime, Failure> {
        let usual = |kind: RuntimeKind| {
            kind.find().unwrap_or_else(|| Runtime {
                kind,
                program: Path::new("/usr/bin").join(kind.name()),
            })
        };
        let Some(name) = self.runtime else {
            let found = [RuntimeKind::Runc, RuntimeKind::Crun];
            let found = found.into_iter().find_map(RuntimeKind::find);
            return Ok(found.unwrap_or_else(|| usual(RuntimeKind::Runc)));
        };
        let kind = RuntimeKind::ALL.into_iter().find(|k| k.name() == name);
        kind.map(usual)
            .or_else(|| Runtime::at(PathBuf::from(&name)))
            .ok_or_else(|| {
                Failure::usage(format!(
                    "sandbox.oci.runtime: '{name}' must be runc, crun, runsc, or the absolute path \
                     of a file named after one of them"
                ))
            })
    }
}

impl MicrovmTable {
    pub(super) fn settings(self) -> MicrovmSettings {
        let usual = |places: &[&str]| {
            let found = places.iter().find(|p| Path::new(p).is_file());
            PathBuf::from(found.unwrap_or(&places[0]))
        };
        MicrovmSettings {
            kernel: self.kernel,
            modules: self.modules,
            qemu: self.qemu.unwrap_or_else(|| usual(&QEMU)),
            virtiofsd: self.virtiofsd.unwrap_or_else(|| usual(&VIRTIOFSD)),
            accelerator: match self.accelerator {
                Some(AcceleratorName::Tcg) => Accelerator::Tcg,
                Some(AcceleratorName::Kvm) | None => Accelerator::Kvm,
            },
            allow_emulation: self.allow_emulation.unwrap_or(false),
        }
    }
}
