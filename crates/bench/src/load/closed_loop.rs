//! Producers that each wait for the answer before they go on, all on one thread of the generator.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::join_all;

/// What a loop did.
pub(crate) struct Done {
    /// Units of work finished.
    pub(crate) count: usize,
    /// From the first start to the last end.
    pub(crate) took: Duration,
}

impl Done {
    /// Units a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// Runs one loop over each state side by side until `time` is over; `step` says how many units it
/// did. Each loop does at least one step.
pub(crate) async fn run<S>(
    states: &mut [S],
    time: Duration,
    step: impl AsyncFn(&mut S) -> Result<usize>,
) -> Result<Done> {
    let begun = Instant::now();
    let loops = states.iter_mut().map(|state| async {
        let mut count = step(state).await?;
        while begun.elapsed() < time {
            count += step(state).await?;
        }
        anyhow::Ok(count)
    });
    let counts = join_all(loops).await;
    let took = begun.elapsed();
    let count = counts.into_iter().sum::<Result<usize>>()?;
    Ok(Done { count, took })
}

/// Spreads `work` over the states, each taking the next piece when it is done with one; the
/// results come in no particular order.
pub(crate) async fn share<S, W, R>(
    states: &mut [S],
    work: impl IntoIterator<Item = W>,
    step: impl AsyncFn(&mut S, W) -> Result<R>,
) -> Result<Vec<R>> {
    let work = std::cell::RefCell::new(work.into_iter());
    let next = || work.borrow_mut().next();
    let loops = states.iter_mut().map(|state| async {
        let mut done = Vec::new();
        while let Some(piece) = next() {
            done.push(step(state, piece).await?);
        }
        anyhow::Ok(done)
    });
    let done = join_all(loops)
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    Ok(done.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_work_is_done_once() {
        let mut states = [0, 0, 0];
        let step = async |state: &mut usize, piece: usize| {
            tokio::task::yield_now().await;
            *state += 1;
            Ok(piece)
        };
        let mut done = share(&mut states, 0..10, step).await.unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..10).collect::<Vec<_>>());
        assert_eq!(states.iter().sum::<usize>(), 10);
    }

    #[tokio::test]
    async fn counts_units_and_fails_with_the_first_failure() {
        let done = run(&mut [(), ()], Duration::ZERO, async |()| Ok(3))
            .await
            .unwrap();
        assert_eq!(done.count, 6);
        let failed = run(&mut [()], Duration::ZERO, async |()| anyhow::bail!("no")).await;
        assert!(failed.is_err());
    }
}
