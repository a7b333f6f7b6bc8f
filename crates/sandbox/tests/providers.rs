//! One suite over every provider that isolates, and what each must do besides. A provider that
//! cannot run here fails its test and says why.

mod common;

use std::path::{Path, PathBuf};

use common::attacks::{agent_protected, check_hidden, check_signals, check_table};
use common::suite::{self, Tasks};
use common::*;
use freehold_sandbox::{
    Accelerator, Isolation, MicrovmConfig, MicrovmProvider, NetworkPolicy, OciConfig, OciProvider,
    Provider, Runtime, RuntimeKind, SandboxError,
};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A place for state and one for what lives as long as a sandbox; both go at the end.
struct Room {
    state: TempDir,
    run: TempDir,
}

impl Room {
    fn new() -> Self {
        assert!(
            is_root(),
            "these providers need root: run the tests as root"
        );
        let run = tempfile::tempdir_in("/run").unwrap();
        let others_may_enter = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(run.path(), others_may_enter).unwrap();
        Self {
            state: tempfile::tempdir().unwrap(),
            run,
        }
    }

    fn oci(&self, name: &str, kind: RuntimeKind) -> OciProvider {
        let runtime = kind.find();
        let missing = format!("{} is not installed (apt-get install {0})", kind.name());
        self.runtime(name, runtime.expect(&missing))
    }

    fn runtime(&self, name: &str, runtime: Runtime) -> OciProvider {
        OciProvider::new(OciConfig {
            runtime,
            launcher: launcher(),
            instance: instance(name),
            probe_dir: self.state.path().to_owned(),
            run_dir: self.run.path().to_owned(),
            image: None,
            egress: Default::default(),
        })
    }

    fn machine(&self, name: &str, change: impl FnOnce(&mut MicrovmConfig)) -> MicrovmProvider {
        let (kernel, modules) = kernel();
        let mut config = MicrovmConfig {
            launcher: launcher(),
            instance: instance(name),
            probe_dir: self.state.path().to_owned(),
            run_dir: self.run.path().to_owned(),
            image: None,
            monitor: first(&["/usr/bin/qemu-system-x86_64"], "qemu-system-x86"),
            file_server: first(
                &["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"],
                "qemu-system-common or virtiofsd",
            ),
            kernel,
            modules: Some(modules),
            accelerator: Accelerator::Tcg,
            allow_emulation: true,
        };
        change(&mut config);
        MicrovmProvider::new(config)
    }
}

fn first(places: &[&str], package: &str) -> PathBuf {
    let found = places.iter().map(PathBuf::from).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("none of {places:?} exists (apt-get install {package})"))
}

/// An installed kernel and its modules: any will do that has a directory of modules.
fn kernel() -> (PathBuf, PathBuf) {
    let entries = std::fs::read_dir("/boot").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(version) = name.strip_prefix("vmlinuz-") else {
            continue;
        };
        let modules = Path::new("/lib/modules").join(version);
        if modules.join("modules.dep").is_file() {
            return (entry.path(), modules);
        }
    }
    panic!("no kernel with modules in /boot (apt-get install linux-image-cloud-amd64)")
}

#[tokio::test]
async fn namespaces_do_what_all_must() {
    let bench = bench("suite_namespaces");
    suite::whole(&bench.provider, bench.dir.path(), Tasks::Refused).await;
}

#[tokio::test]
async fn runc_does_what_all_must() {
    let room = Room::new();
    let provider = room.oci("suite_runc", RuntimeKind::Runc);
    suite::whole(&provider, room.state.path(), Tasks::Refused).await;
    nothing_is_left(&room);
}

#[tokio::test]
async fn runsc_does_what_all_must_and_is_stronger() {
    let room = Room::new();
    let provider = room.oci("suite_runsc", RuntimeKind::Runsc);
    suite::whole(&provider, room.state.path(), Tasks::MayEndIt).await;
    let mut strong = suite::spec(room.state.path(), "strong");
    strong.min_isolation = Isolation::Gvisor;
    let sandbox = provider.create(&strong).await.unwrap();
    // Another kernel answers.
    let kernel = ok(&sandbox, "cat /proc/version").await;
    let ours = std::fs::read_to_string("/proc/version").unwrap();
    assert_ne!(kernel, ours.trim());
    // The release that Debian has knows no descriptors of processes, and that is said.
    match sandbox
        .exec(freehold_sandbox::ExecRequest::new(["true"]))
        .await
    {
        Ok(program) => assert_eq!(program.finish().await.unwrap().exit.code, Some(0)),
        Err(SandboxError::Exec(why)) => assert!(why.contains("not implemented"), "{why}"),
        Err(error) => panic!("{error}"),
    }
    ok(&sandbox, "true").await;
    sandbox.destroy().await.unwrap();
    nothing_is_left(&room);
}

