//! The command lines of the machine's monitor and of the file server beside it.

use std::path::Path;

use super::{Accelerator, MicrovmConfig};
use crate::Limits;
use crate::launch::guest::TREE_TAG;
use crate::launch::plan::{Command, Input};

/// Memory the monitor, the file server and translated code take beside the machine's, bytes.
pub(super) const OVERHEAD: u64 = 512 << 20;
/// Threads they take.
pub(super) const OVERHEAD_TASKS: u32 = 128;
/// Translated code kept by emulation, MiB.
const TRANSLATED_MIB: u32 = 128;

/// Serves the tree to the machine.
pub(super) fn file_server(config: &MicrovmConfig, tree: &Path, socket: &Path) -> Command {
    let args = [
        "--fd=0",
        "-o",
        &format!("source={}", tree.display()),
        // Files change from outside while the machine lives.
        "-o",
        "cache=none",
        // The tree is the only thing in reach of its mount namespace that is not the host's
        // read-only, and it has no network and no privilege over the host: what remains is to
        // keep it inside the tree.
        "-o",
        "sandbox=chroot",
        "-o",
        "no_posix_lock",
    ];
    Command {
        program: config.file_server.clone(),
        args: args.map(String::from).to_vec(),
        input: Input::Listener(socket.to_owned()),
    }
}

/// Runs the machine.
pub(super) fn monitor(
    config: &MicrovmConfig,
    initramfs: &Path,
    socket: &Path,
    limits: &Limits,
) -> Command {
    let mib = limits.memory_bytes >> 20;
    let cpus = limits.cpu_millis.div_ceil(1000).max(1);
    let (accelerator, cpu) = match config.accelerator {
        Accelerator::Kvm => ("kvm".to_owned(), "host"),
        Accelerator::Tcg => (format!("tcg,tb-size={TRANSLATED_MIB}"), "max"),
    };
    let args = [
        "-machine".to_owned(),
        "microvm,acpi=on,pcie=off,rtc=on,pit=off,pic=off,isa-serial=off,memory-backend=memory"
            .to_owned(),
        "-accel".to_owned(),
        accelerator,
        "-cpu".to_owned(),
        cpu.to_owned(),
        "-smp".to_owned(),
        cpus.to_string(),
        "-m".to_owned(),
        format!("{mib}M"),
        "-object".to_owned(),
        format!("memory-backend-memfd,id=memory,size={mib}M,share=on"),
        // The file server speaks the current form of virtio only.
        "-global".to_owned(),
        "virtio-mmio.force-legacy=false".to_owned(),
        "-nodefaults".to_owned(),
        "-no-user-config".to_owned(),
        "-display".to_owned(),
        "none".to_owned(),
        "-no-reboot".to_owned(),
        "-sandbox".to_owned(),
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned(),
        "-kernel".to_owned(),
        config.kernel.to_string_lossy().into_owned(),
        "-initrd".to_owned(),
        initramfs.to_string_lossy().into_owned(),
        "-append".to_owned(),
        command_line(config.accelerator, &config.launcher.args),
        "-chardev".to_owned(),
        format!("socket,id=tree,path={}", socket.display()),
        "-device".to_owned(),
        format!("vhost-user-fs-device,chardev=tree,tag={TREE_TAG}"),
        "-chardev".to_owned(),
        "socket,id=control,fd=0".to_owned(),
        "-device".to_owned(),
        "virtio-serial-device".to_owned(),
        "-device".to_owned(),
        "virtserialport,chardev=control,name=control".to_owned(),
    ];
    Command {
        program: config.monitor.clone(),
        args: args.to_vec(),
        input: Input::Control,
    }
}

/// A panic is a reboot, and a reboot is the end; words after `--` are the first process's. An
/// emulated machine of this kind has no clock to measure its counter by and must be told.
fn command_line(accelerator: Accelerator, args: &[String]) -> String {
    let clock = match (accelerator, counter_khz()) {
        (Accelerator::Tcg, Some(khz)) => format!(" tsc_early_khz={khz}"),
        _ => String::new(),
    };
    format!(
        "quiet edd=off reboot=t panic=-1{clock} -- {}",
        args.join(" ")
    )
}

/// The rate of this processor's time stamp counter, which emulation passes on: about what
/// `/proc/cpuinfo` says.
fn counter_khz() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    Some((mhz * 1000.0) as u64)
}
