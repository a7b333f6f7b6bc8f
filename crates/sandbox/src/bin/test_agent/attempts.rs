//! Escape attempts by bare system call. Each runs in a forked child of the locked-down agent, so
//! under exactly what every tool is under, and reports the error the kernel gave, 0 for success.

use freehold_sandbox::agent::Fence;
use libc::{c_int, c_long};
use serde_json::{Value, json};

type Attempt = fn() -> c_long;

const NULL: usize = 0;

/// A raw system call with up to six arguments.
macro_rules! sys {
    ($number:expr $(, $arg:expr)*) => {
        // SAFETY: an attempt runs in a child that ends right after it; pointers are null or to
        // static C strings, and a call that does succeed fails the test.
        unsafe { libc::syscall($number as c_long $(, $arg)*) }
    };
}

const ATTEMPTS: &[(&str, Attempt)] = &[
    ("mount tmpfs", || {
        sys!(
            libc::SYS_mount,
            c"none".as_ptr(),
            c"/tmp".as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            NULL
        )
    }),
    ("mount bind", || {
        sys!(
            libc::SYS_mount,
            c"/usr".as_ptr(),
            c"/tmp".as_ptr(),
            NULL,
            libc::MS_BIND,
            NULL
        )
    }),
    ("mount remount rw", || {
        sys!(
            libc::SYS_mount,
            NULL,
            c"/usr".as_ptr(),
            NULL,
            libc::MS_REMOUNT | libc::MS_BIND,
            NULL
        )
    }),
    ("mount proc", || {
        sys!(
            libc::SYS_mount,
            c"proc".as_ptr(),
            c"/tmp".as_ptr(),
            c"proc".as_ptr(),
            0,
            NULL
        )
    }),
    ("umount2", || {
        sys!(libc::SYS_umount2, c"/proc".as_ptr(), libc::MNT_DETACH)
    }),
    ("fsopen", || sys!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0)),
    ("open_tree", || {
        sys!(libc::SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), 1)
    }),
    ("mount_setattr", || {
        sys!(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            0,
            NULL,
            0
        )
    }),
    ("move_mount", || {
        sys!(libc::SYS_move_mount, -1, c"".as_ptr(), -1, c"/".as_ptr(), 0)
    }),
    ("pivot_root", || {
        sys!(libc::SYS_pivot_root, c"/tmp".as_ptr(), c"/tmp".as_ptr())
    }),
    ("chroot", || sys!(libc::SYS_chroot, c"/tmp".as_ptr())),
    ("unshare user", || {
        sys!(libc::SYS_unshare, libc::CLONE_NEWUSER)
    }),
    ("unshare mount", || {
        sys!(libc::SYS_unshare, libc::CLONE_NEWNS)
    }),
    ("unshare net", || {
        sys!(libc::SYS_unshare, libc::CLONE_NEWNET)
    }),
    ("clone user", || {
        sys!(
            libc::SYS_clone,
            libc::CLONE_NEWUSER | libc::SIGCHLD,
            0,
            0,
            0,
            0
        )
    }),
    ("clone pid", || {
        sys!(
            libc::SYS_clone,
            libc::CLONE_NEWPID | libc::SIGCHLD,
            0,
            0,
            0,
            0
        )
    }),
    ("clone user, junk above", || {
        sys!(
            libc::SYS_clone,
            libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64 | 1 << 40,
            0,
            0,
            0,
            0
        )
    }),
    ("clone3", || sys!(libc::SYS_clone3, NULL, 0)),
    ("setns", || {
        sys!(libc::SYS_setns, open(c"/proc/self/ns/net"), 0)
    }),
    ("mknod char", || {
        sys!(
            libc::SYS_mknod,
            c"/tmp/kmem".as_ptr(),
            libc::S_IFCHR | 0o666,
            libc::makedev(1, 1)
        )
    }),
    ("mknod block", || {
        sys!(
            libc::SYS_mknod,
            c"/tmp/vda".as_ptr(),
            libc::S_IFBLK | 0o666,
            libc::makedev(254, 0)
        )
    }),
    ("open /dev/kvm", || open(c"/dev/kvm")),
    ("open /dev/mem", || open(c"/dev/mem")),
    ("open /dev/vda", || open(c"/dev/vda")),
    ("open /dev/fuse", || open(c"/dev/fuse")),
    ("open /dev/net/tun", || open(c"/dev/net/tun")),
    ("overwrite agent", || open(c"/proc/self/exe")),
    ("ptrace traceme", || {
        sys!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0)
    }),
    ("ptrace seize agent", || {
        sys!(libc::SYS_ptrace, libc::PTRACE_SEIZE, agent(), 0, 0)
    }),
    ("process_vm_readv", || {
        sys!(libc::SYS_process_vm_readv, agent(), NULL, 0, NULL, 0, 0)
    }),
    ("process_vm_writev", || {
        sys!(libc::SYS_process_vm_writev, agent(), NULL, 0, NULL, 0, 0)
    }),
    ("pidfd_getfd", || {
        sys!(libc::SYS_pidfd_getfd, agent_pidfd(), 3, 0)
    }),
    ("kcmp", || sys!(libc::SYS_kcmp, 1, agent(), 0, 0, 0)),
    ("process_madvise", || {
        sys!(libc::SYS_process_madvise, -1, NULL, 0, 0, 0)
    }),
    ("prlimit agent", || {
        let limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        sys!(
            libc::SYS_prlimit64,
            agent(),
            libc::RLIMIT_NOFILE,
            &limit,
            NULL
        )
    }),
    ("kill agent", || {
        sys!(libc::SYS_kill, agent(), libc::SIGKILL)
    }),
    ("stop agent", || {
        sys!(libc::SYS_kill, agent(), libc::SIGSTOP)
    }),
    ("kill init", || sys!(libc::SYS_kill, 1, libc::SIGKILL)),
    ("signal agent by pidfd", || {
        sys!(
            libc::SYS_pidfd_send_signal,
            agent_pidfd(),
            libc::SIGSTOP,
            NULL,
            0
        )
    }),
    ("queue signal to agent", || {
        sys!(libc::SYS_tgkill, agent(), agent(), libc::SIGSTOP)
    }),
    ("add_key", || {
        sys!(
            libc::SYS_add_key,
            c"user".as_ptr(),
            c"k".as_ptr(),
            c"v".as_ptr(),
            1,
            -3
        )
    }),
    ("request_key", || {
        sys!(
            libc::SYS_request_key,
            c"user".as_ptr(),
            c"k".as_ptr(),
            NULL,
            0
        )
    }),
    ("keyctl", || sys!(libc::SYS_keyctl, 0, -3, 0)),
    ("bpf", || sys!(libc::SYS_bpf, 0, NULL, 0)),
    ("perf_event_open", || {
        sys!(libc::SYS_perf_event_open, NULL, 0, -1, -1, 0)
    }),
    ("userfaultfd", || sys!(libc::SYS_userfaultfd, 0)),
    ("io_uring_setup", || sys!(libc::SYS_io_uring_setup, 1, NULL)),
    ("io_uring_enter", || {
        sys!(libc::SYS_io_uring_enter, 0, 0, 0, 0, NULL, 0)
    }),
    ("fanotify_init", || sys!(libc::SYS_fanotify_init, 0, 0)),
    ("quotactl", || sys!(libc::SYS_quotactl, 0, NULL, 0, NULL)),
    ("init_module", || {
        sys!(libc::SYS_init_module, NULL, 0, c"".as_ptr())
    }),
    ("finit_module", || {
        sys!(libc::SYS_finit_module, -1, c"".as_ptr(), 0)
    }),
    ("delete_module", || {
        sys!(libc::SYS_delete_module, c"x".as_ptr(), 0)
    }),
    ("kexec_load", || sys!(libc::SYS_kexec_load, 0, 0, NULL, 0)),
    ("reboot", || {
        sys!(
            libc::SYS_reboot,
            0xfee1_dead_u32,
            672_274_793,
            0x0123_4567,
            NULL
        )
    }),
    ("swapon", || sys!(libc::SYS_swapon, c"/tmp/x".as_ptr(), 0)),
    ("syslog", || sys!(libc::SYS_syslog, 3, NULL, 0)),
    ("acct", || sys!(libc::SYS_acct, NULL)),
    ("settimeofday", || sys!(libc::SYS_settimeofday, NULL, NULL)),
    ("clock_settime", || sys!(libc::SYS_clock_settime, 0, NULL)),
    ("sethostname", || {
        sys!(libc::SYS_sethostname, c"evil".as_ptr(), 4)
    }),
    ("open_by_handle_at", || {
        sys!(libc::SYS_open_by_handle_at, libc::AT_FDCWD, NULL, 0)
    }),
    ("name_to_handle_at", || {
        sys!(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            NULL,
            NULL,
            0
        )
    }),
    ("iopl", || sys!(libc::SYS_iopl, 3)),
    ("modify_ldt", || sys!(libc::SYS_modify_ldt, 0, NULL, 0)),
    ("socket raw", || socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("socket raw with flags", || {
        socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 255)
    }),
    ("socket raw, version 6", || {
        socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)
    }),
    ("socket raw, junk above", || {
        let raw = libc::SOCK_RAW as u64 | 1 << 40;
        sys!(libc::SYS_socket, libc::AF_INET, raw, 1)
    }),
    ("socket packet", || {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    ("socket alg", || socket(38, libc::SOCK_SEQPACKET, 0)),
    ("socket xdp", || socket(44, libc::SOCK_RAW, 0)),
    ("socket sctp", || {
        socket(libc::AF_INET, libc::SOCK_STREAM, 132)
    }),
    ("socket seqpacket", || {
        socket(libc::AF_INET, libc::SOCK_SEQPACKET, 0)
    }),
    ("socket x25", || socket(9, libc::SOCK_SEQPACKET, 0)),
    ("socket vsock", || socket(40, libc::SOCK_STREAM, 0)),
    ("socket vsock, junk above", || {
        sys!(libc::SYS_socket, 40_u64 | 1 << 40, libc::SOCK_STREAM, 0)
    }),
    ("socket bluetooth", || socket(31, libc::SOCK_RAW, 0)),
    ("netlink netfilter", || {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 12)
    }),
    ("netlink audit", || {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 9)
    }),
    ("netlink generic", || {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 16)
    }),
    ("netlink uevent", || {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 15)
    }),
    ("TIOCSTI", || ioctl_on_pty(0x5412)),
    ("TIOCSTI, junk above", || ioctl_on_pty(0x5412 | 1 << 40)),
    ("TIOCLINUX", || ioctl_on_pty(0x541c)),
    ("TIOCSETD", || ioctl_on_pty(0x5423)),
    ("setuid root", || sys!(libc::SYS_setuid, 0)),
    ("setgroups", || sys!(libc::SYS_setgroups, 0, NULL)),
    ("raise rlimit", || {
        let limit = libc::rlimit {
            rlim_cur: 1 << 20,
            rlim_max: 1 << 20,
        };
        sys!(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, &limit)
    }),
    ("core size", || core_limit(1 << 20)),
    ("core size to a program", || core_limit(0)),
    ("negative nice", || sys!(libc::SYS_setpriority, 0, 0, -10)),
    ("sched fifo", || {
        let priority: c_int = 1;
        sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &priority)
    }),
    ("mlock 1 GiB", || {
        let len = 1usize << 30;
        let at = sys!(
            libc::SYS_mmap,
            NULL,
            len,
            3,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0
        );
        sys!(libc::SYS_mlock, at, len)
    }),
    ("personality", || sys!(libc::SYS_personality, 0x0040_0000)),
    ("capset", || {
        let header: [u32; 2] = [0x2008_0522, 0];
        let data: [u32; 6] = [u32::MAX, u32::MAX, 0, 0, 0, 0];
        sys!(libc::SYS_capset, &header, &data)
    }),
    ("x32 getpid", || sys!(0x4000_0000 + libc::SYS_getpid)),
    ("unknown number", || sys!(1999)),
    ("statmount", || sys!(457, NULL, NULL, 0, 0)),
    ("int 0x80", int_0x80),
    // Controls: ordinary things, which must work.
    ("control getppid", || sys!(libc::SYS_getppid).min(0)),
    ("control socket tcp", || {
        socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0).min(0)
    }),
    ("control socket udp", || {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        socket(libc::AF_INET6, libc::SOCK_DGRAM | flags, 17).min(0)
    }),
    ("control socket unix", || {
        socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0).min(0)
    }),
    ("control netlink route", || {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 0).min(0)
    }),
    ("control clone", || {
        sys!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0).min(0)
    }),
    ("control open /dev/null", || open(c"/dev/null").min(0)),
    ("control pty", || ioctl_on_pty(0x5413)),
];

