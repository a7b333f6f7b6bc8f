//! Where layers are kept: `KEY/layer` below one directory, beside what is to be known of it. A layer
//! gets its name when it is whole; whatever has another name is somebody's half of one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use freehold_base::{Entropy, SystemEntropy, Timestamp};
use freehold_sandbox::Provider;

use super::{build, private_dir};

/// A layer that no sandbox has used for this long is removed, milliseconds.
const MAX_AGE_MS: i64 = 30 * 24 * 3600 * 1000;
/// Layers kept, and their archives' sizes in all; beyond, the longest unused ones go.
const MAX_LAYERS: usize = 64;
const MAX_BYTES: u64 = 32 << 30;
/// How names of what is not whole begin.
const HALF: &str = ".half-";
/// Names tried for one.
const TRIES: usize = 16;
/// The layer itself.
const LAYER: &str = "layer";
/// Changed whenever the layer is used.
const USED: &str = "used";
/// The size of its archive.
const SIZE: &str = "size";

/// A layer that somebody has: it is not removed meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Fit for [`freehold_sandbox::SandboxSpec::layers`].
    pub(crate) dir: PathBuf,
    /// Variables by which its programs are found.
    pub(crate) env: Vec<(String, String)>,
    _held: Arc<()>,
}

/// A place for a layer that is being made; removed when dropped.
pub(super) struct Half {
    pub(super) path: PathBuf,
    key: String,
    provider: Arc<dyn Provider>,
    /// Locked as long as anyone makes something in it; whoever finds it free may remove it.
    _maker: File,
}

impl Drop for Half {
    fn drop(&mut self) {
        discard(&*self.provider, &self.path);
    }
}

pub(super) struct Shelf {
    root: PathBuf,
    provider: Arc<dyn Provider>,
    /// Who has which. Held while one is taken or removed.
    held: Mutex<HashMap<String, Weak<()>>>,
}

