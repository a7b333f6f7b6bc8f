//! Packages that are not there, and what is said then.

use serde_json::json;

use crate::index::WHEEL;
use crate::ordinary::as_ordinary_user;
use crate::world::{World, environment, session};

#[tokio::test]
async fn a_package_that_fails_is_told_and_tried_again_by_a_later_session() {
    let world = World::new().await;
    let config = environment(json!({"pip": ["greet"]}));
    let one = session();
    let (text, failed) = world.bash(&one, &config, "greet").await;
    assert!(failed && text.contains("pip failed, exit code 1"), "{text}");
    assert!(
        text.contains("No matching distribution found for greet"),
        "{text}"
    );
    let asked = world.index.asked("/simple/greet/");
    assert_eq!(world.bash(&one, &config, "greet").await.0, text);
    assert_eq!(world.index.asked("/simple/greet/"), asked);
    assert_eq!(world.layers(), Vec::<String>::new());
    world.index.offer_wheel();
    assert_eq!(world.ok(&session(), &config, "greet").await, "greetings");
    assert_eq!(world.index.asked(WHEEL), 1);
}

#[tokio::test]
async fn names_are_names_whatever_they_say() {
    let world = World::new().await;
    world.index.offer_wheel();
    for name in [
        "greet;touch${IFS}/opt/packages/pwned",
        "$(touch${IFS}/opt/packages/pwned)",
        "file:///etc/passwd",
        "http://169.254.169.254/x-1.0-py3-none-any.whl",
    ] {
        let config = environment(json!({"pip": [name]}));
        let (text, failed) = world.bash(&session(), &config, "true").await;
        assert!(failed && text.contains("pip failed"), "{name}: {text}");
        if name.starts_with("http") {
            assert!(
                text.contains("refused by the network: 169.254.169.254"),
                "{text}"
            );
        }
    }
    assert_eq!(world.layers(), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_package_host_nothing_is_tried() {
    let world = World::new().await;
    let networking = json!({"type": "limited", "allowed_hosts": ["index.test"],
        "allow_mcp_servers": false, "allow_package_managers": false});
    let config = json!({"type": "cloud", "networking": networking, "packages": {"pip": ["greet"]}});
    let (text, failed) = world.bash(&session(), &config, "true").await;
    assert!(
        failed && text.contains("no package host may be reached"),
        "{text}"
    );
}

#[tokio::test]
async fn managers_that_are_not_there_are_named() {
    let world = World::new().await;
    // Hosts of these tests have no Ruby; one that has is told by the index that there is no such gem.
    let config = environment(json!({"gem": ["greet:1"]}));
    let (text, failed) = world.bash(&session(), &config, "true").await;
    let told = text.contains("has no gem") || text.contains("gem failed");
    assert!(failed && told, "{text}");
}

#[tokio::test]
async fn a_server_of_an_ordinary_user_installs_below_a_prefix_and_refuses_system_packages() {
    let own =
        "refused::a_server_of_an_ordinary_user_installs_below_a_prefix_and_refuses_system_packages";
    if as_ordinary_user(own) {
        return;
    }
    let world = World::new().await;
    world.index.offer_wheel();
    world.index.offer_module();
    let config = environment(json!({"apt": ["hello"], "pip": ["greet"]}));
    let (text, failed) = world.bash(&session(), &config, "true").await;
    assert!(
        failed && text.contains("apt packages take a server that runs as root"),
        "{text}"
    );
    assert_eq!(world.index.asked(WHEEL), 0);
    let config = environment(json!({"npm": ["shout"], "pip": ["greet"]}));
    let one = session();
    let text = world.ok(&one, &config, "greet; shout").await;
    assert_eq!(text, "greetings\nSHOUTS");
    let change = "echo evil >> /opt/packages/pip/greet.py";
    assert!(world.bash(&one, &config, change).await.1);
}
