//! Packages that are there.

use serde_json::json;

use crate::index::{MODULE, WHEEL};
use crate::world::{World, environment, session};

#[tokio::test]
async fn packages_are_installed_once_for_all_sessions_and_nobody_can_change_them() {
    let mut world = World::new().await;
    world.index.offer_wheel();
    world.index.offer_module();
    let config = environment(json!({"pip": ["greet==1.0"], "npm": ["shout@1"], "apt": []}));
    let (one, two) = (session(), session());
    let look = "greet; python3 -c 'import greet; greet.main()'; shout; \
                node -e \"require('shout')\"";
    let seen = "greetings\ngreetings\nSHOUTS\nSHOUTS";
    let (first, second) =
        tokio::join!(world.ok(&one, &config, look), world.ok(&two, &config, look));
    assert_eq!((first.as_str(), second.as_str()), (seen, seen));
    assert_eq!(
        (world.index.asked(WHEEL), world.index.asked(MODULE)),
        (1, 1)
    );
    assert_eq!(world.layers().len(), 1);

    for change in [
        "echo evil >> /opt/packages/pip/greet.py",
        "rm /opt/packages/pip/greet.py",
        "touch /opt/packages/pip/bin/more",
        "mv /opt/packages /opt/other",
        "echo evil > /opt/packages/npm/lib/node_modules/shout/main.js",
    ] {
        assert!(world.bash(&one, &config, change).await.1, "{change}");
    }
    assert_eq!(world.ok(&two, &config, look).await, seen);
    // What a session does for itself is its own.
    let none = environment(json!({}));
    let (text, failed) = world.bash(&session(), &none, "greet").await;
    assert!(failed && text.contains("not found"), "{text}");

    world.restart().await;
    assert_eq!(world.ok(&one, &config, look).await, seen);
    assert_eq!(world.ok(&session(), &config, look).await, seen);
    assert_eq!(
        (world.index.asked(WHEEL), world.index.asked(MODULE)),
        (1, 1)
    );
    // Another list is another layer.
    let other = environment(json!({"pip": ["greet"]}));
    assert_eq!(world.ok(&session(), &other, "greet").await, "greetings");
    assert_eq!(world.index.asked(WHEEL), 2);
    assert_eq!(world.layers().len(), 2);
}

#[tokio::test]
async fn what_was_left_half_made_is_not_used() {
    let mut world = World::new().await;
    world.index.offer_wheel();
    let config = environment(json!({"pip": ["greet"]}));
    assert_eq!(world.ok(&session(), &config, "greet").await, "greetings");
    let key = world.layers().remove(0);
    // As if the server had been killed before the layer was whole.
    let (whole, half) = (
        world.dir.path().join(".layers").join(&key),
        world.dir.path().join(format!(".layers/.half-{key}")),
    );
    std::fs::rename(&whole, &half).unwrap();
    std::fs::remove_file(half.join("layer/opt/packages/pip/greet.py")).unwrap();
    world.restart().await;
    assert_eq!(world.layers(), Vec::<String>::new());
    assert_eq!(world.ok(&session(), &config, "greet").await, "greetings");
    assert_eq!(world.layers(), [key]);
    assert_eq!(world.index.asked(WHEEL), 2);
}
