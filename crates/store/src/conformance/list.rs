//! Listing events, checked against a plain filter over everything there is.

use freehold_base::{EventId, SessionId, Timestamp};

use super::cases;
use super::world::{World, append};
use crate::{EventQuery, Listed};

cases! {
    every_page_size_gives_the_same_listing,
    types_and_times_filter_both_orders,
    waiting_input_has_no_time,
    a_listing_goes_on_over_what_came_meanwhile,
    reads_bounded_in_bytes_miss_nothing,
}

/// 23 events of three types, two of each millisecond, and three waiting.
async fn filled(w: &World) -> SessionId {
    let s = w.session().await.id;
    for n in 0..23 {
        let kind = ["agent.message", "agent.tool_use", "session.error"][n % 3];
        w.clock.advance_millis((n % 2) as i64);
        w.store
            .append(append(&s, 0, vec![w.event(kind)]))
            .await
            .unwrap();
    }
    w.store
        .accept(&s, vec![w.message(), w.message(), w.message()])
        .await
        .unwrap();
    s
}

/// All entries, page by page.
async fn walk(w: &World, s: &SessionId, q: EventQuery) -> Vec<Listed> {
    let (mut all, mut q) = (Vec::new(), q);
    loop {
        let mut page = w.store.list_events(s, q.clone()).await.unwrap();
        assert!(page.len() <= q.limit + 1);
        let more = page.len() > q.limit;
        page.truncate(q.limit);
        let next = q.position(&page);
        all.extend(page);
        if !more {
            return all;
        }
        q.after = next;
    }
}

fn ids(listed: &[Listed]) -> Vec<EventId> {
    listed.iter().map(|l| l.id().clone()).collect()
}

async fn everything(w: &World, s: &SessionId) -> Vec<Listed> {
    let log = w
        .store
        .tail(s, 0, 1000)
        .await
        .unwrap()
        .into_iter()
        .map(Listed::Event);
    let waiting = w
        .store
        .inbox(s)
        .await
        .unwrap()
        .1
        .into_iter()
        .map(Listed::Queued);
    log.chain(waiting).collect()
}

async fn every_page_size_gives_the_same_listing(w: World) {
    let s = filled(&w).await;
    let mut expected = everything(&w, &s).await;
    assert_eq!(expected.len(), 26);
    for descending in [false, true] {
        for limit in [1, 2, 3, 5, 22, 23, 24, 25, 26, 100] {
            let q = EventQuery {
                descending,
                limit,
                ..Default::default()
            };
            assert_eq!(walk(&w, &s, q).await, expected, "by {limit}");
        }
        expected.reverse();
    }
    let none = EventQuery {
        limit: 5,
        ..Default::default()
    };
    assert!(walk(&w, &w.session().await.id, none).await.is_empty());
}

async fn types_and_times_filter_both_orders(w: World) {
    let s = filled(&w).await;
    let all = everything(&w, &s).await;
    let time = |l: &Listed| match l {
        Listed::Event(e) => Some(e.processed_at),
        Listed::Queued(_) => None,
    };
    let kind = |l: &Listed| match l {
        Listed::Event(e) => e.kind.clone(),
        Listed::Queued(i) => i.kind.clone(),
    };
    let times: Vec<Timestamp> = all.iter().filter_map(time).collect();
    let around = |t: Timestamp| [-1, 0, 1].map(|d| Timestamp::from_micros(t.as_micros() + d));
    let mut bounds = vec![(None, None)];
    for t in [times[0], times[7], times[22]].into_iter().flat_map(around) {
        bounds.extend([(Some(t), None), (None, Some(t)), (Some(times[3]), Some(t))]);
    }
    let kinds: [&[&str]; 5] = [
        &[],
        &["agent.tool_use"],
        &["session.error", "agent.message", "agent.message"],
        &["user.message", "agent.tool_use"],
        &["no.such"],
    ];
    let mut checked = 0;
    for types in kinds {
        for (from, to) in &bounds {
            for strict in [false, true] {
                for descending in [false, true] {
                    let q = EventQuery {
                        types: types.iter().map(|t| (*t).to_owned()).collect(),
                        gt: from.filter(|_| strict),
                        gte: from.filter(|_| !strict),
                        lt: to.filter(|_| strict),
                        lte: to.filter(|_| !strict),
                        descending,
                        after: None,
                        limit: 4,
                    };
                    let mut expected: Vec<Listed> = all
                        .iter()
                        .filter(|l| q.types.is_empty() || q.types.contains(&kind(l)))
                        .filter(|l| match time(l) {
                            Some(t) => {
                                from.is_none_or(|f| if strict { t > f } else { t >= f })
                                    && to.is_none_or(|u| if strict { t < u } else { t <= u })
                            }
                            None => from.is_none() && to.is_none(),
                        })
                        .cloned()
                        .collect();
                    if descending {
                        expected.reverse();
                    }
                    assert_eq!(ids(&walk(&w, &s, q.clone()).await), ids(&expected), "{q:?}");
                    checked += expected.len();
                }
            }
        }
    }
    assert!(checked > 1000, "the filters let something through");
}

async fn waiting_input_has_no_time(w: World) {
    let s = filled(&w).await;
    let q = EventQuery {
        gte: Some(Timestamp::from_micros(0)),
        limit: 100,
        ..Default::default()
    };
    let listed = w.store.list_events(&s, q).await.unwrap();
    assert_eq!(listed.len(), 23);
    assert!(listed.iter().all(|l| matches!(l, Listed::Event(_))));
}

async fn a_listing_goes_on_over_what_came_meanwhile(w: World) {
    let s = filled(&w).await;
    let first = EventQuery {
        limit: 10,
        ..Default::default()
    };
    let mut page = w.store.list_events(&s, first.clone()).await.unwrap();
    page.truncate(10);
    w.store
        .append(append(&s, 0, vec![w.event("agent.message")]))
        .await
        .unwrap();
    let rest = EventQuery {
        after: first.position(&page),
        limit: 100,
        ..Default::default()
    };
    let rest = w.store.list_events(&s, rest).await.unwrap();
    page.extend(rest);
    assert_eq!(ids(&page), ids(&everything(&w, &s).await));
}

async fn reads_bounded_in_bytes_miss_nothing(w: World) {
    let s = filled(&w).await;
    let size = w.store.tail(&s, 0, 1).await.unwrap()[0].payload.len();
    for bytes in [1, size * 3, usize::MAX] {
        let mut seen = Vec::new();
        loop {
            let after = seen.len() as i64;
            let page = w.store.tail_within(&s, after, 10, bytes).await.unwrap();
            let most = bytes.div_ceil(size).min(10);
            assert!(page.len() <= most, "{} for {bytes}", page.len());
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, w.store.tail(&s, 0, 1000).await.unwrap());
        for (descending, types) in [
            (false, vec![]),
            (true, vec![]),
            (false, vec!["agent.message"]),
        ] {
            let mut q = EventQuery {
                limit: 10,
                descending,
                types: types.iter().map(|t| (*t).to_owned()).collect(),
                ..EventQuery::default()
            };
            let mut seen = Vec::new();
            loop {
                let listed = w.store.list_events_within(&s, q.clone(), bytes).await;
                let (mut page, cut) = listed.unwrap();
                assert!(!cut || page.len() <= 10);
                let more = cut || page.len() > q.limit;
                page.truncate(q.limit);
                q.after = q.position(&page);
                seen.extend(ids(&page));
                if !more {
                    break;
                }
            }
            q.after = None;
            let expected = walk(&w, &s, q).await;
            assert_eq!(seen, ids(&expected), "{bytes} {descending} {types:?}");
        }
    }
}
