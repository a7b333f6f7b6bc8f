//! Our worker and the official ones on one server, each with an environment of its own: the round trip
//! of `bash: true`, and how fast a queue of fresh sessions is served.
//!
//! Ours runs every session in a sandbox of its own; the official ones run tools as plain processes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use freehold_base::Timestamp;

use super::Lab;
use crate::load::api;
use crate::load::connection::{Connection, Target};
use crate::load::process;
use crate::load::program::Program;
use crate::load::stream::{Seen, Stream};
use crate::load::upstream::Work;

/// How long a worker stays with a session that rests, milliseconds: part of what serving a queue of
/// sessions takes workers that serve one at a time.
const MAX_IDLE_MS: u32 = 100;
/// Before a worker's memory counts as rested.
const REST: Duration = Duration::from_millis(1_500);

/// Where workers find programs; the same for all.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Names in ids, and for people.
const WORKERS: [(&str, &str); 3] = [
    ("ours", "freehold worker"),
    ("python", "Python worker"),
    ("typescript", "TypeScript worker"),
];

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let mut connection = Connection::open(lab.site.target()).await?;
    for (id, name) in WORKERS {
        let dir = lab.fresh_dir()?;
        // Each round has environments of its own; no two have the same name.
        let unique = dir.path().file_name().unwrap_or_default();
        let body = api::self_hosted(&format!("{id}-{}", unique.display()));
        let environment = connection.create("/v1/environments", body).await?;
        let path = format!("/v1/freehold/environments/{environment}/keys");
        let key = connection.post(&path, api::named("bench")).await?.json()?;
        let key = key["key"].as_str().context("a key without its text")?;
        let Some(command) = command(id, lab, dir.path()) else {
            lab.board.note(format!("{name}: not installed"));
            continue;
        };
        let worker = start(command, lab.site.target(), &environment, key)
            .with_context(|| name.to_owned())?;
        let done = one(lab, &mut connection, &environment, &worker, (id, name)).await;
        worker.stop();
        done.with_context(|| name.to_owned())?;
    }
    for (what, of, words) in [
        ("call", ".p50", "tool round trip"),
        ("own", ".p50", "the worker's part of the round trip"),
        ("memory", "", "worker memory"),
        ("memory.busy", "", "memory of a worker at work"),
        ("cpu", "", "CPU of a call"),
    ] {
        let of = |worker: &str| lab.board.latest(&format!("worker.{worker}.{what}{of}"));
        if let (Some(ours), Some(theirs)) = (of("ours"), of("python")) {
            let words = format!("{words}, ours against Python");
            lab.put(&format!("worker.{what}.ratio"), &words, "×", ours / theirs);
        }
    }
    Ok(())
}

async fn one(
    lab: &mut Lab,
    connection: &mut Connection,
    environment: &str,
    worker: &Program,
    (id, name): (&str, &str),
) -> Result<()> {
    // The first session also waits for the worker to start.
    serve(lab, connection, environment, 1).await?;
    let before = process::cpu(worker.pid())?;
    let calls = lab.plan.worker_calls;
    let times = serve(lab, connection, environment, calls).await?;
    let cpu = (process::cpu(worker.pid())? - before).as_secs_f64() * 1e3;
    let put = |what: &str| (format!("worker.{id}.{what}"), name.to_owned());
    let (whole, own): (Vec<f64>, Vec<f64>) = times[1..].iter().map(|t| (t.whole, t.own)).unzip();
    let (key, what) = put("call");
    lab.put_millis(&key, &format!("{what}: later calls, use to result"), &whole);
    let (key, what) = put("own");
    let words = format!("{what}: later calls, use delivered to result taken in");
    lab.put_millis(&key, &words, &own);
    let (key, what) = put("first");
    lab.put(
        &key,
        &format!("{what}: first call of a session"),
        "ms",
        times[0].whole,
    );
    let (key, what) = put("cpu");
    let each = cpu / times.len() as f64;
    lab.put(&key, &format!("{what}: its CPU"), "ms/call", each);
    let (key, what) = put("memory.busy");
    let memory = process::resident_mib(worker.pid())?;
    let words = format!("{what}: memory right after its calls");
    lab.put(&key, &words, "MiB", memory);

    let crowd = lab.plan.worker_sessions;
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..crowd {
        waiting.push(order(lab, connection, environment, 1).await?);
    }
    for stream in waiting {
        calls_of(stream, 1).await?;
    }
    let (key, what) = put("sessions");
    let rate = crowd as f64 / begun.elapsed().as_secs_f64();
    lab.put(
        &key,
        &format!("{what}: fresh sessions served"),
        "sessions/s",
        rate,
    );
    tokio::time::sleep(REST).await;
    let (key, what) = put("memory");
    let memory = process::resident_mib(worker.pid())?;
    lab.put(&key, &format!("{what}: memory, rested"), "MiB", memory);
    Ok(())
}

