//! Skills (contract 70), and agents that name them.

use std::io::{Cursor, Write};

use freehold_archive::{Content, Limits, Rules, Special};
use freehold_wire::work::WorkSecret;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use crate::harness::{Answer, Server, id, ids, read};

const SKILL_MD: &str =
    "---\nname: invoice-checks\ndescription: Validates invoices.\n---\n# Steps\n";

fn skill_md(name: &str, description: &str) -> String {
    format!("---\nname: {name}\ndescription: {description}\n---\nbody")
}

fn form(files: &[(&str, &str)]) -> Form {
    files.iter().fold(Form::new(), |form, (path, text)| {
        let part = Part::bytes(text.as_bytes().to_vec()).file_name((*path).to_owned());
        form.part("files[]", part)
    })
}

fn one(name: &str) -> Form {
    form(&[("s/SKILL.md", &skill_md(name, "Does it."))])
}

fn zipped(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, mode, text) in files {
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        zip.start_file(*path, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A skill with a link in it.
fn linked() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.start_file("s/SKILL.md", options).unwrap();
    zip.write_all(SKILL_MD.as_bytes()).unwrap();
    zip.add_symlink("s/link", "/etc/passwd", options).unwrap();
    zip.finish().unwrap().into_inner()
}

fn zip_form(zip: Vec<u8>) -> Form {
    Form::new().part("files[]", Part::bytes(zip).file_name("skill.zip"))
}

async fn send(s: &Server, path: &str, form: Form) -> Answer {
    read(s.request(Method::POST, path).multipart(form)).await
}

async fn upload(s: &Server, form: Form) -> Answer {
    send(s, "/v1/skills", form).await
}

/// Paths, execute bits and contents of a downloaded archive.
fn listed(zip: &[u8]) -> Vec<(String, bool, String)> {
    let limits = Limits {
        members: 100,
        bytes: 1 << 20,
        ratio: 1000,
    };
    let rules = Rules {
        limits,
        special: Special::Refuse,
    };
    let mut all = Vec::new();
    freehold_archive::read(Cursor::new(zip), rules, &mut |member| {
        if let Content::File { executable, bytes } = member.content {
            let mut text = String::new();
            bytes.read_to_string(&mut text).unwrap();
            all.push((member.path.to_string(), executable, text));
        }
        Ok(())
    })
    .unwrap();
    all
}

async fn content(s: &Server, skill: &str, version: &str) -> Answer {
    s.get(&format!("/v1/skills/{skill}/versions/{version}/content"))
        .await
}

#[tokio::test]
async fn many_files_make_a_skill() {
    let s = Server::start().await;
    let files = form(&[
        ("my-skill/SKILL.md", SKILL_MD),
        ("my-skill/scripts/check.sh", "#!/bin/sh\necho ok\n"),
        ("my-skill/data/r\u{e4}te.csv", "1"),
    ]);
    let made = upload(&s, files).await.ok();
    let (skill, version) = (id(&made), made["latest_version_id"].as_str().unwrap());
    let expected = json!({
        "type": "skill", "id": skill, "display_name": "invoice-checks",
        "latest_version_id": version, "source": {"type": "custom"},
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    assert!(skill.starts_with("skill_") && version.starts_with("skver_"));
    let path = format!("/v1/skills/{skill}");
    assert_eq!(s.get(&path).await.ok(), made);
    let expected = json!({
        "type": "skill_version", "id": version, "skill_id": skill, "name": "invoice-checks",
        "description": "Validates invoices.", "created_at": made["created_at"],
    });
    for name in ["latest", version] {
        let found = s.get(&format!("{path}/versions/{name}")).await.ok();
        assert_eq!(found, expected);
    }
    let zip = content(&s, &skill, version).await;
    assert_eq!(zip.status, 200);
    assert_eq!(zip.header("content-type"), "application/zip");
    assert_eq!(zip.header("content-length"), zip.bytes.len().to_string());
    assert!(
        zip.header("content-disposition")
            .contains("invoice-checks.zip")
    );
    let expected = [
        ("invoice-checks/SKILL.md", false, SKILL_MD),
        ("invoice-checks/data/r\u{e4}te.csv", false, "1"),
        (
            "invoice-checks/scripts/check.sh",
            true,
            "#!/bin/sh\necho ok\n",
        ),
    ];
    let expected = expected.map(|(p, x, t)| (p.to_owned(), x, t.to_owned()));
    assert_eq!(listed(&zip.bytes), expected);
}

#[tokio::test]
async fn a_zip_makes_a_skill_and_keeps_its_modes() {
    let s = Server::start().await;
    let inside = [
        ("SKILL.md", 0o644, SKILL_MD),
        ("run", 0o755, "no shebang"),
        ("plain.sh", 0o644, "#!/bin/sh"),
    ];
    let nested = inside.map(|(p, m, t)| (format!("top/{p}"), m, t));
    let nested: Vec<_> = nested
        .iter()
        .map(|(p, m, t)| (p.as_str(), *m, *t))
        .collect();
    let litter = ("__MACOSX/top/._SKILL.md", 0o644, "litter");
    for files in [
        inside.to_vec(),
        [nested, vec![litter, ("top/.DS_Store", 0o644, "x")]].concat(),
    ] {
        let form = zip_form(zipped(&files)).text("display_name", "Invoice checks");
        let made = upload(&s, form).await.ok();
        assert_eq!(made["display_name"], "Invoice checks");
        let zip = content(&s, &id(&made), "latest").await;
        let modes: Vec<_> = listed(&zip.bytes)
            .into_iter()
            .map(|(p, x, _)| (p, x))
            .collect();
        let expected = [("SKILL.md", false), ("plain.sh", false), ("run", true)];
        let expected = expected.map(|(p, x)| (format!("invoice-checks/{p}"), x));
        assert_eq!(modes, expected);
    }
}

#[tokio::test]
async fn what_is_no_skill_is_refused_and_leaves_nothing() {
    let s = Server::start().await;
    let md = SKILL_MD;
    let paths: Vec<_> = (0..1010).map(|n| format!("s/{n}")).collect();
    let more: Vec<_> = paths.iter().map(|p| (p.as_str(), "")).collect();
    let many = &more[..1001];
    let cases: Vec<(Form, &str)> = vec![
        (
            Form::new().text("display_name", "x"),
            "files: Field required",
        ),
        (form(&[("s/README.md", md)]), "expected SKILL.md"),
        (form(&[("s/a/SKILL.md", md)]), "expected SKILL.md"),
        (form(&[("s/skill.md", md)]), "expected SKILL.md"),
        (
            form(&[("a/SKILL.md", md), ("b/x", "")]),
            "exactly one top-level directory",
        ),
        (
            form(&[("s/SKILL.md", "# no front matter")]),
            "SKILL.md: should begin",
        ),
        (
            form(&[("s/SKILL.md", "---\nname: X\ndescription: d\n---")]),
            "`name`",
        ),
        (form(&[("s/SKILL.md", md), ("s/../../x", "")]), "goes up"),
        (form(&[("/s/SKILL.md", md)]), "is absolute"),
        (form(&[("s\\SKILL.md", md)]), "backslash"),
        (
            form(&[("s/SKILL.md", md), ("s/SKILL.md", md)]),
            "in the way",
        ),
        (
            form(&[("s/SKILL.md", md), ("s/A", ""), ("s/a", "")]),
            "in the way",
        ),
        (
            form(&[("s/SKILL.md", md)]).text("surprise", "1"),
            "surprise: Extra inputs",
        ),
        (
            form(&[("s/SKILL.md", md)])
                .text("display_name", "a")
                .text("display_name", "b"),
            "display_name: given more than once",
        ),
        (
            form(&[("s/SKILL.md", md)]).text("display_name", "a\nb"),
            "single line",
        ),
        (
            form(&[("s/SKILL.md", md)]).text("display_name", "x".repeat(256)),
            "at most 255",
        ),
        (form(many), "at most 1000 files"),
        (form(&more), "too many parts"),
        (zip_form(b"no zip".to_vec()), "is none"),
        (zip_form(zipped(&[])), "expected SKILL.md"),
        (
            zip_form(zipped(&[("s/SKILL.md", 0o644, md)])[..90].to_vec()),
            "damaged",
        ),
        (zip_form(linked()), "neither a regular file"),
        (
            zip_form(zipped(&[
                ("s/SKILL.md", 0o644, md),
                ("s/z", 0o644, &"0".repeat(3 << 20)),
            ])),
            "times its size",
        ),
    ];
    for (form, says) in cases {
        let message = upload(&s, form).await.invalid();
        assert!(message.contains(says), "{says}: {message}");
    }
    s.post("/v1/skills", json!({"files": []})).await.invalid();
    let cut =
        "--b\r\ncontent-disposition: form-data; name=\"files[]\"; filename=\"s/SKILL.md\"\r\n\r\nx";
    let request = s.request(Method::POST, "/v1/skills").body(cut);
    read(request.header("content-type", "multipart/form-data; boundary=b"))
        .await
        .invalid();
    assert_eq!(s.get("/v1/skills").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_skill_has_at_most_thirty_mebibytes() {
    let s = Server::start().await;
    let sized = |bytes: usize| {
        let part = Part::bytes(vec![b'x'; bytes]).file_name("s/big");
        form(&[("s/SKILL.md", SKILL_MD)]).part("files[]", part)
    };
    let limit = 30 << 20;
    let exact = upload(&s, sized(limit - SKILL_MD.len())).await.ok();
    assert!(exact["id"].is_string());
    for form in [sized(limit - SKILL_MD.len() + 1), sized(limit + (2 << 20))] {
        upload(&s, form).await.error(413, "request_too_large");
    }
}

#[tokio::test]
async fn versions_come_and_go() {
    let s = Server::start().await;
    let made = upload(&s, one("steps")).await.ok();
    let (path, first) = (
        format!("/v1/skills/{}", id(&made)),
        made["latest_version_id"].clone(),
    );
    let versions = format!("{path}/versions");
    let second = form(&[("x/SKILL.md", &skill_md("steps", "Does it better."))]);
    let second = send(&s, &versions, second).await.ok();
    assert_eq!(second["description"], "Does it better.");
    let third = send(&s, &versions, one("steps")).await.ok();
    let now = s.get(&path).await.ok();
    assert_eq!(now["latest_version_id"], third["id"]);
    assert_ne!(now["updated_at"], made["updated_at"]);
    let all = [id(&third), id(&second), first.as_str().unwrap().to_owned()];
    assert_eq!(ids(&s.get(&versions).await.ok()), all);
    let page = s.get(&format!("{versions}?limit=2")).await.ok();
    let next = page["next_page"].as_str().unwrap();
    let rest = s.get(&format!("{versions}?limit=2&page={next}")).await.ok();
    assert_eq!(
        (ids(&page), ids(&rest)),
        (all[..2].to_vec(), all[2..].to_vec())
    );
    assert_eq!(rest["next_page"], Value::Null);
    for limit in ["0", "1001"] {
        s.get(&format!("{versions}?limit={limit}")).await.invalid();
    }
    // Another name is another skill.
    let message = send(&s, &versions, one("other")).await.invalid();
    assert!(
        message.contains("\"other\"") && message.contains("\"steps\""),
        "{message}"
    );
    send(&s, &versions, one("steps").text("display_name", "x"))
        .await
        .invalid();
    // The newest goes, the one before it is newest.
    let gone = s.delete(&format!("{versions}/{}", id(&third))).await.ok();
    assert_eq!(
        gone,
        json!({"id": id(&third), "type": "skill_version_deleted"})
    );
    assert_eq!(s.get(&path).await.ok()["latest_version_id"], second["id"]);
    let latest = s.get(&format!("{versions}/latest")).await.ok();
    assert_eq!(latest["id"], second["id"]);
    let missing = s.get(&format!("{versions}/{}", id(&third))).await;
    let message = missing.error(404, "not_found_error");
    assert_eq!(
        message,
        format!("Skill version `{}` not found.", id(&third))
    );
    s.delete(&format!("{versions}/latest")).await.invalid();
    s.delete(&format!("{versions}/{}", first.as_str().unwrap()))
        .await
        .ok();
    let message = s
        .delete(&format!("{versions}/{}", id(&second)))
        .await
        .invalid();
    assert!(message.contains("at least one version"), "{message}");
    let gone = s.delete(&path).await.ok();
    assert_eq!(gone, json!({"id": id(&made), "type": "skill_deleted"}));
    for path in [
        &path,
        &versions,
        &format!("{versions}/latest"),
        &format!("{versions}/latest/content"),
    ] {
        s.get(path).await.error(404, "not_found_error");
    }
    s.delete(&path).await.error(404, "not_found_error");
    send(&s, &versions, one("steps"))
        .await
        .error(404, "not_found_error");
}

#[tokio::test]
async fn skills_are_listed_by_source_and_page() {
    let s = Server::start().await;
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        made.insert(0, id(&upload(&s, one(name)).await.ok()));
    }
    for query in ["", "?source=custom"] {
        assert_eq!(ids(&s.get(&format!("/v1/skills{query}")).await.ok()), made);
    }
    let none = s.get("/v1/skills?source=anthropic").await.ok();
    assert_eq!(none, json!({"data": [], "next_page": null}));
    s.get("/v1/skills?source=mine").await.invalid();
    let page = s.get("/v1/skills?limit=2").await.ok();
    let next = page["next_page"].as_str().unwrap();
    let rest = s.get(&format!("/v1/skills?page={next}")).await.ok();
    assert_eq!(
        (ids(&page), ids(&rest)),
        (made[..2].to_vec(), made[2..].to_vec())
    );
    let (_, other) = s.other_workspace().await;
    let foreign = s.request_as(&other, Method::GET, "/v1/skills");
    assert_eq!(read(foreign).await.ok()["data"], json!([]));
    let path = format!("/v1/skills/{}", made[0]);
    for method in [Method::GET, Method::DELETE] {
        let foreign = s.request_as(&other, method, &path);
        read(foreign).await.error(404, "not_found_error");
    }
}

#[tokio::test]
async fn old_clients_see_the_old_form() {
    let s = Server::start().await;
    let old = |method, path: &str| {
        let request = s.request(method, &format!("{path}?beta=true"));
        request.header("anthropic-beta", "files-api-2025-04-14, skills-2025-10-02")
    };
    let form = one("steps").text("display_title", "My steps");
    let made = read(old(Method::POST, "/v1/skills").multipart(form))
        .await
        .ok();
    let number = made["latest_version"].as_str().unwrap().to_owned();
    assert!(number.parse::<u64>().unwrap() > 1_600_000_000_000_000);
    let expected = json!({
        "type": "skill", "id": made["id"], "display_title": "My steps", "latest_version": number,
        "source": "custom", "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    let path = format!("/v1/skills/{}/versions", id(&made));
    let version = read(old(Method::GET, &format!("{path}/{number}")))
        .await
        .ok();
    let expected = json!({
        "type": "skill_version", "id": version["id"], "skill_id": made["id"], "version": number,
        "name": "steps", "directory": "steps", "description": "Does it.",
        "created_at": made["created_at"],
    });
    assert_eq!(version, expected);
    let all = read(old(Method::GET, &path)).await.ok();
    assert_eq!(
        all,
        json!({"data": [version], "has_more": false, "next_page": null})
    );
    let listed = read(old(Method::GET, "/v1/skills")).await.ok();
    assert_eq!(
        (&listed["data"][0], &listed["has_more"]),
        (&made, &json!(false))
    );
    let zip = read(old(Method::GET, &format!("{path}/{number}/content"))).await;
    assert_eq!(listed_paths(&zip.bytes), ["steps/SKILL.md"]);
    let added = read(old(Method::POST, &path).multipart(one("steps")))
        .await
        .ok();
    let gone = read(old(Method::DELETE, &format!("{path}/{number}")))
        .await
        .ok();
    assert_eq!(gone, json!({"id": number, "type": "skill_version_deleted"}));
    let now = s.get(&format!("/v1/skills/{}", id(&made))).await.ok();
    assert_eq!(now["latest_version_id"], added["id"]);
}

fn listed_paths(zip: &[u8]) -> Vec<String> {
    listed(zip).into_iter().map(|(path, ..)| path).collect()
}

async fn agent(s: &Server, skills: Value) -> Answer {
    let tools = json!([{"type": "agent_toolset_20260401"}]);
    let body = json!({"name": "a", "model": "rehearsal", "tools": tools, "skills": skills});
    s.post("/v1/agents", body).await
}

#[tokio::test]
async fn agents_name_skills_that_exist() {
    let s = Server::start().await;
    let made = upload(&s, one("steps")).await.ok();
    let custom =
        |id: &str, version: Value| json!({"type": "custom", "skill_id": id, "version": version});
    let (skill, version) = (id(&made), made["latest_version_id"].clone());
    for (named, shown) in [
        (Value::Null, json!("latest")),
        (version.clone(), version.clone()),
    ] {
        let made = agent(&s, json!([custom(&skill, named)])).await.ok();
        assert_eq!(made["skills"], json!([custom(&skill, shown)]));
    }
    let unknown = agent(&s, json!([custom("skill_none", Value::Null)])).await;
    assert_eq!(
        unknown.error(404, "not_found_error"),
        "Skill `skill_none` not found."
    );
    for version in ["skver_none", "20251013", "newest"] {
        let unknown = agent(&s, json!([custom(&skill, json!(version))])).await;
        let message = unknown.error(404, "not_found_error");
        assert_eq!(message, format!("Skill version `{version}` not found."));
    }
    let theirs = agent(&s, json!([{"type": "anthropic", "skill_id": "pdf"}])).await;
    let message = theirs.invalid();
    assert!(
        message.contains("skills.0") && message.contains("`pdf`"),
        "{message}"
    );
    assert_eq!(theirs.code(), "skill_not_available");
    // Two of one name would lie in one folder.
    let same = id(&upload(&s, one("steps")).await.ok());
    let two = json!([custom(&skill, Value::Null), custom(&same, Value::Null)]);
    let message = agent(&s, two).await.invalid();
    assert!(
        message.contains("skills.1") && message.contains("`steps`"),
        "{message}"
    );
    let (_, other) = s.other_workspace().await;
    let body = json!({"name": "a", "model": "rehearsal", "skills": [custom(&skill, Value::Null)],
        "tools": [{"type": "agent_toolset_20260401"}]});
    let foreign = s.request_as(&other, Method::POST, "/v1/agents").json(&body);
    read(foreign).await.error(404, "not_found_error");
}

#[tokio::test]
async fn an_agent_whose_skill_is_gone_can_still_be_changed() {
    let s = Server::start().await;
    let skill = id(&upload(&s, one("steps")).await.ok());
    let reference = json!({"type": "custom", "skill_id": skill, "version": "latest"});
    let agent = id(&agent(&s, json!([reference])).await.ok());
    s.delete(&format!("/v1/skills/{skill}")).await.ok();
    let environment = s.environment("cloud").await;
    let body = json!({"agent": agent, "environment_id": environment});
    let gone = s.post("/v1/sessions", body.clone()).await;
    assert_eq!(
        gone.error(404, "not_found_error"),
        format!("Skill `{skill}` not found.")
    );
    let path = format!("/v1/agents/{agent}");
    s.post(&path, json!({"name": "b"})).await.ok();
    s.post(
        &path,
        json!({"skills": [{"type": "anthropic", "skill_id": "pdf"}]}),
    )
    .await
    .invalid();
    s.post(&path, json!({"skills": []})).await.ok();
    s.post("/v1/sessions", body).await.ok();
}

#[tokio::test]
async fn a_session_keeps_the_versions_it_was_made_with() {
    let s = Server::start().await;
    let made = upload(&s, one("steps")).await.ok();
    let (skill, first) = (id(&made), made["latest_version_id"].clone());
    let agent = agent(&s, json!([{"type": "custom", "skill_id": skill}]))
        .await
        .ok();
    let session = s.session_of(&id(&agent), "cloud").await;
    send(&s, &format!("/v1/skills/{skill}/versions"), one("steps"))
        .await
        .ok();
    s.delete(&format!("/v1/skills/{skill}")).await.ok();
    let shown = s.get(&format!("/v1/sessions/{session}")).await.ok();
    let pinned = json!([{"type": "custom", "skill_id": skill, "version": first}]);
    assert_eq!(shown["agent"]["skills"], pinned);
    s.say(&session, "bash: ls /skills\nsay: done").await;
    s.settled(&session).await;
    let skills = s.executor.skills.lock().unwrap().clone();
    assert_eq!(skills, ["steps"]);
}

#[tokio::test]
async fn workers_read_the_skills_of_their_sessions_and_nothing_else() {
    let s = Server::start().await;
    let made = upload(&s, one("steps")).await.ok();
    let (skill, first) = (
        id(&made),
        made["latest_version_id"].as_str().unwrap().to_owned(),
    );
    let other = id(&upload(&s, one("other")).await.ok());
    let agent = agent(&s, json!([{"type": "custom", "skill_id": skill}]))
        .await
        .ok();
    let environment = s.environment("self_hosted").await;
    let body = json!({"agent": id(&agent), "environment_id": environment});
    s.post("/v1/sessions", body).await.ok();
    let keys = format!("/v1/freehold/environments/{environment}/keys");
    let key = s.post(&keys, json!({"name": "k"})).await.ok();
    let key = key["key"].as_str().unwrap().to_owned();
    let poll = format!("/v1/environments/{environment}/work/poll");
    let item = read(s.request_as(&key, Method::GET, &poll)).await.ok();
    let secret = item["secret"].as_str().unwrap();
    let token = WorkSecret::decode(secret).unwrap().sessions_token;
    // A newer one does not belong to the session.
    let versions = format!("/v1/skills/{skill}/versions");
    let second = id(&send(&s, &versions, one("steps")).await.ok());
    for credential in [key.as_str(), token.expose()] {
        let get = |path: String| read(s.request_as(credential, Method::GET, &path));
        for name in ["latest", &first] {
            assert_eq!(
                get(format!("{versions}/{name}")).await.ok()["id"],
                first,
                "{name}"
            );
        }
        let zip = get(format!("{versions}/{first}/content")).await;
        assert_eq!(listed_paths(&zip.bytes), ["steps/SKILL.md"]);
        for path in [
            format!("{versions}/{second}"),
            format!("{versions}/{second}/content"),
            format!("/v1/skills/{other}/versions/latest"),
        ] {
            get(path).await.error(404, "not_found_error");
        }
        for path in [
            "/v1/skills".to_owned(),
            format!("/v1/skills/{skill}"),
            versions.clone(),
        ] {
            get(path).await.error(403, "permission_error");
        }
        for path in [format!("/v1/skills/{skill}"), format!("{versions}/{first}")] {
            let delete = s.request_as(credential, Method::DELETE, &path);
            read(delete).await.error(403, "permission_error");
        }
        let form = s
            .request_as(credential, Method::POST, "/v1/skills")
            .multipart(one("x"));
        read(form).await.error(403, "permission_error");
    }
    // Deleted, but not from under the session.
    s.delete(&format!("/v1/skills/{skill}")).await.ok();
    let path = format!("{versions}/{first}/content");
    let zip = read(s.request_as(token.expose(), Method::GET, &path)).await;
    assert_eq!(listed_paths(&zip.bytes), ["steps/SKILL.md"]);
}
