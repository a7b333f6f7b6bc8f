//! When a request is sent again, and how long to wait (contract 00 §5, the SDKs' own policy).

use std::time::Duration;

use freehold_base::Entropy;

use crate::error::ClientError;

/// Times a failed request is sent again.
pub(crate) const RETRIES: u32 = 2;
/// Longest wait before a retry, whatever the server asks.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Whether a request may be sent again after `error`. A request that creates something is only
/// repeated when the first one cannot have arrived: there is no idempotency key in this API.
pub(crate) fn may_retry(error: &ClientError, repeatable: bool) -> bool {
    match error {
        ClientError::Connect { .. } => true,
        _ => repeatable && error.is_transient(),
    }
}

/// How long to wait before attempt `attempt` (from 1): what the server asked for, else half a
/// second doubled each time up to 8 s, less up to a quarter of it by chance.
pub(crate) fn wait(error: &ClientError, attempt: u32, entropy: &dyn Entropy) -> Duration {
    if let ClientError::Api(failure) = error
        && let Some(after) = failure.after
        && !after.is_zero()
    {
        return after.min(MAX_WAIT);
    }
    backoff(attempt, entropy)
}

/// The wait when the server asked for none.
pub(crate) fn backoff(attempt: u32, entropy: &dyn Entropy) -> Duration {
    let full = 500u64 << attempt.saturating_sub(1).min(4);
    let mut byte = [0u8];
    entropy.fill(&mut byte);
    let full = full.min(8_000);
    Duration::from_millis(full - full / 4 * u64::from(byte[0]) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ApiFailure;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&self, buf: &mut [u8]) {
            buf.fill(self.0);
        }
    }

    #[test]
    fn waits_grow_to_a_bound_and_the_server_has_the_last_word() {
        let waits: Vec<_> = (1..8).map(|n| backoff(n, &Fixed(0)).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(backoff(2, &Fixed(255)).as_millis(), 750);
        let mut failure = ApiFailure::read(429, b"{}");
        failure.after = Some(Duration::from_secs(3));
        assert_eq!(wait(&failure.clone().into(), 1, &Fixed(0)).as_secs(), 3);
        failure.after = Some(Duration::from_secs(86_400));
        assert_eq!(wait(&failure.into(), 1, &Fixed(0)), MAX_WAIT);
    }

    #[test]
    fn only_repeatable_requests_are_repeated_and_the_header_decides() {
        let failure = |status, retry| {
            let mut f = ApiFailure::read(status, b"");
            f.retry = retry;
            ClientError::from(f)
        };
        assert!(may_retry(&failure(529, None), true));
        assert!(!may_retry(&failure(529, None), false));
        assert!(may_retry(&failure(409, None), true));
        assert!(!may_retry(&failure(409, Some(false)), true));
        assert!(!may_retry(&failure(404, None), true));
    }
}
