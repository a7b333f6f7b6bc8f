//! Why something did not go out, and the list of it that a model gets to read.

use std::collections::VecDeque;
use std::fmt;

use super::target::Target;

/// Denials remembered until they are taken; more are only counted.
const MAX_RECENT: usize = 16;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this host is not allowed by the environment's network policy")]
    NotAllowed,
    #[error("this host resolves to an address that is not public")]
    NotPublic,
    #[error("this address belongs to no host name that was looked up; connect by name")]
    NoName,
    #[error("the request names another host than the one it was sent to")]
    OtherName,
    #[error("the name in the TLS handshake is missing, hidden or encrypted")]
    HiddenName,
    #[error("what was sent is neither a clean HTTP request nor a clean TLS handshake")]
    Unclear,
    #[error("the sandbox has used up the bytes it may exchange with the network")]
    Spent,
    #[error("a credential does not fit into a header")]
    Unfit,
    #[error("the host name could not be resolved")]
    Unresolved,
    #[error("no connection could be made")]
    Unreachable,
    #[error("the host's TLS certificate was not accepted, or it does not speak TLS")]
    Untrusted,
}

impl Refusal {
    /// Whether it was a decision and not an accident.
    pub(super) fn is_policy(self) -> bool {
        !matches!(
            self,
            Self::Unresolved | Self::Unreachable | Self::Untrusted | Self::Unfit
        )
    }
}

/// A connection that did not come about, for the model and the log. Its text holds a checked host
/// name or an address, a port and a reason: nothing else of what the inside sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    target: Target,
    why: Refusal,
    times: u32,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.why)?;
        match self.times {
            1 => Ok(()),
            times => write!(f, " ({times} times)"),
        }
    }
}

/// Denials since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Denials(VecDeque<Denial>);

impl Denials {
    pub(super) fn add(&mut self, target: &Target, why: Refusal) {
        let same = |d: &&mut Denial| d.target == *target && d.why == why;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.times = known.times.saturating_add(1);
            return;
        }
        if self.0.len() == MAX_RECENT {
            self.0.pop_front();
        }
        self.0.push_back(Denial {
            target: target.clone(),
            why,
            times: 1,
        });
    }

    pub(super) fn take(&mut self) -> Vec<Denial> {
        std::mem::take(&mut self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::target::Host;

    #[test]
    fn the_same_denial_is_said_once_and_the_list_is_bounded() {
        let target = |n: usize| Target {
            host: Host::Name(format!("h{n}.test")),
            port: 443,
        };
        let mut denials = Denials::default();
        for n in 0..100 {
            denials.add(&target(n), Refusal::NotAllowed);
        }
        denials.add(&target(99), Refusal::NotAllowed);
        let taken = denials.take();
        assert_eq!(taken.len(), MAX_RECENT);
        assert_eq!(
            taken.last().unwrap().to_string(),
            "h99.test:443: this host is not allowed by the environment's network policy (2 times)"
        );
        assert!(denials.take().is_empty());
    }
}
