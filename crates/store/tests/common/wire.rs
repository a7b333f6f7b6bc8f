//! What lies between a store and its database: a socket that passes bytes on, or keeps them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use freehold_store::postgres::Address;

use super::cluster::{Cluster, SOCKET, address_in};

pub struct Wire {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    server: PathBuf,
    closed: AtomicBool,
    /// Who waits for the next COMMIT of an operation to be kept.
    hold: Mutex<Option<mpsc::Sender<()>>>,
}

impl Wire {
    pub fn to(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let shared = Arc::new(Shared {
            server: cluster.socket(),
            closed: AtomicBool::new(false),
            hold: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { dir, shared }
    }

    pub fn address(&self, database: &str) -> Address {
        address_in(self.dir.path(), database)
    }

    /// The next COMMIT of an operation goes no further; says when it came.
    pub fn hold_next_commit(&self) -> mpsc::Receiver<()> {
        let (held, told) = mpsc::channel();
        *self.shared.hold.lock().unwrap() = Some(held);
        told
    }

    /// From now on nobody gets through who has no connection.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.shared.closed.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(self: Arc<Self>, mut client: UnixStream) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut server) = UnixStream::connect(&self.server) else {
            return;
        };
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut bytes = vec![0; 65536];
        while let Ok(n @ 1..) = client.read(&mut bytes) {
            let has = |text: &[u8]| bytes[..n].windows(text.len()).any(|w| w == text);
            if has(b"INTO commit_mark")
                && has(b"COMMIT")
                && let Some(held) = self.hold.lock().unwrap().take()
            {
                held.send(()).unwrap();
                continue;
            }
            if server.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }
}
