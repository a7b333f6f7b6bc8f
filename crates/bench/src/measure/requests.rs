//! Plain requests: how many a second, and what one costs the server.

use anyhow::Result;
use bytes::Bytes;

use super::Lab;
use crate::load::api;
use crate::load::closed_loop;
use crate::load::connection::Connection;

/// Connections, each with one request at a time. With one, no request shares a commit.
const CONNECTIONS: [usize; 2] = [1, 16];

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let mut connection = Connection::open(lab.site.target()).await?;
    let new_session = api::session(&lab.site.plain, &lab.site.self_hosted);
    let session = connection
        .create("/v1/sessions", new_session.clone())
        .await?;
    let kinds: [(&str, &str, String, Option<Bytes>); 4] = [
        (
            "agent_get",
            "read an agent",
            format!("/v1/agents/{}", lab.site.plain),
            None,
        ),
        (
            "agent_create",
            "create an agent",
            "/v1/agents".to_owned(),
            Some(api::plain_agent()),
        ),
        (
            "session_get",
            "read a session",
            format!("/v1/sessions/{session}"),
            None,
        ),
        (
            "session_create",
            "create a session",
            "/v1/sessions".to_owned(),
            Some(new_session),
        ),
    ];
    for (id, what, path, body) in kinds {
        for count in CONNECTIONS {
            let mut connections = Connection::several(lab.site.target(), count).await?;
            let before = lab.site.server.cpu()?;
            let step = async |connection: &mut Connection| {
                match &body {
                    None => connection.get(&path).await?,
                    Some(body) => connection.post(&path, body.clone()).await?,
                };
                Ok(1)
            };
            let done = closed_loop::run(&mut connections, lab.plan.slice, step).await?;
            let cpu = (lab.site.server.cpu()? - before).as_secs_f64() * 1e3 / done.count as f64;
            let what = format!("{what}, {count} at a time");
            lab.put(
                &format!("requests.{id}_{count}.rate"),
                &what,
                "requests/s",
                done.rate(),
            );
            lab.put(
                &format!("requests.{id}_{count}.cpu"),
                &format!("{what}: CPU"),
                "ms",
                cpu,
            );
        }
    }
    Ok(())
}
