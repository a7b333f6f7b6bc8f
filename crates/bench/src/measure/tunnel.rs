//! Our tunnel, through its real gateway, beside other tunnels and no tunnel at all, to one server: small
//! requests, new connections, large answers, readers that stop, an edge that is killed. Then a real MCP
//! server, called by our connector directly and through the tunnel.

mod mcp;
mod others;
mod ours;
mod way;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::join_all;

use super::Lab;
use crate::edge::HOST;
use crate::load::plain::Plain;
use crate::load::service::{SMALL, Service, bulk};
use way::Way;

/// Rest before memory is looked at, and how long an edge stays down.
const REST: Duration = Duration::from_secs(1);
/// Between two attempts to get through again.
const POLL: Duration = Duration::from_millis(5);
/// Bulk answers side by side.
const ABREAST: u64 = 8;
/// Readers that stop.
const STALLED: [usize; 4] = [4, 16, 64, 256];
/// Small requests beside them.
const BESIDE: usize = 50;
/// When a small request beside them counts as lost.
const LOST: Duration = Duration::from_secs(2);
/// An answer longer than anything reads.
const ENDLESS: u64 = 1 << 40;
const GIB: f64 = (1u64 << 30) as f64;

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let service = Service::start().await?;
    let dir = lab.fresh_dir()?;
    let mut ways = vec![
        Way::direct(service.address),
        ours::way(lab, dir.path(), service.address)?,
    ];
    for other in others::ways(lab, dir.path(), service.address) {
        match other {
            Ok(way) => ways.push(way),
            Err(why) => lab.board.note(format!("not compared with: {why:#}")),
        }
    }
    // Another one is the first in each round.
    let turn = usize::from(lab.board.rounds) % ways.len();
    ways.rotate_left(turn);
    for way in &mut ways {
        if let Err(why) = one(lab, way).await {
            let ours = way.id == "ours";
            let why = why.context(way.name);
            if ours || way.id == "direct" {
                return Err(why);
            }
            lab.board.note(format!("{why:#}"));
        }
    }
    let of = |what: &str| lab.board.latest(&format!("tunnel.{what}"));
    if let (Some(ours), Some(theirs)) = (of("ours.cpu_1"), of("rathole.cpu_1")) {
        let what = "CPU of a GiB, against rathole with TLS";
        lab.put("tunnel.cpu.ratio", what, "×", ours / theirs);
    }
    drop(ways);
    mcp::measure(lab, dir.path()).await
}

async fn one(lab: &mut Lab, way: &mut Way) -> Result<()> {
    through(way).await?;
    tokio::time::sleep(REST).await;
    for (id, name, memory) in way.memory()? {
        lab.put(&format!("tunnel.{}.{id}", way.id), &name, "MiB", memory);
    }
    small(lab, way).await?;
    large(lab, way).await?;
    beside_bulk(lab, way).await?;
    for count in STALLED {
        beside_stalled(lab, way, count).await?;
    }
    recovery(lab, way).await
}

