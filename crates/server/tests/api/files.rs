//! Files (contract 72).

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, id, ids, read};

async fn upload(s: &Server, form: Form) -> Answer {
    read(s.request(Method::POST, "/v1/files").multipart(form)).await
}

fn file(name: &str, bytes: &[u8]) -> Form {
    Form::new().part(
        "file",
        Part::bytes(bytes.to_vec()).file_name(name.to_owned()),
    )
}

#[tokio::test]
async fn an_upload_is_described_and_not_downloadable() {
    let s = Server::start().await;
    let part = Part::bytes(b"a,b".to_vec())
        .file_name("report.csv")
        .mime_str("text/csv")
        .unwrap();
    let form = Form::new()
        .part("file", part)
        .text("expires_in_seconds", "3600");
    let made = upload(&s, form).await.ok();
    assert_eq!(made["type"], "file");
    assert_eq!(made["filename"], "report.csv");
    assert_eq!(made["mime_type"], "text/csv");
    assert_eq!(
        (&made["size_bytes"], &made["downloadable"]),
        (&json!(3), &json!(false))
    );
    assert!(made["expires_at"].is_string());
    assert_eq!(made["scope"], Value::Null);
    let path = format!("/v1/files/{}", id(&made));
    assert_eq!(s.get(&path).await.ok(), made);
    let content = s.get(&format!("{path}/content")).await;
    content.invalid();
    assert_eq!(content.code(), "file_not_downloadable");
    let gone = s.delete(&path).await.ok();
    assert_eq!(gone, json!({"id": id(&made), "type": "file_deleted"}));
    let missing = s.get(&path).await.error(404, "not_found_error");
    assert_eq!(missing, format!("File `{}` not found.", id(&made)));
}

#[tokio::test]
async fn names_are_made_harmless_or_refused() {
    let s = Server::start().await;
    for (name, kept) in [
        ("../../etc/passwd", "passwd"),
        ("/abs/path.txt", "path.txt"),
    ] {
        assert_eq!(
            upload(&s, file(name, b"x")).await.ok()["filename"],
            kept,
            "{name}"
        );
    }
    for name in ["a:b", "a|b", "a?b", "a*b", "<script>", &"n".repeat(256)] {
        upload(&s, file(name, b"x")).await.invalid();
    }
    let nameless = Form::new().part(
        "file",
        Part::bytes(b"x".to_vec()).mime_str("text/plain").unwrap(),
    );
    let made = upload(&s, nameless).await;
    if made.status == 200 {
        assert_eq!(made.body["filename"], "unnamed.txt");
    } else {
        made.invalid();
    }
}

#[tokio::test]
async fn broken_forms_are_400() {
    let s = Server::start().await;
    upload(&s, Form::new()).await.invalid();
    upload(&s, Form::new().text("expires_in_seconds", "3600"))
        .await
        .invalid();
    upload(&s, file("a", b"x").text("surprise", "1"))
        .await
        .invalid();
    upload(
        &s,
        file("a", b"x").part("file", Part::bytes(vec![]).file_name("b")),
    )
    .await
    .invalid();
    for seconds in ["3599", "7776001", "x", "", "-1", "1e9"] {
        upload(&s, file("a", b"x").text("expires_in_seconds", seconds))
            .await
            .invalid();
    }
    let path = "/v1/files";
    s.post(path, json!({"file": "x"})).await.invalid();
    s.post_raw(path, "no form").await.invalid();
    let cut = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhalf";
    let request = s.request(Method::POST, path).body(cut);
    read(request.header("content-type", "multipart/form-data; boundary=b"))
        .await
        .invalid();
    assert_eq!(s.get(path).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_declared_length_above_the_limit_is_413_unread() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let s = Server::start().await;
    let address = s.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         anthropic-version: 2023-06-01\r\ncontent-type: multipart/form-data; boundary=b\r\n\
         content-length: 600000000\r\n\r\n",
        crate::harness::ADMIN_KEY
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = vec![0; 12];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply, b"HTTP/1.1 413");
}

