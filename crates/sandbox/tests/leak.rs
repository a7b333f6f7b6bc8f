//! Creating and destroying leaves nothing. Alone in its file, because it counts what the whole
//! process holds.

mod common;

use std::sync::Arc;

use common::*;
use tokio::task::JoinSet;

/// Sandboxes made at a time.
const BATCH: usize = 10;
/// How often.
const ROUNDS: usize = 50;

/// Loop devices that hold an image of this bench.
fn images(bench: &Bench) -> usize {
    let dir = bench.dir.path().to_str().unwrap();
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files =
        devices.filter_map(|d| std::fs::read_to_string(d.path().join("loop/backing_file")).ok());
    files.filter(|file| file.starts_with(dir)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_creations_leave_nothing() {
    let bench = Arc::new(bench("leak"));
    let instance = instance("leak");
    // The first ones start what stays: runtime threads, signal handling.
    for n in 0..BATCH {
        let sandbox = bench.sandbox(&format!("warm_{n}")).await;
        sandbox.destroy().await.unwrap();
    }
    let before = leftovers(&instance);
    assert!(before.3.is_empty() && images(&bench) == 0, "{before:?}");
    for round in 0..ROUNDS {
        let mut making = JoinSet::new();
        for n in 0..BATCH {
            let bench = bench.clone();
            making.spawn(async move {
                let sandbox = bench.sandbox(&format!("leak_{n}")).await;
                ok(&sandbox, "echo x >> f").await;
                sandbox
            });
        }
        let batch = making.join_all().await;
        if round == ROUNDS / 2 {
            let during = leftovers(&instance);
            assert!(
                during.0 > before.0 && during.2 > before.2,
                "the check sees nothing: {during:?}"
            );
            assert_eq!(images(&bench), if is_root() { BATCH } else { 0 });
            assert_eq!(ok(&batch[0], "wc -l < f").await, (round + 1).to_string());
        }
        let mut ending = JoinSet::new();
        for sandbox in batch {
            ending.spawn(async move { sandbox.destroy().await.unwrap() });
        }
        ending.join_all().await;
    }
    assert_eq!((leftovers(&instance), images(&bench)), (before, 0));
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
