//! A session with a long history against one with a short one: what reading the newest page,
//! opening the stream and one more turn cost.

use anyhow::{Result, bail};

use super::Lab;
use super::lab::Site;
use crate::load::connection::Connection;
use crate::load::stream::Stream;
use crate::load::turn::Talk;
use crate::load::upstream::Upstream;
use crate::report::quantile;

/// Calls that one answer makes while the history grows; each leaves a use and a result.
const CALLS: usize = 500;
/// Events of the newest page.
const PAGE: usize = 20;
/// Turns for how many looks.
const LOOKS_PER_TURN: usize = 4;

/// What was measured of one of the two sessions, in milliseconds.
#[derive(Default)]
struct Costs {
    page: Vec<f64>,
    stream: Vec<f64>,
    turns: Vec<f64>,
}

/// One series of [`Costs`].
type Pick = fn(&Costs) -> &[f64];

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    let mut long = match lab.long.take() {
        // The server closes a connection that no request used for a while; the stream stays open.
        Some(talk) => Talk {
            connection: Connection::open(lab.site.target()).await?,
            ..talk
        },
        None => grow(&lab.site, &lab.upstream, lab.plan.long).await?,
    };
    let mut short = lab.site.talk(&lab.site.holding).await?;
    short.turn(&lab.upstream).await?;

    let (mut of_short, mut of_long) = (Costs::default(), Costs::default());
    let target = lab.site.target();
    let mut connection = Connection::open(target).await?;
    for look in 0..lab.plan.looks {
        for (talk, costs) in [(&mut short, &mut of_short), (&mut long, &mut of_long)] {
            let session = &talk.session;
            let path = format!("/v1/sessions/{session}/events?order=desc&limit={PAGE}");
            costs.page.push(connection.get(&path).await?.millis());
            costs
                .stream
                .push(Stream::open(target, session, true).await?.opened_in);
            if look % LOOKS_PER_TURN == 0 {
                let turn = talk.turn(&lab.upstream).await?;
                costs.turns.push(turn.idle - turn.model);
            }
        }
    }
    lab.long = Some(long);

    let looks: [(&str, &str, Pick); 3] = [
        ("page", "newest page", |c| &c.page),
        ("stream", "open the stream", |c| &c.stream),
        // The first turn may have to read the history again; those after it need not.
        ("turn", "one more turn without model", |c| {
            c.turns.get(1..).unwrap_or_default()
        }),
    ];
    for (id, what, pick) in looks {
        let mut both = Vec::new();
        for (length, costs) in [("10", &of_short), ("10,000", &of_long)] {
            let Some(value) = quantile(pick(costs), 0.5) else {
                continue;
            };
            let name = length.replace(',', "");
            let what = format!("{what}, {length} events, p50");
            lab.put(&format!("history.{id}.{name}"), &what, "ms", value);
            both.push(value);
        }
        if let [short, long] = both[..] {
            lab.put(
                &format!("history.{id}.ratio"),
                &format!("{what}: ratio"),
                "×",
                long / short,
            );
        }
    }
    for (length, costs) in [("10", &of_short), ("10,000", &of_long)] {
        if let Some(first) = costs.turns.first() {
            let name = length.replace(',', "");
            let what = format!("first turn after a pause without model, {length} events");
            lab.put(&format!("history.first_turn.{name}"), &what, "ms", *first);
        }
    }
    Ok(())
}

/// A session with at least `events` events.
async fn grow(site: &Site, upstream: &Upstream, events: usize) -> Result<Talk> {
    let mut talk = site.talk(&site.holding).await?;
    for _ in 0..events.div_ceil(2 * CALLS) {
        let calls = talk.hold(upstream, CALLS).await?;
        talk.release(&calls).await?;
    }
    let mut count = 0;
    let mut page = String::new();
    while count < events {
        let path = format!("/v1/sessions/{}/events?limit=1000{page}", talk.session);
        let answer = talk.connection.get(&path).await?.json()?;
        count += answer["data"].as_array().map_or(0, Vec::len);
        match answer["next_page"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None if count < events => bail!("the history has {count} of {events} events"),
            None => break,
        }
    }
    Ok(talk)
}
