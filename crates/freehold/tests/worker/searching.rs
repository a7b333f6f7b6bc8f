//! An agent that searches its whole world (environment, `/proc`, files, sockets, the memory of other
//! processes) finds no credential, neither in a sandbox of the server nor in one of a worker. What it
//! put there itself it finds, and without isolation the credentials too: the search can find.

use serde_json::{Value, json};

use crate::ordinary::as_ordinary_user;
use crate::world::{KEY, World, id};

/// Also run by the tests of two hosts.
const SEARCH: &str = include_str!("../../../../tests/sdk/python/hosts/world.py");
/// Written by a process that is gone when the search begins, in pieces that are nothing by themselves.
const PLANT: &str = "python3 -c 'open(\"planted\", \"w\").write(\"sk-\" + \"ant-oat01-\" + \"a\" * 24 + \" planted-\" + \"word\")'";
const WORD: &str = "planted-word";
/// What another session has.
const OTHER: &str = "marker-of-another-session";

/// What a variable of the server's sandboxes stands for.
const SECRET: &str = "secret-of-a-vault";

/// A vault with one variable.
async fn vault(world: &World) -> String {
    let vault = json!({ "display_name": "Secrets" });
    let vault = id(&world.post("/v1/vaults", vault).await);
    let auth = json!({
        "type": "environment_variable", "secret_name": "ACME_KEY", "secret_value": SECRET,
        "networking": { "type": "limited", "allowed_hosts": ["api.acme.test"] },
    });
    let path = format!("/v1/vaults/{vault}/credentials");
    world.post(&path, json!({ "auth": auth })).await;
    vault
}

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Cloud,
    Worker,
}

/// What the search of an agent says, beside another session that lives and has a call that runs.
async fn searched(world: &World, place: Where, option: &str) -> Vec<String> {
    let with = match place {
        Where::Cloud => {
            let vault = vault(world).await;
            json!({ "environment_id": world.cloud().await, "vault_ids": [vault] })
        }
        Where::Worker => json!({ "environment_id": world.environment }),
    };
    let tools = json!([{ "type": "agent_toolset_20260401" }]);
    let session = async || world.session_with(tools.clone(), with.clone()).await;
    let other = session().await;
    let wait = "mkfifo gate; cat gate";
    let has = format!("bash: echo {OTHER} > mine\nbash: MINE={OTHER} bash -c '{wait}'");
    world.say(&other, &has).await;
    let waits = |h: &[Value]| {
        let calls = h.iter().filter(|e| e["type"] == "agent.tool_use");
        calls
            .filter(|e| e["input"].to_string().contains(OTHER))
            .count()
            == 2
    };
    world.until(&other, waits).await;
    let master = std::fs::read_to_string(world.path("data").join("secrets.key")).unwrap();
    let master = master.lines().find(|line| !line.starts_with('#')).unwrap();
    let words = [KEY, &world.key, master.trim(), OTHER, SECRET, WORD];
    // Reversed, so that looking for them does not put them anywhere.
    let words: Vec<String> = words.map(|word| word.chars().rev().collect()).to_vec();
    let program: Vec<_> = SEARCH.lines().map(|line| format!("| {line}")).collect();
    let script = format!(
        "write: world.py <<<\n{}\nbash: {PLANT}\nbash: echo ${{ACME_KEY:+given}}\nbash: python3 world.py {option} {} 2>&1\nsay: over",
        program.join("\n"),
        words.join(" "),
    );
    let searching = session().await;
    world.say(&searching, &script).await;
    let history = world.settled(&searching).await;
    let results = history.iter().rev().filter(|e| {
        let kind = e["type"].as_str().unwrap();
        kind.ends_with(".tool_result")
    });
    let mut results = results.map(|e| e["content"][0]["text"].as_str().unwrap());
    let said = results.next().unwrap();
    let given = results.next().unwrap() == "given";
    assert_eq!(given, place == Where::Cloud, "the variable is there");
    let said: Vec<String> = said.lines().map(str::to_owned).collect();
    assert_eq!(said.last().map(String::as_str), Some("done"), "{said:#?}");
    said
}

fn found(said: &[String]) -> Vec<&str> {
    said.iter()
        .filter_map(|line| line.strip_prefix("FOUND "))
        .collect()
}

/// What was planted and nothing else.
async fn finds_nothing(world: &World, place: Where) {
    let said = searched(world, place, "").await;
    let planted = [
        "a credential in /workspace/planted",
        "a word in /workspace/planted",
    ];
    assert_eq!(found(&said), planted, "{said:#?}");
}

/// The key of the process that started it.
async fn finds_it(world: &World, place: Where, holder: u32) {
    let said = searched(world, place, "--ancestors").await;
    let environment = format!("a word in environ of process {holder}");
    let memory = format!("the memory of process {holder}");
    let found = found(&said);
    assert!(found.contains(&environment.as_str()), "{said:#?}");
    assert!(found.iter().any(|f| f.contains(&memory)), "{said:#?}");
}

#[tokio::test]
async fn nothing_in_a_sandbox_of_the_server_knows_a_credential() {
    let world = World::new().await;
    finds_nothing(&world, Where::Cloud).await;
    as_ordinary_user("searching::nothing_in_a_sandbox_of_the_server_knows_a_credential");
}

#[tokio::test]
async fn nothing_in_a_sandbox_of_a_worker_knows_a_credential() {
    let world = World::new().await;
    let _worker = world.worker("one", &[]);
    finds_nothing(&world, Where::Worker).await;
    as_ordinary_user("searching::nothing_in_a_sandbox_of_a_worker_knows_a_credential");
}

#[tokio::test]
async fn without_isolation_the_search_finds_the_keys() {
    let world = World::of_a_server(&["--sandbox", "process"]).await;
    let worker = world.open_worker("one");
    finds_it(&world, Where::Cloud, world.server_pid()).await;
    finds_it(&world, Where::Worker, worker.pid()).await;
}
