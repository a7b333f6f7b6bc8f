//! Skills in a worker's sandboxes.

use freehold_archive::{File, MemberPath, pack};
use freehold_base::Secret;
use freehold_client::{Client, Options};
use serde_json::json;

use crate::world::{KEY, World, id, results};

fn archive(description: &str) -> Vec<u8> {
    let md = format!("---\nname: counting\ndescription: {description}\n---\n# Counting\n");
    let file = |path: &str, executable, text: &str| File {
        path: MemberPath::new(path.as_bytes()).unwrap(),
        executable,
        bytes: text.as_bytes().to_vec(),
    };
    let script = "#!/bin/sh\nwc -l < \"$(dirname \"$0\")/data\"\n";
    let files = vec![
        file("SKILL.md", false, &md),
        file("count", true, script),
        file("data", false, "1\n2\n3\n"),
    ];
    pack("counting", files).unwrap()
}

#[tokio::test]
async fn a_workers_sandbox_shows_the_skills_its_session_was_made_with() {
    let world = World::new().await;
    let client = Client::new(Options::new(&world.url, Secret::new(KEY.to_owned()))).unwrap();
    let skill = client.create_skill(archive("First.").into(), None).await;
    let skill = id(&skill.unwrap());
    let agent = json!({
        "name": "agent", "model": "rehearsal", "tools": [{ "type": "agent_toolset_20260401" }],
        "skills": [{ "type": "custom", "skill_id": skill }],
    });
    let agent = id(&world.post("/v1/agents", agent).await);
    let session = json!({ "agent": agent, "environment_id": world.environment });
    let session = id(&world.post("/v1/sessions", session).await);
    // What happens to the skill from now on is nothing to the session.
    let second = client.create_skill_version(&skill, archive("Second.").into());
    second.await.unwrap();
    client.delete_skill(&skill).await.unwrap();
    let worker = world.worker("one", &[]);
    world
        .say(
            &session,
            "read: skills/counting/SKILL.md\n\
             bash: skills/counting/count\n\
             bash: echo x >> skills/counting/SKILL.md || echo refused\n\
             write: skills/counting/new <<< x\n\
             bash: ls -A skills\n\
             say: done",
        )
        .await;
    let history = world.settled(&session).await;
    let results = results(&history);
    assert!(results[0].1.contains("First."), "{results:?}");
    assert_eq!(results[1], (false, "3".to_owned()));
    assert!(results[2].1.contains("refused"), "{results:?}");
    assert!(results[3].0, "{results:?}");
    assert_eq!(results[4].1, "counting");
    worker.terminate();
    assert!(worker.wait().await.0.success());
}
