//! Operations of which several callers' are done in as many statements as one's: what batching is
//! for on an engine to which every statement is a way of its own.

use std::any::{Any, TypeId};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::StoreError;
use crate::backend::{Boxed, Op, Tx};
use crate::store::close_box;

/// A kind of operation that does one thing or many in the same statements.
pub(crate) trait Together: Sized + Send + 'static {
    /// What it gives.
    type Done: Send + 'static;
    /// Why it is refused.
    type Refusal: From<StoreError> + Send + 'static;

    /// Does all of them; gives their results in this order. A refusal in the list has changed nothing.
    ///
    /// # Errors
    /// What was done for all must be undone. If there was only one, this is why.
    fn run(tx: &mut dyn Tx, all: &[&Self]) -> Result<Each<Self>, Self::Refusal>;
}

/// What became of each of several.
pub(crate) type Each<T> = Vec<Result<<T as Together>::Done, <T as Together>::Refusal>>;

/// One, as the backend takes it.
pub(crate) struct Kin<T>(pub(crate) T);

impl<T: Together> Op for Kin<T> {
    fn run(&self, tx: &mut dyn Tx) -> Result<Boxed, Boxed> {
        let missing = || T::Refusal::from(StoreError::Corrupt { what: "result" });
        let done =
            T::run(tx, &[&self.0]).and_then(|all| all.into_iter().next().ok_or_else(missing)?);
        close_box(done)
    }

    fn kin(&self) -> Option<TypeId> {
        Some(TypeId::of::<T>())
    }

    fn run_with(&self, others: &[&dyn Op], tx: &mut dyn Tx) -> Option<Vec<Result<Boxed, Boxed>>> {
        let mut all = vec![&self.0];
        for other in others {
            let other: &dyn Any = *other;
            all.push(&other.downcast_ref::<Self>()?.0);
        }
        // Who of them panics shows when each runs by itself.
        let done = catch_unwind(AssertUnwindSafe(|| T::run(tx, &all)));
        let done = done.ok()?.ok()?;
        (done.len() == all.len()).then(|| done.into_iter().map(close_box).collect())
    }
}
