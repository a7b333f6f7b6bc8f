//! Memory stores in real sandboxes: what an agent writes is seen through the API and by other
//! sessions, and the other way round.

use std::path::Path;
use std::sync::Arc;

use freehold_base::{Secret, SystemClock};
use freehold_client::{Client, Frame, Options, Previews};
use freehold_wire::memory::MemoryItem;
use freehold_worker::MemoryMount;
use freehold_worker::memory::api::ApiMemory;
use freehold_worker::memory::{Folder, HostFolder, Rules, SessionMemory};
use serde_json::{Value, json};

use crate::server::{KEY, Server, freehold};

struct World {
    client: Client,
    agent: String,
    environment: String,
}

fn client(server: &Server) -> Client {
    Client::new(Options::new(&server.url, Secret::new(KEY.to_owned()))).unwrap()
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl World {
    async fn new(server: &Server) -> Self {
        let client = client(server);
        let agent = json!({"name": "a", "model": "rehearsal",
            "tools": [{"type": "agent_toolset_20260401"}]});
        Self {
            agent: id(&client.create_agent(&agent).await.unwrap()),
            environment: id(&client
                .create_environment(&json!({"name": "e"}))
                .await
                .unwrap()),
            client,
        }
    }

    async fn store(&self, name: &str) -> String {
        let body = json!({"name": name});
        id(&self.client.create_memory_store(&body).await.unwrap())
    }

    async fn session(&self, stores: &[(&str, &str)]) -> String {
        let resources: Vec<Value> = stores
            .iter()
            .map(|(store, access)| {
                json!({"type": "memory_store", "memory_store_id": store, "access": access})
            })
            .collect();
        let body = json!({"agent": self.agent, "environment_id": self.environment,
            "resources": resources});
        id(&self.client.create_session(&body).await.unwrap())
    }

    /// Runs a command in the session; what it printed.
    async fn bash(&self, session: &str, command: &str) -> String {
        let stream = self.client.stream(session, Previews::Off);
        let mut stream = stream.await.unwrap();
        let text = format!("bash: {command}");
        let message = json!({"type": "user.message", "content": [{"type": "text", "text": text}]});
        self.client.send_events(session, &[message]).await.unwrap();
        let mut printed = String::new();
        while let Some(frame) = stream.next().await.unwrap() {
            let Frame::Event(event) = frame else { continue };
            match event.kind.as_str() {
                "agent.tool_result" => {
                    let event: Value = serde_json::from_str(event.raw()).unwrap();
                    printed = event["content"][0]["text"].as_str().unwrap().to_owned();
                }
                "session.status_idle" => return printed,
                _ => {}
            }
        }
        panic!("the stream ended");
    }

    /// Paths and contents of a store.
    async fn memories(&self, store: &str) -> Vec<(String, String)> {
        let page = self.client.memories(store, true, None).await.unwrap();
        let each = page.data.into_iter().map(|item| match item {
            MemoryItem::Memory(memory) => (memory.path, memory.content.unwrap()),
            MemoryItem::Prefix(prefix) => panic!("{prefix:?}"),
        });
        each.collect()
    }
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter()
        .map(|(p, c)| ((*p).into(), (*c).into()))
        .collect()
}

fn start(home: &Path) -> Server {
    Server::spawn(freehold(home).env("FREEHOLD_BOOTSTRAP_KEY", KEY))
}

#[tokio::test]
async fn sessions_share_a_store_and_the_api_sees_it() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path());
    let w = World::new(&server).await;
    let store = w.store("Team Notes").await;
    w.client
        .create_memory(&store, "/given.md", "from the api")
        .await
        .unwrap();
    let writer = w.session(&[(&store, "read_write")]).await;
    let said = w
        .bash(&writer, "cd /mnt/memory/team-notes && cat given.md && mkdir -p a/b && echo tabs > a/b/style.md && ls")
        .await;
    assert_eq!(said, "from the apia\ngiven.md");
    let written = pairs(&[("/a/b/style.md", "tabs\n"), ("/given.md", "from the api")]);
    assert_eq!(
        w.memories(&store).await,
        written,
        "visible as soon as the turn ends"
    );

    // A second session sees it, and may only look.
    let reader = w.session(&[(&store, "read_only")]).await;
    let said = w
        .bash(&reader, "cd /mnt/memory/team-notes; cat a/b/style.md; echo x > new; echo x > a/b/style.md; rm given.md; touch /mnt/memory/other; ls -A /mnt/memory")
        .await;
    assert!(said.starts_with("tabs\n"), "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 4, "{said}");
    assert!(said.ends_with("team-notes"), "{said}");
    assert_eq!(w.memories(&store).await, written);

    // What changes elsewhere is there when the next round begins, in both.
    let page = w.client.memories(&store, false, None).await.unwrap();
    for item in page.data {
        let MemoryItem::Memory(memory) = item else {
            panic!()
        };
        let (id, sha) = (memory.id.as_str(), &memory.content_sha256);
        if memory.path == "/given.md" {
            w.client
                .update_memory(&store, id, "changed", sha)
                .await
                .unwrap();
        } else {
            w.client.delete_memory(&store, id, sha).await.unwrap();
        }
    }
    w.client
        .create_memory(&store, "/more", "more")
        .await
        .unwrap();
    for session in [&writer, &reader] {
        let said = w
            .bash(
                session,
                "cd /mnt/memory/team-notes; find . -type f ! -name '.*' | sort; cat given.md more",
            )
            .await;
        assert_eq!(said, "./given.md\n./more\nchangedmore", "{session}");
    }

    // A deleted file is a deleted memory; all of them at once are an accident.
    w.bash(&writer, "rm /mnt/memory/team-notes/more").await;
    assert_eq!(w.memories(&store).await, pairs(&[("/given.md", "changed")]));
    w.client
        .create_memory(&store, "/second", "2")
        .await
        .unwrap();
    w.bash(
        &writer,
        "rm -rf /mnt/memory/team-notes/* /mnt/memory/team-notes/.[a-z]*",
    )
    .await;
    let kept = pairs(&[("/given.md", "changed"), ("/second", "2")]);
    assert_eq!(w.memories(&store).await, kept);
    let said = w.bash(&writer, "cat /mnt/memory/team-notes/*").await;
    assert_eq!(said, "changed2");

    // It goes on after a restart.
    w.bash(&writer, "echo before > /mnt/memory/team-notes/given.md")
        .await;
    assert!(server.stop().0.success());
    let server = start(home.path());
    let w = World {
        client: client(&server),
        ..w
    };
    w.client.create_memory(&store, "/third", "3").await.unwrap();
    let said = w
        .bash(
            &writer,
            "cd /mnt/memory/team-notes; rm second; cat given.md third",
        )
        .await;
    assert_eq!(said, "before\n3");
    assert_eq!(
        w.memories(&store).await,
        pairs(&[("/given.md", "before\n"), ("/third", "3")])
    );
}

