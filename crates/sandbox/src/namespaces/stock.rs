//! What is made before anyone asks for it: a few lie ready, and what is taken is replaced in the
//! background.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::SandboxError;

/// How long new ones are put off after one was taken: making them takes the processors that the first
/// calls of who took it wait for.
const REST: Duration = Duration::from_millis(20);

/// Makes one kind of thing.
pub(super) trait Maker: Clone + Send + Sync + 'static {
    type Made: Send + 'static;

    fn make(&self) -> impl Future<Output = Result<Self::Made, SandboxError>> + Send;

    /// Whether this maker would have made it.
    fn fits(&self, made: &Self::Made) -> bool;

    /// Ends one that nobody wanted. May block.
    fn discard(made: Self::Made);
}

/// Those that lie ready; the rest of them are discarded with it.
pub(super) struct Stock<M: Maker> {
    want: usize,
    shelf: Mutex<Shelf<M>>,
}

struct Shelf<M: Maker> {
    ready: Vec<M::Made>,
    /// Who is to fill it, asked last.
    maker: Option<M>,
    filling: bool,
}

impl<M: Maker> Stock<M> {
    pub(super) fn new(want: usize) -> Arc<Self> {
        Arc::new(Self {
            want,
            shelf: Mutex::new(Shelf {
                ready: Vec::new(),
                maker: None,
                filling: false,
            }),
        })
    }

    /// The oldest that fits.
    pub(super) fn take(&self, fits: impl Fn(&M::Made) -> bool) -> Option<M::Made> {
        let ready = &mut self.shelf().ready;
        let found = ready.iter().position(fits);
        found.map(|at| ready.remove(at))
    }

    /// How many lie ready.
    pub(super) fn len(&self) -> usize {
        self.shelf().ready.len()
    }

    /// Has as many made as are missing, in the background and not at once.
    pub(super) fn fill(self: &Arc<Self>, maker: M) {
        if self.want == 0 {
            return;
        }
        {
            let mut shelf = self.shelf();
            shelf.maker = Some(maker);
            if std::mem::replace(&mut shelf.filling, true) {
                return;
            }
        }
        let stock = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            while let Some(stock) = stock.upgrade() {
                let Some(maker) = stock.missing() else {
                    return;
                };
                match maker.make().await {
                    Ok(made) => stock.shelf().ready.push(made),
                    Err(error) => {
                        tracing::debug!(%error, "nothing could be prepared");
                        stock.shelf().filling = false;
                        return;
                    }
                }
            }
        });
    }

    /// Who makes the next; `None` ends the filling. Of the last maker's there is one at least, those of
    /// others stay as long as there is room.
    fn missing(&self) -> Option<M> {
        let mut shelf = self.shelf();
        let maker = shelf.maker.clone()?;
        if shelf.ready.len() < self.want {
            return Some(maker);
        }
        if shelf.ready.iter().any(|made| maker.fits(made)) {
            shelf.filling = false;
            return None;
        }
        let oldest = shelf.ready.remove(0);
        drop(shelf);
        M::discard(oldest);
        Some(maker)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<M>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Maker> Drop for Stock<M> {
    fn drop(&mut self) {
        let ready = std::mem::take(&mut self.shelf().ready);
        ready.into_iter().for_each(M::discard);
    }
}
