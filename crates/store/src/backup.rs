//! A copy of a data directory with SQLite, taken while a server writes to it, and the way back.
//!
//! The database is copied in one read transaction, so the copy is of one moment. Every blob its rows
//! name was there at that moment, but may be deleted before it is copied; then a new copy of the
//! database is taken, of a moment when its row was gone too, until nothing is missing. What was copied
//! is kept meanwhile, so each round has less to do.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use freehold_base::{Clock, SystemClock, hex};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::blob::{content, place};
use crate::secrets::KEY_FILE;
use crate::sqlite::connection::failure;
use crate::{Keyring, StoreError, data_dir, gc, schema, sqlite};

/// The file that makes a directory a backup; written last.
const MANIFEST: &str = "manifest.json";
/// The form of a backup.
const FORMAT: u64 = 1;
/// Rounds until nothing is missing.
const ROUNDS: usize = 20;
/// Bytes copied and hashed at a time.
const CHUNK: usize = 128 * 1024;
/// The greatest manifest, bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Bytes of the database.
    pub database: u64,
    /// Blobs, and their bytes; `None` if they are kept elsewhere.
    pub blobs: Option<(u64, u64)>,
    /// Whether the file of master keys is in it.
    pub key: bool,
    /// Ids of the master keys that secrets of the database need.
    pub master_keys: Vec<String>,
}

/// Why there is no backup, or none was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What is to be made or filled has something in it.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Something is not what the manifest, or its own name, says.
    #[error("{} is damaged or missing", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is not a whole backup, or one of a later version.
    #[error("{} is not a backup this version knows", path.display())]
    Unknown {
        /// The directory.
        path: PathBuf,
    },
    /// Blobs were deleted faster than they could be copied.
    #[error("blobs were deleted while they were copied, {ROUNDS} times in a row")]
    Restless,
    /// The store, the disk or the database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies the data directory `dir`, whether or not a server uses it, into `dest`, which is made and
/// private to its owner. `blobs` says whether they are in the directory, `key` whether the file of
/// master keys is copied. Blocks.
///
/// # Errors
/// [`BackupError`]; what was copied until then stays, without a manifest.
pub fn backup(dir: &Path, dest: &Path, blobs: bool, key: bool) -> Result<Backup, BackupError> {
    make_empty(dest)?;
    let (from, to) = (sqlite::file(dir), sqlite::file(dest));
    let mut copied = None;
    for _ in 0..ROUNDS {
        snapshot(&from, &to)?;
        if !blobs || copy_blobs(dir, dest, &named(&to)?)? == 0 {
            copied = Some(());
            break;
        }
    }
    copied.ok_or(BackupError::Restless)?;
    let held = match blobs {
        true => Some(prune(dest, &named(&to)?)?),
        false => None,
    };
    let key = key && copy_key(dir, dest)?;
    let (sha256, bytes) = digest(&to)?;
    let master_keys = needed_keys(&to)?;
    let count = |(count, bytes, keys): &(u64, u64, String)| json!({ "count": count, "bytes": bytes, "sha256": keys });
    let manifest = json!({
        "freehold": "backup", "format": FORMAT, "made_at": SystemClock.now(),
        "database": { "bytes": bytes, "sha256": sha256 },
        "blobs": held.as_ref().map(count), "key": key, "master_keys": master_keys,
    });
    sync(dest)?;
    let path = dest.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    write_new(&path, &mut text.as_slice())?;
    sync(dest)?;
    Ok(Backup {
        database: bytes,
        blobs: held.map(|(count, bytes, _)| (count, bytes)),
        key,
        master_keys,
    })
}