#[tokio::test]
async fn what_is_in_a_folder_cannot_lead_out_of_it() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path());
    let w = World::new(&server).await;
    let (store, other) = (w.store("one").await, w.store("two").await);
    w.client.create_memory(&store, "/a/b", "1").await.unwrap();
    w.client.create_memory(&store, "/c", "2").await.unwrap();
    w.client
        .create_memory(&other, "/theirs", "3")
        .await
        .unwrap();
    let session = w
        .session(&[(&store, "read_write"), (&other, "read_only")])
        .await;
    let trap = "cd /mnt/memory/one; ln -s /etc/passwd link; ln -s ../two/theirs c2; mkfifo pipe; \
        printf 'caf\\351' > latin1; head -c 200000 /dev/zero > large; \
        rm -r a; ln -s /workspace a; mkdir -p /workspace; echo mine > /workspace/b; ls";
    w.bash(&session, trap).await;
    // The file that is gone was replaced by nothing that could be one.
    assert_eq!(w.memories(&store).await, pairs(&[("/c", "2")]));
    // A memory whose folder is a link elsewhere is not written there.
    w.client
        .create_memory(&store, "/a/b", "from the store")
        .await
        .unwrap();
    let said = w
        .bash(&session, "cat /workspace/b /mnt/memory/two/theirs")
        .await;
    assert_eq!(said, "mine\n3");
    assert_eq!(
        w.memories(&store).await,
        pairs(&[("/a/b", "from the store"), ("/c", "2")])
    );
    let said = w
        .bash(&session, "cd /mnt/memory/one; rm a; ls latin1 large")
        .await;
    assert_eq!(said, "large\nlatin1", "left alone");
    assert_eq!(
        w.bash(&session, "cat /mnt/memory/one/a/b").await,
        "from the store"
    );
}

