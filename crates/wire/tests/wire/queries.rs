//! Contract 00 §1 and §6: query strings, pages, cursors.

use freehold_base::{SessionId, Timestamp};
use freehold_wire::cursor::{Direction, Order, Position};
use freehold_wire::list::*;
use freehold_wire::models::Lifecycle;
use freehold_wire::session::Status;
use freehold_wire::{ApiError, Query};

fn query(raw: &str) -> Query {
    Query::parse(raw).unwrap()
}
fn session() -> SessionId {
    "sesn_1".parse().unwrap()
}
fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind.status(), 400);
    error.message
}

#[test]
fn every_encoding_of_an_array_is_the_same() {
    for raw in [
        "statuses[]=idle&statuses[]=running",
        "statuses%5B%5D=idle&statuses%5B%5D=running",
        "statuses%5b%5d=idle&statuses%5b%5d=running",
        "statuses=idle&statuses=running&statuses=idle",
        "beta=true&statuses=idle&&statuses[]=running&unknown=1",
    ] {
        let list = ListSessions::read(&query(raw)).unwrap();
        assert_eq!(list.statuses, [Status::Idle, Status::Running], "{raw}");
    }
}

#[test]
fn nested_times_as_the_sdk_sends_them() {
    let list = ListSessions::read(&query(
        "created_at%5Bgte%5D=2026-01-02T03%3A04%3A05.678901%2B00%3A00&created_at[lt]=2026-02-01T00:00:00Z",
    ))
    .unwrap();
    assert_eq!(
        list.created_at.gte,
        Some("2026-01-02T03:04:05.678901Z".parse().unwrap())
    );
    assert_eq!(
        list.created_at.lt,
        Some("2026-02-01T00:00:00Z".parse().unwrap())
    );
    // An offset whose plus was not escaped.
    let list = ListSessions::read(&query("created_at[gt]=2026-01-01T01:00:00+01:00")).unwrap();
    assert_eq!(
        list.created_at.gt,
        Some("2026-01-01T00:00:00Z".parse().unwrap())
    );
}

#[test]
fn defaults_and_bounds() {
    let list = ListAgents::read(&query("")).unwrap();
    assert_eq!(
        (list.limit, list.include_archived, list.page),
        (20, false, None)
    );
    assert_eq!(
        ListEvents::read(&query(""), &session()).unwrap().limit,
        1000
    );
    assert_eq!(
        ListEvents::read(&query("limit=1000"), &session())
            .unwrap()
            .limit,
        1000
    );
    assert_eq!(
        ListEvents::read(&query(""), &session()).unwrap().order,
        Order::Asc
    );
    assert_eq!(ListSessions::read(&query("")).unwrap().order, Order::Desc);
    assert!(
        ListAgents::read(&query("include_archived=true"))
            .unwrap()
            .include_archived
    );
    for (raw, text) in [
        ("limit=0", "limit: Input should be an integer from 1 to 100"),
        (
            "limit=101",
            "limit: Input should be an integer from 1 to 100",
        ),
        (
            "limit=-1",
            "limit: Input should be an integer from 1 to 100",
        ),
        (
            "limit=+5",
            "limit: Input should be an integer from 1 to 100",
        ),
        ("limit=", "limit: Input should be an integer from 1 to 100"),
        (
            "limit=ten",
            "limit: Input should be an integer from 1 to 100",
        ),
        ("limit=5&limit=6", "limit: Given more than once"),
        (
            "include_archived=yes",
            "include_archived: Input should be 'true' or 'false'",
        ),
        ("page=x", "page: not a valid page cursor"),
        (
            "created_at[gte]=today",
            "created_at[gte]: Input should be an RFC 3339 timestamp",
        ),
        (
            "created_at[gt]=2026-01-01T00:00:00Z",
            "created_at[gt]: Only created_at[gte] and created_at[lte] are supported",
        ),
    ] {
        assert_eq!(message(ListAgents::read(&query(raw))), text, "{raw}");
    }
    for (raw, text) in [
        (
            "order=up",
            "order: Input should be 'asc' or 'desc', not 'up'",
        ),
        (
            "statuses[]=done",
            "statuses: Input should be 'idle', 'running', 'rescheduling' or 'terminated', not 'done'",
        ),
        (
            "agent_id=x",
            "agent_id: not a valid id: expected the form agent_…",
        ),
        (
            "agent_id=agent_1&agent_version=0",
            "agent_version: Input should be an integer of at least 1",
        ),
    ] {
        assert_eq!(message(ListSessions::read(&query(raw))), text, "{raw}");
    }
    // Only applies with agent_id.
    let alone = ListSessions::read(&query("agent_version=2")).unwrap_err();
    assert_eq!(alone.message, "agent_version: only together with agent_id");
    assert_eq!(
        ListSessions::read(&query("agent_id=agent_1&agent_version=2"))
            .unwrap()
            .agent_version,
        Some(2)
    );
}

#[test]
fn hostile_query_strings() {
    assert_eq!(
        message(Query::parse("a=%zz")),
        "The query string holds an invalid percent escape."
    );
    assert_eq!(
        message(Query::parse("a=%4")),
        "The query string holds an invalid percent escape."
    );
    assert_eq!(
        message(Query::parse("a=%ff")),
        "The query string is not valid UTF-8."
    );
    assert_eq!(
        message(Query::parse(&"a&".repeat(1001))),
        "The query string has more than 1000 parameters."
    );
    assert_eq!(
        message(Query::parse(&"a".repeat(70_000))),
        "The query string is longer than 65536 bytes."
    );
    let long = message(ListSessions::read(&query(&format!(
        "order={}",
        "x".repeat(5000)
    ))));
    assert!(long.len() < 200, "{long}");
    assert_eq!(query("a=b=c&d").one("a").unwrap(), Some("b=c"));
    assert!(query("d").has("d"));
}

