//! Giving up ids, capabilities and resources for good.

use std::fs::File;
use std::io::{self, Write};

use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid};

use super::plan::{AGENT, USER};
use crate::Limits;

/// Open files of one process, at least and at most.
const OPEN_FILES: (u64, u64) = (1_024, 16_384);
/// Open files of all processes together, which nothing else counts: the host has a number that
/// every user but root shares.
const ALL_OPEN_FILES: u64 = 1 << 20;
/// Locked memory of one process, bytes.
const LOCKED: u64 = 8 << 20;
/// Signals and timers that wait, of the user inside.
const SIGNALS: u64 = 8_192;

/// Bytes of a core dump. Where the host gives dumps to a program (`core_pattern` begins with `|`) the
/// kernel minds no other limit than this one, for which it starts none; and it is less than any file
/// can be of.
pub(super) const CORE: u64 = 1;

/// Takes on id 0 of the new namespace, which is an unprivileged id outside.
pub(super) fn become_inside_root() -> io::Result<()> {
    set_ids(0, 0)
}

/// Instances of inotify one sandbox may have. The kernel counts them for whoever made its user
/// namespace, too, who by default may have 128 in all.
const INOTIFY_INSTANCES: u32 = 32;

/// The kernel's own limits of a user namespace: on further user namespaces, a second line beside
/// seccomp (without one, and without capabilities, none of another kind can be made either), and on
/// what the inside would otherwise take from its maker. Opened while the host's `/proc` is in reach,
/// set when no more mounts are to be made. (Each costs: the kernel finds these files by looking at
/// those of all sandboxes.)
pub(super) struct NamespaceLimits(Vec<(&'static str, u32, File)>);

impl NamespaceLimits {
    pub(super) fn open() -> Self {
        let open = |(name, limit): (&'static str, u32)| {
            let path = format!("/proc/sys/user/max_{name}");
            Some((name, limit, File::options().write(true).open(path).ok()?))
        };
        let all = [
            (USER_NAMESPACES, 0),
            ("inotify_instances", INOTIFY_INSTANCES),
        ];
        Self(all.into_iter().filter_map(open).collect())
    }

    /// Sets them; whether the one for user namespaces, on which all others hang, took.
    pub(super) fn close(self) -> bool {
        let mut user = false;
        for (name, limit, mut file) in self.0 {
            let took = file.write_all(limit.to_string().as_bytes()).is_ok();
            user |= took && name == USER_NAMESPACES;
        }
        user
    }
}

/// The limit on which those on other namespaces hang.
const USER_NAMESPACES: &str = "user_namespaces";

/// Makes a user namespace as a user of its own, without giving up a capability: what the inside has
/// of inotify, signals, locked memory and queues is counted for the namespace's maker, and must not
/// be taken from root or from another sandbox.
pub(super) fn as_maker(
    maker: u32,
    make: impl FnOnce() -> io::Result<Option<Pid>>,
) -> io::Result<Option<Pid>> {
    let before = rustix::thread::capabilities_secure_bits()?;
    let keeping = before | CapabilitiesSecureBits::NO_SETUID_FIXUP;
    if rustix::thread::set_capabilities_secure_bits(keeping).is_err() {
        // Root of a container without `CAP_SETPCAP`: the inside is limited all the same.
        return make();
    }
    let root = rustix::process::geteuid();
    let become_user = |user| rustix::thread::set_thread_res_uid(root, user, root);
    become_user(Uid::from_raw(maker))?;
    let made = make();
    if matches!(made, Ok(None)) {
        // Inside, ids and secure bits are those of the new namespace.
        return made;
    }
    become_user(root)?;
    rustix::thread::set_capabilities_secure_bits(before)?;
    made
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

/// What installing packages takes: writing what belongs to others, and becoming others.
const INSTALLING: [CapabilitySet; 7] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::FSETID,
    CapabilitySet::KILL,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
];

/// Goes on as the inside's root, with no capability but those of [`INSTALLING`].
pub(super) fn stay_inside_root() -> io::Result<()> {
    let kept: CapabilitySet = INSTALLING.into_iter().collect();
    for capability in CapabilitySet::all().difference(kept).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
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
    let (least, most) = OPEN_FILES;
    let open_files = (ALL_OPEN_FILES / u64::from(limits.pids.max(1))).clamp(least, most);
    let mut all = vec![
        ("RLIMIT_CORE", Resource::Core, CORE),
        ("RLIMIT_NOFILE", Resource::Nofile, open_files),
        ("RLIMIT_MEMLOCK", Resource::Memlock, LOCKED),
        ("RLIMIT_FSIZE", Resource::Fsize, limits.file_bytes),
        ("RLIMIT_RTPRIO", Resource::Rtprio, 0),
        ("RLIMIT_SIGPENDING", Resource::Sigpending, SIGNALS),
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
