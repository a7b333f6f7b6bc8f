//! What a sandbox costs, beside a bare spawn and, where they are installed, `unshare` and bubblewrap:
//! medians over rounds in which every variant runs once. Run as root on a machine that is otherwise
//! idle: `cargo bench -p freehold-sandbox --bench measure [ROUNDS]`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_sandbox::{
    ExecRequest, Isolation, Launcher, Limits, NamespaceConfig, NamespaceProvider, NetworkPolicy,
    Provider, Sandbox, SandboxSpec, ToolRequest,
};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

/// Sandboxes alive at a time when memory and rate are measured.
const CROWD: usize = 200;

struct Variant {
    provider: NamespaceProvider,
    dir: PathBuf,
    made: usize,
}

impl Variant {
    fn new(dir: &std::path::Path, name: &str, change: impl FnOnce(&mut NamespaceConfig)) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("a directory of our own");
        let launcher = Launcher {
            program: env!("CARGO_BIN_EXE_freehold-sandbox-test-agent").into(),
            args: Vec::new(),
        };
        let instance = format!("bench_{name}_{}", std::process::id());
        let mut config = NamespaceConfig::new(launcher, instance, dir.clone());
        change(&mut config);
        Self {
            provider: NamespaceProvider::new(config),
            dir,
            made: 0,
        }
    }

    async fn create(&mut self) -> Arc<dyn Sandbox> {
        self.made += 1;
        let spec = SandboxSpec {
            id: format!("s{}", self.made),
            dir: self.dir.join(format!("s{}", self.made)),
            limits: Limits::default(),
            network: NetworkPolicy::None.into(),
            min_isolation: Isolation::Namespaces,
            shares: Vec::new(),
            layers: Vec::new(),
            env: Vec::new(),
        };
        self.provider.create(&spec).await.expect("a sandbox")
    }
}

async fn run_true(sandbox: &Arc<dyn Sandbox>) {
    let done = sandbox.exec(ExecRequest::new(["/bin/true"])).await;
    let done = done.expect("starts").finish().await.expect("ends");
    assert_eq!(done.exit.code, Some(0));
}

async fn echo(sandbox: &Arc<dyn Sandbox>) {
    let request = ToolRequest {
        id: String::new(),
        name: "echo".to_owned(),
        input: RawValue::from_string("1".to_owned()).expect("JSON"),
    };
    let never = CancellationToken::new();
    sandbox.call(request, &never).await.expect("answers");
}

fn outside(argv: &[&str]) -> Option<Duration> {
    let start = Instant::now();
    let status = Command::new(argv[0])
        .args(&argv[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    status.success().then(|| start.elapsed())
}

fn say(name: &str, times: &mut [Duration]) {
    times.sort();
    if times.is_empty() {
        println!("{name:44} not here");
        return;
    }
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "{name:44} median {:7.2} ms   min {:7.2}   p95 {:7.2}   n={}",
        at(50),
        at(0),
        at(95),
        times.len()
    );
}

fn available() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").expect("proc");
    let line = info.lines().find(|l| l.starts_with("MemAvailable"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or(0) * 1024
}

#[tokio::main]
async fn main() {
    // Test runners start every target to ask for its tests: there are none here.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let rounds = std::env::args()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(40);
    let dir = std::env::temp_dir().join(format!("freehold-measure-{}", std::process::id()));
    let mut full = Variant::new(&dir, "full", |_| ());
    let mut plain = Variant::new(&dir, "plain", |c| c.own_disks = false);
    let mut bare = Variant::new(&dir, "nogroups", |c| {
        c.own_disks = false;
        c.control_groups = false;
    });
    let mut warm = Variant::new(&dir, "warm", |c| c.warm = 4);
    drop(warm.create().await);
    let mut times: [Vec<Duration>; 8] = Default::default();
    let bwrap = [
        "bwrap",
        "--unshare-all",
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/bin",
        "/bin",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "/bin/true",
    ];
    let unshare = ["unshare", "-UrmpinuCf", "--mount-proc", "/bin/true"];
    let kept = full.create().await;
    run_true(&kept).await;
    for _ in 0..rounds {
        // What is prepared meanwhile would be in the way of all others.
        while warm.provider.prepared() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times[0].extend(outside(&["/bin/true"]));
        times[1].extend(outside(&unshare));
        times[2].extend(outside(&bwrap));
        for (n, variant) in [&mut full, &mut plain, &mut bare].into_iter().enumerate() {
            let start = Instant::now();
            let sandbox = variant.create().await;
            run_true(&sandbox).await;
            times[3 + n].push(start.elapsed());
            sandbox.destroy().await.expect("ends");
        }
        let start = Instant::now();
        let sandbox = warm.create().await;
        run_true(&sandbox).await;
        times[6].push(start.elapsed());
        sandbox.destroy().await.expect("ends");
        let start = Instant::now();
        run_true(&kept).await;
        times[7].push(start.elapsed());
    }
    let names = [
        "bare spawn of /bin/true",
        "unshare, all namespaces",
        "bubblewrap",
        "sandbox, everything, created and /bin/true",
        "  ... kept files in plain folders",
        "  ... and without control groups",
        "sandbox, everything, prepared ahead",
        "/bin/true in a sandbox that is there",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        say(name, times);
    }
    let mut calls = Vec::new();
    for _ in 0..rounds * 10 {
        let start = Instant::now();
        echo(&kept).await;
        calls.push(start.elapsed());
    }
    say("a tool call that does nothing", &mut calls);
    for (name, variant) in [("everything", &mut full), ("plain folders", &mut plain)] {
        let before = available();
        let start = Instant::now();
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            crowd.push(variant.create().await);
        }
        let took = start.elapsed().as_secs_f64();
        for sandbox in &crowd {
            echo(sandbox).await;
        }
        let each = before.saturating_sub(available()) as f64 / CROWD as f64 / f64::from(1 << 20);
        println!(
            "{CROWD} live sandboxes, {name}: {:.0} created/s, {each:.2} MiB each",
            CROWD as f64 / took
        );
        let start = Instant::now();
        for sandbox in &crowd {
            sandbox.destroy().await.expect("ends");
        }
        println!(
            "  {:.0} destroyed/s",
            CROWD as f64 / start.elapsed().as_secs_f64()
        );
    }
    kept.destroy().await.expect("ends");
    drop((full, plain, bare, warm));
    std::fs::remove_dir_all(dir).expect("ours");
}
