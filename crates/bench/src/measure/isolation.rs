//! What a sandbox costs, beside a bare spawn and other isolation programs: everything once a turn, in
//! several turns a round, so that what slows the machine down slows all of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use freehold_sandbox::{
    ExecRequest, Isolation, Launcher, Limits, NamespaceConfig, NamespaceProvider, NetworkPolicy,
    Provider, Sandbox, SandboxSpec, ToolRequest,
};
use futures_util::future::join_all;
use serde_json::json;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::Lab;

/// The server's hidden subcommand that runs inside sandboxes.
const AGENT: &str = "sandbox-agent";
/// Sandboxes made at a time where many are.
const ABREAST: usize = 8;
/// How long one outside program may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before each measurement.
const REST: Duration = Duration::from_millis(40);
/// What is measured of ours.
const OURS: [Ours; 6] = [
    Ours::Bare,
    Ours::Cold,
    Ours::Folders,
    Ours::Ahead,
    Ours::Exec,
    Ours::Bash,
];
/// Much starting of programs, much looking around, much writing.
const BUILD: &str = "for i in $(seq 200); do /bin/true; done; find /usr/share /usr/lib >/dev/null; \
                     head -c 67108864 /dev/zero >./zeroes; rm ./zeroes; \
                     if command -v cc >/dev/null; then \
                     for i in 1 2 3; do echo 'int main(void){return 0;}' >a.c && cc -O2 a.c -o a.out; \
                     done; fi";

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let dir = lab.fresh_dir()?;
    let outsiders = outsiders(lab, dir.path())?;
    let mut bare = Maker::new(lab, &dir, "bare", |_| ());
    let mut full = Maker::new(lab, &dir, "full", |c| {
        c.prepare_ahead();
        c.warm = 0;
    });
    let mut plain = Maker::new(lab, &dir, "plain", |c| c.own_disks = false);
    let mut warm = Maker::new(lab, &dir, "warm", NamespaceConfig::prepare_ahead);
    let kept = match full.create().await {
        Ok(kept) => kept,
        Err(refusal) => {
            lab.board
                .note(format!("isolation not measured: {refusal:#}"));
            return Ok(());
        }
    };
    // Makes the templates of disks, fills the pool and starts the shell.
    warm.create().await?.destroy().await?;
    bare.create().await?.destroy().await?;
    bash(&kept, "true").await?;
    let all = outsiders.into_iter().map(Subject::Outsider);
    let all: Vec<_> = all.chain(OURS.map(Subject::Ours)).collect();
    let mut times = vec![Vec::new(); all.len()];
    for turn in 0..lab.plan.isolations {
        let mut order: Vec<_> = all.iter().zip(&mut times).collect();
        if turn % 2 == 1 {
            // None is measured behind the same other always.
            order.reverse();
        }
        for (subject, times) in order {
            // What the one before left behind is cleared away, and what is prepared ahead is there.
            tokio::time::sleep(REST).await;
            warm.rested().await?;
            let begun = Instant::now();
            times.push(match subject {
                Subject::Outsider(outsider) => outsider.run()?,
                Subject::Ours(Ours::Bare) => bare.turn().await?,
                Subject::Ours(Ours::Cold) => full.turn().await?,
                Subject::Ours(Ours::Folders) => plain.turn().await?,
                Subject::Ours(Ours::Ahead) => warm.turn().await?,
                Subject::Ours(Ours::Exec) => {
                    run_true(&kept).await?;
                    millis(begun)
                }
                Subject::Ours(Ours::Bash) => {
                    bash(&kept, "true").await?;
                    millis(begun)
                }
            });
        }
    }
    for (subject, times) in all.iter().zip(&times) {
        let (id, name) = match subject {
            Subject::Outsider(outsider) => (outsider.id, outsider.name),
            Subject::Ours(ours) => ours.named(),
        };
        lab.put_millis(&format!("isolation.{id}"), name, times);
    }
    ratios(lab);

    builds(lab, &kept, dir.path()).await?;
    kept.destroy().await?;
    crowd(lab, "full", "own disks", &mut full).await?;
    crowd(lab, "plain", "plain folders", &mut plain).await?;
    Ok(())
}

/// Of this round's medians: what carries over to other machines.
fn ratios(lab: &mut Lab) {
    let ours = [
        ("bare", "nothing ready"),
        ("cold", "cold"),
        ("ahead", "prepared ahead"),
    ];
    for (id, name) in ours {
        let of = |id: &str| lab.board.latest(&format!("isolation.{id}.p50"));
        if let (Some(ours), Some(theirs)) = (of(id), of("bwrap")) {
            let what = format!("sandbox, {name}, against bubblewrap");
            lab.put(&format!("isolation.{id}.ratio"), &what, "×", ours / theirs);
        }
    }
}

