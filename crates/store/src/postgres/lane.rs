//! A lane: takes what is queued, runs it as a group in one transaction, commits once, announces, answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_base::crash_point;
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use super::group::{self, Done};
use super::news::Item;
use super::{Address, Time};
use crate::backend::Scope;
use crate::job::{self, Job, Message, same};
use crate::{CommitListener, StoreError};

/// Operations in one commit: others wait for its locks.
const GROUP: usize = 256;
/// How long a group waits for a database that is away.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts: the first, doubling to the last.
const PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

pub(super) struct Lane {
    address: Address,
    time: Time,
    listener: Arc<dyn CommitListener>,
    queue: mpsc::Receiver<Message>,
    news: mpsc::UnboundedSender<Item>,
    connection: Option<Connection>,
    /// Names this lane to the database; no other ever has the same name.
    name: String,
    /// Transactions begun: what each marks its commit with.
    begun: u64,
}

/// Waits longer each time, until patience ends.
pub(super) struct Pauses {
    until: Instant,
    next: Duration,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            until: Instant::now() + PATIENCE,
            next: PAUSE[0],
        }
    }
    /// Waits; `false` if that is over.
    pub(super) fn pause(&mut self) -> bool {
        if Instant::now() + self.next > self.until {
            return false;
        }
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(PAUSE[1]);
        true
    }
}

impl Lane {
    pub(super) fn new(
        address: Address,
        time: Time,
        listener: Arc<dyn CommitListener>,
        queue: mpsc::Receiver<Message>,
        news: mpsc::UnboundedSender<Item>,
        name: String,
    ) -> Self {
        Self {
            address,
            time,
            listener,
            queue,
            news,
            connection: None,
            name,
            begun: 0,
        }
    }

    /// Starts the thread. What is given becomes ready (by being dropped) when it has ended.
    pub(super) fn start(self, name: String) -> Result<oneshot::Receiver<()>, StoreError> {
        let (alive, ended) = oneshot::channel();
        job::spawn(name, "the database", move || {
            self.run();
            drop(alive);
        })?;
        Ok(ended)
    }

    fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        while let Some(first) = self.queue.blocking_recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Job(job) => group.push(job),
                    Message::Scrub(answer) => drop(answer.send(())), // Asked of SQLite only.
                    Message::Stop => self.queue.close(),
                }
                next = if group.len() < GROUP {
                    self.queue.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(&mut group);
        }
    }

    fn commit(&mut self, group: &mut Vec<Job>) {
        if group.is_empty() {
            return;
        }
        let mut pauses = Pauses::new();
        let done = loop {
            match self.attempt(group) {
                Ok(done) => break Ok(done),
                Err(error @ StoreError::Connection(_)) => {
                    self.connection = None;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the database is away"
                    );
                    if !pauses.pause() {
                        break Err(error);
                    }
                }
                Err(error) => {
                    self.connection = None;
                    break Err(error);
                }
            }
        };
        match done {
            Ok(done) => {
                crash_point!("store.commit.after");
                for announcement in &done.announcements {
                    job::announce(&*self.listener, announcement);
                    let _ = self.news.send(Item::of(announcement)); // Outlives the lanes.
                }
                for (job, outcome) in group.drain(..).zip(done.outcomes) {
                    // A caller that went away does not want its answer.
                    let _ = job.answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "commit failed");
                for job in group.drain(..) {
                    let _ = job.answer.send(Err(same(&error)));
                }
            }
        }
    }

    /// Runs the group in one transaction and commits it.
    ///
    /// # Errors
    /// Nothing of it was kept. [`StoreError::Connection`]: it may be run again.
    fn attempt(&mut self, group: &[Job]) -> Result<Done, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address)?,
        };
        let connection = self.connection.insert(connection);
        let scopes: Vec<Scope> = group.iter().map(|job| job.scope.clone()).collect();
        let mut begun = connection.begin(&scopes, &self.time)?;
        let done = match group::together(connection, &begun, group)? {
            Some(done) => done,
            None => {
                connection.batch("ROLLBACK")?;
                begun = connection.begin(&scopes, &self.time)?;
                group::apart(connection, &begun, group)?
            }
        };
        if !done.changed && done.announcements.is_empty() {
            connection.batch("ROLLBACK")?;
            return Ok(done);
        }
        crash_point!("store.commit.before");
        self.begun += 1;
        let Err(error) = connection.commit(&self.name, self.begun) else {
            return Ok(done);
        };
        let StoreError::Connection(_) = error else {
            return Err(error);
        };
        if self.settled(&begun.id)? {
            return Ok(done);
        }
        Err(error)
    }

    /// Whether a transaction whose COMMIT was not answered was committed.
    fn settled(&mut self, id: &str) -> Result<bool, StoreError> {
        let mut pauses = Pauses::new();
        loop {
            self.connection = None;
            let asked = Connection::open(&self.address).and_then(|c| {
                let committed = c.committed(id, &self.name, self.begun)?;
                self.connection = Some(c);
                Ok(committed)
            });
            match asked {
                Err(StoreError::Connection(_)) if pauses.pause() => {}
                // It must not be run again by whoever sees the error of a lost connection.
                Err(error) => return Err(same(&error)),
                settled => return settled,
            }
        }
    }
}
