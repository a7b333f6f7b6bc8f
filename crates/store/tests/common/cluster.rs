//! A PostgreSQL server of a test's own: a throw-away cluster on a socket in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold_base::Secret;
use freehold_store::postgres::Address;

pub struct Cluster {
    dir: tempfile::TempDir,
    server: Option<Child>,
    made: AtomicUsize,
}

impl Cluster {
    /// Makes one and starts it. Text is ordered as a person would, not by its bytes, so that a
    /// statement that relies on the server's own order is noticed.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("fh-pg").tempdir().unwrap();
        let mut cluster = Self {
            dir,
            server: None,
            made: AtomicUsize::new(0),
        };
        // PostgreSQL does not run as root.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(cluster.dir.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let data = cluster.data();
        run(unprivileged("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
            .args([
                "--locale=C.UTF-8",
                "--locale-provider=icu",
                "--icu-locale=en-US",
            ]));
        cluster.go();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the server and waits until it answers.
    pub fn go(&mut self) {
        let mut server = unprivileged("postgres");
        server.arg("-D").arg(self.data());
        server.arg("-k").arg(self.dir.path());
        server.args([
            "-h",
            "",
            "-F",
            "-c",
            "max_connections=200",
            "-c",
            "autovacuum=off",
        ]);
        server.stderr(Stdio::null()).stdout(Stdio::null());
        self.server = Some(server.spawn().unwrap());
        let mut ready = Command::new(program("pg_isready"));
        ready.arg("-q").arg("-h").arg(self.dir.path());
        // `pg_isready` tries once; the server is a child of ours, and its end ends the wait.
        while !ready.status().unwrap().success() {
            let server = self.server.as_mut().unwrap();
            assert_eq!(server.try_wait().unwrap(), None, "the server ended");
        }
    }

    /// Ends the server as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            run(unprivileged("pg_ctl")
                .args(["stop", "-s", "-m", "immediate", "-D"])
                .arg(self.data()));
            server.wait().unwrap();
        }
    }

    /// Runs SQL as a superuser; gives what it prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.arg("-h").arg(self.dir.path());
        psql.args(["-U", "postgres", "-d", database, "-AtXqc", sql]);
        run(&mut psql)
    }

    /// Writes a database to a file, as `docs/backup.md` says.
    pub fn dump(&self, database: &str, file: &Path) {
        let mut dump = Command::new(program("pg_dump"));
        dump.arg("-h").arg(self.dir.path());
        dump.args(["-U", "postgres", "--format=custom", "--no-owner", "-f"]);
        run(dump.arg(file).arg(database));
    }

    /// Fills an empty database from such a file.
    pub fn restore(&self, database: &str, file: &Path) {
        let mut restore = Command::new(program("pg_restore"));
        restore.arg("-h").arg(self.dir.path());
        restore.args(["-U", "postgres", "--no-owner", "--exit-on-error"]);
        restore.args(["--single-transaction", "-d", database]);
        run(restore.arg(file));
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        let name = format!("f{}", self.made.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The address of a database, as it is configured.
    pub fn url(&self, database: &str) -> String {
        url_in(self.dir.path(), database)
    }

    /// The address of a database.
    pub fn address(&self, database: &str) -> Address {
        address_in(self.dir.path(), database)
    }

    /// Where the server listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }
}

/// The name of the socket in its directory.
pub const SOCKET: &str = ".s.PGSQL.5432";

fn url_in(dir: &Path, database: &str) -> String {
    format!("host={} user=postgres dbname={database}", dir.display())
}

/// The address of a database whose server's socket is in `dir`.
pub fn address_in(dir: &Path, database: &str) -> Address {
    Address::new(&Secret::new(url_in(dir, database)), None, None).unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Of the user PostgreSQL runs as.
pub fn id(which: &str) -> u32 {
    run(Command::new("id").args([which, "postgres"]))
        .parse()
        .unwrap()
}

/// A program of PostgreSQL as the user that may run it, who does not outlive us.
fn unprivileged(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program(name)).current_dir("/");
    command
}

/// Debian keeps the server's programs apart.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let places = versions.flatten().map(|v| v.path().join("bin").join(name));
    let found = places.filter(|p| Path::exists(p)).max();
    found.unwrap_or_else(|| panic!("{name} is missing: `cargo xtask test` installs PostgreSQL"))
}