/// What a call took, milliseconds.
struct Took {
    /// Between the server's stamps of the call and of its result: the server's commit and delivery
    /// of the call are in it, the same for every worker.
    whole: f64,
    /// From the call's arrival on a stream beside the worker's to the server's stamp of its result:
    /// what the worker itself, its request, and the reading of that request took.
    own: f64,
}

/// A session with calls, from its creation to its rest.
async fn serve(
    lab: &Lab,
    connection: &mut Connection,
    environment: &str,
    calls: usize,
) -> Result<Vec<Took>> {
    let stream = order(lab, connection, environment, calls).await?;
    calls_of(stream, calls).await
}

/// A fresh session that has been told to make calls; its stream.
async fn order(
    lab: &Lab,
    connection: &mut Connection,
    environment: &str,
    calls: usize,
) -> Result<Stream> {
    let body = api::session(&lab.site.working, environment);
    let session = connection.create("/v1/sessions", body).await?;
    let stream = Stream::open(lab.site.target(), &session, false).await?;
    let body = api::message(&lab.upstream.order(Work::Bash(calls)));
    connection.send_events(&session, body).await?;
    Ok(stream)
}

/// What each call took.
async fn calls_of(mut stream: Stream, count: usize) -> Result<Vec<Took>> {
    let mut asked: HashMap<String, (Timestamp, Timestamp)> = HashMap::new();
    let mut times = Vec::new();
    loop {
        let Seen { event, clock, .. } = stream.next().await?;
        let end = event
            .rested()?
            .is_some_and(|reason| reason.r#type == "end_turn");
        match event.r#type.as_str() {
            "agent.tool_use" => {
                let at = event.processed_at.context("a call without time")?;
                asked.insert(event.id.context("a call without id")?, (at, clock));
            }
            "user.tool_result" => {
                let of = event.tool_use_id.and_then(|id| asked.remove(&id));
                let (stamped, arrived) = of.context("a result without call")?;
                if event.is_error == Some(true) {
                    bail!("`bash: true` failed");
                }
                let at = event.processed_at.context("a result without time")?;
                times.push(Took {
                    whole: at.seconds_since(stamped) * 1e3,
                    own: at.seconds_since(arrived) * 1e3,
                });
            }
            _ => {}
        }
        if end && times.len() == count {
            return Ok(times);
        }
    }
}

/// How a worker is started; `None` if it is not installed.
fn command(id: &str, lab: &Lab, dir: &Path) -> Option<Command> {
    let mut command = match id {
        "ours" => {
            let mut command = Command::new(&lab.binary);
            let idle = format!("{MAX_IDLE_MS}ms");
            command.args(["worker", "poll", "--max-idle", &idle, "--workdir"]);
            command.arg(dir);
            command
        }
        "python" => {
            let mut command = Command::new(lab.peers.python.as_ref()?);
            command.args(["-c", include_str!("../../peers/worker.py")]);
            command
        }
        _ => {
            let packages = lab.peers.node_packages.as_ref()?;
            let mut command = Command::new("node");
            command.args(["-e", include_str!("../../peers/worker.cjs")]);
            command.env("PACKAGES", packages);
            command
        }
    };
    command
        .env("WORKDIR", dir)
        .env("HOME", dir)
        .env("MAX_IDLE_MS", MAX_IDLE_MS.to_string())
        .env("PATH", PATH);
    Some(command)
}

fn start(mut command: Command, target: &Target, environment: &str, key: &str) -> Result<Program> {
    command
        .env("ANTHROPIC_BASE_URL", format!("http://{}", target.address))
        .env("ANTHROPIC_ENVIRONMENT_ID", environment)
        .env("ANTHROPIC_ENVIRONMENT_KEY", key);
    Program::start(command)
}
