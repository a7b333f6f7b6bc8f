//! One session's sandbox, open or not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_sandbox::Sandbox;
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use crate::local::Line;
use crate::memory::SessionMemory;
use crate::packages::{Layer, PackagesError};
use crate::skills::Skill;
use crate::uploads::Upload;
use crate::variables::Variable;

/// What is shared by everyone who uses one session's sandbox.
pub(crate) struct Slot {
    /// Held while the sandbox is made, re-made or closed, not while tools run.
    pub(crate) state: Mutex<State>,
    /// Held while memory stores are synced. Taken before [`Slot::state`], never the other way round.
    pub(crate) memory: Mutex<Memory>,
    /// Held while the environment's packages are installed. Never taken with another held.
    pub(crate) packages: Mutex<Installed>,
    /// Held while files are saved. Taken before [`Slot::state`], never the other way round.
    pub(crate) saving: Mutex<()>,
    users: AtomicUsize,
    last_used: SyncMutex<Instant>,
    save_after: SyncMutex<tokio::time::Instant>,
}

/// A sandbox and what is known of its files.
pub(crate) struct State {
    pub(crate) open: Option<Open>,
    /// What the uploads folder holds, once it is known.
    pub(crate) uploads: Option<Vec<Upload>>,
    /// Skills that this process laid down, or refused for good.
    pub(crate) skills: Vec<Skill>,
    /// Whether tools may have written outputs since they were last listed.
    pub(crate) unlisted: bool,
    /// What the directory remembers of its files, once that is known.
    pub(crate) line: Option<Line>,
    /// Whether something ran that is in no snapshot. `false` where none are taken.
    pub(crate) changed: bool,
    /// Changes there have been, as far as was heard.
    pub(crate) changes: i64,
    /// The session is gone: nothing may be made again.
    pub(crate) removed: bool,
}

impl State {
    /// The directory holds other files, or none.
    pub(crate) fn forget_files(&mut self) {
        self.uploads = None;
        self.skills.clear();
        self.unlisted = true;
        self.line = None;
        self.changed = false;
    }
}

/// What is known of the packages of a session's environment.
pub(crate) enum Installed {
    /// Nobody has asked.
    Unknown,
    /// They are there, or there are none.
    There(Option<Layer>),
    /// They are not, since when, and why.
    Failed(Instant, Arc<PackagesError>),
}

/// What is known of a session's memory stores.
#[derive(Default)]
pub(crate) struct Memory {
    /// Once they are mounted.
    pub(crate) session: Option<SessionMemory>,
    /// Whether the round of calls that runs has them in step already.
    pub(crate) fresh: bool,
}

/// A live sandbox, with its share of the number that may live at a time.
pub(crate) struct Open {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    /// What was added to its environment when it was made.
    pub(crate) env: Vec<(String, String)>,
    /// The variables its network was last told of.
    pub(crate) variables: Vec<Variable>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// Keeps a sandbox from being closed for idleness.
pub(crate) struct Using(Arc<Slot>);

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                open: None,
                uploads: None,
                skills: Vec::new(),
                // An earlier process may have left some.
                unlisted: true,
                line: None,
                changed: false,
                changes: 0,
                removed: false,
            }),
            memory: Mutex::default(),
            packages: Mutex::new(Installed::Unknown),
            saving: Mutex::default(),
            users: AtomicUsize::new(0),
            last_used: SyncMutex::new(Instant::now()),
            save_after: SyncMutex::new(tokio::time::Instant::now()),
        }
    }

    /// Its files are not to be saved before this.
    pub(crate) fn save_after(&self) -> tokio::time::Instant {
        *self
            .save_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn save_not_before(&self, at: tokio::time::Instant) {
        *self
            .save_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Using {
        self.users.fetch_add(1, Ordering::SeqCst);
        Using(Arc::clone(self))
    }

    /// Whether the caller, who entered it, is the only one who uses it.
    pub(crate) fn is_alone(&self) -> bool {
        self.users.load(Ordering::SeqCst) == 1
    }

    /// For how long nobody has used it; `None` while someone does.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        if self.users.load(Ordering::SeqCst) > 0 {
            return None;
        }
        Some(
            self.last_used
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed(),
        )
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        *self
            .0
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}
