//! Randomness, and the generator of ids built on it and on the clock.

use std::sync::Arc;

use crate::{Id, Kind, SharedClock, SystemClock};

/// Where random bytes come from. Injected, so a simulation can replay them.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `buf` with random bytes fit for secrets.
    fn fill(&self, buf: &mut [u8]);
    /// `n` random bytes as lower-case hex.
    fn hex(&self, n: usize) -> String {
        let mut bytes = vec![0; n];
        self.fill(&mut bytes);
        crate::hex::encode(bytes)
    }
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buf: &mut [u8]) {
        // A kernel without working getrandom(2) cannot run a server that issues credentials.
        getrandom::fill(buf).expect("the operating system has no random source");
    }
}

/// Makes ids: one clock, one source of randomness, cloned freely.
#[derive(Clone)]
pub struct IdSource {
    clock: SharedClock,
    entropy: Arc<dyn Entropy>,
}

impl IdSource {
    /// A source over the given clock and randomness.
    pub fn new(clock: SharedClock, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy }
    }
    /// The machine's clock and random source.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
    }
    /// A fresh id of kind `K`.
    pub fn next<K: Kind>(&self) -> Id<K> {
        let mut random = [0u8; 10];
        self.entropy.fill(&mut random);
        Id::from_parts(self.clock.now().as_millis() as u64, random)
    }
    /// Fills `buf` with random bytes fit for secrets.
    pub fn fill(&self, buf: &mut [u8]) {
        self.entropy.fill(buf);
    }
    /// `n` random bytes as lower-case hex.
    pub fn hex(&self, n: usize) -> String {
        self.entropy.hex(n)
    }
    /// The clock ids are stamped with.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }
}
