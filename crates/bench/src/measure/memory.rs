//! A fresh server on a fresh directory: how soon it is ready, what it holds while it does nothing,
//! and what idle sessions and open streams add.

use std::time::Duration;

use anyhow::Result;

use super::Lab;
use super::lab::Site;
use crate::load::api;
use crate::load::closed_loop;
use crate::load::connection::Connection;
use crate::load::server::Server;
use crate::load::stream::Stream;
use crate::load::upstream::Work;

/// Connections that make sessions and streams.
const MAKERS: usize = 32;
/// How long a server is left alone before its memory is read: part of what "idle" means.
const REST: Duration = Duration::from_millis(500);

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let dir = lab.fresh_dir()?;
    let data = dir.path().join("data");
    let bare = Server::start(&lab.binary, &data, lab.upstream.address).await?;
    let ready_in = bare.ready_in;
    tokio::time::sleep(REST).await;
    let idle = bare.resident_mib()?;
    let stopped_in = bare.stop()?;
    lab.put(
        "start.empty",
        "start to ready, new data directory",
        "ms",
        ready_in,
    );
    lab.put(
        "start.stop",
        "SIGTERM to the end, idle server",
        "ms",
        stopped_in,
    );
    lab.put("memory.idle", "idle memory", "MiB", idle);

    let crowd = lab.plan.crowd;
    let site = Site::open(&lab.binary, &data, &lab.upstream).await?;
    let target = site.target();
    let mut makers = Connection::several(target, MAKERS).await?;
    let begin = rested(&site).await?;

    let new_session = api::session(&site.plain, &site.self_hosted);
    let make = async |connection: &mut Connection, _| {
        connection.create("/v1/sessions", new_session.clone()).await
    };
    let sessions = closed_loop::share(&mut makers, 0..crowd, make).await?;
    let made = rested(&site).await?;

    // In waves, so that what is left behind is that of the sessions and not of a rush.
    let upstream = &lab.upstream;
    for wave in sessions.chunks(MAKERS) {
        let send = async |connection: &mut Connection, session: &String| {
            let body = api::message(&upstream.order(Work::Text));
            connection.send_events(session, body).await
        };
        closed_loop::share(&mut makers, wave, send).await?;
        makers[0].quiet().await?;
    }
    let used = rested(&site).await?;

    let open = async |(): &mut (), session: &String| Stream::open(target, session, true).await;
    let streams = closed_loop::share(&mut [(); MAKERS], &sessions, open).await?;
    let streaming = rested(&site).await?;
    drop(streams);
    drop(makers);

    let per_thousand = |from: f64, to: f64| (to - from) * 1e3 / crowd as f64;
    let unit = "MiB/1,000";
    lab.put(
        "memory.sessions",
        "idle sessions, never used",
        unit,
        per_thousand(begin, made),
    );
    lab.put(
        "memory.used",
        "idle sessions, after their first turn",
        unit,
        per_thousand(begin, used),
    );
    lab.put(
        "memory.streams",
        "open streams",
        unit,
        per_thousand(used, streaming),
    );
    lab.put("memory.all", "memory with all of those", "MiB", streaming);

    let stopped_in = site.server.stop()?;
    let again = Server::start(&lab.binary, &data, lab.upstream.address).await?;
    let what = format!("start to ready, with {crowd} sessions");
    lab.put("start.used", &what, "ms", again.ready_in);
    let what = format!("SIGTERM to the end, with {crowd} sessions");
    lab.put("start.stop_used", &what, "ms", stopped_in);
    again.stop()?;
    Ok(())
}

/// Memory after a rest.
async fn rested(site: &Site) -> Result<f64> {
    tokio::time::sleep(REST).await;
    site.server.resident_mib()
}