/// The same work outside and inside.
async fn builds(lab: &mut Lab, sandbox: &Arc<dyn Sandbox>, dir: &Path) -> Result<()> {
    let outside = dir.join("outside");
    std::fs::create_dir(&outside)?;
    let begun = Instant::now();
    let status = Command::new("/bin/sh")
        .args(["-c", BUILD])
        .current_dir(&outside)
        .status()?;
    let bare = millis(begun);
    if !status.success() {
        bail!("the build outside ended with {status}");
    }
    let begun = Instant::now();
    let done = sandbox
        .exec(ExecRequest::new(["/bin/sh", "-c", BUILD]))
        .await?;
    let done = done.finish().await?;
    let inside = millis(begun);
    if done.exit.code != Some(0) {
        bail!("the build inside ended with {:?}", done.exit);
    }
    lab.put("isolation.build.outside", "a build, outside", "ms", bare);
    lab.put("isolation.build.inside", "a build, inside", "ms", inside);
    let what = "a build, inside against outside";
    lab.put("isolation.build.ratio", what, "×", inside / bare);
    Ok(())
}

/// Many at a time: rates, and what each holds in memory.
async fn crowd(lab: &mut Lab, id: &str, name: &str, maker: &mut Maker) -> Result<()> {
    let count = lab.plan.live;
    let before = memory_in_use()?;
    let begun = Instant::now();
    let mut all = Vec::new();
    while all.len() < count {
        let some = ABREAST.min(count - all.len());
        let specs: Vec<_> = (0..some).map(|_| maker.spec()).collect();
        let made = specs.iter().map(|spec| maker.provider.create(spec));
        for sandbox in join_all(made).await {
            all.push(sandbox?);
        }
    }
    let created = count as f64 / begun.elapsed().as_secs_f64();
    let each = (memory_in_use()? - before) / count as f64;
    let begun = Instant::now();
    for sandbox in &all {
        sandbox.destroy().await?;
    }
    let destroyed = count as f64 / begun.elapsed().as_secs_f64();
    let mut put = |what: &str, words: &str, unit, value| {
        let words = format!("{words}, {count} live, {name}");
        lab.put(&format!("isolation.{id}.{what}"), &words, unit, value);
    };
    let words = format!("sandboxes created, {ABREAST} at a time");
    put("created", &words, "1/s", created);
    let words = format!("{words}, time of one");
    put("each", &words, "ms", 1e3 / created);
    put("destroyed", "sandboxes destroyed", "1/s", destroyed);
    put("memory", "memory of an idle sandbox", "MiB", each);
    Ok(())
}

/// Memory of the whole machine that is neither free nor could be freed, MiB. What only waits to be
/// written is written first: it is not what an idle sandbox holds.
fn memory_in_use() -> Result<f64> {
    rustix::fs::sync();
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let kib = |name: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix(name));
        let number = line.and_then(|l| l.trim_start_matches(':').split_whitespace().next());
        number
            .and_then(|n| n.parse::<f64>().ok())
            .context("/proc/meminfo")
    };
    Ok((kib("MemTotal")? - kib("MemAvailable")?) / 1024.0)
}

/// What is measured in turn.
enum Subject {
    Outsider(Outsider),
    Ours(Ours),
}

enum Ours {
    /// Nothing is prepared but the nursery and the template of disks.
    Bare,
    /// Blank disks lie ready, as on a server; there is no process, namespace or group.
    Cold,
    Folders,
    Ahead,
    Exec,
    Bash,
}

impl Ours {
    /// Its id and its name.
    fn named(&self) -> (&'static str, &'static str) {
        match self {
            Self::Bare => ("bare", "the next, without a disk that lies ready"),
            Self::Cold => ("cold", "sandbox, everything on: created and /bin/true"),
            Self::Folders => ("folders", "the same, kept files in plain folders"),
            Self::Ahead => ("ahead", "sandbox, everything on, prepared ahead"),
            Self::Exec => ("exec", "/bin/true in a sandbox that is there"),
            Self::Bash => ("bash", "the next bash call in it"),
        }
    }
}

/// Makes sandboxes of one kind.
struct Maker {
    provider: NamespaceProvider,
    warm: usize,
    dir: PathBuf,
    made: usize,
}

impl Maker {
    fn new(
        lab: &Lab,
        dir: &TempDir,
        name: &str,
        change: impl FnOnce(&mut NamespaceConfig),
    ) -> Self {
        let dir = dir.path().join(name);
        let launcher = Launcher {
            program: lab.binary.clone(),
            args: vec![AGENT.to_owned()],
        };
        let instance = format!("bench_{name}_{}", std::process::id());
        let mut config = NamespaceConfig::new(launcher, instance, dir.clone());
        change(&mut config);
        Self {
            warm: config.warm,
            provider: NamespaceProvider::new(config),
            dir,
            made: 0,
        }
    }

