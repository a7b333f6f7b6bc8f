//! A server with many sessions, many streams, and many sessions that run at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Sizes;
use super::engine::Database;
use super::sheet::Sheet;
use crate::load::connection::Connection;
use crate::load::server::Server;
use crate::load::stream::Stream;
use crate::load::turn::Talk;
use crate::load::upstream::Upstream;
use crate::load::{api, closed_loop};

const PART: &str = "server";
/// Connections that make sessions and streams.
const MAKERS: usize = 32;
/// How long a server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// How long sessions run at once.
const SLICE: Duration = Duration::from_secs(5);

pub(super) async fn measure(
    database: &Database,
    binary: &Path,
    sizes: Sizes,
    sheet: &mut Sheet,
) -> Result<()> {
    let upstream = Upstream::start().await?;
    let url = database.url();
    let data = database.data();
    let server = Server::start_on(binary, &data, upstream.address, url.as_deref()).await?;
    let engine = database.engine;
    let mut makers = Connection::several(&server.target, MAKERS).await?;
    let agent = makers[0].create("/v1/agents", api::plain_agent()).await?;
    let place = api::self_hosted("crowd");
    let environment = makers[0].create("/v1/environments", place).await?;
    let resident = async || {
        tokio::time::sleep(REST).await;
        server.resident_mib()
    };
    let mut put = |what: &str, unit, value| sheet.put(engine, PART, what, unit, value);
    put("memory, empty", "MiB", resident().await?);

    let body = api::session(&agent, &environment);
    let begun = Instant::now();
    let make = async |connection: &mut Connection, _| {
        connection.create("/v1/sessions", body.clone()).await
    };
    let sessions = closed_loop::share(&mut makers, 0..sizes.idle, make).await?;
    let rate = sizes.idle as f64 / begun.elapsed().as_secs_f64();
    put(
        &format!("sessions made through the API, {MAKERS} at once"),
        "1/s",
        rate,
    );
    let what = format!("memory, {} idle sessions", sizes.idle);
    put(&what, "MiB", resident().await?);

    let target = &server.target;
    let open = async |(): &mut (), session: &String| Stream::open(target, session, true).await;
    let some = sessions.iter().take(sizes.streams);
    let streams = closed_loop::share(&mut [(); MAKERS], some, open).await?;
    let what = format!("memory, and {} open streams", sizes.streams);
    put(&what, "MiB", resident().await?);
    drop(streams);

    let start = async |(): &mut (), session: &String| {
        Ok(Talk {
            session: session.clone(),
            connection: Connection::open(target).await?,
            stream: Stream::open(target, session, true).await?,
        })
    };
    let some = sessions.iter().rev().take(sizes.running);
    let talks = closed_loop::share(&mut [(); MAKERS], some, start).await?;
    let mut talks: Vec<(Talk, Vec<f64>, Vec<f64>)> = talks
        .into_iter()
        .map(|talk| (talk, Vec::new(), Vec::new()))
        .collect();
    let before = server.cpu()?;
    let step = async |(talk, acknowledged, idle): &mut (Talk, Vec<f64>, Vec<f64>)| {
        let turn = talk.turn(&upstream).await?;
        acknowledged.push(turn.acknowledged);
        idle.push(turn.idle);
        Ok(1)
    };
    let done = closed_loop::run(&mut talks, SLICE, step).await?;
    let cpu = (server.cpu()? - before).as_secs_f64() * 1e3 / done.count as f64;
    let n = sizes.running;
    put(&format!("{n} sessions running: turns"), "1/s", done.rate());
    put(&format!("{n} sessions running: CPU of a turn"), "ms", cpu);
    let what = format!("memory, {n} sessions running");
    put(&what, "MiB", server.resident_mib()?);
    let (mut acknowledged, mut idle) = (Vec::new(), Vec::new());
    for (_, of_one, whole) in talks {
        acknowledged.extend(of_one);
        idle.extend(whole);
    }
    let what = format!("{n} sessions running: a message is durable");
    sheet.put_millis(engine, PART, &what, &acknowledged);
    let what = format!("{n} sessions running: a whole turn");
    sheet.put_millis(engine, PART, &what, &idle);
    drop(makers);
    server.stop()?;
    Ok(())
}
