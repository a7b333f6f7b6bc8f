//! What a database engine must offer: run one synchronous operation in a transaction, and execute
//! portable SQL inside it. All knowledge of sessions, agents and files stands above this line, in
//! one set of files for every engine.
//!
//! Portable SQL means: parameters `?1 … ?n`, columns of 64-bit integers, text and bytes only,
//! `RETURNING`, `ON CONFLICT`, partial indexes and row values; no function beyond `COUNT`, `SUM`,
//! `MIN`, `MAX`, `COALESCE` and `octet_length`; a sum is cast to `BIGINT`; the time is always a
//! parameter. A statement that fails ends its operation.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::{EnvironmentId, Id, Kind, SessionId, Timestamp};

use crate::{StoreError, StoredEvent};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// [`Value::Int`].
    Int,
    /// [`Value::Text`].
    Text,
    /// [`Value::Blob`].
    Blob,
    /// Of a null in a row, where the engine does not say.
    Unknown,
}

/// One SQL value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Absent; what it would be. A parameter always knows.
    Null(Type),
    /// A number, a boolean (0 or 1), or microseconds since the epoch.
    Int(i64),
    /// Text; also ids and JSON.
    Text(Cow<'a, str>),
    /// Bytes.
    Blob(Cow<'a, [u8]>),
}

impl Value<'_> {
    /// Bytes it takes, about.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Null(_) => 0,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// What can be a parameter, or be absent as one.
pub trait Parameter<'a> {
    /// What it is when it is absent.
    const TYPE: Type;
    /// Its value.
    fn value(self) -> Value<'a>;
}

/// `type => value`, for each what a parameter can be.
macro_rules! parameters {
    ($($of:ty, $type:ident, $v:ident => $value:expr;)*) => { $(
        impl<'a> Parameter<'a> for $of {
            const TYPE: Type = Type::$type;
            fn value(self) -> Value<'a> {
                let $v = self;
                Value::$type($value)
            }
        }
    )* };
}

parameters! {
    i64, Int, v => v;
    bool, Int, v => v.into();
    // Sizes, counts and versions; all are far below the limit at which this saturates.
    u64, Int, v => i64::try_from(v).unwrap_or(i64::MAX);
    usize, Int, v => i64::try_from(v).unwrap_or(i64::MAX);
    Timestamp, Int, v => v.as_micros();
    &'a str, Text, v => Cow::Borrowed(v);
    &'a String, Text, v => Cow::Borrowed(v);
    String, Text, v => Cow::Owned(v);
    &'a [u8], Blob, v => Cow::Borrowed(v);
}

impl<'a, K: Kind> Parameter<'a> for &'a Id<K> {
    const TYPE: Type = Type::Text;
    fn value(self) -> Value<'a> {
        Value::Text(Cow::Borrowed(self.as_str()))
    }
}

impl<'a, T: Parameter<'a>> Parameter<'a> for Option<T> {
    const TYPE: Type = T::TYPE;
    fn value(self) -> Value<'a> {
        self.map_or(Value::Null(T::TYPE), T::value)
    }
}

impl<'a, T: Parameter<'a>> From<T> for Value<'a> {
    fn from(v: T) -> Self {
        v.value()
    }
}

/// A result row, read column by column in the order they were selected.
#[derive(Debug)]
pub struct Row(std::vec::IntoIter<Value<'static>>);

impl Row {
    /// A row of these columns.
    pub fn new(columns: Vec<Value<'static>>) -> Self {
        Self(columns.into_iter())
    }
    /// All that is left of it.
    pub(crate) fn values(self) -> Vec<Value<'static>> {
        self.0.collect()
    }
    fn next(&mut self) -> Value<'static> {
        // A column too many is read as null, which every caller that cannot take it refuses.
        self.0.next().unwrap_or(Value::Null(Type::Unknown))
    }
    pub(crate) fn int(&mut self, what: &'static str) -> Result<i64, StoreError> {
        self.opt_int(what)?.ok_or(StoreError::Corrupt { what })
    }
    pub(crate) fn opt_int(&mut self, what: &'static str) -> Result<Option<i64>, StoreError> {
        match self.next() {
            Value::Int(v) => Ok(Some(v)),
            Value::Null(_) => Ok(None),
            _ => Err(StoreError::Corrupt { what }),
        }
    }
    pub(crate) fn count(&mut self, what: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.int(what)?).map_err(|_| StoreError::Corrupt { what })
    }
    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, StoreError> {
        Ok(self.int(what)? != 0)
    }
    pub(crate) fn time(&mut self, what: &'static str) -> Result<Timestamp, StoreError> {
        self.int(what).map(Timestamp::from_micros)
    }
    pub(crate) fn opt_time(&mut self, what: &'static str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.opt_int(what)?.map(Timestamp::from_micros))
    }
    pub(crate) fn text(&mut self, what: &'static str) -> Result<String, StoreError> {
        self.opt_text(what)?.ok_or(StoreError::Corrupt { what })
    }
    pub(crate) fn opt_text(&mut self, what: &'static str) -> Result<Option<String>, StoreError> {
        match self.next() {
            Value::Text(v) => Ok(Some(v.into_owned())),
            Value::Null(_) => Ok(None),
            _ => Err(StoreError::Corrupt { what }),
        }
    }
    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Vec<u8>, StoreError> {
        match self.next() {
            Value::Blob(v) => Ok(v.into_owned()),
            _ => Err(StoreError::Corrupt { what }),
        }
    }
    /// UTF-8 in a column of bytes.
    pub(crate) fn opt_utf8(&mut self, what: &'static str) -> Result<Option<String>, StoreError> {
        match self.next() {
            Value::Null(_) => Ok(None),
            Value::Blob(v) => String::from_utf8(v.into_owned())
                .map(Some)
                .map_err(|_| StoreError::Corrupt { what }),
            _ => Err(StoreError::Corrupt { what }),
        }
    }
    pub(crate) fn id<K: Kind>(&mut self, what: &'static str) -> Result<Id<K>, StoreError> {
        self.opt_id(what)?.ok_or(StoreError::Corrupt { what })
    }
    pub(crate) fn opt_id<K: Kind>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<Id<K>>, StoreError> {
        match self.opt_text(what)? {
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| StoreError::Corrupt { what }),
            None => Ok(None),
        }
    }
}