    async fn create(&mut self) -> Result<Arc<dyn Sandbox>> {
        let spec = self.spec();
        Ok(self.provider.create(&spec).await?)
    }

    /// What the next one shall be.
    fn spec(&mut self) -> SandboxSpec {
        self.made += 1;
        SandboxSpec {
            id: format!("s{}", self.made),
            dir: self.dir.join(format!("s{}", self.made)),
            limits: Limits::default(),
            network: NetworkPolicy::None.into(),
            min_isolation: Isolation::Namespaces,
            shares: Vec::new(),
            layers: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Creates one, runs a program in it, and ends it; milliseconds until the program had ended.
    async fn turn(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let sandbox = self.create().await?;
        run_true(&sandbox).await?;
        let took = millis(begun);
        sandbox.destroy().await?;
        Ok(took)
    }

    /// Until the pool is full again.
    async fn rested(&self) -> Result<()> {
        let begun = Instant::now();
        while self.provider.prepared() < self.warm {
            if PATIENCE < begun.elapsed() {
                bail!("no sandbox was prepared ahead");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

async fn run_true(sandbox: &Arc<dyn Sandbox>) -> Result<()> {
    let done = sandbox.exec(ExecRequest::new(["/bin/true"])).await?;
    let exit = done.finish().await?.exit;
    if exit.code != Some(0) {
        bail!("/bin/true ended with {exit:?}");
    }
    Ok(())
}

/// The tool, in its persistent shell.
async fn bash(sandbox: &Arc<dyn Sandbox>, command: &str) -> Result<()> {
    let request = ToolRequest {
        id: String::new(),
        name: "bash".to_owned(),
        input: RawValue::from_string(json!({ "command": command }).to_string())?,
    };
    let reply = sandbox.call(request, &CancellationToken::new()).await?;
    if reply.is_error {
        bail!("`bash: {command}` failed");
    }
    Ok(())
}

/// Another program that isolates, and how it runs `/bin/true`.
struct Outsider {
    id: &'static str,
    name: &'static str,
    argv: Vec<String>,
}

impl Outsider {
    fn run(&self) -> Result<f64> {
        let begun = Instant::now();
        let status = self.spawn()?;
        if !status.success() {
            bail!("{} ended with {status}", self.argv.join(" "));
        }
        Ok(millis(begun))
    }

    fn spawn(&self) -> Result<std::process::ExitStatus> {
        Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| self.argv.join(" "))
    }
}

/// Those that work here; the others are noted.
fn outsiders(lab: &mut Lab, dir: &Path) -> Result<Vec<Outsider>> {
    let bundle = bundle(dir)?;
    let runs = dir.join("runs");
    let (bundle, runs) = (bundle.display(), runs.display());
    let mut all = vec![
        outsider("spawn", "bare spawn of /bin/true", "/bin/true"),
        outsider(
            "unshare",
            "unshare, 7 namespaces, nothing else",
            "unshare -UrmpinuCf --mount-proc /bin/true",
        ),
        outsider(
            "bwrap",
            "bubblewrap",
            "bwrap --unshare-all --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib \
             --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp /bin/true",
        ),
        outsider(
            "runc",
            "runc",
            &format!("runc --root {runs} run --bundle {bundle} freehold-bench"),
        ),
        outsider(
            "runsc",
            "runsc, ptrace",
            &format!(
                "runsc --root {runs} --platform=ptrace --network=none --ignore-cgroups run \
                 --bundle {bundle} freehold-bench"
            ),
        ),
    ];
    if let Some(packages) = &lab.peers.node_packages {
        let program = packages.join("node_modules/@anthropic-ai/sandbox-runtime/dist/cli.js");
        all.push(outsider(
            "srt",
            "npm sandbox runtime",
            &format!("node {} /bin/true", program.display()),
        ));
    }
    let mut here = Vec::new();
    for outsider in all {
        match outsider.run() {
            Ok(_) => here.push(outsider),
            Err(why) => lab.board.note(format!("{}: {why:#}", outsider.name)),
        }
    }
    Ok(here)
}

fn outsider(id: &'static str, name: &'static str, line: &str) -> Outsider {
    let argv = line.split_whitespace().map(str::to_owned).collect();
    Outsider { id, name, argv }
}

/// A bundle for OCI runtimes that shows the host's system, read-only, as bubblewrap is told to.
fn bundle(dir: &Path) -> Result<PathBuf> {
    let bundle = dir.join("bundle");
    let root = bundle.join("rootfs");
    for name in ["usr", "proc", "dev", "tmp"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
    }
    let namespaces = ["pid", "network", "ipc", "uts", "mount"];
    let namespaces = namespaces.map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/", "args": ["/bin/true"], "env": ["PATH=/usr/bin:/bin"],
            "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] },
        ],
        "linux": { "namespaces": namespaces },
    });
    std::fs::write(bundle.join("config.json"), config.to_string())?;
    Ok(bundle)
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
