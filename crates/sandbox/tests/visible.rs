//! What the inside can see and touch of the outside: nothing but read-only system directories.

mod common;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use common::*;
use freehold_sandbox::Provider;
use serde_json::json;

#[tokio::test]
async fn only_the_system_and_its_own_directories_exist() {
    let bench = bench("visible");
    let sandbox = bench.sandbox("visible").await;
    let top = ok(&sandbox, "ls -A / | tr '\\n' ' '").await;
    for hidden in [
        "work",
        "data",
        "opt",
        "srv",
        "boot",
        "media",
        ".dockerenv",
        "lost+found",
    ] {
        assert!(!top.split(' ').any(|d| d == hidden), "{top}");
    }
    for empty in ["/root", "/run", "/sys", "/mnt/session/uploads"] {
        assert_eq!(ok(&sandbox, &format!("ls -A {empty}")).await, "", "{empty}");
    }
    assert_eq!(ok(&sandbox, "ls /home; ls -A /var").await, "agent\ntmp");
    assert_eq!(
        ok(&sandbox, "hostname; cat /etc/hostname").await,
        "sandbox\nsandbox"
    );
    for missing in [
        "/etc/shadow",
        "/etc/machine-id",
        "/etc/ssh",
        "/proc/sys",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/cmdline",
        "/proc/1",
        "/proc/2",
        "/proc/3",
        "/dev/kmsg",
        "/sys/kernel",
        "/var/run/docker.sock",
        "/run/docker.sock",
    ] {
        let outcome = bash(&sandbox, &format!("ls -d {missing}")).await;
        assert_eq!(outcome.code, Some(2), "{missing}: {outcome:?}");
    }
    let own = bench.dir.path().to_str().unwrap();
    assert_ne!(bash(&sandbox, &format!("ls {own}")).await.code, Some(0));
    sandbox.destroy().await.unwrap();
}

/// Both as root and as an ordinary user: setting a clock needs the process's own `/proc`.
#[tokio::test]
async fn clocks_begin_with_the_sandbox() {
    let plain = std::path::Path::new("/proc/self/ns/time");
    assert!(
        plain.exists(),
        "this kernel has no time namespaces (CONFIG_TIME_NS)"
    );
    // When a process started, in ticks of the clock since boot: field 22, counted after the name.
    let started = |stat: &str| -> u64 {
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(19).unwrap().parse().unwrap()
    };
    let outside = started(&std::fs::read_to_string("/proc/self/stat").unwrap());
    let bench = bench("clocks");
    let sandbox = bench.sandbox("clocks").await;
    let inside = started(&ok(&sandbox, "cat /proc/self/stat").await);
    assert!(inside < outside, "{inside} {outside}");
    sandbox.destroy().await.unwrap();
    let bench = ordinary_user("clocks_user");
    let sandbox = ordinary_sandbox(&bench, "clocks").await;
    let inside = started(&ok(&sandbox, "cat /proc/self/stat").await);
    assert!(inside < outside, "{inside} {outside}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn nothing_of_the_host_can_be_written() {
    let bench = bench("readonly");
    let sandbox = bench.sandbox("readonly").await;
    std::fs::write(bench.dir.path().join("readonly/uploads/in.txt"), "given").unwrap();
    for path in [
        "/x",
        "/usr/x",
        "/usr/bin/x",
        "/etc/x",
        "/etc/passwd",
        "/var/x",
        "/dev/x",
        "/run/x",
        "/mnt/x",
        "/mnt/session/x",
        "/home/x",
        "/mnt/session/uploads/x",
        "/mnt/session/uploads/in.txt",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory",
        "/sys/kernel/uevent_helper",
        "/proc/sysrq-trigger",
    ] {
        let outcome = bash(&sandbox, &format!("echo x >> {path}")).await;
        assert_ne!(outcome.code, Some(0), "{path}");
    }
    assert_eq!(
        ok(&sandbox, "cat /mnt/session/uploads/in.txt").await,
        "given"
    );
    // Its own score may be raised, not lowered below what it was born with; maps are fixed.
    assert_ne!(
        bash(&sandbox, "echo -1000 > /proc/self/oom_score_adj")
            .await
            .code,
        Some(0)
    );
    assert_ne!(
        bash(&sandbox, "echo '0 0 1' > /proc/self/uid_map")
            .await
            .code,
        Some(0)
    );
    ok(&sandbox, "echo 500 > /proc/self/oom_score_adj").await;
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn no_privilege_is_left_or_can_be_regained() {
    let bench = bench("privilege");
    let sandbox = bench.sandbox("privilege").await;
    let status = ok(
        &sandbox,
        "grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)' /proc/self/status | tr -s '\\t ' ' '",
    )
    .await;
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{line}: 0000000000000000")),
            "{status}"
        );
    }
    assert!(
        status.contains("NoNewPrivs: 1") && status.contains("Seccomp: 2"),
        "{status}"
    );
    // A set-user-id program of the system, and one of its own making.
    let gained = bash(
        &sandbox,
        "cp /usr/bin/id /tmp/id && chmod 6755 /tmp/id && /tmp/id -u; su -c id; sudo -n id; true",
    )
    .await;
    assert_eq!(gained.stdout.trim(), "1000", "{gained:?}");
    let mounts = ok(&sandbox, "cat /proc/self/mounts").await;
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let options: Vec<_> = fields[3].split(',').collect();
        assert!(options.contains(&"nosuid"), "{line}");
        let device = fields[1].starts_with("/dev/");
        assert!(device || options.contains(&"nodev"), "{line}");
    }
    no_core(&sandbox).await;
    sandbox.destroy().await.unwrap();
}

