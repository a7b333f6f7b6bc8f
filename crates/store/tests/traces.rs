//! A deleted session has left no row, in whatever table, and no blob that nobody else uses.

use std::collections::BTreeSet;

use freehold_base::SessionId;
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::{NewOutput, Store};
use rusqlite::Connection;

/// Every column of text in which some row has the session's id, found without the store's help.
fn named(dir: &std::path::Path, session: &SessionId) -> BTreeSet<String> {
    let database = Connection::open(dir.join("freehold.db")).unwrap();
    let columns = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
      WHERE m.type = 'table' AND c.type = 'TEXT'";
    let mut columns = database.prepare(columns).unwrap();
    let columns = columns.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    let columns: Vec<_> = columns.unwrap().collect::<Result<_, _>>().unwrap();
    let mut found = BTreeSet::new();
    for (table, column) in columns {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {column} = ?1");
        let rows = database.query_row(&sql, [session.as_str()], |row| row.get::<_, i64>(0));
        if rows.unwrap() > 0 {
            found.insert(format!("{table}.{column}"));
        }
    }
    found
}

#[tokio::test]
async fn what_is_left_of_a_session_is_found_in_every_table() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(&|ids, listener| Fixture {
        store: Store::open(dir.path(), ids, listener).unwrap(),
        keep: Box::new(()),
    })
    .await;
    let store = &world.store;
    let [session, other] = [world.session().await.id, world.session().await.id];
    for (session, content) in [(&session, "shared"), (&other, "shared"), (&session, "own")] {
        let blob = store.blobs().put(content.as_bytes(), 100).await.unwrap();
        let output = NewOutput {
            session: session.clone(),
            path: content.into(),
            blob: blob.key.clone(),
            size: blob.size,
            source_mtime: 1,
        };
        store.upsert_output(output).await.unwrap();
    }
    let events = vec![world.event("agent.message"), world.event("agent.message")];
    store.append(append(&session, 0, events)).await.unwrap();
    let blobs = store.session_blobs(&session).await.unwrap();
    assert_eq!(blobs.len(), 2);
    let before = store.session_traces(&session).await.unwrap();
    let seen: BTreeSet<_> = before
        .rows
        .iter()
        .filter(|t| t.rows > 0)
        .map(|t| format!("{}.{}", t.table, t.column))
        .collect();
    assert_eq!(seen, named(dir.path(), &session));
    assert!(seen.contains("event.session_id") && seen.contains("file.scope_session"));

    store
        .delete_session(&world.workspace, &session)
        .await
        .unwrap();
    let after = store.session_traces(&session).await.unwrap();
    assert_eq!(after.count(), 0, "{after:?}");
    assert_eq!(named(dir.path(), &session), BTreeSet::new());
    // As many places were looked at as before.
    assert_eq!(after.rows.len(), before.rows.len());
    let mut left = Vec::new();
    for key in &blobs {
        left.push(store.blob_uses(key).await.unwrap());
    }
    left.sort_unstable();
    assert_eq!(left, [(false, 0), (true, 1)]);

    // What a fault would leave is found, wherever it is.
    let database = Connection::open(dir.path().join("freehold.db")).unwrap();
    let audit = "INSERT INTO mcp_audit (id, workspace_id, at, server, action, outcome, body)
      VALUES ('a', ?2, 1, 's', 'tools/call', 'ok', '{\"session_id\":\"' || ?1 || '\"}')";
    let ids = [session.as_str(), world.workspace.as_str()];
    database.execute(audit, ids).unwrap();
    let sql = "INSERT INTO event (session_id, seq, id, kind, epoch, processed_at, payload)
      VALUES (?1, 9, 'e', 'k', 0, 1, '{}')";
    database.execute(sql, [session.as_str()]).unwrap();
    let found = store.session_traces(&session).await.unwrap();
    assert_eq!(found.count(), 1);
    assert_eq!(found.kept.len(), 1);
    assert_eq!(found.kept[0].rows.table, "mcp_audit");
}