/// Sets the limit on core dumps. Success is that it then is the limit.
fn core_limit(bytes: u64) -> c_long {
    let mut limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    sys!(libc::SYS_setrlimit, libc::RLIMIT_CORE, &limit);
    sys!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, &limit, NULL);
    if sys!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, NULL, &mut limit) == 0
        && limit.rlim_cur != bytes
    {
        // SAFETY: the calling thread's own.
        unsafe { *libc::__errno_location() = libc::EPERM };
        return -1;
    }
    0
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_long {
    sys!(libc::SYS_socket, family, kind, protocol)
}

/// The agent: attempts are made by its child.
fn agent() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

fn agent_pidfd() -> c_long {
    sys!(libc::SYS_pidfd_open, agent(), 0)
}

fn open(path: &std::ffi::CStr) -> c_long {
    sys!(
        libc::SYS_open,
        path.as_ptr(),
        libc::O_RDWR | libc::O_NONBLOCK
    )
}

/// Opens a terminal of its own and tries a request on its slave side. 0x5413 asks for its size.
fn ioctl_on_pty(request: u64) -> c_long {
    let master = open(c"/dev/ptmx");
    if master < 0 {
        return master;
    }
    let unlock: c_int = 0;
    sys!(libc::SYS_ioctl, master, 0x4004_5431, &unlock);
    // TIOCGPTPEER
    let slave = sys!(
        libc::SYS_ioctl,
        master,
        0x5441,
        libc::O_RDWR | libc::O_NOCTTY
    );
    if slave < 0 {
        return slave;
    }
    let argument = [0u16; 16];
    sys!(libc::SYS_ioctl, slave, request, &argument)
}

