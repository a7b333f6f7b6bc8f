//! Everything a store holds moves from SQLite to PostgreSQL and back: every row of every table the
//! schema has, and every blob.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use common::cluster::Cluster;
use freehold_base::IdSource;
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::postgres::Address;
use freehold_store::transfer::{Moved, TransferError, export, import};
use freehold_store::{Keyring, NoListener, Place, Store, StoreError};
use rusqlite::Connection;

/// Rows that are made in each table: several pages.
const ROWS: i64 = 120;
/// What no export has: the schema comes with the program, and nobody lives in a file.
const STAYS: [&str; 3] = ["poller", "replica", "schema_migration"];

fn place(address: Option<&Address>, keys: Option<&Keyring>) -> Place {
    Place {
        database: address.cloned(),
        keys: keys.cloned(),
        blobs: None,
    }
}

fn open(
    dir: &Path,
    address: Option<&Address>,
    keys: Option<&Keyring>,
) -> Result<Store, StoreError> {
    let place = place(address, keys);
    let open = || Store::open_with(dir, place, IdSource::system(), Arc::new(NoListener));
    // It blocks on runtimes of its own.
    std::thread::scope(|s| s.spawn(open).join().unwrap())
}

/// Columns of each table, with what they hold.
fn columns(database: &Connection) -> BTreeMap<String, Vec<(String, String)>> {
    let sql = "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c
      WHERE m.type = 'table' ORDER BY m.name, c.cid";
    let mut sql = database.prepare(sql).unwrap();
    let mut rows = sql.query([]).unwrap();
    let mut found = BTreeMap::<String, Vec<_>>::new();
    while let Some(row) = rows.next().unwrap() {
        let column = (row.get(1).unwrap(), row.get(2).unwrap());
        found.entry(row.get(0).unwrap()).or_default().push(column);
    }
    found
}