#[test]
fn event_types_are_a_closed_set() {
    let read = |raw: &str| ListEvents::read(&query(raw), &session());
    assert_eq!(
        read("types[]=agent.message&types[]=session.usage")
            .unwrap()
            .types,
        ["agent.message", "session.usage"]
    );
    assert_eq!(
        read("types[]=workflow_run.created").unwrap().types,
        ["workflow_run.created"]
    );
    assert_eq!(
        message(read("types[]=agent.mesage")),
        "types: 'agent.mesage' is not an event type that can be filtered by"
    );
    assert!(message(read("types[]=session.deleted")).starts_with("types: 'session.deleted'"));
}

#[test]
fn cursors_are_bound_to_list_parent_and_order() {
    let id = session();
    let scope = ListEvents::scope(&id, Order::Asc);
    let cursor = scope.next(Position::Sequence(7, 2));
    assert!(cursor.starts_with("page_"));
    let list = ListEvents::read(
        &query(&format!("page={cursor}&limit=5&types[]=user.message")),
        &id,
    )
    .unwrap();
    let page = list.page.unwrap();
    assert_eq!(
        (page.direction, page.position),
        (Direction::Next, Position::Sequence(7, 2))
    );
    let page = |raw: &str, id: &SessionId| message(ListEvents::read(&query(raw), id));
    assert_eq!(
        page(&format!("page={cursor}&order=desc"), &id),
        "page: this page cursor was made for another `order`; start again without `page`"
    );
    assert_eq!(
        page(&format!("page={cursor}"), &"sesn_2".parse().unwrap()),
        "page: this page cursor belongs to another list"
    );
    assert_eq!(
        message(ListAgents::read(&query(&format!("page={cursor}")))),
        "page: this page cursor belongs to another list"
    );
}

#[test]
fn damaged_cursors_are_refused() {
    let created = Position::Created(5, "agent_1".into());
    let good = ListAgents::SCOPE.next(created.clone());
    ListAgents::read(&query(&format!("page={good}"))).unwrap();
    let bad = "page: not a valid page cursor";
    for text in [
        good.trim_start_matches("page_").to_owned(),
        format!("{good}A"),
        good[..good.len() - 3].to_owned(),
        "page_".to_owned(),
        format!("page_{}", "A".repeat(5000)),
        // A position that this list has not.
        ListAgents::SCOPE.next(Position::Sequence(1, 1)),
        // A direction that only sessions have.
        ListAgents::SCOPE.prev(created),
    ] {
        assert_eq!(
            message(ListAgents::read(&query(&format!("page={text}")))),
            bad,
            "{text}"
        );
    }
    // An empty page is no page.
    assert_eq!(ListAgents::read(&query("page=")).unwrap().page, None);
}

#[test]
fn sessions_page_both_ways_and_keep_to_their_filters() {
    let scope = ListSessions::scope(Order::Desc);
    let time: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let position = || Position::Created(time.as_micros(), "sesn_1".into());
    for (cursor, direction) in [
        (scope.next(position()), Direction::Next),
        (scope.prev(position()), Direction::Prev),
    ] {
        let list = ListSessions::read(&query(&format!("page={cursor}&statuses[]=idle"))).unwrap();
        assert_eq!(list.page.unwrap().direction, direction);
        ListSessions::read(&query(&format!(
            "page={cursor}&created_at[lte]=2026-03-01T00:00:00Z"
        )))
        .unwrap();
        assert_eq!(
            message(ListSessions::read(&query(&format!(
                "page={cursor}&created_at[lt]=2026-03-01T00:00:00Z"
            )))),
            "page: the created_at filters exclude the position of this page cursor; start again without `page`"
        );
    }
}

#[test]
fn file_lists() {
    let ListFiles::Ids(ids) =
        ListFiles::read(&query("ids[]=file_2&ids[]=file_1&ids[]=file_2&ids[]=bogus")).unwrap()
    else {
        panic!("ids")
    };
    assert_eq!(
        ids.iter().map(|i| i.as_str()).collect::<Vec<_>>(),
        ["file_1", "file_2"]
    );
    assert_eq!(
        message(ListFiles::read(&query("ids[]=file_1&limit=5"))),
        "ids: Cannot be combined with limit"
    );
    assert_eq!(
        message(ListFiles::read(&query("ids[]=file_1&page=x"))),
        "ids: Cannot be combined with page"
    );
    let many: String = (0..101).map(|i| format!("ids[]=file_{i}&")).collect();
    assert_eq!(
        message(ListFiles::read(&query(&many))),
        "ids: At most 100 ids are allowed, not 101"
    );
    assert_eq!(
        message(ListFiles::read(&query("scope_id=session_1"))),
        "scope_id: not a valid id: expected the form sesn_…"
    );
    // A cursor of one session's files is none of another's.
    let id = session();
    let cursor = ListFiles::scope(Some(&id)).next(Position::Created(1, "file_1".into()));
    ListFiles::read(&query(&format!("scope_id=sesn_1&page={cursor}"))).unwrap();
    assert_eq!(
        message(ListFiles::read(&query(&format!("page={cursor}")))),
        "page: this page cursor belongs to another list"
    );
}

#[test]
fn model_lists() {
    let list = ListModels::read(&query("")).unwrap();
    assert_eq!(list.lifecycle, [Lifecycle::Active, Lifecycle::Deprecated]);
    assert_eq!(
        ListModels::read(&query("lifecycle[]=retired"))
            .unwrap()
            .lifecycle,
        [Lifecycle::Retired]
    );
    assert_eq!(
        message(ListModels::read(&query("after_id=a&before_id=b"))),
        "before_id: Cannot be combined with after_id"
    );
}