/// Checks the backup `src` and makes it the data directory `dir`, which must not be there or be
/// empty. The database gets its name last. Blocks.
///
/// # Errors
/// [`BackupError`]; what was copied until then stays, without a database.
pub fn restore(src: &Path, dir: &Path) -> Result<Backup, BackupError> {
    let unknown = || BackupError::Unknown {
        path: src.to_owned(),
    };
    let manifest = read_manifest(&src.join(MANIFEST)).ok_or_else(unknown)?;
    if manifest["freehold"] != "backup" || manifest["format"] != FORMAT {
        return Err(unknown());
    }
    make_empty(dir)?;
    let _lock = data_dir::lock(dir)?;
    let (from, to) = (sqlite::file(src), dir.join("freehold.db.restoring"));
    let database = copy(&from, &to)?;
    if manifest["database"]["sha256"] != database.0.as_str() {
        return Err(BackupError::Damaged { path: from });
    }
    whole(&to)?;
    let mut held = None;
    if !manifest["blobs"].is_null() {
        let named = named(&to)?;
        if copy_blobs(src, dir, &named)? > 0 {
            return Err(BackupError::Damaged {
                path: src.join("blobs"),
            });
        }
        let (count, bytes, keys) = prune(dir, &named)?;
        if manifest["blobs"]["sha256"] != keys.as_str() {
            return Err(BackupError::Damaged {
                path: src.join("blobs"),
            });
        }
        held = Some((count, bytes));
    }
    let key = manifest["key"] == true;
    if key && !copy_key(src, dir)? {
        return Err(BackupError::Damaged {
            path: src.join(KEY_FILE),
        });
    }
    let master_keys = needed_keys(&to)?;
    sync(dir)?;
    let path = sqlite::file(dir);
    std::fs::rename(&to, &path).map_err(io("rename", &to))?;
    sync(dir)?;
    Ok(Backup {
        database: database.1,
        blobs: held,
        key,
        master_keys,
    })
}

/// Copies the database as it is at one moment.
fn snapshot(from: &Path, to: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io("replace", to)(error).into());
        }
        _ => {}
    }
    // SQLite keeps the mode of a file that is there.
    write_new(to, &mut std::io::empty())?;
    let database = open(from)?;
    let path = to.to_str().ok_or(StoreError::Corrupt { what: "path" })?;
    let copied = database.execute("VACUUM INTO ?1", [path]);
    copied.map_err(failure)?;
    Ok(())
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(failure)?;
    let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;
      PRAGMA temp_store = MEMORY;";
    database.execute_batch(pragmas).map_err(failure)?;
    Ok(database)
}

/// Whether the database is whole.
fn whole(path: &Path) -> Result<(), BackupError> {
    let found = open(path)?.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let found: String = found.map_err(failure)?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(BackupError::Damaged {
            path: path.to_owned(),
        }),
    }
}

/// The keys of the blobs that rows name, in order.
fn named(database: &Path) -> Result<Vec<String>, StoreError> {
    let from = |table| format!("SELECT blob FROM {table} WHERE blob IS NOT NULL");
    let sql = gc::REFERRING.map(from).join(" UNION ") + " ORDER BY 1";
    words(database, &sql)
}

/// The ids of the master keys that secrets are sealed under.
fn needed_keys(database: &Path) -> Result<Vec<String>, StoreError> {
    words(database, &needed_keys_sql()?)
}

/// Selects those ids.
pub(crate) fn needed_keys_sql() -> Result<String, StoreError> {
    let tables = schema::tables()?.into_iter().filter(|t| t.has("master"));
    let selects: Vec<_> = tables
        .map(|t| format!("SELECT master FROM {}", t.name))
        .collect();
    Ok(selects.join(" UNION ") + " ORDER BY 1")
}

fn words(database: &Path, sql: &str) -> Result<Vec<String>, StoreError> {
    let database = open(database)?;
    let mut read = database.prepare(sql).map_err(failure)?;
    let rows = read.query_map([], |row| row.get(0)).map_err(failure)?;
    rows.collect::<Result<_, _>>().map_err(failure)
}

