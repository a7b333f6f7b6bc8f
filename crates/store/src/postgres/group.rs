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
    /// Whether there is something to commit.
    pub(super) changed: bool,
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
    let (mut announcements, mut changed) = (Vec::new(), false);
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
            changed |= tx.changed;
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
        changed,
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
        changed: false,
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
            done.changed |= tx.changed;
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
            Scope::Single => 0,
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::backend::{Boxed, Tx};

    struct Letter(char);

    impl Op for Letter {
        fn run(&self, _: &mut dyn Tx) -> Result<Boxed, Boxed> {
            Ok(Box::new(()))
        }
        fn kin(&self) -> Option<TypeId> {
            match self.0 {
                'a' => Some(TypeId::of::<u8>()),
                'b' => Some(TypeId::of::<u16>()),
                _ => None,
            }
        }
    }

    fn job(op: char, session: Option<char>) -> Job {
        let scope = match session {
            Some(session) => Scope::Session(format!("sesn_{session}").parse().unwrap()),
            None => Scope::Single,
        };
        let (answer, _) = oneshot::channel();
        let op = Box::new(Letter(op));
        Job { scope, op, answer }
    }

    #[test]
    fn one_kind_runs_together_but_a_session_in_its_order() {
        let order = |jobs: &[(char, Option<char>)]| {
            let group: Vec<_> = jobs
                .iter()
                .map(|(op, session)| job(*op, *session))
                .collect();
            batches(&group)
        };
        let (x, y) = (Some('x'), Some('y'));
        assert_eq!(order(&[('a', x), ('a', y)]), [vec![0, 1]]);
        assert_eq!(order(&[('a', x), ('a', x)]), [[0], [1]]);
        assert_eq!(order(&[('c', x), ('c', y)]), [[0], [1]], "by itself only");
        assert_eq!(
            order(&[('a', x), ('b', x), ('a', x), ('a', y), ('b', y)]),
            [vec![0, 3], vec![1, 4], vec![2]],
            "what comes first for x runs before what comes second"
        );
        assert_eq!(
            order(&[('b', None), ('a', x), ('b', None)]),
            [vec![0, 2], vec![1]]
        );
    }
}
