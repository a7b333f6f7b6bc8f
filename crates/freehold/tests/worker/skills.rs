//! Skills in a worker's sandboxes.

use std::collections::HashMap;
use std::process::Command;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use freehold_archive::{File, MemberPath, pack};
use freehold_base::Secret;
use freehold_client::{Client, Options};
use serde_json::{Value, json};
use tar::EntryType;

use crate::archives::{altered, gzipped, stored, tar_member, tarred, zipped};
use crate::between::Between;
use crate::world::{KEY, Worker, World, id, results};

fn archive(description: &str) -> Vec<u8> {
    named_archive("counting", description)
}

fn named_archive(name: &str, description: &str) -> Vec<u8> {
    let md = format!("---\nname: {name}\ndescription: {description}\n---\n# Counting\n");
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
    pack(name, files).unwrap()
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

/// Part of the name of everything that an archive would put elsewhere.
const ESCAPED: &str = "freehold-test-left-its-folder";

/// What a server may send for an archive, by the name of the skill it stands for.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let file = |name: &[u8], bytes: &[u8]| tar_member(name, EntryType::Regular, 0o644, bytes);
    let ok = || file(b"s/ok", b"x");
    // Not all names can be written by well-meaning programs.
    let zip = |name: String| {
        let stand_in = "z".repeat(name.len());
        let zip = stored(&[("s/ok", b"1"), (&stand_in, b"x")]);
        altered(zip, stand_in.as_bytes(), name.as_bytes())
    };
    let tar = |name: String| tarred(&[ok(), file(name.as_bytes(), b"x")]);
    let names: Vec<String> = (0..5_000).map(|n| format!("s/{n}")).collect();
    let many: Vec<_> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    let zeros = vec![0; 64 << 20];
    let noise: Vec<u8> = (0..9_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let good = zipped(&[("s/SKILL.md", &noise), ("s/b", b"2")]);
    let packed = gzipped(&tarred(&[file(b"s/SKILL.md", &noise)]));
    vec![
        ("zip-climbs", zip(format!("s/../../../{ESCAPED}"))),
        ("zip-absolute", zip(format!("/tmp/{ESCAPED}"))),
        ("zip-backslash", zip(format!("s\\..\\..\\{ESCAPED}"))),
        ("zip-nul", zip(format!("s/{ESCAPED}\0.txt"))),
        ("zip-newline", zip(format!("s/{ESCAPED}\n"))),
        ("zip-case", stored(&[("s/File", b"1"), ("s/file", b"2")])),
        ("zip-bomb", zipped(&[("s/bomb", &zeros)])),
        ("zip-many", zipped(&many)),
        ("zip-cut", good[..good.len() - 30].to_vec()),
        ("tar-climbs", tar(format!("s/../../../{ESCAPED}"))),
        ("tar-absolute", tar(format!("/tmp/{ESCAPED}"))),
        ("tar-newline", tar(format!("s/{ESCAPED}\n"))),
        ("tar-twice", tarred(&[ok(), ok()])),
        ("tar-bomb", gzipped(&tarred(&[file(b"s/bomb", &zeros)]))),
        ("tar-cut", packed[..packed.len() / 2].to_vec()),
        ("page", b"<!doctype html><title>Sign in</title>".to_vec()),
        ("nothing", Vec::new()),
        ("large", vec![b'P'; 40 << 20]),
    ]
}

/// What is no file is left out of a skill, and nothing goes through it.
fn special() -> Vec<u8> {
    let none = |name: &[u8], kind| tar_member(name, kind, 0o777, b"");
    gzipped(&tarred(&[
        none(b"s/hard", EntryType::Link),
        none(b"s/char", EntryType::Char),
        none(b"s/block", EntryType::Block),
        none(b"s/pipe", EntryType::Fifo),
        none(b"s/dir", EntryType::Symlink),
        tar_member(b"s/dir/file", EntryType::Regular, 0o644, b"mine"),
    ]))
}

/// Begins well and breaks off.
fn broken_off() -> Response {
    let pieces = [
        Ok(Bytes::from_static(b"PK\x03\x04")),
        Err(std::io::Error::other("gone")),
    ];
    Body::from_stream(futures_util::stream::iter(pieces)).into_response()
}

/// The server is another's, and says what it likes: each skill that cannot be had is named in the log
/// and missing, a refused one is asked for once, and the session goes on. Nothing is written anywhere
/// but in the skills' own folder.
#[tokio::test]
async fn hostile_skills_are_left_out_and_the_session_goes_on() {
    let world = World::new().await;
    let client = Client::new(Options::new(&world.url, Secret::new(KEY.to_owned()))).unwrap();
    let offer = async |name: &str| {
        let made = client.create_skill(named_archive(name, "It.").into(), None);
        id(&made.await.unwrap())
    };
    let hostile = hostile();
    let mut skills = vec![offer("good").await];
    let mut archives = HashMap::new();
    for (name, bytes) in hostile.iter().cloned().chain([("special", special())]) {
        let skill = offer(name).await;
        archives.insert(skill.clone(), Bytes::from(bytes));
        skills.push(skill);
    }
    let (climber, garbled, broken) = (
        offer("climber").await,
        offer("garbled").await,
        offer("broken").await,
    );
    skills.extend([climber.clone(), garbled.clone(), broken.clone()]);
    let version = format!("/v1/skills/{climber}/versions/latest");
    let mut version = world.get(&version).await;
    version["name"] = format!("../../{ESCAPED}").into();
    let asked: Vec<String> = archives.keys().cloned().collect();
    let (lost, page) = (broken.clone(), garbled.clone());
    let between = Between::start(&world.url, move |path| {
        let skill = path.strip_prefix("/v1/skills/")?.split('/').next()?;
        if path.ends_with("/content") {
            let broken = (skill == lost).then(broken_off);
            return broken.or_else(|| Some(archives.get(skill)?.clone().into_response()));
        }
        let json = [("content-type", "application/json")];
        let named = (skill == climber).then(|| (json, version.to_string()).into_response());
        named.or_else(|| (skill == page).then(|| "<html>".into_response()))
    })
    .await;
    let skills: Vec<Value> = skills
        .iter()
        .map(|skill| json!({ "type": "custom", "skill_id": skill }))
        .collect();
    let agent = json!({
        "name": "agent", "model": "rehearsal", "tools": [{ "type": "agent_toolset_20260401" }],
        "skills": skills,
    });
    let agent = id(&world.post("/v1/agents", agent).await);
    let session = json!({ "agent": agent, "environment_id": world.environment });
    let session = id(&world.post("/v1/sessions", session).await);
    let args = ["poll", "--max-idle", "1s", "--lease", "60s"];
    let mut command = world.command("one", &args);
    let worker = Worker::start(command.env("ANTHROPIC_BASE_URL", &between.url));
    let look = "bash: ls skills; find skills/special | sort; cat skills/special/dir/file";
    let script = format!("{look}\nread: skills/good/SKILL.md\nsay: done");
    world.say(&session, &script).await;
    let results = results(&world.settled(&session).await);
    let there = "good\nspecial\n\
        skills/special\nskills/special/dir\nskills/special/dir/file\nmine";
    assert_eq!(results[0], (false, there.to_owned()));
    assert!(results[1].1.contains("It."), "{results:?}");
    for skill in &asked {
        let path = format!("{skill}/versions/");
        assert_eq!(between.answered(&path), 1, "it comes to the same each time");
    }
    assert!(between.answered(&broken) > 1, "it may arrive yet");
    worker.terminate();
    let (status, said) = worker.wait().await;
    assert!(status.success(), "{said}");
    let names = hostile.iter().map(|(name, _)| *name);
    for name in names.chain([ESCAPED, garbled.as_str(), "broken"]) {
        let mut left_out = said.lines().filter(|line| line.contains("skill left out"));
        assert!(left_out.any(|line| line.contains(name)), "{name}: {said}");
    }
    let escaped = Command::new("find")
        .arg(world.dir.path())
        .args(["/tmp", "-name", &format!("*{ESCAPED}*")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&escaped.stdout), "");
}
