//! Our store against a plain transaction for each write: the same engine, database, tables, indexes and
//! durability, in turn. Both append one event of 600 bytes behind the same fence, and both claim by
//! polling and acknowledging an item.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use freehold_base::{EnvironmentId, SessionId};

use super::Sizes;
use super::engine::Database;
use super::growth::poll;
use super::plain::Plain;
use super::sheet::Sheet;
use super::world::World;
use crate::load::closed_loop;

const PART: &str = "batching";
/// Sessions that are appended to.
const SESSIONS: usize = 256;
/// Producers; the plain implementation has a connection for each where the engine lets several write.
const PRODUCERS: [usize; 3] = [1, 16, 64];
/// Workers that claim, and how many items they claim in a round.
const WORKERS: [(usize, usize); 3] = [(1, 200), (16, 400), (64, 1_600)];
/// How long each does in a round.
const SLICE: Duration = Duration::from_millis(1_500);
const EVENT: usize = 600;

struct Producer {
    at: usize,
    connection: usize,
    took: Vec<f64>,
}

fn producers(count: usize) -> Vec<Producer> {
    let one = |at| Producer {
        at,
        connection: at,
        took: Vec::new(),
    };
    (0..count).map(one).collect()
}

fn took(producers: Vec<Producer>) -> Vec<f64> {
    producers.into_iter().flat_map(|p| p.took).collect()
}

pub(super) async fn measure(database: &Database, sizes: Sizes, sheet: &mut Sheet) -> Result<()> {
    let engine = database.engine;
    let world = World::new(database.open().await?).await?;
    let replica = world.store.replica().clone();
    world.store.heartbeat(&replica, 600_000).await?;
    let sessions = world.sessions(SESSIONS, None).await?;
    let mut leases = Vec::new();
    for session in sessions {
        leases.push((world.claim(&session).await?, session));
    }
    let plain = Plain::open(database, PRODUCERS[PRODUCERS.len() - 1]).await?;
    let mut latencies: Vec<(usize, Vec<f64>, Vec<f64>)> = PRODUCERS
        .map(|count| (count, Vec::new(), Vec::new()))
        .into();
    for round in 0..sizes.rounds {
        for (count, of_ours, of_plain) in &mut latencies {
            let (mut us, mut them) = (producers(*count), producers(*count));
            let ours = async |p: &mut Producer| append_ours(&world, &leases, p).await;
            let theirs = async |p: &mut Producer| append_plain(&world, &plain, &leases, p).await;
            let (ours, theirs) = if round % 2 == 0 {
                let ours = closed_loop::run(&mut us, SLICE, ours).await?;
                (ours, closed_loop::run(&mut them, SLICE, theirs).await?)
            } else {
                let theirs = closed_loop::run(&mut them, SLICE, theirs).await?;
                (closed_loop::run(&mut us, SLICE, ours).await?, theirs)
            };
            of_ours.extend(took(us));
            of_plain.extend(took(them));
            let mut put = |what: &str, unit, value| {
                sheet.put(
                    engine,
                    PART,
                    &format!("{count} appending: {what}"),
                    unit,
                    value,
                );
            };
            put("ours", "events/s", ours.rate());
            put("plain", "events/s", theirs.rate());
            put("ours to plain", "×", ours.rate() / theirs.rate());
        }
    }
    for (count, ours, theirs) in &latencies {
        sheet.put_millis(engine, PART, &format!("{count} appending: ours"), ours);
        sheet.put_millis(engine, PART, &format!("{count} appending: plain"), theirs);
    }
    claims(database, &world, &plain, sizes, sheet).await?;
    world.store.close().await;
    Ok(())
}

async fn append_ours(
    world: &World,
    leases: &[(i64, SessionId)],
    p: &mut Producer,
) -> Result<usize> {
    let (epoch, session) = &leases[p.at % leases.len()];
    p.at += 67;
    let event = world.event("agent.message", EVENT);
    let begun = Instant::now();
    world.append(session, *epoch, vec![event]).await?;
    p.took.push(begun.elapsed().as_secs_f64() * 1e3);
    Ok(1)
}

async fn append_plain(
    world: &World,
    plain: &Plain,
    leases: &[(i64, SessionId)],
    p: &mut Producer,
) -> Result<usize> {
    let (epoch, session) = &leases[p.at % leases.len()];
    p.at += 67;
    let event = world.event("agent.message", EVENT);
    let begun = Instant::now();
    plain.append(p.connection, session, *epoch, event).await?;
    p.took.push(begun.elapsed().as_secs_f64() * 1e3);
    Ok(1)
}

async fn claims(
    database: &Database,
    world: &World,
    plain: &Plain,
    sizes: Sizes,
    sheet: &mut Sheet,
) -> Result<()> {
    for round in 0..sizes.rounds {
        for (workers, claims) in WORKERS {
            let mut rates = [0.0; 2];
            for turn in 0..2 {
                let which = (round + turn) % 2;
                // A queue for each, so that none begins with what the other left.
                let queue = world
                    .environment(&format!("claims-{workers}-{round}-{which}"))
                    .await?;
                world.sessions(claims, Some(&queue)).await?;
                let ours = async |_: &mut Producer, n| claim_ours(world, &queue, n).await;
                let theirs = async |p: &mut Producer, n| {
                    plain.claim(p.connection, poll(world, &queue, n)).await
                };
                let (mut all, begun) = (producers(workers), Instant::now());
                let done = match which {
                    0 => closed_loop::share(&mut all, 0..claims, ours).await?,
                    _ => closed_loop::share(&mut all, 0..claims, theirs).await?,
                };
                rates[which] = done.len() as f64 / begun.elapsed().as_secs_f64();
            }
            let mut put = |what: &str, unit, value| {
                sheet.put(
                    database.engine,
                    PART,
                    &format!("{workers} claiming: {what}"),
                    unit,
                    value,
                );
            };
            put("ours", "claims/s", rates[0]);
            put("plain", "claims/s", rates[1]);
            put("ours to plain", "×", rates[0] / rates[1]);
        }
    }
    Ok(())
}

async fn claim_ours(world: &World, queue: &EnvironmentId, n: usize) -> Result<()> {
    let item = world.store.poll_work(poll(world, queue, n)).await?;
    let item = item.context("the queue ran out")?;
    world.store.ack_work(queue, &item.id).await?;
    Ok(())
}
