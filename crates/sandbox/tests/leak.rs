//! Creating and destroying leaves nothing. Alone in its file, because it counts what the whole
//! process holds.

mod common;

use common::*;

#[tokio::test]
async fn fifty_creations_leave_nothing() {
    let bench = bench("leak");
    let instance = instance("leak");
    // The first one starts what stays: runtime threads, signal handling.
    bench.sandbox("warm").await.destroy().await.unwrap();
    let before = leftovers(&instance);
    assert!(before.3.is_empty(), "{before:?}");
    for n in 0..50 {
        let sandbox = bench.sandbox(&format!("leak_{n}")).await;
        ok(&sandbox, "true").await;
        if n == 25 {
            let during = leftovers(&instance);
            assert!(
                during.0 > before.0 && during.2 > before.2,
                "the check sees nothing: {during:?}"
            );
        }
        sandbox.destroy().await.unwrap();
    }
    assert_eq!(leftovers(&instance), before);
}