impl Shelf {
    pub(super) fn new(root: PathBuf, provider: Arc<dyn Provider>) -> Self {
        Self {
            root,
            provider,
            held: Mutex::default(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.root.join(key).join(LAYER).is_dir()
    }

    /// The layer of this key, if it is there.
    pub(super) fn take(&self, key: &str, env: &[(String, String)]) -> Option<Layer> {
        let mut held = self.held();
        if !self.has(key) {
            return None;
        }
        let place = self.root.join(key);
        // A mark that cannot be made only makes it look less used.
        let _ = fs::write(place.join(USED), "");
        let hold = held.get(key).and_then(Weak::upgrade).unwrap_or_default();
        held.insert(key.to_owned(), Arc::downgrade(&hold));
        Some(Layer {
            dir: place.join(LAYER),
            env: env.to_vec(),
            _held: hold,
        })
    }

    /// A place to make the layer of this key in. Another process may be making the same.
    pub(super) fn half(&self, key: &str) -> io::Result<Half> {
        self.remove_abandoned();
        for _ in 0..TRIES {
            let name = format!("{HALF}{}-{key}", SystemEntropy.hex(8));
            let path = private_dir(&self.root.join(name))?;
            let maker = File::open(&path)?;
            // Another process may have found it before it was locked.
            if maker.try_lock().is_ok() && path.exists() {
                return Ok(Half {
                    path,
                    key: key.to_owned(),
                    provider: Arc::clone(&self.provider),
                    _maker: maker,
                });
            }
        }
        Err(io::Error::other("others remove what is to be made"))
    }

    /// Removes what nobody makes any more.
    fn remove_abandoned(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let path = entry.path();
            let half = entry.file_name().to_string_lossy().starts_with(HALF);
            if !half {
                continue;
            }
            // Locked until it has another name.
            if let Ok(dir) = File::open(&path)
                && dir.try_lock().is_ok()
            {
                discard(&*self.provider, &path);
            }
        }
    }

    /// Puts the finished `layer`, whose archive has so many bytes, under its key.
    pub(super) async fn keep(&self, half: Half, layer: &Path, bytes: u64) -> io::Result<()> {
        let place = private_dir(&half.path.join("whole"))?;
        fs::rename(layer, place.join(LAYER))?;
        fs::write(place.join(SIZE), bytes.to_string())?;
        fs::write(place.join(USED), "")?;
        let whole = place.clone();
        let synced = tokio::task::spawn_blocking(move || build::sync(&whole)).await;
        synced.map_err(io::Error::other)??;
        match fs::rename(&place, self.root.join(&half.key)) {
            // Another process was quicker.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && self.has(&half.key) => {}
            renamed => renamed?,
        }
        // The name, too.
        File::open(&self.root)?.sync_all()
    }

    /// Removes what earlier processes did not finish. To be called once.
    pub(super) fn clear(&self) {
        if let Err(error) = self.provider.resume_removals(&self.root) {
            tracing::warn!(%error, "layers that were being removed are left");
        }
        self.remove_abandoned();
    }

    /// Removes layers that nobody has: the old ones, and the least used of too many.
    pub(super) fn evict(&self, now: Timestamp) {
        let mut kept = self.kept();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.used));
        let (mut bytes, mut count) = (0u64, 0usize);
        for Kept { key, used, size } in kept {
            bytes = bytes.saturating_add(size);
            count += 1;
            let old = now.as_millis().saturating_sub(used) > MAX_AGE_MS;
            if !(old || count > MAX_LAYERS || bytes > MAX_BYTES) {
                continue;
            }
            let mut held = self.held();
            if held.get(&key).is_some_and(|hold| hold.strong_count() > 0) {
                continue;
            }
            held.remove(&key);
            discard(&*self.provider, &self.root.join(&key));
            tracing::info!(
                layer = key,
                "packages that were not used any more were removed"
            );
        }
    }

    fn kept(&self) -> Vec<Kept> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let kept = entries.filter_map(|entry| {
            let key = entry.file_name().into_string().ok()?;
            if key.starts_with('.') {
                return None;
            }
            let used = fs::metadata(entry.path().join(USED)).ok();
            let size = fs::read_to_string(entry.path().join(SIZE)).ok();
            Some(Kept {
                key,
                used: used.map_or(0, |m| m.mtime().saturating_mul(1000)),
                size: size.and_then(|s| s.parse().ok()).unwrap_or(0),
            })
        });
        kept.collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Weak<()>>> {
        // Whole between any two statements, so a poisoned lock is still usable.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A layer on the shelf.
struct Kept {
    key: String,
    /// Milliseconds since the Unix epoch.
    used: i64,
    size: u64,
}

fn discard(provider: &dyn Provider, path: &Path) {
    if let Err(error) = provider.remove_state(path) {
        tracing::warn!(%error, "a layer's files were not deleted");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use async_trait::async_trait;
    use freehold_base::{Clock, SystemClock};
    use freehold_sandbox::{Capabilities, Sandbox, SandboxError, SandboxSpec};

    use super::*;

    /// Removes and makes nothing.
    struct Remover;

    #[async_trait]
    impl Provider for Remover {
        fn name(&self) -> &'static str {
            "remover"
        }
        async fn probe(&self) -> Capabilities {
            unreachable!("nothing is made")
        }
        async fn create(&self, _: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
            unreachable!("nothing is made")
        }
        async fn reap(&self, _: &HashSet<String>) -> Result<usize, SandboxError> {
            Ok(0)
        }
    }

    async fn put(shelf: &Shelf, key: &str, bytes: u64) {
        let half = shelf.half(key).unwrap();
        let layer = private_dir(&half.path.join("made")).unwrap();
        fs::write(layer.join("file"), key).unwrap();
        shelf.keep(half, &layer, bytes).await.unwrap();
    }

    #[tokio::test]
    async fn layers_that_are_old_or_too_much_go_unless_somebody_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().join("layers"), Arc::new(Remover));
        assert!(shelf.take("a", &[]).is_none());
        put(&shelf, "a", MAX_BYTES / 2).await;
        put(&shelf, "b", MAX_BYTES / 2).await;
        let held = shelf.take("a", &[]).unwrap();
        assert_eq!(fs::read_to_string(held.dir.join("file")).unwrap(), "a");
        let now = SystemClock.now();
        shelf.evict(now);
        assert!(shelf.has("a") && shelf.has("b"));
        // One too much, and each younger than the one before.
        for (age, key) in ["b", "a"].iter().enumerate() {
            let used = File::create(shelf.root.join(key).join(USED)).unwrap();
            let time = rustix::fs::Timespec {
                tv_sec: now.as_millis() / 1000 - 100 * (2 - age as i64),
                tv_nsec: 0,
            };
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::futimens(&used, &times).unwrap();
        }
        put(&shelf, "c", 1).await;
        shelf.evict(now);
        assert!(shelf.has("a") && !shelf.has("b") && shelf.has("c"));
        let later = now.plus_millis(MAX_AGE_MS + 1000);
        shelf.evict(later);
        assert!(shelf.has("a") && !shelf.has("c"));
        drop(held);
        shelf.evict(later);
        assert!(!shelf.has("a"));
    }

    #[test]
    fn what_is_not_whole_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().join("layers"), Arc::new(Remover));
        // As a process that was killed, and as one that lives.
        let killed = private_dir(&shelf.root.join(format!("{HALF}0-a"))).unwrap();
        fs::write(killed.join("x"), "x").unwrap();
        let half = shelf.half("a").unwrap();
        assert!(!killed.exists() && !shelf.has("a"));
        private_dir(&killed).unwrap();
        shelf.clear();
        assert!(!killed.exists() && half.path.exists());
    }

    /// As workers for one session each do that share a directory.
    #[tokio::test]
    async fn two_can_make_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = || Shelf::new(dir.path().join("layers"), Arc::new(Remover));
        let (one, two) = (shelf(), shelf());
        let halves = (one.half("a").unwrap(), two.half("a").unwrap());
        for (shelf, half, text) in [(&one, halves.0, "one"), (&two, halves.1, "two")] {
            let layer = private_dir(&half.path.join("made")).unwrap();
            fs::write(layer.join("file"), text).unwrap();
            shelf.keep(half, &layer, 1).await.unwrap();
            let layer = shelf.take("a", &[]).unwrap().dir;
            assert_eq!(fs::read_to_string(layer.join("file")).unwrap(), "one");
        }
    }
}
