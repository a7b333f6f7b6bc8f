//! Sessions are served to their ends.

use serde_json::{Value, json};

use crate::world::{World, results};

#[tokio::test]
async fn a_session_runs_in_a_sandbox_of_the_worker() {
    let world = World::new().await;
    let worker = world.worker("one", &[]);
    let session = world
        .told(
            "bash: cd /tmp && X=kept && echo hello > /workspace/a.txt && pwd\n\
             bash: echo $X in $(pwd)\n\
             read: a.txt\n\
             write: b/c.txt <<< made\n\
             glob: **/*.txt\n\
             grep: made\n\
             bash: exit 3\n\
             say: all done",
        )
        .await;
    let history = world.settled(&session).await;
    let results = results(&history);
    let texts: Vec<&str> = results.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        &texts[..4],
        [
            "/tmp",
            "kept in /tmp",
            "hello\n",
            "wrote 4 bytes to b/c.txt"
        ]
    );
    assert!(texts[4].contains("/workspace/b/c.txt"), "{}", texts[4]);
    assert!(texts[5].contains("c.txt:1:made"), "{}", texts[5]);
    assert_eq!(results[6], (true, "(no output)".to_owned()));
    assert!(results[..6].iter().all(|(is_error, _)| !is_error));
    // The next turn may come when the worker has left the session: it is asked again.
    world.say(&session, "bash: cat /workspace/a.txt").await;
    let history = world
        .until(&session, |h| {
            let over = h.last().is_some_and(|e| e["type"] == "session.status_idle");
            over && crate::world::results(h).len() == 8
        })
        .await;
    let last = crate::world::results(&history).pop().unwrap();
    assert_eq!(last, (false, "hello".to_owned()));
    worker.terminate();
    assert!(worker.wait().await.0.success());
}

#[tokio::test]
async fn custom_tools_are_left_to_other_clients() {
    let world = World::new().await;
    let worker = world.worker("one", &[]);
    let tools = json!([
        { "type": "agent_toolset_20260401" },
        { "type": "custom", "name": "lookup", "description": "Looks up.",
          "input_schema": { "type": "object" } },
    ]);
    let session = world.session(tools).await;
    world
        .say(
            &session,
            "parallel:\ntool: lookup {}\nbash: echo mine\nend:\nsay: {result}",
        )
        .await;
    let history = world
        .until(&session, |h| crate::world::results(h).len() == 1)
        .await;
    assert_eq!(results(&history), [(false, "mine".to_owned())]);
    let call = history
        .iter()
        .find(|e| e["type"] == "agent.custom_tool_use")
        .unwrap();
    let content = json!([{ "type": "text", "text": "theirs" }]);
    let result = json!({
        "type": "user.custom_tool_result", "custom_tool_use_id": call["id"], "content": content,
    });
    world.tell(&session, result).await;
    let history = world.settled(&session).await;
    assert_eq!(results(&history).len(), 1);
    drop(worker);
}

#[tokio::test]
async fn calls_wait_for_a_verdict_and_a_denial_is_kept() {
    let world = World::new().await;
    let effects = world.path("effects");
    let worker = world.open_worker("one");
    let tools = json!([{
        "type": "agent_toolset_20260401",
        "default_config": { "permission_policy": { "type": "always_ask" } },
    }]);
    let session = world.session(tools).await;
    let effects_path = effects.display();
    world
        .say(
            &session,
            &format!(
                "bash: echo denied >> {effects_path}\nbash: echo allowed >> {effects_path}\n\
                 say: over"
            ),
        )
        .await;
    let asked = |history: &[Value], n: usize| {
        let calls: Vec<_> = history
            .iter()
            .filter(|e| e["type"] == "agent.tool_use")
            .collect();
        calls.get(n).map(|call| call["id"].clone())
    };
    let waits = |history: &[Value]| {
        history
            .last()
            .is_some_and(|e| e["stop_reason"]["type"] == "requires_action")
    };
    for (n, verdict) in [(0, "deny"), (1, "allow")] {
        let history = world
            .until(&session, |h| asked(h, n).is_some() && waits(h))
            .await;
        let confirmation = json!({
            "type": "user.tool_confirmation", "tool_use_id": asked(&history, n), "result": verdict,
        });
        world.tell(&session, confirmation).await;
    }
    let history = world.settled(&session).await;
    assert_eq!(std::fs::read_to_string(&effects).unwrap(), "allowed\n");
    assert_eq!(results(&history), [(false, "(no output)".to_owned())]);
    drop(worker);
}

#[tokio::test]
async fn memory_stores_are_folders_that_are_saved() {
    let world = World::new().await;
    let store = world
        .post("/v1/memory_stores", json!({ "name": "notes" }))
        .await;
    let store = crate::world::id(&store);
    let path = format!("/v1/memory_stores/{store}/memories");
    world
        .post(
            &path,
            json!({ "path": "/before.md", "content": "from the store" }),
        )
        .await;
    let agent = json!({
        "name": "agent", "model": "rehearsal", "tools": [{ "type": "agent_toolset_20260401" }],
    });
    let agent = crate::world::id(&world.post("/v1/agents", agent).await);
    let session = json!({
        "agent": agent, "environment_id": world.environment,
        "resources": [
            { "type": "memory_store", "memory_store_id": store, "access": "read_write" },
        ],
    });
    let session = world.post("/v1/sessions", session).await;
    let folder = session["resources"][0]["mount_path"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = crate::world::id(&session);
    let worker = world.worker("one", &[]);
    world
        .say(
            &session,
            &format!("read: {folder}/before.md\nbash: echo new > {folder}/after.md\nsay: over"),
        )
        .await;
    let history = world.settled(&session).await;
    assert_eq!(
        results(&history),
        [
            (false, "from the store".to_owned()),
            (false, "(no output)".to_owned())
        ]
    );
    worker.terminate();
    let (status, said) = worker.wait().await;
    assert!(status.success(), "{said}");
    let memories = world.get(&format!("{path}?view=full")).await;
    let kept: Vec<_> = memories["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["path"].as_str().unwrap(), m["content"].as_str().unwrap()))
        .collect();
    assert_eq!(
        kept,
        [("/after.md", "new\n"), ("/before.md", "from the store")]
    );
}
