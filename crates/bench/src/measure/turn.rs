//! One text turn after another: what the platform adds to the model.

use anyhow::Result;

use super::Lab;
use super::lab::Site;
use crate::load::closed_loop;
use crate::load::disk::Disk;
use crate::load::turn::{Talk, Turn};
use crate::load::upstream::Upstream;
use crate::report::quantile;

/// Durable commits, one after another, from a send to `session.status_idle`: the message, the
/// claim of the session, the start of the model request, the answer with the end of the turn.
/// Counted with strace; a server that needs fewer looks better than it is by what they cost.
const TURN_COMMITS: f64 = 4.0;
/// Of those, before the message comes back on the stream as processed.
const ECHO_COMMITS: f64 = 3.0;
/// Turns before those that count.
const WARM_UP: usize = 3;
/// Sessions that run turns side by side.
const CROWDS: [usize; 2] = [1, 16];

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let mut writes = Vec::new();
    let disk = Some((&mut lab.disk, &mut writes));
    let turns = one_by_one(&lab.site, &lab.upstream, lab.plan.turns, disk).await?;
    let of = |pick: fn(&Turn) -> f64| turns.iter().map(pick).collect::<Vec<_>>();
    let write = quantile(&writes, 0.5).unwrap_or(0.0);
    let delivery: Vec<_> = turns
        .iter()
        .flat_map(|t| t.delivery.iter().copied())
        .collect();

    lab.put_millis(
        "turn.acknowledged",
        "POST events to its answer",
        &of(|t| t.acknowledged),
    );
    lab.put_millis(
        "turn.asked",
        "POST events to the model's request",
        &of(|t| t.asked),
    );
    lab.put_millis(
        "turn.first",
        "POST events to the first model byte out",
        &of(|t| t.first),
    );
    lab.put_millis(
        "turn.echo",
        "POST events to the message on the stream",
        &of(|t| t.echo),
    );
    let own: Vec<_> = turns
        .iter()
        .map(|t| t.echo - ECHO_COMMITS * write)
        .collect();
    lab.put_millis("turn.echo_own", "the same without 3 fdatasync", &own);
    lab.put_millis(
        "turn.delivery",
        "append to SSE delivery, with its fsync",
        &delivery,
    );
    lab.put_millis("turn.wall", "a turn, POST events to idle", &of(|t| t.idle));
    lab.put_millis("turn.model", "of that, the model", &of(|t| t.model));
    lab.put(
        "turn.fdatasync.p50",
        "fdatasync beside it, p50",
        "ms",
        write,
    );
    let own: Vec<_> = turns
        .iter()
        .map(|t| t.idle - t.model - TURN_COMMITS * write)
        .collect();
    lab.put_millis(
        "turn.overhead",
        "a turn without model and 4 fdatasync",
        &own,
    );

    if let Some(site) = &lab.light {
        let turns = one_by_one(site, &lab.upstream, lab.plan.turns, None).await?;
        let of = |pick: fn(&Turn) -> f64| turns.iter().map(pick).collect::<Vec<_>>();
        let delivery: Vec<_> = turns
            .iter()
            .flat_map(|t| t.delivery.iter().copied())
            .collect();
        let where_ = "where fsync is free";
        lab.put_millis(
            "turn.memory.first",
            &format!("first model byte {where_}"),
            &of(|t| t.first),
        );
        lab.put_millis(
            "turn.memory.echo",
            &format!("echo {where_}"),
            &of(|t| t.echo),
        );
        lab.put_millis(
            "turn.memory.delivery",
            &format!("delivery {where_}"),
            &delivery,
        );
        let own = of(|t| t.idle - t.model);
        lab.put_millis(
            "turn.memory.overhead",
            &format!("a turn without model {where_}"),
            &own,
        );
    }
    for count in CROWDS {
        crowd(lab, count).await?;
    }
    Ok(())
}

/// Turns of one session on an idle server, each followed by two writes to the disk under test.
async fn one_by_one(
    site: &Site,
    upstream: &Upstream,
    count: usize,
    mut disk: Option<(&mut Disk, &mut Vec<f64>)>,
) -> Result<Vec<Turn>> {
    let mut talk = site.talk(&site.plain).await?;
    for _ in 0..WARM_UP {
        talk.turn(upstream).await?;
    }
    let mut turns = Vec::with_capacity(count);
    for _ in 0..count {
        turns.push(talk.turn(upstream).await?);
        if let Some((disk, writes)) = &mut disk {
            writes.push(disk.probe()?);
            writes.push(disk.probe()?);
        }
    }
    Ok(turns)
}

/// As many turns as possible in `count` sessions side by side.
async fn crowd(lab: &mut Lab, count: usize) -> Result<()> {
    let mut talks: Vec<(Talk, Vec<f64>)> = Vec::with_capacity(count);
    for _ in 0..count {
        talks.push((lab.site.talk(&lab.site.plain).await?, Vec::new()));
    }
    let upstream = &lab.upstream;
    let before = lab.site.server.cpu()?;
    let step = async |(talk, delivery): &mut (Talk, Vec<f64>)| {
        delivery.extend(talk.turn(upstream).await?.delivery);
        Ok(1)
    };
    let done = closed_loop::run(&mut talks, lab.plan.slice, step).await?;
    let cpu = (lab.site.server.cpu()? - before).as_secs_f64() * 1e3 / done.count as f64;
    let sessions = if count == 1 {
        "1 session".to_owned()
    } else {
        format!("{count} sessions")
    };
    lab.put(
        &format!("turn.rate_{count}"),
        &format!("turns, {sessions}"),
        "turns/s",
        done.rate(),
    );
    lab.put(
        &format!("turn.cpu_{count}"),
        &format!("turns, {sessions}: CPU"),
        "ms/turn",
        cpu,
    );
    if count > 1 {
        let delivery: Vec<_> = talks
            .into_iter()
            .flat_map(|(_, delivery)| delivery)
            .collect();
        let what = format!("append to SSE delivery, {sessions} at work");
        lab.put_millis(&format!("turn.delivery_{count}"), &what, &delivery);
    }
    Ok(())
}
