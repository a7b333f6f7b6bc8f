//! Totals of a session, folded from its events: what `usage` and `stats` show. Kept as JSON on the
//! session row beside the log it is derived from, so that reading a session costs no fold.

use freehold_base::Timestamp;
use freehold_wire::usage::{CacheCreation, ModelUsage, Money, ServerToolUse, SessionUsage};
use serde::{Deserialize, Serialize};

/// Exact money: millionths of a millionth of a US dollar.
pub type PicoUsd = u128;

/// One US cent.
pub(crate) const PICO_PER_CENT: PicoUsd = 10_000_000_000;

/// List prices that are not per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// One web search.
    pub web_search: PicoUsd,
    /// One second with a running thread.
    pub running_second: PicoUsd,
}

/// Cumulative totals.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Summary {
    /// Token totals over all model requests.
    pub tokens: ModelUsage,
    /// Cache writes by lifetime.
    pub cache_creation: CacheCreation,
    /// Exact token cost.
    pub cost: PicoUsd,
    /// Whether a model without a list price was used, which makes the cost unknowable.
    pub unpriced: bool,
    /// Web searches made.
    pub web_searches: u64,
    /// Microseconds spent running, up to the last idle.
    pub active_micros: i64,
    /// Since when the session runs; `None` while idle.
    pub running_since: Option<Timestamp>,
}

impl Summary {
    /// Seconds spent running, as of `now`.
    pub fn active_seconds(&self, now: Timestamp) -> f64 {
        let current = self
            .running_since
            .map_or(0.0, |since| now.seconds_since(since));
        self.active_micros as f64 / 1e6 + current
    }

    /// Exact list cost as of `now`; `None` if a used model has no price.
    pub fn list_cost(&self, now: Timestamp, rates: Rates) -> Option<PicoUsd> {
        let running = (self.active_seconds(now) * rates.running_second as f64) as PicoUsd;
        let searches = PicoUsd::from(self.web_searches) * rates.web_search;
        (!self.unpriced).then_some(self.cost + running + searches)
    }

    /// The wire form as of `now`.
    pub fn usage(&self, now: Timestamp, rates: Rates) -> SessionUsage {
        SessionUsage {
            input_tokens: self.tokens.input_tokens,
            output_tokens: self.tokens.output_tokens,
            cache_read_input_tokens: self.tokens.cache_read_input_tokens,
            cache_creation: self.cache_creation,
            active_seconds: self.active_seconds(now),
            list_cost: self.list_cost(now, rates).map(|pico| {
                let cents = (pico + PICO_PER_CENT / 2) / PICO_PER_CENT;
                Money::cents(u64::try_from(cents).unwrap_or(u64::MAX))
            }),
            server_tool_use: (self.web_searches > 0).then_some(ServerToolUse {
                web_search_requests: self.web_searches,
                web_fetch_requests: 0,
            }),
        }
    }

    /// Adds one model request.
    pub fn add_request(&mut self, usage: ModelUsage, cache: CacheCreation, cost: Option<PicoUsd>) {
        let t = &mut self.tokens;
        t.input_tokens += usage.input_tokens;
        t.output_tokens += usage.output_tokens;
        t.cache_creation_input_tokens += usage.cache_creation_input_tokens;
        t.cache_read_input_tokens += usage.cache_read_input_tokens;
        self.cache_creation.ephemeral_5m_input_tokens += cache.ephemeral_5m_input_tokens;
        self.cache_creation.ephemeral_1h_input_tokens += cache.ephemeral_1h_input_tokens;
        match cost {
            Some(cost) => self.cost += cost,
            None => self.unpriced = true,
        }
    }

    /// The session starts running.
    pub fn start(&mut self, at: Timestamp) {
        self.running_since.get_or_insert(at);
    }

    /// The session stops running.
    pub fn stop(&mut self, at: Timestamp) {
        if let Some(since) = self.running_since.take() {
            self.active_micros += (at.as_micros() - since.as_micros()).max(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_starts_count_once_and_cost_rounds_to_cents() {
        let mut s = Summary::default();
        s.start(Timestamp::from_micros(1_000_000));
        s.start(Timestamp::from_micros(2_000_000));
        s.stop(Timestamp::from_micros(4_000_000));
        assert_eq!(s.active_micros, 3_000_000);
        let usage = ModelUsage {
            input_tokens: 7,
            ..ModelUsage::default()
        };
        s.add_request(usage, CacheCreation::default(), Some(14_900_000_000));
        let now = Timestamp::from_micros(9_000_000);
        assert_eq!(
            s.usage(now, Rates::default()).list_cost,
            Some(Money::cents(1))
        );
        s.add_request(usage, CacheCreation::default(), None);
        assert_eq!(s.usage(now, Rates::default()).list_cost, None);
        assert_eq!(s.usage(now, Rates::default()).input_tokens, 14);
    }
}
