//! A long work queue against a short one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use freehold_base::EnvironmentId;

use super::Sizes;
use super::engine::Database;
use super::growth::poll;
use super::sheet::Sheet;
use super::world::World;
use crate::load::closed_loop;

const PART: &str = "work queue";
/// Items of the short one.
const SHORT: usize = 10;
/// Workers that poll at once.
const WORKERS: usize = 16;
/// How long they do.
const SLICE: Duration = Duration::from_secs(3);

pub(super) async fn measure(database: &Database, sizes: Sizes, sheet: &mut Sheet) -> Result<()> {
    let world = World::new(database.open().await?).await?;
    let samples = sizes.samples.min(sizes.queue / 4);
    for (n, depth) in [SHORT, sizes.queue].into_iter().enumerate() {
        let queue = world.environment(&format!("queue-{n}")).await?;
        world.sessions(depth, Some(&queue)).await?;
        let (mut polls, mut acks) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            // As many as there were.
            world.session(Some(&queue)).await?;
            let (polled, acknowledged) = take(&world, &queue).await?.context("an empty queue")?;
            polls.push(polled);
            acks.push(acknowledged);
        }
        sheet.put_millis(
            database.engine,
            PART,
            &format!("{depth} items: poll"),
            &polls,
        );
        sheet.put_millis(
            database.engine,
            PART,
            &format!("{depth} items: acknowledge"),
            &acks,
        );
        if depth != SHORT {
            let step = async |(): &mut ()| Ok(usize::from(take(&world, &queue).await?.is_some()));
            let done = closed_loop::run(&mut [(); WORKERS], SLICE, step).await?;
            let what = format!("{depth} items: polled and acknowledged, {WORKERS} workers");
            sheet.put(database.engine, PART, &what, "1/s", done.rate());
        }
    }
    world.store.close().await;
    Ok(())
}

/// Milliseconds of a poll and of an acknowledgement, unless the queue is empty.
async fn take(world: &World, queue: &EnvironmentId) -> Result<Option<(f64, f64)>> {
    let begun = Instant::now();
    let Some(item) = world.store.poll_work(poll(world, queue, 0)).await? else {
        return Ok(None);
    };
    let polled = begun.elapsed();
    world.store.ack_work(queue, &item.id).await?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Some((millis(polled), millis(begun.elapsed() - polled))))
}