/// gVisor has no limit of its own for tasks; the host's stops it, or ends it at worst.
#[tokio::test]
async fn a_fork_bomb_in_gvisor_stays_inside() {
    let room = Room::new();
    let provider = room.oci("forks_runsc", RuntimeKind::Runsc);
    let spec = suite::spec(room.state.path(), "forks");
    let sandbox = provider.create(&spec).await.unwrap();
    ok(&sandbox, "echo kept > /workspace/kept").await;
    let bomb = "import os,time\nn=0\ntry:\n  while n<2000:\n    if os.fork()==0: os.closerange(0,3); time.sleep(300)\n    n+=1\nexcept OSError: print(n)";
    let call = request("exec", json!({"argv": ["python3", "-c", bomb]}));
    let ended = sandbox.call(call, &CancellationToken::new()).await;
    assert!(
        matches!(ended, Ok(_) | Err(SandboxError::Lost { .. })),
        "{ended:?}"
    );
    let most = u64::from(spec.limits.pids) + 256;
    if let Ok(stats) = sandbox.stats().await {
        assert!(stats.pids.is_some_and(|n| n <= most), "{stats:?}");
    }
    sandbox.destroy().await.unwrap();
    let again = provider.create(&spec).await.unwrap();
    assert_eq!(ok(&again, "cat kept").await, "kept");
    again.destroy().await.unwrap();
}

/// Under emulation: there is no hardware virtualization where this was built.
#[tokio::test]
async fn machines_do_what_all_must() {
    let room = Room::new();
    let provider = room.machine("suite_machine", |_| ());
    suite::whole(&provider, room.state.path(), Tasks::Refused).await;
}

#[tokio::test]
async fn emulation_must_be_allowed_and_what_is_missing_is_named() {
    let room = Room::new();
    for (change, part) in [
        (
            (|c: &mut MicrovmConfig| c.allow_emulation = false) as fn(&mut MicrovmConfig),
            "allow_emulation",
        ),
        (
            |c| c.kernel = "/nonexistent/kernel".into(),
            "/nonexistent/kernel",
        ),
    ] {
        let found = room.machine("refused", change).probe().await;
        assert!(!found.works);
        assert!(found.features[0].detail.contains(part), "{found:?}");
        assert!(found.features[0].remedy.is_some(), "{found:?}");
    }
}

/// `/dev/kvm` may open and run nothing: only a machine that boots counts.
#[tokio::test]
async fn kvm_is_believed_only_when_a_machine_has_run() {
    let room = Room::new();
    let provider = room.machine("kvm", |c| c.accelerator = Accelerator::Kvm);
    let found = provider.probe().await;
    if found.works {
        suite::whole(&provider, room.state.path(), Tasks::Refused).await;
    } else {
        // A right answer too, and the one of every host without usable hardware.
        eprintln!("hardware virtualization: {}", found.features[0].detail);
        assert_eq!(found.isolation, Isolation::None);
    }
}

#[tokio::test]
async fn runc_answers_every_attempt_as_it_must() {
    let room = Room::new();
    let provider = room.oci("attack_runc", RuntimeKind::Runc);
    let sandbox = provider
        .create(&suite::spec(room.state.path(), "attack"))
        .await
        .unwrap();
    check_table(&sandbox).await;
    check_hidden(&sandbox).await;
    check_signals(&sandbox, agent_protected(&provider).await).await;
    sandbox.destroy().await.unwrap();
}

