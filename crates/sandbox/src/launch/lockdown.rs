//! Giving up ids, capabilities and resources for good.

use std::fs::File;
use std::io::{self, Write};

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid};

use super::plan::{AGENT, USER};
use crate::Limits;

/// Open files of one process.
const OPEN_FILES: u64 = 16_384;
/// Locked memory of one process, bytes.
const LOCKED: u64 = 8 << 20;

/// Takes on id 0 of the new namespace, which is an unprivileged id outside.
pub(super) fn become_inside_root() -> io::Result<()> {
    set_ids(0, 0)
}

/// The kernel's own limit on further user namespaces, a second line beside seccomp: without one, and
/// without capabilities, none of another kind can be made either. Opened while the host's `/proc` is
/// in reach, set when no more mounts are to be made. (Those of other kinds add nothing to it, and the
/// kernel finds each of these files by looking at those of all sandboxes.)
pub(super) struct NamespaceLimit(Option<File>);

impl NamespaceLimit {
    pub(super) fn open() -> Self {
        let path = "/proc/sys/user/max_user_namespaces";
        Self(File::options().write(true).open(path).ok())
    }

    /// Sets it to none; whether that took.
    pub(super) fn close(self) -> bool {
        self.0.is_some_and(|mut file| file.write_all(b"0").is_ok())
    }
}

/// A session keyring of its own, so that none of the server's is shared.
pub(super) fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    let error = io::Error::last_os_error();
    // A kernel without keyrings has none to share.
    if rc >= 0 || error.raw_os_error() == Some(libc::ENOSYS) {
        Ok(())
    } else {
        Err(error)
    }
}

/// Acts as the tools' user, if it is `root` now, with no capability left and no way to regain one.
/// Real and saved ids stay apart, so that programs, which have none but the tools' user's, cannot
/// signal the agent.
pub(super) fn give_up_ids(root: bool) -> io::Result<()> {
    rustix::thread::set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    drop_bounding_set()?;
    if root {
        rustix::thread::set_thread_groups(&[])?;
        set_ids(AGENT, USER)?;
    }
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Clears the calling process's capability sets.
pub(super) fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, none)?)
}

/// Removes every capability the kernel knows from the bounding set, also ones newer than this
/// program.
fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes a number and no pointer.
        let rc = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if rc != 0 {
            let error = io::Error::last_os_error();
            // The first number past the last capability.
            let past_the_end = error.raw_os_error() == Some(libc::EINVAL) && capability > 0;
            return if past_the_end { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Limits that hold for each process, or for the user inside, with the names OCI has for them.
pub(crate) fn resources(
    limits: &Limits,
    memory_by_rlimit: bool,
) -> Vec<(&'static str, Resource, u64)> {
    let mut all = vec![
        ("RLIMIT_CORE", Resource::Core, 0),
        ("RLIMIT_NOFILE", Resource::Nofile, OPEN_FILES),
        ("RLIMIT_MEMLOCK", Resource::Memlock, LOCKED),
        ("RLIMIT_FSIZE", Resource::Fsize, limits.file_bytes),
        ("RLIMIT_RTPRIO", Resource::Rtprio, 0),
        // Counts this namespace's user only; holds where there is no control group too.
        ("RLIMIT_NPROC", Resource::Nproc, u64::from(limits.pids)),
    ];
    if memory_by_rlimit {
        all.push(("RLIMIT_DATA", Resource::Data, limits.memory_bytes));
    }
    // A limit the server itself is under stays: raising it needs a privilege a sandbox has not.
    for (_, resource, wanted) in &mut all {
        let now = rustix::process::getrlimit(*resource).maximum;
        *wanted = (*wanted).min(now.unwrap_or(u64::MAX));
    }
    all
}

/// Sets the limits.
pub(super) fn limit(limits: &Limits, memory_by_rlimit: bool) -> io::Result<()> {
    for (_, resource, value) in resources(limits, memory_by_rlimit) {
        let value = Some(value);
        let limit = Rlimit {
            current: value,
            maximum: value,
        };
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Sets real and saved user, and the effective one, of the only thread; all groups to the latter's.
fn set_ids(real: u32, effective: u32) -> io::Result<()> {
    let (real, user) = (Uid::from_raw(real), Uid::from_raw(effective));
    let group = Gid::from_raw(effective);
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(real, user, real)?;
    Ok(())
}
