//! The checklist of escape attempts (design/60 §6) and the answer each must get, for the sandboxes
//! of any provider that shares the host's kernel.

use std::sync::Arc;

use freehold_sandbox::{Provider, Sandbox, Status};
use serde_json::json;

use super::{bash, call, ok};

const EPERM: i64 = libc::EPERM as i64;
const ENOSYS: i64 = libc::ENOSYS as i64;
const ENOENT: i64 = libc::ENOENT as i64;
const ENOMEM: i64 = libc::ENOMEM as i64;
const SIGSYS: i64 = libc::SIGSYS as i64;

enum Must {
    /// The call fails with one of these.
    Fail(&'static [i64]),
    /// The process is killed by this signal, or the call fails as absent.
    Die(i64),
    Work,
}
use Must::{Die, Fail, Work};

#[rustfmt::skip]
const TABLE: &[(&[&str], Must)] = &[
    (&["mount tmpfs", "mount bind", "mount remount rw", "mount proc", "umount2", "fsopen", "open_tree",
       "mount_setattr", "move_mount", "pivot_root", "chroot"], Fail(&[EPERM])),
    (&["unshare user", "unshare mount", "unshare net", "clone user", "clone pid",
       "clone user, junk above", "setns"], Fail(&[EPERM])),
    (&["clone3"], Fail(&[ENOSYS])),
    (&["mknod char", "mknod block"], Fail(&[EPERM, libc::EACCES as i64])),
    (&["open /dev/kvm", "open /dev/mem", "open /dev/vda", "open /dev/fuse", "open /dev/net/tun"], Fail(&[ENOENT])),
    (&["ptrace traceme", "ptrace seize agent", "process_vm_readv", "process_vm_writev", "pidfd_getfd",
       "kcmp", "process_madvise", "prlimit agent"], Fail(&[EPERM])),
    // The host's binary must not be writable through the process that runs it (CVE-2019-5736).
    (&["overwrite agent"], Fail(&[libc::EACCES as i64, libc::EPERM as i64, libc::ETXTBSY as i64])),
    (&["add_key", "request_key", "keyctl"], Fail(&[EPERM])),
    (&["bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "fanotify_init",
       "quotactl"], Fail(&[EPERM])),
    (&["init_module", "finit_module", "delete_module", "kexec_load", "reboot", "swapon", "syslog",
       "acct", "settimeofday", "clock_settime", "sethostname"], Fail(&[EPERM])),
    (&["open_by_handle_at", "name_to_handle_at"], Fail(&[EPERM])),
    (&["socket raw", "socket raw with flags", "socket raw, version 6", "socket raw, junk above",
       "socket packet", "socket alg", "socket xdp", "socket sctp",
       "socket seqpacket", "socket x25", "socket vsock", "socket vsock, junk above",
       "socket bluetooth"], Fail(&[EPERM])),
    (&["netlink netfilter", "netlink audit", "netlink generic", "netlink uevent"], Fail(&[EPERM])),
    (&["TIOCSTI", "TIOCSTI, junk above", "TIOCLINUX", "TIOCSETD"], Fail(&[EPERM])),
    // EINVAL: the id does not even exist in an ordinary user's sandbox.
    (&["setuid root"], Fail(&[EPERM, libc::EINVAL as i64])),
    (&["setgroups", "raise rlimit", "core size", "core size to a program", "sched fifo", "capset",
       "personality"], Fail(&[EPERM])),
    (&["negative nice"], Fail(&[EPERM, libc::EACCES as i64])),
    (&["mlock 1 GiB"], Fail(&[ENOMEM, EPERM, libc::EAGAIN as i64])),
    (&["unknown number", "statmount"], Fail(&[ENOSYS])),
    (&["control getppid", "control socket tcp", "control socket udp", "control socket unix",
       "control netlink route", "control clone", "control open /dev/null", "control pty"], Work),
];

#[cfg(target_arch = "x86_64")]
const HERE: &[(&[&str], Must)] = &[
    (&["iopl", "modify_ldt"], Fail(&[EPERM])),
    (&["x32 getpid", "int 0x80"], Die(SIGSYS)),
];
#[cfg(not(target_arch = "x86_64"))]
const HERE: &[(&[&str], Must)] = &[];

pub async fn check_table(sandbox: &Arc<dyn Sandbox>) {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (names, must) in TABLE.iter().chain(HERE) {
        for name in *names {
            tried += 1;
            let got = call(sandbox, "attempt", json!({ "name": name })).await;
            let errno = got["errno"].as_i64();
            let right = match must {
                Fail(allowed) => errno.is_some_and(|e| allowed.contains(&e)),
                Die(signal) => got["signal"].as_i64() == Some(*signal) || errno == Some(ENOSYS),
                Work => errno == Some(0),
            };
            if !right {
                wrong.push(format!("{name}: {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 90, "{tried}");
}

/// Tools must not signal the agent or pid 1; for the agent that needs a user of its own, which only
/// root can give it, or Landlock's signal scoping.
pub async fn check_signals(sandbox: &Arc<dyn Sandbox>, protected: bool) {
    let pid_one = call(sandbox, "attempt", json!({"name": "kill init"})).await;
    // Either refused or, by the kernel's rule for pid 1, without effect.
    assert!(
        matches!(pid_one["errno"].as_i64(), Some(0 | EPERM)),
        "{pid_one}"
    );
    assert!(
        protected,
        "needs Landlock's signal scoping (Linux 6.12, landlock in lsm=), or root"
    );
    for name in [
        "kill agent",
        "stop agent",
        "signal agent by pidfd",
        "queue signal to agent",
    ] {
        let got = call(sandbox, "attempt", json!({ "name": name })).await;
        assert_eq!(got["errno"].as_i64(), Some(EPERM), "{name}: {got}");
    }
    // Everything a tool may signal is its own.
    let all = bash(sandbox, "sleep 100 & kill -KILL -1").await;
    assert!(all.code == Some(0) || all.signal == Some(9), "{all:?}");
    assert_eq!(ok(sandbox, "echo still here").await, "still here");
}

/// The agent and pid 1 act as the tools' own user, yet must not be seen.
pub async fn check_hidden(sandbox: &Arc<dyn Sandbox>) {
    let seen = bash(
        sandbox,
        "ls -d /proc/1 /proc/$PPID; cat /proc/$PPID/environ /proc/$PPID/maps",
    )
    .await;
    assert_eq!(seen.stdout, "", "{seen:?}");
    ok(sandbox, "ls -d /proc/$$").await;
}

/// Whether the provider says that tools cannot signal the agent.
pub async fn agent_protected(provider: &dyn Provider) -> bool {
    let capabilities = provider.probe().await;
    capabilities
        .features
        .iter()
        .any(|f| f.name == "agent protection" && f.status != Status::Missing)
}
