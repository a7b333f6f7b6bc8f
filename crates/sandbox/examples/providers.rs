//! Measures how long sandboxes of each provider take: to make, for a call in a live one, to end.
//! Run as root with the path of `freehold-sandbox-test-agent`; rounds interleave the providers, so
//! that what else the machine does hits all alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use freehold_sandbox::{
    Isolation, Launcher, Limits, NamespaceConfig, NamespaceProvider, NetworkPolicy, OciConfig,
    OciProvider, ProcessConfig, ProcessProvider, Provider, RuntimeKind, SandboxSpec, ToolRequest,
};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 20;
const CALLS: usize = 10;

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let agent = std::env::args()
        .nth(1)
        .ok_or("the agent's path is missing")?;
    let launcher = Launcher {
        program: PathBuf::from(agent),
        args: Vec::new(),
    };
    let base = PathBuf::from(format!("/run/freehold-measure-{}", std::process::id()));
    std::fs::create_dir_all(&base)?;
    let providers = providers(&launcher, &base);
    let mut times: Vec<[Vec<f64>; 3]> = providers.iter().map(|_| Default::default()).collect();
    for round in 0..ROUNDS {
        for (provider, times) in providers.iter().zip(&mut times) {
            one(provider.1.as_ref(), &base, round, times).await?;
        }
    }
    println!("median ms        create    call     end   create, to namespaces");
    let first = median(&mut times[0][0]);
    for ((name, _), [create, call, end]) in providers.iter().zip(&mut times) {
        let (create, call, end) = (median(create), median(call), median(end));
        let ratio = create / first;
        println!("{name:<14} {create:>8.2} {call:>7.2} {end:>7.2}   {ratio:.1}");
    }
    std::fs::remove_dir_all(&base)?;
    Ok(())
}

fn providers(launcher: &Launcher, base: &Path) -> Vec<(&'static str, Arc<dyn Provider>)> {
    let instance = |name: &str| format!("measure_{name}_{}", std::process::id());
    let mut all: Vec<(&'static str, Arc<dyn Provider>)> = Vec::new();
    let config = NamespaceConfig::new(launcher.clone(), instance("ns"), base.join("probe"));
    all.push(("namespaces", Arc::new(NamespaceProvider::new(config))));
    for kind in RuntimeKind::ALL {
        let Some(runtime) = kind.find() else { continue };
        let config = OciConfig {
            runtime,
            launcher: launcher.clone(),
            instance: instance(kind.name()),
            probe_dir: base.join("probe"),
            run_dir: base.join(kind.name()),
            image: None,
            egress: Default::default(),
        };
        // One that does not work here is left out: crun on a host with mixed control groups.
        if kind != RuntimeKind::Crun {
            all.push((kind.name(), Arc::new(OciProvider::new(config))));
        }
    }
    let config = ProcessConfig {
        launcher: launcher.clone(),
        path: "/usr/bin:/bin".to_owned(),
        probe_dir: base.join("probe"),
    };
    all.push(("process", Arc::new(ProcessProvider::new(config))));
    all
}

async fn one(
    provider: &dyn Provider,
    base: &Path,
    round: usize,
    [create, calls, end]: &mut [Vec<f64>; 3],
) -> Result<(), Failed> {
    let spec = SandboxSpec {
        id: format!("round_{round}"),
        dir: base.join(format!("state_{}_{round}", provider.name())),
        limits: Limits::default(),
        network: NetworkPolicy::None.into(),
        min_isolation: Isolation::None,
        shares: Vec::new(),
        layers: Vec::new(),
        env: Vec::new(),
    };
    let start = Instant::now();
    let sandbox = provider.create(&spec).await?;
    create.push(ms(start));
    for _ in 0..CALLS {
        let start = Instant::now();
        let request = ToolRequest {
            id: "measure".to_owned(),
            name: "exec".to_owned(),
            input: RawValue::from_string(r#"{"argv":["/bin/true"]}"#.to_owned())?,
        };
        sandbox.call(request, &CancellationToken::new()).await?;
        calls.push(ms(start));
    }
    let start = Instant::now();
    sandbox.destroy().await?;
    end.push(ms(start));
    provider.remove_state(&spec.dir)?;
    Ok(())
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