/// Copies those that are not there yet; gives how many were missing.
fn copy_blobs(from: &Path, to: &Path, keys: &[String]) -> Result<usize, BackupError> {
    let (from, to) = (from.join("blobs"), to.join("blobs"));
    let mut missing = 0;
    for key in keys {
        let (shard, name) = place(key).ok_or(StoreError::Corrupt { what: "blob" })?;
        let (source, target) = (from.join(shard).join(name), to.join(shard).join(name));
        if target.exists() {
            continue;
        }
        make(&to.join(shard))?;
        match copy(&source, &target) {
            Ok((sha256, _)) if content(key) == Some(&sha256) => {}
            Ok(_) => return Err(BackupError::Damaged { path: source }),
            Err(BackupError::Store(StoreError::Io { source, .. }))
                if source.kind() == ErrorKind::NotFound =>
            {
                missing += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// Removes what is not among these keys; counts what is, and gives the digest of the keys.
fn prune(dir: &Path, keys: &[String]) -> Result<(u64, u64, String), BackupError> {
    let root = dir.join("blobs");
    make(&root)?;
    for shard in entries(&root)? {
        for file in entries(&shard)? {
            let key = [&shard, &file].map(|p| p.file_name().and_then(|n| n.to_str()));
            let key = key.map(Option::unwrap_or_default).concat();
            if keys.binary_search(&key).is_err() {
                std::fs::remove_file(&file).map_err(io("remove", &file))?;
            }
        }
    }
    let (mut bytes, mut hash) = (0, Sha256::new());
    for key in keys {
        let (shard, name) = place(key).ok_or(StoreError::Corrupt { what: "blob" })?;
        let path = root.join(shard).join(name);
        bytes += path.metadata().map_err(io("inspect", &path))?.len();
        hash.update(key);
        hash.update("\n");
    }
    let count = keys.len() as u64;
    Ok((count, bytes, hex::encode(hash.finalize())))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(io("list", dir))?;
    let paths = entries.map(|entry| entry.map(|e| e.path()));
    paths.collect::<Result<_, _>>().map_err(io("list", dir))
}

/// Copies the file of master keys, if there is one.
fn copy_key(from: &Path, to: &Path) -> Result<bool, BackupError> {
    let path = from.join(KEY_FILE);
    if !path.exists() {
        return Ok(false);
    }
    let keys = Keyring::load(&path).map_err(StoreError::Keys)?;
    keys.save(&to.join(KEY_FILE)).map_err(StoreError::Keys)?;
    Ok(true)
}

/// Copies a file; gives SHA-256 and size of what was copied.
fn copy(from: &Path, to: &Path) -> Result<(String, u64), BackupError> {
    let mut source = File::open(from).map_err(io("open", from))?;
    write_new(to, &mut source)
}

/// Writes a file that was not there.
fn write_new(path: &Path, content: &mut dyn Read) -> Result<(String, u64), BackupError> {
    let options = &mut OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(io("create", path))?;
    let written = hashed(content, |bytes| file.write_all(bytes));
    Ok(written.map_err(io("write", path))?)
}

fn digest(path: &Path) -> Result<(String, u64), BackupError> {
    let mut file = File::open(path).map_err(io("open", path))?;
    Ok(hashed(&mut file, |_| Ok(())).map_err(io("read", path))?)
}

fn hashed(
    content: &mut dyn Read,
    mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<(String, u64)> {
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let n = content.read(&mut buffer)?;
        if n == 0 {
            return Ok((hex::encode(hash.finalize()), size));
        }
        hash.update(&buffer[..n]);
        sink(&buffer[..n])?;
        size += n as u64;
    }
}

fn read_manifest(path: &Path) -> Option<Json> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_MANIFEST).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Makes a private directory; one that is there must be empty.
fn make_empty(dir: &Path) -> Result<(), BackupError> {
    make(dir)?;
    match entries(dir)?.is_empty() {
        true => Ok(()),
        false => Err(BackupError::NotEmpty {
            path: dir.to_owned(),
        }),
    }
}

fn make(dir: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(io("create", dir))
}

/// Puts everything of the directory's file system on disk.
fn sync(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(dir).map_err(io("open", dir))?;
    rustix::fs::syncfs(opened).map_err(|errno| io("flush", dir)(errno.into()))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
