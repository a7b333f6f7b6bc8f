//! Token usage and money (contracts 30, 40, 86).

use serde::{Deserialize, Serialize};

/// Money: whole cents as a decimal string, USD only (contract 00 §7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Integer cents, no leading zeros.
    pub amount: String,
    /// `USD`.
    pub currency: String,
}

impl Money {
    /// An amount of whole cents in USD.
    pub fn cents(cents: u64) -> Self {
        Self {
            amount: cents.to_string(),
            currency: "USD".into(),
        }
    }
}

/// Usage of one model request, on `span.model_request_end`; all four counts required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelUsage {
    /// Uncached input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Tokens written to the prompt cache.
    pub cache_creation_input_tokens: u64,
    /// Tokens read from the prompt cache.
    pub cache_read_input_tokens: u64,
}

/// Split of cache writes by lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheCreation {
    /// Five-minute entries.
    pub ephemeral_5m_input_tokens: u64,
    /// One-hour entries.
    pub ephemeral_1h_input_tokens: u64,
}

/// Server-side tool requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerToolUse {
    /// Searches made.
    pub web_search_requests: u64,
    /// Always 0 in the contract: fetches are free.
    pub web_fetch_requests: u64,
}

/// Cumulative usage of a session or thread. We always write every key; a reader must not expect
/// that, because the contract calls them all optional.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionUsage {
    /// Uncached input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Tokens read from the prompt cache.
    pub cache_read_input_tokens: u64,
    /// Cache writes by lifetime.
    pub cache_creation: CacheCreation,
    /// Seconds with at least one running thread.
    pub active_seconds: f64,
    /// Cost at the configured list prices, whole cents; absent when a used model has no price. On
    /// `session.usage` the SDKs' types allow absence but not null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_cost: Option<Money>,
    /// Server-side tool requests; absent when none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_tool_use: Option<ServerToolUse>,
}

/// A session's budget (contract 30, "Budgets").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Budget {
    /// A cap on list cost.
    Limit(BudgetLimit),
}

/// `{"type":"limit","max_list_cost"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetLimit {
    /// Whole cents, greater than zero.
    pub max_list_cost: Money,
}
