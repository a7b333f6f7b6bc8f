//! What one operation takes while the number of sessions grows. One caller, one operation after another,
//! so that nothing shares a commit.

use std::time::Instant;

use anyhow::Result;
use freehold_base::{EnvironmentId, SessionId};
use freehold_store::{Direction, EventQuery, NewPoll, SessionCursor, SessionQuery};

use super::Sizes;
use super::engine::Database;
use super::sheet::Sheet;
use super::world::World;

const PART: &str = "growth";
/// Rows of a page.
const PAGE: usize = 20;
/// Sessions made between two looks at the clock.
const CHUNK: usize = 1_000;
/// Seconds after which an engine gets no more sessions.
const PATIENCE: f64 = 300.0;

pub(super) async fn measure(database: &Database, sizes: Sizes, sheet: &mut Sheet) -> Result<()> {
    let world = World::new(database.open().await?).await?;
    let queue = world.environment("queue").await?;
    let empty = database.bytes().await?;
    let replica = world.store.replica().clone();
    let mut sessions: Vec<SessionId> = Vec::new();
    let begun = Instant::now();
    for size in sizes.sessions {
        let (before, filling) = (sessions.len(), Instant::now());
        while sessions.len() < size && begun.elapsed().as_secs_f64() < PATIENCE {
            let made = world
                .sessions(CHUNK.min(size - sessions.len()), None)
                .await?;
            world.turns(&made).await?;
            sessions.extend(made);
            world.store.heartbeat(&replica, 60_000).await?;
        }
        let made = sessions.len() - before;
        if made == 0 {
            break;
        }
        let rate = made as f64 / filling.elapsed().as_secs_f64();
        let n = if sessions.len() == size {
            thousands(size)
        } else {
            format!("{} (time was up)", thousands(sessions.len()))
        };
        let mut put = |what: &str, unit, value| {
            sheet.put(
                database.engine,
                PART,
                &format!("{n} sessions: {what}"),
                unit,
                value,
            );
        };
        put("made with a turn of 9 events, 256 at once", "1/s", rate);
        let bytes = (database.bytes().await? - empty) / sessions.len() as f64;
        put("database, a session", "KiB", bytes / 1024.0);
        operations(database, &world, &queue, &sessions, &n, sizes, sheet).await?;
    }
    world.store.close().await;
    Ok(())
}

fn thousands(n: usize) -> String {
    match n {
        0..1_000 => n.to_string(),
        _ => format!("{},{:03}", n / 1_000, n % 1_000),
    }
}

async fn operations(
    database: &Database,
    world: &World,
    queue: &EnvironmentId,
    sessions: &[SessionId],
    n: &str,
    sizes: Sizes,
    sheet: &mut Sheet,
) -> Result<()> {
    let (store, replica) = (&world.store, world.store.replica().clone());
    store.heartbeat(&replica, 60_000).await?;
    let middle = store.session_any(&sessions[sessions.len() / 2]).await?;
    let cursor = middle.map(|row| SessionCursor {
        created_at: row.created_at,
        id: row.id,
        direction: Direction::Next,
    });
    let page = |cursor| SessionQuery {
        limit: PAGE,
        cursor,
        ..SessionQuery::default()
    };
    let newest = EventQuery {
        descending: true,
        limit: PAGE,
        ..EventQuery::default()
    };
    let names = [
        "create",
        "read",
        "first page",
        "page in the middle",
        "newest events",
        "append",
        "claim and release",
        "runnable",
        "poll of an empty queue",
        "count by status",
    ];
    let mut samples = names.map(|_| Vec::with_capacity(sizes.samples));
    // Spread over all of them, by a stride that meets each at most once.
    let stride = (sessions.len() * 7 / 11).max(1) | 1;
    for k in 0..sizes.samples {
        let session = &sessions[k * stride % sessions.len()];
        for (i, taken) in samples.iter_mut().enumerate() {
            let begun = Instant::now();
            match i {
                0 => drop(world.session(None).await?),
                1 => drop(store.session(&world.workspace, session).await?),
                2 => drop(store.list_sessions(&world.workspace, page(None)).await?),
                3 => drop(
                    store
                        .list_sessions(&world.workspace, page(cursor.clone()))
                        .await?,
                ),
                4 => drop(store.list_events(session, newest.clone()).await?),
                5 => {
                    world
                        .append(session, 0, vec![world.event("agent.message", 600)])
                        .await?
                }
                6 => {
                    let epoch = world.claim(session).await?;
                    store.release(session, epoch).await?;
                }
                7 => drop(store.runnable(100).await?),
                8 => drop(store.poll_work(poll(world, queue, k)).await?),
                _ => drop(store.count_sessions().await?),
            }
            taken.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    for (name, samples) in names.iter().zip(&samples) {
        sheet.put_millis(
            database.engine,
            PART,
            &format!("{n} sessions: {name}"),
            samples,
        );
    }
    Ok(())
}

/// A poll with a token of its own.
pub(super) fn poll(world: &World, queue: &EnvironmentId, n: usize) -> NewPoll {
    let mut token_hash = [0; 32];
    let unique = world.ids.next::<freehold_base::kind::Event>().to_string();
    for (to, from) in token_hash
        .iter_mut()
        .zip(unique.bytes().rev().chain(n.to_le_bytes()))
    {
        *to = from;
    }
    NewPoll {
        environment: queue.clone(),
        worker: None,
        key: world.ids.next(),
        reclaim_older_than_ms: 60_000,
        token_hash,
    }
}
