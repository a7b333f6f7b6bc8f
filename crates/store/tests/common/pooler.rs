//! A pooler of transactions before a cluster: each transaction of a store's may run on another of a few
//! connections, and nothing of a connection's outlives it.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use freehold_store::postgres::Address;

use super::cluster::{Cluster, SOCKET, address_in, id};

/// Fewer than one store opens.
const CONNECTIONS: usize = 4;

pub struct Pooler {
    dir: tempfile::TempDir,
    process: Child,
}

impl Pooler {
    /// Starts one and waits until it answers.
    pub fn before(cluster: &Cluster) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("fh-pool")
            .tempdir()
            .unwrap();
        let at = dir.path().display();
        let behind = cluster.socket();
        let behind = behind.parent().unwrap().display();
        let config = dir.path().join("pooler.ini");
        let text = format!(
            "[databases]\n* = host={behind} port=5432 user=postgres\n[pgbouncer]\npool_mode = transaction\n\
             listen_port = 5432\nunix_socket_dir = {at}\nauth_type = any\n\
             default_pool_size = {CONNECTIONS}\nmax_client_conn = 200\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut pooler = Command::new("setpriv");
        pooler.args(["--pdeathsig", "KILL"]);
        // It does not run as root.
        if rustix::process::geteuid().is_root() {
            for path in [dir.path(), &config] {
                std::os::unix::fs::chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
            }
            pooler.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        pooler.arg("/usr/sbin/pgbouncer").arg("-q").arg(&config);
        pooler.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = pooler
            .spawn()
            .expect("`cargo xtask test` installs pgbouncer");
        while UnixStream::connect(dir.path().join(SOCKET)).is_err() {
            assert_eq!(process.try_wait().unwrap(), None, "the pooler ended");
            std::thread::yield_now();
        }
        Self { dir, process }
    }

    pub fn address(&self, database: &str) -> Address {
        address_in(self.dir.path(), database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