/// The value of a made row: a foreign key has that of the row it refers to.
fn made(database: &Connection, table: &str, column: &str, n: i64) -> String {
    let parent = "SELECT \"table\", COALESCE(\"to\", 'id') FROM pragma_foreign_key_list(?1)
      WHERE \"from\" = ?2";
    let parent = database.query_row(parent, [table, column], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    match parent {
        Ok((parent, of)) => made(database, &parent, &of, n),
        Err(_) => format!("{table}-{column}-{n:04} ü'\"\\\n"),
    }
}

/// Fills every table there is, behind the store's back. `blobs` are those that rows may name, `master` the key
/// that secrets are under.
fn fill(dir: &Path, blobs: &[String], master: &str) {
    let database = Connection::open(dir.join("freehold.db")).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.execute_batch("BEGIN").unwrap();
    for (table, columns) in columns(&database) {
        if STAYS.contains(&table.as_str()) {
            continue;
        }
        for n in 0..ROWS {
            let values = columns.iter().enumerate().map(|(place, (name, holds))| {
                match (name.as_str(), holds.as_str()) {
                    ("blob", _) => format!("'{}'", blobs[n as usize % blobs.len()]),
                    ("master", _) => format!("'{master}'"),
                    (_, "INTEGER") => (i64::MAX - 1000 * (place as i64 + 1) - n).to_string(),
                    (_, "BLOB") => format!("x'00ff{n:08x}'"),
                    (name, _) => {
                        let text = made(&database, &table, name, n);
                        format!("'{}'", text.replace('\'', "''"))
                    }
                }
            });
            let values: Vec<_> = values.collect();
            let sql = format!("INSERT INTO {table} VALUES ({})", values.join(", "));
            database.execute(&sql, []).unwrap();
        }
        // What may be absent, sometimes is.
        let nullable = "SELECT name FROM pragma_table_info(?1) WHERE \"notnull\" = 0 AND pk = 0";
        let mut nullable = database.prepare(nullable).unwrap();
        let nullable = nullable.query_map([&table], |row| row.get::<_, String>(0));
        for column in nullable.unwrap() {
            let column = column.unwrap();
            let sql = format!("UPDATE {table} SET {column} = NULL WHERE rowid % 3 = 0");
            database.execute(&sql, []).unwrap();
        }
    }
    database.execute_batch("COMMIT").unwrap();
    let mut broken = database.prepare("PRAGMA foreign_key_check").unwrap();
    assert!(broken.query([]).unwrap().next().unwrap().is_none());
}

/// Every row of every table of a SQLite database, by table, in digits that no engine reads otherwise.
fn rows_of_sqlite(dir: &Path) -> BTreeMap<String, Vec<String>> {
    let database = Connection::open(dir.join("freehold.db")).unwrap();
    let mut all = BTreeMap::new();
    for (table, columns) in moved(columns(&database)) {
        let digits = columns
            .iter()
            .map(|(name, _)| format!("iif({name} IS NULL, '-', lower(hex(CAST({name} AS BLOB))))"));
        let digits: Vec<_> = digits.collect();
        let sql = format!("SELECT {} FROM {table}", digits.join(" || ' ' || "));
        let mut sql = database.prepare(&sql).unwrap();
        let rows = sql.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut rows: Vec<_> = rows.collect::<Result<_, _>>().unwrap();
        rows.sort_unstable();
        all.insert(table, rows);
    }
    all
}

/// The same of a PostgreSQL database that has the tables of `like`.
fn rows_of_postgres(cluster: &Cluster, name: &str, like: &Path) -> BTreeMap<String, Vec<String>> {
    let database = Connection::open(like.join("freehold.db")).unwrap();
    let mut all = BTreeMap::new();
    for (table, columns) in moved(columns(&database)) {
        let digits = columns.iter().map(|(name, holds)| match holds.as_str() {
            "BLOB" => format!("COALESCE(encode({name}, 'hex'), '-')"),
            _ => format!("COALESCE(encode(convert_to({name}::text, 'UTF8'), 'hex'), '-')"),
        });
        let digits: Vec<_> = digits.collect();
        let sql = format!("SELECT {} FROM {table}", digits.join(" || ' ' || "));
        let said = cluster.sql(name, &sql);
        let mut rows: Vec<_> = said.lines().map(str::to_owned).collect();
        rows.sort_unstable();
        all.insert(table, rows);
    }
    all
}

fn moved(
    mut tables: BTreeMap<String, Vec<(String, String)>>,
) -> BTreeMap<String, Vec<(String, String)>> {
    tables.retain(|name, _| !STAYS.contains(&name.as_str()));
    tables
}

async fn write(store: &Store, path: &Path) -> Moved {
    let file = File::create(path).unwrap();
    export(store, file, &mut |_, _| {}).await.unwrap()
}

async fn read(
    dir: &Path,
    address: Option<&Address>,
    keys: Option<&Keyring>,
    path: &Path,
) -> Result<Moved, TransferError> {
    let mut file = File::open(path).unwrap();
    let place = place(address, keys);
    import(dir, place, IdSource::system(), &mut file, &mut |_, _| {}).await
}

/// The lines of an export.
fn lines(path: &Path) -> Vec<String> {
    let unpacked = zstd::Decoder::new(File::open(path).unwrap()).unwrap();
    BufReader::new(unpacked)
        .lines()
        .map(Result::unwrap)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_and_blob_moves_to_postgresql_and_back() {
    let cluster = Cluster::start();
    let name = cluster.database();
    let address = cluster.address(&name);
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [from, through, to] = dirs.each_ref().map(tempfile::TempDir::path);
    let files = [(); 3].map(|()| tempfile::NamedTempFile::new().unwrap());
    let [first, second, third] = files.each_ref().map(tempfile::NamedTempFile::path);

    let store = open(from, None, None).unwrap();
    let mut keys = Vec::new();
    let large = vec![7u8; 1_000_000];
    for content in [&b""[..], b"small", &large] {
        let blob = store.blobs().put(content, 1 << 20).await.unwrap();
        keys.push(blob.key.clone());
    }
    store.close().await;
    let master = Keyring::load(&from.join("secrets.key")).unwrap();
    fill(from, &keys, master.newest_id());
    let store = open(from, None, None).unwrap();
    let wrote = write(&store, first).await;
    assert_eq!(wrote.blobs, 3);
    assert_eq!(wrote.bytes, 1_000_005);
    store.close().await;
    let rows = rows_of_sqlite(from);
    assert!(rows.len() > 20 && rows.values().all(|of| of.len() >= ROWS as usize));
    assert_eq!(
        wrote.rows,
        rows.values().map(Vec::len).sum::<usize>() as u64
    );

    // The secrets of the export are sealed under a key that has to be brought along.
    let refused = read(through, Some(&address), None, first).await;
    assert!(matches!(refused, Err(TransferError::Keys { missing }) if missing == master.ids()));
    let master = Some(&master);

    let took = read(through, Some(&address), master, first).await.unwrap();
    assert_eq!(took.rows, rows.values().map(Vec::len).sum::<usize>() as u64);
    let there = rows_of_postgres(&cluster, &name, from);
    for (table, of) in &rows {
        assert_eq!(&there[table], of, "{table}");
    }
    let again = read(through, Some(&address), master, first).await;
    assert!(matches!(again, Err(TransferError::NotEmpty { .. })));

    let store = open(through, Some(&address), master).unwrap();
    write(&store, second).await;
    for key in &keys {
        assert!(store.blobs().open(key).await.is_ok());
    }
    // While a replica lives there is no moment at which everything could be written.
    let replica = store.replica().clone();
    store.heartbeat(&replica, 60_000).await.unwrap();
    let refused = export(&store, std::io::sink(), &mut |_, _| {}).await;
    assert!(matches!(refused, Err(TransferError::InUse)));
    store.close().await;
    assert_eq!(lines(second), lines(first));

    read(to, None, master, second).await.unwrap();
    assert_eq!(rows_of_sqlite(to), rows);
    let store = open(to, None, master).unwrap();
    write(&store, third).await;
    assert_eq!(lines(third), lines(first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_where_it_was_moved() {
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let world = World::new(&|ids, listener| Fixture {
        store: Store::open(dirs[0].path(), ids, listener).unwrap(),
        keep: Box::new(()),
    })
    .await;
    let session = world.session().await.id;
    let store = &world.store;
    store.accept(&session, vec![world.message()]).await.unwrap();
    let events = vec![world.event("agent.message"), world.event("agent.message")];
    store.append(append(&session, 0, events)).await.unwrap();
    let before = store.tail(&session, 0, 10).await.unwrap();
    store.retire(&world.replica).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    write(store, file.path()).await;
    store.close().await;

    read(dirs[1].path(), Some(&address), None, file.path())
        .await
        .unwrap();
    let store = open(dirs[1].path(), Some(&address), None).unwrap();
    assert_eq!(store.tail(&session, 0, 10).await.unwrap(), before);
    let replica = store.replica().clone();
    store.heartbeat(&replica, 60_000).await.unwrap();
    let wanting = store.runnable(10).await.unwrap();
    assert_eq!(wanting, std::slice::from_ref(&session));
    let claim = store.claim(&session, &replica).await.unwrap().unwrap();
    let event = world.event("agent.message");
    let done = store
        .append(append(&session, claim.epoch, vec![event]))
        .await
        .unwrap();
    assert_eq!(done.head, 3);
    assert_eq!(store.inbox(&session).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_not_whole_is_not_taken_in() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let store = open(dirs[0].path(), None, None).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    write(&store, file.path()).await;
    let good = lines(file.path());
    let pack = |lines: &[String]| {
        let mut file = tempfile::tempfile().unwrap();
        let mut packed = zstd::Encoder::new(&mut file, 0).unwrap();
        for line in lines {
            writeln!(packed, "{line}").unwrap();
        }
        packed.finish().unwrap();
        file.rewind().unwrap();
        file
    };
    let changed = |from: &str, to: &str| -> Vec<_> {
        good.iter().map(|line| line.replace(from, to)).collect()
    };
    let cut = good[..good.len() - 1].to_vec();
    let longer: Vec<_> = good.iter().cloned().chain(["{}".to_owned()]).collect();
    for (lines, what) in [
        (changed("Default", "Defaulu"), "contradicts"),
        (
            changed("\"organization\",\"columns\"", "\"x\",\"columns\""),
            "unknown table",
        ),
        (changed("\"format\":1", "\"format\":2"), "not an export"),
        (cut, "the file ends in it"),
        (longer, "not the last"),
        (vec!["no".to_owned()], "not JSON"),
    ] {
        let mut file = pack(&lines);
        let target = dirs[1].path();
        let place = Place::default();
        let refused = import(target, place, IdSource::system(), &mut file, &mut |_, _| {}).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(what), "{what}: {said}");
        assert!(!target.join("freehold.db").exists(), "{what}");
    }
    let head: serde_json::Value = serde_json::from_str(&good[0]).unwrap();
    let schema = format!("\"schema\":{}", head["schema"]);
    let newer = changed(&schema, "\"schema\":99");
    let mut file = pack(&newer);
    let target = dirs[1].path();
    let place = Place::default();
    let refused = import(target, place, IdSource::system(), &mut file, &mut |_, _| {}).await;
    assert!(matches!(
        refused,
        Err(TransferError::Schema { found: 99, .. })
    ));
}

#[tokio::test]
async fn a_store_that_is_half_filled_is_opened_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), None, None).unwrap().close().await;
    let database = Connection::open(dir.path().join("freehold.db")).unwrap();
    let sql = "INSERT INTO schema_migration VALUES (9223372036854775807, '', 0)";
    database.execute(sql, []).unwrap();
    let refused = open(dir.path(), None, None).err().unwrap();
    assert!(matches!(refused, StoreError::ImportUnfinished));
}
