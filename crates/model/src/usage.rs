//! Tokens of one request and what they cost.

use serde::Deserialize;

use crate::raw::RawObject;

/// Tokens of one request (contract 82 §3). Counts are upstream's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Uncached input tokens.
    pub input_tokens: u64,
    /// Output tokens, thinking included.
    pub output_tokens: u64,
    /// Input tokens written to the prompt cache, of either lifetime.
    pub cache_creation_input_tokens: u64,
    /// Input tokens read from the prompt cache.
    pub cache_read_input_tokens: u64,
    /// Of the cache writes, those kept five minutes; zero when upstream gives no split.
    pub cache_creation_5m_input_tokens: u64,
    /// Of the cache writes, those kept one hour.
    pub cache_creation_1h_input_tokens: u64,
    /// Searches the provider itself made.
    pub web_search_requests: u64,
    /// Fetches the provider itself made.
    pub web_fetch_requests: u64,
}

#[derive(Deserialize)]
struct CacheSplit {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct ServerTools {
    web_search_requests: Option<u64>,
    web_fetch_requests: Option<u64>,
}

impl Usage {
    /// Reads the fields of a `usage` object; absent, null or odd ones count as zero.
    pub fn from_fields(fields: &RawObject) -> Self {
        let count = |key| fields.read::<u64>(key).unwrap_or(0);
        let split = fields.read::<CacheSplit>("cache_creation");
        let tools = fields.read::<ServerTools>("server_tool_use");
        let of_split = |pick: fn(&CacheSplit) -> Option<u64>| split.as_ref().and_then(pick);
        let of_tools = |pick: fn(&ServerTools) -> Option<u64>| tools.as_ref().and_then(pick);
        Self {
            input_tokens: count("input_tokens"),
            output_tokens: count("output_tokens"),
            cache_creation_input_tokens: count("cache_creation_input_tokens"),
            cache_read_input_tokens: count("cache_read_input_tokens"),
            cache_creation_5m_input_tokens: of_split(|s| s.ephemeral_5m_input_tokens).unwrap_or(0),
            cache_creation_1h_input_tokens: of_split(|s| s.ephemeral_1h_input_tokens).unwrap_or(0),
            web_search_requests: of_tools(|t| t.web_search_requests).unwrap_or(0),
            web_fetch_requests: of_tools(|t| t.web_fetch_requests).unwrap_or(0),
        }
    }
    /// Tokens the model read: uncached, written to the cache and read from it.
    pub fn total_input(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_creation_input_tokens)
            .saturating_add(self.cache_read_input_tokens)
    }
}

/// List price of a model: micro-USD for one million tokens of each class, which is the same number
/// as pico-USD for one token. Integers, so sums are exact (contract 86 §3: enforcement exact).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Uncached input.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Written to the five-minute cache.
    pub cache_write_5m: u64,
    /// Written to the one-hour cache.
    pub cache_write_1h: u64,
    /// Read from the cache.
    pub cache_read: u64,
}

/// Pico-USD in one US cent: divide a cost by this for cents.
pub const PICO_USD_PER_CENT: u128 = 10_000_000_000;

impl Price {
    /// Cost in pico-USD (10⁻¹² USD), exact. Cache writes that upstream did not split by lifetime
    /// are priced as five-minute ones, which is what a request without `ttl` asks for.
    pub fn cost(&self, usage: &Usage) -> u128 {
        let one_hour = usage.cache_creation_1h_input_tokens;
        let five_minutes = usage.cache_creation_input_tokens.max(
            usage
                .cache_creation_5m_input_tokens
                .saturating_add(one_hour),
        ) - one_hour;
        [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (five_minutes, self.cache_write_5m),
            (one_hour, self.cache_write_1h),
            (usage.cache_read_input_tokens, self.cache_read),
        ]
        .into_iter()
        .map(|(tokens, price)| u128::from(tokens) * u128::from(price))
        .fold(0, u128::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price {
        input: 3_000_000,
        output: 15_000_000,
        cache_write_5m: 3_750_000,
        cache_write_1h: 6_000_000,
        cache_read: 300_000,
    };

    #[test]
    fn a_million_of_each_costs_the_list_price() {
        let usage = Usage {
            input_tokens: 1_000_000,
            output_tokens: 1_000_000,
            cache_creation_input_tokens: 2_000_000,
            cache_creation_5m_input_tokens: 1_000_000,
            cache_creation_1h_input_tokens: 1_000_000,
            cache_read_input_tokens: 1_000_000,
            ..Usage::default()
        };
        // 3 + 15 + 3.75 + 6 + 0.30 USD
        assert_eq!(PRICE.cost(&usage) / PICO_USD_PER_CENT, 2805);
    }

    #[test]
    fn one_cached_token_is_not_lost() {
        let usage = Usage {
            cache_read_input_tokens: 1,
            ..Usage::default()
        };
        assert_eq!(PRICE.cost(&usage), 300_000);
    }

    #[test]
    fn an_unsplit_cache_write_is_a_five_minute_one() {
        let usage = Usage {
            cache_creation_input_tokens: 10,
            cache_creation_1h_input_tokens: 4,
            ..Usage::default()
        };
        assert_eq!(PRICE.cost(&usage), 6 * 3_750_000 + 4 * 6_000_000);
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        let usage = Usage {
            input_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cache_creation_input_tokens: u64::MAX,
            cache_creation_1h_input_tokens: u64::MAX,
            cache_creation_5m_input_tokens: u64::MAX,
            cache_read_input_tokens: u64::MAX,
            ..Usage::default()
        };
        let dear = Price {
            input: u64::MAX,
            output: u64::MAX,
            cache_write_5m: u64::MAX,
            cache_write_1h: u64::MAX,
            cache_read: u64::MAX,
        };
        assert_eq!(dear.cost(&usage), u128::MAX);
    }

    #[test]
    fn reads_nulls_and_splits() {
        let fields = RawObject::parse(
            br#"{"input_tokens":5,"output_tokens":null,"cache_creation_input_tokens":7,
                "cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4},
                "server_tool_use":{"web_search_requests":2,"web_fetch_requests":0},"x":"y"}"#,
        )
        .unwrap();
        let usage = Usage::from_fields(&fields);
        assert_eq!(usage.input_tokens, 5);
        assert_eq!(usage.output_tokens, 0);
        assert_eq!(usage.cache_creation_5m_input_tokens, 3);
        assert_eq!(usage.cache_creation_1h_input_tokens, 4);
        assert_eq!(usage.web_search_requests, 2);
        assert_eq!(usage.total_input(), 12);
    }
}
