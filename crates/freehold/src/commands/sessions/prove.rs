//! `freehold sessions delete --prove`: what was there of a session, and that it is gone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_base::{IdSource, SessionId};
use freehold_store::{Store, StoreError, Trace, Traces};
use serde_json::{Value, json};

use crate::cli::StoreArgs;
use crate::commands::store::{failed, reading, settings};
use crate::exit::Failure;
use crate::terminal::{self, clean};

/// How deep below the data directory names are looked at: a sandbox's own files are not ours to read.
const DEPTH: usize = 3;

/// What names of directories begin with that the server is deleting.
const ASIDE: &str = ".trash-";
/// How long that is waited for, and between two looks.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// The store of the server that deletes, read beside it.
pub(super) struct Prover {
    store: Store,
    data_dir: PathBuf,
}

/// What a session had before it was deleted.
pub(super) struct Before {
    session: SessionId,
    traces: Traces,
    blobs: Vec<String>,
    paths: usize,
}

/// What is left of it.
pub(super) struct Proof {
    before: Before,
    after: Traces,
    /// Blobs that are gone, that others use, and that nobody uses and are there.
    gone: usize,
    shared: usize,
    stray: Vec<String>,
    paths: Vec<PathBuf>,
    data_dir: PathBuf,
}

impl Prover {
    pub(super) async fn open(args: StoreArgs) -> Result<Self, Failure> {
        let settings = settings(args)?;
        Ok(Self {
            store: reading(&settings, &IdSource::system()).await?,
            data_dir: settings.data_dir,
        })
    }

    /// To be asked before the session is deleted.
    pub(super) async fn before(&self, id: &str) -> Result<Before, Failure> {
        let session: SessionId = id
            .parse()
            .map_err(|e| Failure::usage(format!("session: {e}")))?;
        let traces = self.store.session_traces(&session).await.map_err(failed)?;
        let blobs = self.store.session_blobs(&session).await.map_err(failed)?;
        let paths = named(&self.data_dir, session.as_str())?.len();
        Ok(Before {
            session,
            traces,
            blobs,
            paths,
        })
    }

    /// To be asked when the server has said that it is deleted.
    pub(super) async fn after(&self, before: Before) -> Result<Proof, Failure> {
        let (mut gone, mut shared, mut stray) = (0, 0, Vec::new());
        for key in &before.blobs {
            match self.store.blob_uses(key).await {
                Ok((false, _)) => gone += 1,
                Ok((true, 0)) => stray.push(key.clone()),
                Ok((true, _)) => shared += 1,
                Err(error) => return Err(failed(error)),
            }
        }
        let session = &before.session;
        let after: Result<_, StoreError> = self.store.session_traces(session).await;
        Ok(Proof {
            after: after.map_err(failed)?,
            paths: self.left(session).await?,
            data_dir: self.data_dir.clone(),
            gone,
            shared,
            stray,
            before,
        })
    }
}

impl Prover {
    /// What is named after a session, once the server has deleted what it had put aside; that goes on
    /// when the session's deletion has been answered.
    async fn left(&self, session: &SessionId) -> Result<Vec<PathBuf>, Failure> {
        let begun = Instant::now();
        loop {
            let paths = named(&self.data_dir, session.as_str())?;
            let mut names = paths.iter().filter_map(|path| path.file_name()?.to_str());
            let going = names.any(|name| name.starts_with(ASIDE));
            if !going || PATIENCE < begun.elapsed() {
                return Ok(paths);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Proof {
    /// Whether nothing is left but what stays by design.
    pub(super) fn holds(&self) -> bool {
        self.after.count() == 0 && self.stray.is_empty() && self.paths.is_empty()
    }

    pub(super) fn json(&self) -> Value {
        let trace = |t: &Trace| json!({ "table": t.table, "column": t.column, "rows": t.rows });
        let rows = |traces: &Traces| traces.rows.iter().map(trace).collect::<Vec<_>>();
        let kept = self.after.kept.iter().map(|kept| {
            let mut shown = trace(&kept.rows);
            shown["why"] = kept.why.into();
            shown
        });
        json!({
            "id": self.before.session, "proved": self.holds(),
            "rows": { "before": rows(&self.before.traces), "after": rows(&self.after) },
            "kept": kept.collect::<Vec<_>>(),
            "blobs": { "gone": self.gone, "used_by_others": self.shared, "left": self.stray },
            "data_dir": { "path": self.data_dir, "before": self.before.paths, "left": self.paths },
        })
    }

    pub(super) fn show(&self) -> Result<(), Failure> {
        let tables: std::collections::BTreeSet<_> =
            self.after.rows.iter().map(|t| &t.table).collect();
        terminal::print(&format!(
            "  rows   {} of {} left; looked at {} columns of {} tables",
            self.after.count(),
            self.before.traces.count(),
            self.after.rows.len(),
            tables.len()
        ))?;
        let had = self.before.traces.rows.iter().zip(&self.after.rows);
        for (had, left) in had.filter(|(had, left)| had.rows + left.rows > 0) {
            terminal::print(&format!(
                "         {}.{}: {} of {} left",
                left.table, left.column, left.rows, had.rows
            ))?;
        }
        terminal::print(&format!(
            "  files  {} gone, {} used by others, {} left",
            self.gone,
            self.shared,
            self.stray.len()
        ))?;
        let dir = self.data_dir.display();
        terminal::print(&format!(
            "  disk   {} of {} left below {dir}",
            self.paths.len(),
            self.before.paths
        ))?;
        for path in &self.paths {
            terminal::print(&format!("         {}", clean(&path.display().to_string())))?;
        }
        for kept in &self.after.kept {
            let rows = &kept.rows;
            terminal::print(&format!(
                "  stays  {} of {}.{}: {}",
                rows.rows, rows.table, rows.column, kept.why
            ))?;
        }
        Ok(())
    }
}

/// What below a directory is named after a session.
fn named(dir: &Path, session: &str) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut next) = (Vec::new(), vec![(dir.to_owned(), 0)]);
    while let Some((dir, depth)) = next.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            // It may go while it is looked at, or be of another host.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Failure::failed(format!("{}: {e}", dir.display()))),
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().contains(session) {
                found.push(entry.path());
            } else if depth < DEPTH && entry.file_type().is_ok_and(|t| t.is_dir()) {
                next.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(found)
}
