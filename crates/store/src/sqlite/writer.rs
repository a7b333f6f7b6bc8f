//! The writer thread: takes what is queued, runs each operation in a savepoint of one transaction,
//! commits once, announces, answers. One disk flush is thus shared by everybody who waited for it.

use std::sync::Arc;

use freehold_base::{SharedClock, crash_point};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection::{SqliteTx, control};
use crate::backend::{Announcement, Op};
use crate::data_dir::DirLock;
use crate::job::{self, Job, Message, Outcome, same};
use crate::{CommitListener, StoreError};

/// Operations in one commit.
const GROUP: usize = 256;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) clock: SharedClock,
    pub(super) listener: Arc<dyn CommitListener>,
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) lock: DirLock,
    /// Dropped last of all, to say that the files are free.
    pub(super) alive: oneshot::Sender<()>,
}

impl Writer {
    pub(super) fn start(self) -> Result<(), StoreError> {
        job::spawn("store-writer".into(), "freehold.db", move || self.run())
    }

    fn run(mut self) {
        let (mut group, mut scrubs) = (Vec::with_capacity(GROUP), Vec::new());
        while let Some(first) = self.queue.blocking_recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Job(job) => group.push(job),
                    Message::Scrub(answer) => scrubs.push(answer),
                    Message::Stop => self.queue.close(),
                }
                next = if group.len() < GROUP {
                    self.queue.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(std::mem::take(&mut group));
            if !scrubs.is_empty() {
                self.scrub();
                for answer in scrubs.drain(..) {
                    let _ = answer.send(());
                }
            }
        }
        let Self {
            connection,
            lock,
            alive,
            ..
        } = self;
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "database not closed cleanly");
        }
        drop(lock);
        drop(alive);
    }

    /// Moves everything from the write-ahead log into the database and empties the log's file.
    fn scrub(&self) {
        let emptied = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
        match emptied {
            Ok(0) => {}
            // A reader holds on to an old snapshot; the next time will do.
            Ok(_) => tracing::debug!("write-ahead log not emptied: in use"),
            Err(error) => tracing::warn!(%error, "write-ahead log not emptied"),
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(jobs.len());
        let mut announcements = Vec::new();
        let committed = self.run_all(jobs, &mut answers, &mut announcements);
        if let Err(error) = committed {
            tracing::error!(error = &error as &dyn std::error::Error, "commit failed");
            if !self.connection.is_autocommit()
                && let Err(error) = control(&self.connection, "ROLLBACK")
            {
                tracing::error!(error = &error as &dyn std::error::Error, "rollback failed");
            }
            for (job, outcome) in answers {
                // What refused or failed by itself keeps its own reason.
                let lost = matches!(outcome, Ok(Ok(_)));
                let _ = job.send(if lost { Err(same(&error)) } else { outcome });
            }
            return;
        }
        crash_point!("store.commit.after");
        for announcement in &announcements {
            job::announce(&*self.listener, announcement);
        }
        for (job, outcome) in answers {
            // A caller that went away does not want its answer.
            let _ = job.send(outcome);
        }
    }

    /// Runs the group in one transaction. Every job has its entry in `answers` afterwards, also
    /// when this fails.
    fn run_all(
        &mut self,
        jobs: Vec<Job>,
        answers: &mut Vec<(oneshot::Sender<Outcome>, Outcome)>,
        announcements: &mut Vec<Announcement>,
    ) -> Result<(), StoreError> {
        let mut broken = control(&self.connection, "BEGIN IMMEDIATE").err();
        for Job { op, answer, .. } in jobs {
            if let Some(error) = &broken {
                answers.push((answer, Err(same(error))));
                continue;
            }
            let outcome = match self.run_one(&*op, announcements) {
                Ok(outcome) => outcome,
                Err(error) => {
                    let outcome = Err(same(&error));
                    broken = Some(error);
                    outcome
                }
            };
            answers.push((answer, outcome));
        }
        if let Some(error) = broken {
            return Err(error);
        }
        crash_point!("store.commit.before");
        control(&self.connection, "COMMIT")
    }

    /// Runs one operation in a savepoint.
    ///
    /// # Errors
    /// The transaction as a whole is lost.
    fn run_one(
        &self,
        op: &dyn Op,
        announcements: &mut Vec<Announcement>,
    ) -> Result<Outcome, StoreError> {
        control(&self.connection, "SAVEPOINT op")?;
        let mut tx = SqliteTx::new(&self.connection, self.clock.now());
        let outcome = job::run(op, &mut tx);
        if matches!(outcome, Ok(Ok(_))) {
            announcements.append(&mut tx.announcements);
        } else {
            // On a full disk and the like SQLite has rolled everything back by itself; then this
            // fails, and with it the group.
            control(&self.connection, "ROLLBACK TO op")?;
        }
        control(&self.connection, "RELEASE op")?;
        Ok(outcome)
    }
}