/// Waits until a request gets through; how long that took.
async fn through(way: &Way) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let attempt = async {
            let mut client = Plain::open(way.entry, HOST).await?;
            client.get(SMALL).await
        };
        match tokio::time::timeout(LOST, attempt)
            .await
            .context("lost")
            .flatten()
        {
            Ok(_) => return Ok(begun.elapsed()),
            Err(why) if crate::plan::PATIENCE < begun.elapsed() => {
                return Err(why.context("nothing gets through"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// What each of `count` small requests took, milliseconds.
async fn ask(client: &mut Plain, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        times.push(client.get(SMALL).await?);
    }
    Ok(times)
}

async fn small(lab: &mut Lab, way: &Way) -> Result<()> {
    let mut client = Plain::open(way.entry, HOST).await?;
    let times = ask(&mut client, lab.plan.requests).await?;
    put(lab, way, "kept", "small requests", &times);
    let mut times = Vec::new();
    for _ in 0..lab.plan.requests / 4 {
        let begun = Instant::now();
        let mut client = Plain::open(way.entry, HOST).await?;
        client.get(SMALL).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    put(
        lab,
        way,
        "new",
        "small requests, each on a new connection",
        &times,
    );
    Ok(())
}

async fn large(lab: &mut Lab, way: &Way) -> Result<()> {
    for abreast in [1, ABREAST] {
        let bytes = lab.plan.bulk / abreast;
        let path = bulk(bytes);
        let cpu = way.cpu()?;
        let begun = Instant::now();
        let answers = (0..abreast).map(|_| async {
            let mut client = Plain::open(way.entry, HOST).await?;
            client.get(&path).await
        });
        for answer in join_all(answers).await {
            answer?;
        }
        let took = begun.elapsed().as_secs_f64();
        let gib = (bytes * abreast) as f64 / GIB;
        let words = match abreast {
            1 => format!("{}: a large answer", way.name),
            _ => format!("{}: {abreast} large answers at a time", way.name),
        };
        let id = |what: &str| format!("tunnel.{}.{what}_{abreast}", way.id);
        lab.put(&id("rate"), &words, "MiB/s", gib * 1024.0 / took);
        if !way.is_direct() {
            let used = (way.cpu()? - cpu).as_secs_f64() / gib;
            lab.put(&id("cpu"), &format!("{words}, CPU"), "s/GiB", used);
        }
    }
    Ok(())
}

/// Small requests while one large answer comes as fast as it can.
async fn beside_bulk(lab: &mut Lab, way: &Way) -> Result<()> {
    let mut bulky = Plain::open(way.entry, HOST).await?;
    let path = bulk(lab.plan.bulk);
    let flood = tokio::spawn(async move { while bulky.get(&path).await.is_ok() {} });
    let mut client = Plain::open(way.entry, HOST).await?;
    let times = ask(&mut client, BESIDE).await?;
    flood.abort();
    put(
        lab,
        way,
        "beside_bulk",
        "small requests beside a large answer",
        &times,
    );
    Ok(())
}

/// Small requests while `count` readers have stopped reading.
async fn beside_stalled(lab: &mut Lab, way: &Way, count: usize) -> Result<()> {
    let mut client = Plain::open(way.entry, HOST).await?;
    let before = ask(&mut client, BESIDE).await?;
    let path = bulk(ENDLESS);
    let mut stalled = Vec::new();
    for _ in 0..count {
        let reader = async {
            let mut reader = Plain::open(way.entry, HOST).await?;
            reader.begin(&path).await?;
            anyhow::Ok(reader)
        };
        match tokio::time::timeout(LOST, reader).await {
            Ok(reader) => stalled.push(reader?),
            Err(_) => break,
        }
    }
    let opened = stalled.len();
    let mut times = Vec::new();
    while times.len() < BESIDE {
        match tokio::time::timeout(LOST, client.get(SMALL)).await {
            Ok(time) => times.push(time?),
            Err(_) => break,
        }
    }
    if opened < count || times.len() < BESIDE {
        lab.board.note(format!(
            "{}: with {opened} stalled readers it stood still",
            way.name
        ));
    } else {
        let words = format!("small requests beside {count} stalled readers");
        put(lab, way, &format!("stalled_{count}"), &words, &times);
        if let (Some(with), Some(without)) = (median(&times), median(&before)) {
            let id = format!("tunnel.{}.stalled_{count}.ratio", way.id);
            let words = format!("{}: {words}, against none", way.name);
            lab.put(&id, &words, "×", with / without);
        }
    }
    drop(stalled);
    // What they had in flight is gone when requests go through as usual.
    through(way).await?;
    Ok(())
}

async fn recovery(lab: &mut Lab, way: &mut Way) -> Result<()> {
    let Some(edge) = &mut way.edge else {
        return Ok(());
    };
    edge.kill();
    tokio::time::sleep(REST).await;
    edge.again()?;
    let took = through(way).await?.as_secs_f64() * 1e3;
    let words = format!(
        "{}: edge killed, from its start to the first answer",
        way.name
    );
    lab.put(&format!("tunnel.{}.recovery", way.id), &words, "ms", took);
    Ok(())
}

fn put(lab: &mut Lab, way: &Way, id: &str, words: &str, times: &[f64]) {
    let words = format!("{}: {words}", way.name);
    lab.put_millis(&format!("tunnel.{}.{id}", way.id), &words, times);
}

fn median(times: &[f64]) -> Option<f64> {
    crate::report::quantile(times, 0.5)
}