/// Nothing is written when a program crashes, and none of the host's is started: for both the kernel
/// looks at the limit, which says so only as long as it is 1.
async fn no_core(sandbox: &std::sync::Arc<dyn freehold_sandbox::Sandbox>) {
    let host = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    assert_ne!(
        host,
        Some(0),
        "needs a hard limit on core dumps that is not 0"
    );
    // As GnuPG does, which ends if it cannot.
    let crash = "cd /tmp; ulimit -c 0; ulimit -c; python3 -c 'import resource, os
print(resource.getrlimit(resource.RLIMIT_CORE))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)
os.kill(os.getpid(), 11)'; echo $?; ls -A /tmp";
    let said = bash(sandbox, crash).await;
    let lines: Vec<_> = said.stdout.lines().take(4).collect();
    assert_eq!(lines, ["0", "(1, 1)", "(1, 1)", "139"], "{said:?}");
    assert!(!said.stdout.contains("core"), "{said:?}");
}

#[tokio::test]
async fn no_secret_descriptor_or_environment_comes_along() {
    let bench = bench("leaks");
    let sandbox = bench.sandbox("leaks").await;
    let env = ok(
        &sandbox,
        "/usr/bin/env | sed 's/=.*//' | sort | tr '\\n' ' '",
    )
    .await;
    assert_eq!(env, "HOME LANG PATH PWD SHLVL TERM _");
    // 3 is ls's own.
    assert_eq!(
        ok(&sandbox, "exec ls /proc/self/fd | tr '\\n' ' '").await,
        "0 1 2 3"
    );
    assert_eq!(
        ok(&sandbox, "cat /proc/self/cgroup | sed 's/.*://' | sort -u").await,
        "/"
    );
    // The agent's memory, environment and files are out of reach.
    for file in ["environ", "maps", "mem", "fd", "root", "cwd", "exe"] {
        for pid in [1, 2] {
            let outcome = bash(
                &sandbox,
                &format!("cat /proc/{pid}/{file} || ls /proc/{pid}/{file}/"),
            )
            .await;
            assert_ne!(outcome.code, Some(0), "{pid} {file} {outcome:?}");
        }
    }
    assert_eq!(
        ok(
            &sandbox,
            "readlink /proc/self/exe; readlink /proc/self/root; readlink /proc/self/cwd"
        )
        .await,
        "/usr/bin/readlink\n/\n/workspace"
    );
    // No mount says where on the host its files lie, but those that are there under the same name,
    // and folders the host goes on writing to.
    let info = ok(&sandbox, "cat /proc/self/mountinfo").await;
    for line in info.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let (root, point) = (fields[3], fields[4]);
        let own = ["/workspace", "/outputs", "/home"].contains(&root);
        let shared = point == "/mnt/session/uploads" && root.ends_with("/leaks/uploads");
        assert!(
            root == "/" || own || shared || point.ends_with(root),
            "{line}"
        );
        let host = bench.dir.path().to_str().unwrap();
        assert!(shared || !line.contains(host), "{line}");
    }
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn host_services_are_out_of_reach() {
    let bench = bench("services");
    let sandbox = bench.sandbox("services").await;
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let name = format!("freehold-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    // Both answer here ...
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    // ... and neither inside.
    let python = |code: &str| format!("timeout 20 python3 -c 'import socket\n{code}'");
    let refused = bash(
        &sandbox,
        &python(&format!("socket.create_connection((\"127.0.0.1\",{port}))")),
    )
    .await;
    assert!(refused.stderr.contains("ConnectionRefused"), "{refused:?}");
    let unix = format!("socket.socket(socket.AF_UNIX).connect(\"\\0{name}\")");
    let refused = bash(&sandbox, &python(&unix)).await;
    assert!(
        refused.stderr.contains("ConnectionRefused") || refused.stderr.contains("PermissionError"),
        "{refused:?}"
    );
    for metadata in ["169.254.169.254", "100.100.100.200", "10.0.0.1", "1.1.1.1"] {
        let out = bash(
            &sandbox,
            &python(&format!("socket.create_connection((\"{metadata}\",80),5)")),
        )
        .await;
        assert!(
            out.stderr.contains("Network is unreachable"),
            "{metadata} {out:?}"
        );
        let udp = format!(
            "socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b\"x\",(\"{metadata}\",53))"
        );
        assert!(
            bash(&sandbox, &python(&udp))
                .await
                .stderr
                .contains("Network is unreachable")
        );
    }
    let six = bash(
        &sandbox,
        &python("socket.create_connection((\"fd00:ec2::254\",80),5)"),
    )
    .await;
    assert_ne!(six.code, Some(0), "{six:?}");
    let dns = bash(
        &sandbox,
        &python("socket.getaddrinfo(\"metadata.google.internal\",80)"),
    )
    .await;
    assert!(dns.stderr.contains("gaierror"), "{dns:?}");
    // Its own loopback does work.
    ok(
        &sandbox,
        &python(
            "l=socket.create_server((\"127.0.0.1\",0));socket.create_connection(l.getsockname())",
        ),
    )
    .await;
    assert_eq!(ok(&sandbox, "ls /proc/net/dev >/dev/null 2>&1; tail -n +3 /proc/self/net/dev | cut -d: -f1 | tr -d ' '").await, "lo");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn two_sandboxes_see_nothing_of_each_other() {
    let bench = bench("two");
    let (one, two) = (bench.sandbox("one").await, bench.sandbox("two").await);
    ok(&one, "echo secret | tee /workspace/s /tmp/s /dev/shm/s ~/s /mnt/session/outputs/s; sleep 300 </dev/null >/dev/null 2>&1 & ipcmk -M 100 2>/dev/null; true").await;
    let python = "python3 -c 'import socket,time\ns=socket.socket(socket.AF_UNIX);s.bind(\"\\0meet\");s.listen()\ntime.sleep(300)' </dev/null >/dev/null 2>&1 &";
    ok(&one, python).await;
    let found = ok(&two, "cat /workspace/s /tmp/s /dev/shm/s ~/s /mnt/session/outputs/s 2>/dev/null; ps ax 2>/dev/null | grep -c '[s]leep 300'; ipcs -m 2>/dev/null | grep -c ^0x || true").await;
    assert!(!found.contains("secret"), "{found}");
    assert!(found.lines().all(|l| l == "0"), "{found}");
    let meet = bash(
        &two,
        "python3 -c 'import socket;socket.socket(socket.AF_UNIX).connect(\"\\0meet\")'",
    )
    .await;
    assert!(meet.stderr.contains("ConnectionRefused"), "{meet:?}");
    // The same names are free in each.
    assert_eq!(call(&two, "echo", json!({"a": 1})).await, json!({"a": 1}));
    bench.provider.reap(&Default::default()).await.unwrap();
    assert_eq!(
        ok(&one, "cat /workspace/s").await,
        "secret",
        "reaping leaves open sandboxes alone"
    );
    one.destroy().await.unwrap();
    assert!(!one.alive() && two.alive());
    ok(&two, "true").await;
    two.destroy().await.unwrap();
}

/// Watches what is opened in `/usr/bin` until it is told to stop, and then says what was.
const WATCH: &str = r#"exec python3 -c '
import ctypes, os, struct
os.mkfifo("stop"); os.mkfifo("seen")
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(watch, b"/usr/bin", 0x20) >= 0
if os.fork() == 0:
    os.closerange(0, 3)
    open("stop").read()
    names, out = set(), open("seen", "w")
    try:
        while True:
            events, at = os.read(watch, 65536), 0
            while at < len(events):
                length = struct.unpack_from("iIII", events, at)[3]
                names.add(events[at + 16:at + 16 + length].rstrip(b"\0").decode())
                at += 16 + length
    except BlockingIOError: pass
    out.write("\n".join(sorted(names)))
'"#;

#[tokio::test]
async fn what_others_run_is_not_seen() {
    let ordinary = ordinary_user("seen_user");
    for bench in [bench("seen"), ordinary] {
        let curious = ordinary_sandbox(&bench, "curious").await;
        ok(&curious, WATCH).await;
        let other = ordinary_sandbox(&bench, "other").await;
        ok(&other, "factor 6").await;
        let host = std::process::Command::new("nproc").output().unwrap();
        assert!(host.status.success());
        let seen = ok(&curious, "head -n 0 /dev/null; echo > stop; cat seen").await;
        let seen: Vec<&str> = seen.lines().collect();
        assert!(seen.contains(&"head"), "the watch works: {seen:?}");
        assert!(
            !seen.contains(&"factor") && !seen.contains(&"nproc"),
            "{seen:?}"
        );
        curious.destroy().await.unwrap();
        other.destroy().await.unwrap();
    }
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