/// What the commit listener is told once a transaction is durable.
#[derive(Debug, Clone)]
pub enum Announcement {
    /// Events of one session, in sequence order.
    Committed(SessionId, Vec<Arc<StoredEvent>>),
    /// Something else of a session changed that its driver should look at.
    Woken(SessionId),
    /// The session is gone.
    Deleted(SessionId),
    /// The environment's work queue has an item more to give.
    Queued(EnvironmentId),
    /// A work item has stopped, or was handed out anew: a token of it stopped working.
    WorkEnded,
    /// A key, a tunnel's token or certificate, or a workspace stopped or began to count.
    AccessChanged,
}

/// One open transaction.
pub trait Tx {
    /// The engine's time: the injected clock, or one clock for all replicas.
    fn now(&self) -> Timestamp;
    /// Runs a statement that gives rows.
    ///
    /// # Errors
    /// The engine's; the operation must then end with an error too.
    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError>;
    /// Runs a statement; gives the number of rows it changed.
    ///
    /// # Errors
    /// The engine's; the operation must then end with an error too.
    fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError>;
    /// Queues an announcement for after the commit; forgotten if the operation fails.
    fn announce(&mut self, announcement: Announcement);
    /// What a SELECT ends with that takes rows which nobody else is about to change; nothing where
    /// nobody else can be.
    fn skipping_locked(&self) -> &'static str {
        ""
    }
}

/// Result or refusal of an operation, its type erased so that one queue carries them all.
pub type Boxed = Box<dyn Any + Send>;

/// An operation. May be run again if the engine asks for a retry.
pub trait Op: Any + Send {
    /// Runs it by itself. `Err` undoes everything it did.
    fn run(&self, tx: &mut dyn Tx) -> Result<Boxed, Boxed>;

    /// What others must have, too, to be run together with it; `None`: it runs by itself only.
    fn kin(&self) -> Option<TypeId> {
        None
    }

    /// Runs it and others that have the same kin, in fewer statements than one after another; gives their
    /// results in this order, it being the first. A refusal among them has changed nothing. `None`:
    /// they cannot be run so; what was done must be undone, and each be run by itself.
    fn run_with(&self, _others: &[&dyn Op], _tx: &mut dyn Tx) -> Option<Vec<Result<Boxed, Boxed>>> {
        None
    }
}

impl<F: Fn(&mut dyn Tx) -> Result<Boxed, Boxed> + Send + 'static> Op for F {
    fn run(&self, tx: &mut dyn Tx) -> Result<Boxed, Boxed> {
        self(tx)
    }
}

/// An operation that runs by itself.
pub fn op(run: impl Fn(&mut dyn Tx) -> Result<Boxed, Boxed> + Send + 'static) -> Box<dyn Op> {
    Box::new(run)
}

/// What a writing operation may touch, so that an engine with several writers knows which must not
/// run beside each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Rows of this session only: its row and body, log, inbox, resources, sandbox, and work items. It
    /// may read anything, but rely only on what stands in these, or on what nothing but [`Scope::All`]
    /// changes. Runs beside operations on other sessions.
    Session(SessionId),
    /// Whatever one statement both decides and changes, so that it is right also if anything but
    /// [`Scope::All`] happens beside it; it may rely on what nothing else changes.
    Single,
    /// Anything. Runs alone.
    All,
}

/// A database engine.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs an operation and makes it durable before it answers. An operation whose caller went
    /// away still runs.
    ///
    /// # Errors
    /// Outer: the engine failed and nothing was kept. Inner: the operation refused.
    async fn write(
        &self,
        scope: Scope,
        op: Box<dyn Op>,
    ) -> Result<Result<Boxed, Boxed>, StoreError>;
    /// Runs an operation that only reads, on one consistent snapshot that holds every write
    /// answered before.
    ///
    /// # Errors
    /// As for [`Backend::write`].
    async fn read(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError>;
    /// As [`Backend::read`], for an operation that reads a few rows by their keys: an engine in this
    /// process may run it on the calling thread, where handing it to another would take longer than
    /// the look itself.
    ///
    /// # Errors
    /// As for [`Backend::read`].
    async fn look_up(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        self.read(op).await
    }
    /// Removes what deleted rows leave behind in logs and journals, as far as the engine can.
    ///
    /// # Errors
    /// The store is closed.
    async fn scrub(&self) -> Result<(), StoreError>;
    /// Whether other processes use the same database.
    fn shared(&self) -> bool;
    /// Finishes what is queued and lets go of the database; later calls fail with
    /// [`StoreError::Closed`].
    async fn close(&self);
}

/// A parameter list.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::backend::Value::from($value)),*] };
}
pub(crate) use params;

/// The only row of a result, if there is one.
pub(crate) fn one(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}
