//! What to do about one path, from what the three sides hold: the folder, the store, and the
//! baseline, which is what both held when they last agreed. Contents are compared by hash.

/// What to do about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Both agree on this content, or what differs is not to be moved: it is the new baseline.
    Agree,
    /// Nothing is to be remembered of the path.
    Forget,
    /// The store's content goes into the folder.
    Pull,
    /// The folder's content goes into the store, as a change.
    Update,
    /// The folder's content goes into the store, as a new memory.
    Create,
    /// The memory is to be deleted.
    DeleteMemory,
    /// The file is to be deleted.
    DeleteFile,
}

/// The three sides of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides<'a> {
    /// At the last agreement.
    pub(super) base: Option<&'a str>,
    /// In the folder.
    pub(super) local: Option<&'a str>,
    /// In the store.
    pub(super) remote: Option<&'a str>,
}

impl Sides<'_> {
    /// Whether both sides changed: one of them will lose.
    pub(super) fn conflict(&self) -> bool {
        self.remote.is_some()
            && self.remote != self.base
            && self.local.is_some()
            && self.local != self.base
            && self.local != self.remote
    }
}

/// `refused`: the store refused exactly this file before.
pub(super) fn decide(sides: Sides<'_>, read_only: bool, refused: bool) -> Action {
    match (sides.local, sides.remote, sides.base) {
        (None, None, _) => Action::Forget,
        (Some(local), None, Some(base)) if local == base => Action::DeleteFile,
        // Nothing but the file holds this content: it is kept, and where it may be, saved.
        (Some(_), None, _) if read_only || refused => Action::Forget,
        (Some(_), None, _) => Action::Create,
        (None, Some(_), None) => Action::Pull,
        (None, Some(remote), Some(base)) if remote == base && !read_only => Action::DeleteMemory,
        (None, Some(_), Some(_)) => Action::Pull,
        (Some(local), Some(remote), _) if local == remote => Action::Agree,
        (Some(_), Some(remote), Some(base)) if remote == base => {
            if read_only || refused {
                Action::Agree
            } else {
                Action::Update
            }
        }
        // Changed in the store, or on both sides: the store wins.
        (Some(_), Some(_), _) => Action::Pull,
    }
}

#[cfg(test)]
mod tests {
    use super::Action::*;
    use super::*;

    #[test]
    fn every_row() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        for (base, local, remote, writable, read_only) in [
            (None, None, None, Forget, Forget),
            (a, None, None, Forget, Forget),
            // New on one side.
            (None, a, None, Create, Forget),
            (None, None, a, Pull, Pull),
            // New on both.
            (None, a, a, Agree, Agree),
            (None, a, b, Pull, Pull),
            // Unchanged.
            (a, a, a, Agree, Agree),
            // Changed on one side.
            (a, b, a, Update, Agree),
            (a, a, b, Pull, Pull),
            // Changed on both.
            (a, b, b, Agree, Agree),
            (a, b, c, Pull, Pull),
            // Deleted on one side.
            (a, None, a, DeleteMemory, Pull),
            (a, a, None, DeleteFile, DeleteFile),
            // Deleted on one, changed on the other.
            (a, None, b, Pull, Pull),
            (a, b, None, Create, Forget),
        ] {
            let sides = Sides {
                base,
                local,
                remote,
            };
            assert_eq!(decide(sides, false, false), writable, "{sides:?}");
            assert_eq!(
                decide(sides, true, false),
                read_only,
                "{sides:?}, read only"
            );
            // What was refused is not sent again; all else is as ever.
            let refused = match writable {
                Create => Forget,
                Update => Agree,
                other => other,
            };
            assert_eq!(decide(sides, false, true), refused, "{sides:?}, refused");
        }
    }

    #[test]
    fn conflicts_are_those_where_somebody_loses() {
        let conflict = |base, local, remote| {
            Sides {
                base,
                local,
                remote,
            }
            .conflict()
        };
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        assert!(conflict(a, b, c) && conflict(None, a, b));
        assert!(!conflict(a, b, a) && !conflict(a, a, b) && !conflict(a, b, b));
        assert!(!conflict(a, None, b) && !conflict(a, b, None));
    }
}