/// What a worker on another host does: the same engine over the API.
#[tokio::test]
async fn a_folder_on_another_host_is_kept_in_step() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path());
    let w = World::new(&server).await;
    let store = w.store("Team Notes").await;
    for n in 0..25 {
        // More than a page.
        let path = format!("/many/{n:02}");
        w.client.create_memory(&store, &path, "1").await.unwrap();
    }
    let mount = MemoryMount {
        store: store.parse().unwrap(),
        mount_path: "/mnt/memory/team-notes".into(),
        read_only: false,
    };
    let dir = home.path().join("team-notes");
    let folders: Vec<Box<dyn Folder>> = vec![Box::new(HostFolder(dir.clone()))];
    let remote = Arc::new(ApiMemory(w.client.clone()));
    let clock = Arc::new(SystemClock);
    let rules = Rules::default();
    let mut memory = SessionMemory::new(vec![mount], remote, clock, rules, None).await;
    memory.open(&folders).await.unwrap();
    let local = |path: &str| std::fs::read_to_string(dir.join(path)).ok();
    assert_eq!(local("many/24").unwrap(), "1");

    std::fs::write(dir.join("many/00"), "edited here").unwrap();
    std::fs::write(dir.join("new"), "new here").unwrap();
    std::fs::write(dir.join("large"), "x".repeat(102_401)).unwrap();
    std::fs::remove_file(dir.join("many/01")).unwrap();
    w.client
        .create_memory(&store, "/elsewhere", "new there")
        .await
        .unwrap();
    memory.finish(&folders).await;
    assert_eq!(local("elsewhere").unwrap(), "new there");
    std::fs::write(dir.join("late"), "flushed").unwrap();
    memory.flush(&folders).await;
    let mut held = Vec::new();
    let mut page = None;
    loop {
        let found = w
            .client
            .memories(&store, true, page.as_deref())
            .await
            .unwrap();
        held.extend(found.data.into_iter().filter_map(|item| match item {
            MemoryItem::Memory(m) => Some((m.path, m.content.unwrap())),
            MemoryItem::Prefix(_) => None,
        }));
        page = found.next_page;
        if page.is_none() {
            break;
        }
    }
    let of = |path: &str| {
        held.iter()
            .find(|(p, _)| p == path)
            .map(|(_, c)| c.as_str())
    };
    assert_eq!(of("/many/00"), Some("edited here"));
    assert_eq!(
        (of("/new"), of("/late")),
        (Some("new here"), Some("flushed"))
    );
    assert_eq!((of("/many/01"), of("/large"), held.len()), (None, None, 27));

    // What changes and goes there, changes and goes here; an edit here of what went there stays.
    let page = w.client.memories(&store, false, None).await.unwrap();
    for item in page.data {
        let MemoryItem::Memory(m) = item else {
            continue;
        };
        let (id, sha) = (m.id.as_str(), &m.content_sha256);
        match m.path.as_str() {
            "/many/02" => drop(
                w.client
                    .update_memory(&store, id, "theirs", sha)
                    .await
                    .unwrap(),
            ),
            "/many/03" | "/many/04" => w.client.delete_memory(&store, id, sha).await.unwrap(),
            _ => {}
        }
    }
    std::fs::write(dir.join("many/02"), "mine").unwrap();
    std::fs::write(dir.join("many/04"), "kept").unwrap();
    memory.sync(&folders).await;
    assert_eq!(
        (local("many/02").as_deref(), local("many/03")),
        (Some("theirs"), None)
    );
    let all = w.client.memories(&store, false, None).await.unwrap();
    let kept = all
        .data
        .iter()
        .any(|item| matches!(item, MemoryItem::Memory(m) if m.path == "/many/04"));
    assert!(kept);
}