#[cfg(target_arch = "x86_64")]
fn int_0x80() -> c_long {
    // The 32-bit numbers: 20 is getpid.
    let result: u64;
    // SAFETY: a system call without pointers; the registers it may change are named.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20u64 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    (result as c_long).min(0)
}

#[cfg(not(target_arch = "x86_64"))]
fn int_0x80() -> c_long {
    sys!(-1)
}

/// `{"errno": n}` or `{"signal": n}`.
pub fn run(fence: Fence, name: &str) -> Value {
    let Some((_, attempt)) = ATTEMPTS.iter().find(|(n, _)| *n == name) else {
        return json!({"unknown": name});
    };
    // SAFETY: the child makes system calls only and ends without running any destructor.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let errno = if fence.enter().is_err() || attempt() < 0 {
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(255)
        } else {
            0
        };
        // SAFETY: ends this child.
        unsafe { libc::_exit(errno) };
    }
    if pid < 0 {
        return json!({"fork": std::io::Error::last_os_error().to_string()});
    }
    let mut status = 0;
    // SAFETY: waits for the own child, writing to a local.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    if libc::WIFSIGNALED(status) {
        json!({"signal": libc::WTERMSIG(status)})
    } else {
        json!({"errno": libc::WEXITSTATUS(status)})
    }
}
