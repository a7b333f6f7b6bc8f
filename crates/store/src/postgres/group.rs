//! Operations of several callers in one transaction. It is hoped that none has to be undone, and then
//! they cost neither savepoints nor, if they are of one kind, statements of their own; if one must be,
//! all are run again, each in a savepoint.

use std::any::TypeId;
use std::collections::HashMap;

use super::connection::{Begun, Connection, PgTx};
use crate::StoreError;
use crate::backend::{Announcement, Op, Scope};
use crate::job::{self, Job, Outcome};

/// What became of a group.
pub(super) struct Done {
    /// Of each operation, in the group's order.
    pub(super) outcomes: Vec<Outcome>,
    /// What is to be told once it is committed.
    pub(super) announcements: Vec<Announcement>,
}

impl Done {
    /// Whether there is nothing to commit.
    pub(super) fn nothing(&self) -> bool {
        !self
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Ok(Ok(_))))
    }
}

/// Runs a group without a way back. `None`: something would have to be undone.
///
/// # Errors
/// The transaction is lost.
pub(super) fn together(
    connection: &Connection,
    begun: &Begun,
    group: &[Job],
) -> Result<Option<Done>, StoreError> {
    let mut outcomes: Vec<Option<Outcome>> = group.iter().map(|_| None).collect();
    let mut announcements = Vec::new();
    for batch in batches(group) {
        let mut tx = PgTx::new(connection, begun);
        let ran = run(group, &batch, &mut tx);
        if let Some(broken) = tx.broken {
            return Err(broken);
        }
        let Some(ran) = ran else {
            return Ok(None);
        };
        let refused = ran.iter().any(|outcome| !matches!(outcome, Ok(Ok(_))));
        // Who is alone is undone with the transaction.
        if group.len() > 1 && (tx.failed || (batch.len() == 1 && refused && tx.changed)) {
            return Ok(None);
        }
        if batch.len() > 1 || !refused {
            announcements.append(&mut tx.announcements);
        }
        for (n, outcome) in batch.into_iter().zip(ran) {
            if let Some(place) = outcomes.get_mut(n) {
                *place = Some(outcome);
            }
        }
    }
    let missing = || Err(StoreError::Corrupt { what: "result" });
    Ok(Some(Done {
        outcomes: outcomes
            .into_iter()
            .map(|o| o.unwrap_or_else(missing))
            .collect(),
        announcements,
    }))
}

/// Runs each in a savepoint.
///
/// # Errors
/// The transaction is lost.
pub(super) fn apart(
    connection: &Connection,
    begun: &Begun,
    group: &[Job],
) -> Result<Done, StoreError> {
    let mut done = Done {
        outcomes: Vec::with_capacity(group.len()),
        announcements: Vec::new(),
    };
    for job in group {
        connection.owe("SAVEPOINT op");
        let mut tx = PgTx::new(connection, begun);
        let outcome = job::run(&*job.op, &mut tx);
        if let Some(broken) = tx.broken {
            return Err(broken);
        }
        if matches!(outcome, Ok(Ok(_))) {
            done.announcements.append(&mut tx.announcements);
        } else {
            connection.owe("ROLLBACK TO SAVEPOINT op");
        }
        connection.owe("RELEASE SAVEPOINT op");
        done.outcomes.push(outcome);
    }
    Ok(done)
}

fn run(group: &[Job], batch: &[usize], tx: &mut PgTx<'_>) -> Option<Vec<Outcome>> {
    let mut ops = batch
        .iter()
        .filter_map(|n| group.get(*n))
        .map(|job| &*job.op);
    let first = ops.next()?;
    let others: Vec<&dyn Op> = ops.collect();
    if others.is_empty() {
        return Some(vec![job::run(first, tx)]);
    }
    let results = first.run_with(&others, tx)?;
    Some(results.into_iter().map(Ok).collect())
}

/// Which operations of a group run together, in the order in which these run: those of one kind, but
/// a session's in the order in which they were asked for.
fn batches(group: &[Job]) -> Vec<Vec<usize>> {
    let mut batches = Vec::<(Option<TypeId>, Vec<usize>)>::new();
    let mut next = HashMap::new();
    for (n, job) in group.iter().enumerate() {
        let from = match &job.scope {
            Scope::Session(session) => next.get(session).copied().unwrap_or(0),
            Scope::Single(_) => 0,
            Scope::All => batches.len(),
        };
        let kin = job.op.kin();
        let mut later = batches.iter_mut().enumerate().skip(from);
        let mate = later.find(|(_, (other, _))| kin.is_some() && *other == kin);
        let at = match mate {
            Some((at, (_, members))) => {
                members.push(n);
                at
            }
            None => {
                batches.push((kin, vec![n]));
                batches.len() - 1
            }
        };
        if let Scope::Session(session) = &job.scope {
            next.insert(session, at + 1);
        }
    }
    batches.into_iter().map(|(_, members)| members).collect()
}