#[tokio::test]
async fn lists_are_paged_or_by_ids() {
    let s = Server::start().await;
    let mut made = Vec::new();
    for n in 0..3 {
        made.push(id(&upload(&s, file(&format!("{n}.txt"), b"x")).await.ok()));
    }
    made.reverse();
    let first = s.get("/v1/files?limit=2").await.ok();
    assert_eq!(ids(&first), made[..2]);
    let next = first["next_page"].as_str().unwrap();
    let rest = s.get(&format!("/v1/files?page={next}")).await.ok();
    assert_eq!(
        (ids(&rest), &rest["next_page"]),
        (made[2..].to_vec(), &Value::Null)
    );
    let some = format!(
        "/v1/files?ids[]={}&ids[]=file_none&ids[]={}",
        made[2], made[2]
    );
    let some = s.get(&some).await.ok();
    assert_eq!(
        (ids(&some), &some["next_page"]),
        (vec![made[2].clone()], &Value::Null)
    );
    s.get(&format!("/v1/files?ids[]={}&limit=1", made[0]))
        .await
        .invalid();
    s.get(&format!("/v1/files?ids[]={}&page={next}", made[0]))
        .await
        .invalid();
    let many = (0..101)
        .map(|n| format!("ids[]=file_{n}"))
        .collect::<Vec<_>>()
        .join("&");
    s.get(&format!("/v1/files?{many}")).await.invalid();
}

#[tokio::test]
async fn outputs_of_a_session_can_be_listed_and_downloaded() {
    let s = Server::start().await;
    let session = s.session().await;
    let name = "b\u{fc}richt \"x\".html".to_owned();
    let outputs = vec![
        (name, b"<script>".to_vec()),
        ("deep/data.bin".into(), vec![0, 1, 2]),
    ];
    *s.executor.outputs.lock().unwrap() = outputs;
    s.say(&session, "bash: make\nsay: made").await;
    s.settled(&session).await;
    let listed = s.get(&format!("/v1/files?scope_id={session}")).await.ok();
    let listed = listed["data"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for file in listed {
        assert_eq!(file["scope"], json!({"type": "session", "id": session}));
        assert_eq!(file["downloadable"], true);
        let path = format!("/v1/files/{}/content", id(file));
        let content = read(
            s.request(Method::GET, &path)
                .header("accept", "application/binary"),
        );
        let content = content.await;
        assert_eq!(content.status, 200);
        let size = file["size_bytes"].as_u64().unwrap();
        assert_eq!(content.header("content-length"), size.to_string());
        assert_eq!(content.bytes.len() as u64, size);
        assert_eq!(
            content.header("content-type"),
            file["mime_type"].as_str().unwrap()
        );
        assert_eq!(content.header("x-content-type-options"), "nosniff");
        let disposition = content.header("content-disposition");
        assert!(disposition.starts_with("attachment"), "{disposition}");
    }
    s.delete(&format!("/v1/sessions/{session}")).await.ok();
    let path = format!("/v1/files/{}", id(&listed[0]));
    s.get(&path).await.error(404, "not_found_error");
    assert_eq!(
        s.get(&format!("/v1/files?scope_id={session}")).await.ok()["data"],
        json!([])
    );
    s.get("/v1/files?scope_id=nonsense").await.invalid();
}

#[tokio::test]
async fn an_expired_file_is_listed_but_not_read() {
    let start = "2026-11-24T00:00:00Z".parse().unwrap();
    let clock = std::sync::Arc::new(freehold_base::ManualClock::at(start));
    let s = Server::at(std::sync::Arc::clone(&clock)).await;
    let session = s.session().await;
    let form = file("a.txt", b"x").text("expires_in_seconds", "3600");
    let made = upload(&s, form).await.ok();
    assert_eq!(made["expires_at"], "2026-11-24T01:00:00.000000Z");
    let document = json!({"type": "document", "source": {"type": "file", "file_id": made["id"]}});
    let message = json!([{"type": "user.message",
        "content": [{"type": "text", "text": "say: hi"}, document]}]);
    s.send(&session, message.clone()).await.ok();
    clock.advance_millis(3_600_000);
    let path = format!("/v1/files/{}", id(&made));
    assert_eq!(s.get(&path).await.ok(), made);
    let content = s.get(&format!("{path}/content")).await;
    content.error(404, "not_found_error");
    assert_eq!(content.code(), "file_expired");
    let refused = s.send(&session, message).await.invalid();
    assert!(refused.contains(&id(&made)), "{refused}");
    let resource = json!({"type": "file", "file_id": made["id"]});
    let path = format!("/v1/sessions/{session}/resources");
    s.post(&path, resource).await.error(404, "not_found_error");
}
