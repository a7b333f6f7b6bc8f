//! The cost of a read must not depend on how much there is: every statement of the hot paths is
//! answered by an index range. The statements are those really run, asked for their plans.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::cluster::Cluster;
use common::{Hand, tapped};
use freehold_base::{IdSource, SessionId, Timestamp};
use freehold_store::backend::{Tx, Value};
use freehold_store::conformance::{self, Fixture, World};
use freehold_store::{
    CertificateQuery, CommitListener, CredentialQuery, Direction, EventQuery, FileQuery, Input,
    MemoryQuery, MemoryStoreQuery, MemoryVersionQuery, NewPoll, NewSession, SeenTool,
    SessionCursor, SessionQuery, TunnelQuery, VaultQuery, WorkQuery,
};
use freehold_wire::mcp_catalogue::ToolClass;

/// Notes the plan of each statement.
#[derive(Default)]
struct Planner(Mutex<Vec<(String, String)>>);

impl Hand for Planner {
    fn statement(&self, tx: &mut dyn Tx, sql: &str, params: &[Value<'_>]) -> String {
        let rows = tx
            .query(&format!("EXPLAIN QUERY PLAN {sql}"), params)
            .unwrap();
        let mut plans = self.0.lock().unwrap();
        plans.extend(
            rows.into_iter()
                .map(|row| (sql.to_owned(), format!("{row:?}"))),
        );
        sql.to_owned()
    }
}

async fn world() -> (World, Arc<Planner>) {
    let planner = Arc::new(Planner::default());
    let hand = Arc::clone(&planner);
    let open = move |ids: IdSource, listener: Arc<dyn CommitListener>| {
        let dir = tempfile::tempdir().unwrap();
        let store = tapped(dir.path(), None, ids, listener, Arc::clone(&hand));
        Fixture {
            store,
            keep: Box::new(dir),
        }
    };
    (World::new(&open).await, planner)
}

/// Plans that look at whole tables, or at a whole session's history, or past a cursor.
fn scans(planner: &Planner) -> Vec<(String, String)> {
    let plans = std::mem::take(&mut *planner.0.lock().unwrap());
    assert!(!plans.is_empty(), "nothing was planned");
    plans
        .into_iter()
        .filter(|(sql, plan)| {
            // A scan of a subquery is one of its few limited rows, and one of what a statement brings
            // along (the CTEs `a` and `p`) of those; none of a table.
            let table = plan.contains("SCAN ")
                && !["(subquery", "CONSTANT ROW", "2-ROW VALUES", "a\"", "p"]
                    .iter()
                    .any(|few| plan.contains(&format!("SCAN {few}")));
            let history = plan.contains("SEARCH event") && plan.contains("(session_id=?)");
            let cursor = sql.contains("created_at, id) ") || sql.contains("created_at, s.id) ");
            let skipped = cursor
                && ["SEARCH s ", "SEARCH file "]
                    .iter()
                    .any(|t| plan.contains(t))
                && !plan.contains("created_at");
            table || history || skipped || plan.contains("AUTOMATIC")
        })
        .collect()
}

#[tokio::test]
async fn hot_paths_use_indexes() {
    let (w, planner) = world().await;
    let s = w.session().await.id;
    planner.0.lock().unwrap().clear();

    let call = w.event("agent.tool_use");
    let epoch = w.claim(&s).await;
    let append = |events| conformance::append(&s, epoch, events);
    w.store.append(append(vec![call.clone()])).await.unwrap();
    w.store
        .append(append(vec![w.about("agent.tool_result", &call.id)]))
        .await
        .unwrap();
    w.store
        .accept(&s, vec![w.message(), w.verdict(&w.event("x").id)])
        .await
        .unwrap();
    w.store
        .accept(
            &s,
            vec![Input::Record {
                event: w.event("user.tool_result"),
            }],
        )
        .await
        .unwrap();
    assert_eq!(scans(&planner), []);

    w.store.tail(&s, 0, 10).await.unwrap();
    w.store.inbox(&s).await.unwrap();
    w.store.news(&s, 0, 10).await.unwrap();
    w.store.event(&s, &call.id).await.unwrap();
    w.store.references(&s, &call.id).await.unwrap();
    w.store.runnable(10).await.unwrap();
    w.store.session(&w.workspace, &s).await.unwrap();
    w.store
        .list_resources(&w.workspace, &s, None, 10)
        .await
        .unwrap();
    w.store.credential_by_hash(&[0; 32]).await.unwrap();
    w.store.tunnel_by_token([0; 32]).await.unwrap();
    w.store.tunnel_by_domain("a.tunnel.example").await.unwrap();
    w.store.agent(&w.workspace, &w.agent, None).await.unwrap();
    w.store.session_outputs(&s).await.unwrap();
    w.store.list_environment_keys(&w.environment).await.unwrap();
    let poll = NewPoll {
        environment: w.environment.clone(),
        worker: Some("w".into()),
        key: w.ids.next(),
        reclaim_older_than_ms: 0,
        token_hash: [1; 32],
    };
    w.store
        .create_session(NewSession {
            self_hosted: true,
            ..w.new_session()
        })
        .await
        .unwrap();
    let item = w.store.poll_work(poll).await.unwrap().unwrap();
    w.store.ack_work(&w.environment, &item.id).await.unwrap();
    w.store.reclaim_work().await.unwrap();
    w.store.work_stats(&w.environment).await.unwrap();
    w.store
        .stop_work(&w.environment, &item.id, true)
        .await
        .unwrap();
    let mut with_vault = w.new_session();
    with_vault.vault_ids = format!("[\"{}\"]", w.vault().await);
    let with_vault = w.store.create_session(with_vault).await.unwrap().id;
    w.store
        .session_environment_credentials(&with_vault)
        .await
        .unwrap();
    let tool = SeenTool {
        name: "t".into(),
        fingerprint: "f".into(),
        definition: "{}".into(),
        claimed: ToolClass::Write,
    };
    for tools in [vec![tool.clone()], vec![tool], vec![]] {
        let observed = w.store.observe_mcp_server(&w.workspace, "u", tools);
        observed.await.unwrap();
    }
    w.store.mcp_tool_at(&w.workspace, "u", "t").await.unwrap();
    assert_eq!(scans(&planner), []);

    // The check itself can fail: this one is known to look at every session.
    w.store.count_sessions().await.unwrap();
    assert_eq!(scans(&planner).len(), 1);
}

/// Tables that grow with what is done.
const GROWING: [&str; 4] = ["session", "event", "inbox", "work"];

/// Notes the plans of each statement on PostgreSQL that go through a growing table, and how many rows the
/// largest brought along.
#[derive(Default)]
struct Scans(Mutex<Vec<String>>, AtomicUsize);

impl Hand for Scans {
    fn statement(&self, tx: &mut dyn Tx, sql: &str, params: &[Value<'_>]) -> String {
        let plan = tx.query(&format!("EXPLAIN {sql}"), params).unwrap();
        let plan = format!("{plan:?}");
        let scanned = |table: &&str| plan.contains(&format!("Seq Scan on {table} "));
        if GROWING.iter().any(scanned) {
            self.0.lock().unwrap().push(format!("{sql}: {plan}"));
        }
        self.1
            .fetch_max(sql.matches("), (?").count(), Ordering::SeqCst);
        sql.to_owned()
    }
}

/// Whatever PostgreSQL knows of its tables: nothing yet, or everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_paths_use_indexes_on_postgresql() {
    let cluster = Cluster::start();
    let name = cluster.database();
    let address = cluster.address(&name);
    let scans = Arc::<Scans>::default();
    let dir = tempfile::tempdir().unwrap();
    let w = World::new(&|ids: IdSource, listener| {
        let open = || {
            tapped(
                dir.path(),
                Some(&address),
                ids,
                listener,
                Arc::clone(&scans),
            )
        };
        Fixture {
            store: std::thread::scope(|s| s.spawn(open).join().unwrap()),
            keep: Box::new(()),
        }
    })
    .await;
    let mut sessions = Vec::new();
    for _ in 0..32 {
        let new = NewSession {
            self_hosted: true,
            ..w.new_session()
        };
        sessions.push(w.store.create_session(new).await.unwrap().id);
    }
    let first = &sessions[0];
    let events = vec![w.event("agent.tool_use"), w.event("agent.message")];
    let some = conformance::append(first, 0, events);
    w.store.append(some).await.unwrap();
    w.store.accept(first, vec![w.message()]).await.unwrap();
    // As many of each as make a scan slower than a look into an index.
    for (table, changed) in [
        ("session", "'id', 'sesn_x' || n, 'thread_id', 'sthr_x' || n"),
        (
            "event",
            "'id', 'sevt_x' || n, 'session_id', 'sesn_x' || n / 10, 'seq', n",
        ),
        (
            "inbox",
            "'id', 'sevt_y' || n, 'session_id', 'sesn_x' || n / 10, 'seq', n",
        ),
        (
            "work",
            "'id', 'work_x' || n, 'session_id', 'sesn_x' || n, 'state', 'stopped'",
        ),
    ] {
        cluster.sql(
            &name,
            &format!(
                "INSERT INTO {table} SELECT (jsonb_populate_record(one.r, jsonb_build_object({changed}))).*
                 FROM (SELECT r FROM {table} r LIMIT 1) one, generate_series(1, 20000) n"
            ),
        );
    }
    // No two polls bring the same token, in either round.
    let mut tokens = 1u8..;
    for known in ["SELECT 1", "ANALYZE"] {
        cluster.sql(&name, known);
        scans.0.lock().unwrap().clear();
        let mut all = Vec::new();
        for session in &sessions {
            let (store, session, replica) = (w.store.clone(), session.clone(), w.replica.clone());
            let call = w.event("agent.tool_use");
            let events = vec![call.clone(), w.about("agent.tool_result", &call.id)];
            let message = w.message();
            all.push(tokio::spawn(async move {
                store.accept(&session, vec![message]).await.unwrap();
                let claim = store.claim(&session, &replica).await.unwrap().unwrap();
                let (_, items) = store.inbox(&session).await.unwrap();
                let mut append = conformance::append(&session, claim.epoch, events);
                append.consume = items.iter().map(|item| item.seq).collect();
                store.append(append).await.unwrap();
                store.tail(&session, 0, 10).await.unwrap();
                store.release(&session, claim.epoch).await.unwrap();
            }));
            let poll = NewPoll {
                environment: w.environment.clone(),
                worker: Some("w".into()),
                key: w.ids.next(),
                reclaim_older_than_ms: 0,
                token_hash: [tokens.next().unwrap(); 32],
            };
            let (store, environment) = (w.store.clone(), w.environment.clone());
            all.push(tokio::spawn(async move {
                if let Some(item) = store.poll_work(poll).await.unwrap() {
                    let _ = store.ack_work(&environment, &item.id).await;
                }
            }));
        }
        for one in all {
            one.await.unwrap();
        }
        w.store.runnable(10).await.unwrap();
        assert_eq!(*scans.0.lock().unwrap(), Vec::<String>::new(), "{known}");
    }
    let most = scans.1.load(Ordering::SeqCst);
    assert!(most >= 4, "{most} were brought along at most");
    // The check itself can fail: this one is known to look at every session.
    w.store.count_sessions().await.unwrap();
    assert_eq!(scans.0.lock().unwrap().len(), 1);
    w.store.close().await;
}

/// Every shape of the lists of contract 74.
async fn list_memories(w: &World, at: Timestamp, session: &SessionId) {
    let store = w.memory_store().await;
    for include_archived in [false, true] {
        for after in [None, Some((at, w.ids.next()))] {
            let q = MemoryStoreQuery {
                include_archived,
                after,
                limit: 10,
                ..Default::default()
            };
            w.store.list_memory_stores(&w.workspace, q).await.unwrap();
        }
    }
    for (folded, content) in [(false, false), (false, true), (true, false)] {
        for after in [None, Some("/a".to_owned())] {
            let q = MemoryQuery {
                prefix: "/".into(),
                folded,
                content,
                after,
                limit: 10,
            };
            w.store
                .list_memories(&w.workspace, &store, q)
                .await
                .unwrap();
        }
    }
    for session in [None, Some(session.clone())] {
        for after in [None, Some((at, w.ids.next()))] {
            let q = MemoryVersionQuery {
                session: session.clone(),
                after,
                limit: 10,
                ..Default::default()
            };
            let listed = w.store.list_memory_versions(&w.workspace, &store, q).await;
            listed.unwrap();
        }
    }
    w.store.session_memory_stores(session).await.unwrap();
}

#[tokio::test]
async fn listings_use_indexes_and_sort_nothing() {
    let (w, planner) = world().await;
    let s = w.session().await;
    let t = Some(Timestamp::from_micros(1));
    planner.0.lock().unwrap().clear();
    for descending in [false, true] {
        for types in [vec![], vec!["agent.message".to_owned()]] {
            for gt in [None, t] {
                for after in [None, Some((5, 5))] {
                    let types = types.clone();
                    let q = EventQuery {
                        types,
                        gt,
                        descending,
                        after,
                        limit: 10,
                        ..Default::default()
                    };
                    w.store.list_events(&s.id, q).await.unwrap();
                }
            }
        }
    }
    for ascending in [false, true] {
        for agent_id in [None, Some(w.agent.clone())] {
            for include_archived in [false, true] {
                let agent_id = agent_id.clone();
                let q = SessionQuery {
                    agent_id,
                    ascending,
                    include_archived,
                    limit: 10,
                    ..Default::default()
                };
                w.store
                    .list_sessions(&w.workspace, q.clone())
                    .await
                    .unwrap();
                for direction in [Direction::Next, Direction::Prev] {
                    let (created_at, id) = (s.created_at, s.id.clone());
                    let cursor = Some(SessionCursor {
                        created_at,
                        id,
                        direction,
                    });
                    let q = SessionQuery {
                        cursor,
                        ..q.clone()
                    };
                    w.store.list_sessions(&w.workspace, q).await.unwrap();
                }
            }
        }
    }
    let all = FileQuery {
        limit: 10,
        ..Default::default()
    };
    w.store.list_files(&w.workspace, all.clone()).await.unwrap();
    let after = Some((s.created_at, w.file_id()));
    let next = FileQuery {
        after,
        ..all.clone()
    };
    w.store.list_files(&w.workspace, next).await.unwrap();
    let scoped = FileQuery {
        scope: Some(s.id.clone()),
        ..all
    };
    w.store.list_files(&w.workspace, scoped).await.unwrap();
    for after in [None, Some((s.created_at, w.ids.next()))] {
        let q = WorkQuery { after, limit: 10 };
        w.store.list_work(&w.environment, q).await.unwrap();
    }
    for include_archived in [false, true] {
        let vaults = VaultQuery {
            include_archived,
            after: Some((s.created_at, w.ids.next())),
            limit: 10,
        };
        w.store.list_vaults(&w.workspace, vaults).await.unwrap();
        let credentials = CredentialQuery {
            include_archived,
            after: Some((s.created_at, w.ids.next())),
            limit: 10,
        };
        w.store
            .list_credentials(&w.workspace, &w.ids.next(), credentials)
            .await
            .unwrap();
        let tunnels = TunnelQuery {
            include_archived,
            after: Some((s.created_at, w.ids.next())),
            limit: 10,
        };
        w.store.list_tunnels(&w.workspace, tunnels).await.unwrap();
        let certificates = CertificateQuery {
            include_archived,
            after: Some((s.created_at, w.ids.next())),
            limit: 10,
        };
        w.store
            .list_tunnel_certificates(&w.workspace, &w.ids.next(), certificates)
            .await
            .unwrap();
    }
    list_memories(&w, s.created_at, &s.id).await;
    let sorted: Vec<_> = {
        let plans = planner.0.lock().unwrap();
        let sorts = plans.iter().filter(|(sql, plan)| {
            // Types are merged from one limited range each: at most a page each is sorted.
            plan.contains("TEMP B-TREE") && !sql.contains("UNION ALL") && !sql.contains("AS p")
        });
        sorts.cloned().collect()
    };
    assert_eq!(sorted, []);
    assert_eq!(scans(&planner), []);
}
