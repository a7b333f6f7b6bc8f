//! The two engines, each with a database that lives as long as it is measured.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use freehold_base::{IdSource, Secret};
use freehold_store::postgres::Address;
use freehold_store::{NoListener, Place, Store};
use tempfile::TempDir;

use crate::plan::PATIENCE;

/// What the rows are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// An empty database; gone when it is dropped.
pub(super) struct Database {
    pub(super) engine: Engine,
    cluster: Option<Cluster>,
    dir: TempDir,
}

impl Database {
    /// Makes one in `dir`, which decides the disk.
    pub(super) fn make(engine: Engine, dir: &Path) -> Result<Self> {
        let cluster = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Cluster::start(dir)?),
        };
        let dir = tempfile::Builder::new().prefix("scale-").tempdir_in(dir)?;
        Ok(Self {
            engine,
            cluster,
            dir,
        })
    }

    /// The data directory of whoever opens it.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The SQLite file.
    pub(super) fn file(&self) -> PathBuf {
        self.data().join("freehold.db")
    }

    /// PostgreSQL's address.
    pub(super) fn url(&self) -> Option<String> {
        let cluster = self.cluster.as_ref()?;
        let at = cluster.dir.path().display();
        Some(format!("host={at} user=postgres dbname=postgres"))
    }

    /// The store over it.
    pub(super) async fn open(&self) -> Result<Store> {
        let database = match self.url() {
            Some(url) => Some(Address::new(&Secret::new(url), None, None)?),
            None => None,
        };
        let place = Place {
            database,
            ..Place::default()
        };
        let (data, ids) = (self.data(), IdSource::system());
        let open = move || Store::open_with(&data, place, ids, Arc::new(NoListener));
        // It blocks.
        Ok(tokio::task::spawn_blocking(open).await??)
    }

    /// Bytes of tables and indexes.
    pub(super) async fn bytes(&self) -> Result<f64> {
        if let Some(url) = self.url() {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            let sql = "SELECT pg_database_size(current_database())";
            let bytes: i64 = client.query_one(sql, &[]).await?.get(0);
            return Ok(bytes as f64);
        }
        let connection = rusqlite::Connection::open(self.file())?;
        let of = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        Ok((of("page_count")? * of("page_size")?) as f64)
    }
}

/// A throw-away PostgreSQL server on a socket, durable as servers are: `fsync` and
/// `synchronous_commit` are on.
struct Cluster {
    server: Child,
    dir: TempDir,
}

impl Cluster {
    fn start(beside: &Path) -> Result<Self> {
        // A socket's path must be short.
        let dir = tempfile::Builder::new().prefix("fh-pg").tempdir()?;
        let data = tempfile::Builder::new()
            .prefix("scale-pg-")
            .tempdir_in(beside)?
            .keep();
        // Its data is on the disk under test, and goes with the rest.
        std::os::unix::fs::symlink(&data, dir.path().join("disk"))?;
        if rustix::process::geteuid().is_root() {
            for path in [dir.path(), &data] {
                let (user, group) = (id("-u")?, id("-g")?);
                std::os::unix::fs::chown(path, Some(user), Some(group))?;
            }
        }
        let data = data.join("data");
        let mut initdb = unprivileged("initdb")?;
        initdb.arg("-D").arg(&data);
        initdb.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]);
        let made = initdb.stdout(Stdio::null()).status()?;
        if !made.success() {
            bail!("initdb ended with {made}");
        }
        let mut server = unprivileged("postgres")?;
        server.arg("-D").arg(&data).arg("-k").arg(dir.path());
        server.args([
            "-h",
            "",
            "-c",
            "max_connections=200",
            "-c",
            "shared_buffers=512MB",
        ]);
        server.args(["-c", "max_wal_size=1GB"]);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let mut cluster = Self {
            server: server.spawn()?,
            dir,
        };
        let begun = Instant::now();
        let mut ready = Command::new(program("pg_isready")?);
        ready.arg("-q").arg("-h").arg(cluster.dir.path());
        while !ready.status()?.success() {
            if cluster.server.try_wait()?.is_some() || PATIENCE < begun.elapsed() {
                bail!("PostgreSQL did not start");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = std::fs::read_link(self.dir.path().join("disk"));
        if let (Ok(mut stop), Ok(data)) = (unprivileged("pg_ctl"), &data) {
            let at = data.join("data");
            // What fails here is seen by whoever looks at the processes: there is nothing to save.
            drop(
                stop.args(["stop", "-s", "-m", "immediate", "-D"])
                    .arg(at)
                    .status(),
            );
        }
        drop(self.server.wait());
        if let Ok(data) = data {
            drop(std::fs::remove_dir_all(data));
        }
    }
}

/// Debian keeps the server's programs apart.
fn program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is missing")?;
    let found = versions.flatten().map(|v| v.path().join("bin").join(name));
    let newest = found.filter(|path| path.exists()).max();
    newest.with_context(|| format!("{name} is missing"))
}

/// PostgreSQL does not run as root, and must not outlive the run.
fn unprivileged(name: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program(name)?);
    Ok(command)
}

fn id(which: &str) -> Result<u32> {
    let said = Command::new("id").args([which, "postgres"]).output()?;
    Ok(String::from_utf8(said.stdout)?.trim().parse()?)
}