/// The way out is the namespaces provider's: whatever is dialled arrives at the server.
#[tokio::test]
async fn what_runc_dials_is_judged_by_the_server() {
    let room = Room::new();
    let provider = room.oci("egress_runc", RuntimeKind::Runc);
    let mut spec = suite::spec(room.state.path(), "egress");
    spec.network = NetworkPolicy::Public.into();
    let sandbox = provider.create(&spec).await.unwrap();
    // By address and port, by a program that knows of no proxy: the metadata service is refused.
    let dial = "exec 3<>/dev/tcp/169.254.169.254/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
    let dialled = bash(&sandbox, dial).await;
    let stats = sandbox.stats().await.unwrap();
    assert_eq!(stats.egress_denied, 1, "{dialled:?} {stats:?}");
    assert_eq!(stats.egress_allowed, 0, "{stats:?}");
    check_table(&sandbox).await;
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_runtime_that_fails_says_why() {
    let room = Room::new();
    let script = room.state.path().join("runc-broken");
    std::fs::write(
        &script,
        "#!/bin/sh\necho the cupboard is bare >&2\nexit 3\n",
    )
    .unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let provider = room.runtime("broken", Runtime::at(script).unwrap());
    let found = provider.probe().await;
    assert!(!found.works);
    let detail = &found.features[0].detail;
    assert!(
        detail.contains("runc-broken: the cupboard is bare"),
        "{detail}"
    );
    nothing_is_left(&room);
}

/// A runtime that does not do as it is told is found out by the agent.
#[tokio::test]
async fn a_runtime_that_keeps_privileges_is_refused() {
    let room = Room::new();
    // Runs the bundle's program as it is, in the host's namespaces, as root.
    let script = room.state.path().join("runc-careless");
    let text = format!("#!/bin/sh\ncase \"$*\" in *delete*) exit 0;; esac\nexec {AGENT}\n");
    std::fs::write(&script, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let provider = room.runtime("careless", Runtime::at(script).unwrap());
    let refused = provider
        .create(&suite::spec(room.state.path(), "careless"))
        .await
        .err()
        .unwrap();
    let SandboxError::Start { stage, detail } = refused else {
        panic!("{refused}")
    };
    assert_eq!(stage, "namespaces");
    assert!(detail.contains("the host's"), "{detail}");
}

#[tokio::test]
async fn what_an_earlier_process_left_is_reaped() {
    let room = Room::new();
    let provider = room.oci("reap_runc", RuntimeKind::Runc);
    let open = provider
        .create(&suite::spec(room.state.path(), "open"))
        .await
        .unwrap();
    for left in ["left", "kept", "again"] {
        std::fs::create_dir_all(room.run.path().join("bundles").join(left)).unwrap();
    }
    // Nor is it in the way of a sandbox of that name.
    let again = suite::spec(room.state.path(), "again");
    provider
        .create(&again)
        .await
        .unwrap()
        .destroy()
        .await
        .unwrap();
    let keep = std::collections::HashSet::from(["kept".to_owned()]);
    assert_eq!(provider.reap(&keep).await.unwrap(), 1);
    ok(&open, "true").await;
    assert!(room.run.path().join("bundles/kept").exists());
    assert!(!room.run.path().join("bundles/left").exists());
    open.destroy().await.unwrap();
}

/// A runtime that forgets a container removes its control groups: the next one has its own all the same.
#[tokio::test]
async fn limits_hold_for_who_comes_after_a_killed_server() {
    let room = Room::new();
    let spec = suite::spec(room.state.path(), "again");
    let first = room.oci("after_runc", RuntimeKind::Runc);
    let left = first.create(&spec).await.unwrap();
    let second = room.oci("after_runc", RuntimeKind::Runc);
    let sandbox = second.create(&spec).await.unwrap();
    ok(&sandbox, "true").await;
    let limits = limits_of(&instance("after_runc"), "again");
    assert_eq!(limits, [spec.limits.pids.to_string()]);
    sandbox.destroy().await.unwrap();
    assert!(left.stats().await.is_err());
    drop((left, first, second));
    nothing_is_left(&room);
}

/// How many processes a sandbox's groups allow, in each hierarchy that says so.
fn limits_of(instance: &str, id: &str) -> Vec<String> {
    let end = Path::new(&format!("freehold-{instance}"))
        .join(id)
        .join("pids.max");
    let (mut found, mut dirs) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.ends_with(&end) {
                found.push(std::fs::read_to_string(path).unwrap().trim().to_owned());
            }
        }
    }
    found
}

/// Neither bundles nor the runtime's records.
fn nothing_is_left(room: &Room) {
    for dir in ["bundles", "state"] {
        let left = std::fs::read_dir(room.run.path().join(dir));
        let left: Vec<_> = left
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
