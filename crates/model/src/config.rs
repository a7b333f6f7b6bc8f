//! The part of the configuration file that is about models.

mod money;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use money::Usd;

use crate::usage::Price;

/// Providers, models and rates. Unknown keys are refused.
///
/// ```toml
/// [[providers]]
/// name = "upstream"
/// type = "messages"
/// base_url = "https://models.example.com"
/// key_env = "UPSTREAM_KEY"
///
/// [[models]]
/// id = "big"
/// provider = "upstream"
/// price = { input = "3", output = "15" }
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// Where models are.
    pub providers: Vec<ProviderConfig>,
    /// Which ids there are.
    pub models: Vec<ModelConfig>,
    /// The built-in model.
    pub rehearsal: RehearsalConfig,
    /// What is priced other than tokens.
    pub rates: Rates,
}

/// Which protocol a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderType {
    /// The Messages API.
    Messages,
    /// Chat Completions, as spoken by llama.cpp's server, vLLM, Ollama and others.
    Chat,
}

/// One provider. At most one of `key_env` and `key_file`; the binary reads the key, this crate is
/// handed it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Unique name; models refer to it.
    pub name: String,
    /// Protocol.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// For `messages` the part before `/v1/messages`; for `chat` the part before
    /// `/chat/completions`, which usually ends in `/v1`. A path prefix is kept.
    pub base_url: String,
    /// Environment variable that holds the key.
    pub key_env: Option<String>,
    /// File that holds the key; white space around it is not part of it.
    pub key_file: Option<PathBuf>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// `chat` only: the role that system messages in the middle of a conversation are sent with.
    /// Some chat templates refuse `system` anywhere but at the start; `user` suits those.
    #[serde(default)]
    pub mid_system: MidSystem,
}

/// See [`ProviderConfig::mid_system`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MidSystem {
    /// `{"role":"system"}` where it stands.
    #[default]
    System,
    /// `{"role":"user"}`, marked as a system message.
    User,
}

/// Time limits of a provider, in milliseconds. There is none on a whole answer: the engine ends
/// one it no longer wants by dropping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To connect, TLS included. Default 10 s.
    pub connect_ms: u64,
    /// From the request to the first event: reading a long prompt can take a local model minutes.
    /// Default 600 s.
    pub first_byte_ms: u64,
    /// Between two pieces of a streamed answer. Default 120 s.
    pub idle_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            first_byte_ms: 600_000,
            idle_ms: 120_000,
        }
    }
}

/// One model id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What clients name.
    pub id: String,
    /// Name of its provider.
    pub provider: String,
    /// What the provider calls it; absent means `id`.
    pub upstream: Option<String>,
    /// For people; absent means `id`.
    pub display_name: Option<String>,
    /// Tokens of input and output together that fit. Default 200,000.
    #[serde(default = "default_context_window")]
    pub context_window: u64,
    /// Most tokens of one answer. Default 32,000.
    #[serde(default = "default_max_output_tokens")]
    pub max_output_tokens: u64,
    /// List price; absent means unknown, and sessions with a budget are refused.
    pub price: Option<PriceConfig>,
    /// What the model can do; absent means everything the provider's protocol can carry.
    #[serde(default)]
    pub supports: SupportsConfig,
    /// Release time as RFC 3339; the model list is ordered by it.
    #[serde(default)]
    pub created_at: Option<freehold_base::Timestamp>,
}

pub(crate) const fn default_context_window() -> u64 {
    200_000
}

pub(crate) const fn default_max_output_tokens() -> u64 {
    32_000
}

/// Exceptions to what a provider's protocol can carry.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupportsConfig {
    /// `output_config.effort`.
    pub effort: Option<bool>,
    /// Messages of role `system` in the middle of a conversation.
    pub system_messages: Option<bool>,
    /// Image input.
    pub images: Option<bool>,
    /// PDF documents.
    pub pdf: Option<bool>,
    /// Thinking blocks.
    pub thinking: Option<bool>,
}

/// Prices in USD for a million tokens, as decimals: `"0.30"`, `3`, `3.75`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// Uncached input.
    pub input: Usd,
    /// Output.
    pub output: Usd,
    /// Five-minute cache writes; absent means 1.25 times `input`.
    pub cache_write_5m: Option<Usd>,
    /// One-hour cache writes; absent means twice `input`.
    pub cache_write_1h: Option<Usd>,
    /// Cache reads; absent means a tenth of `input`.
    pub cache_read: Option<Usd>,
}

impl PriceConfig {
    /// The price with its defaults filled in, rounded up to whole micro-USD.
    pub fn price(&self) -> Price {
        let input = self.input.micros();
        let part = |given: Option<Usd>, percent: u64| {
            given.map_or_else(
                || input.saturating_mul(percent).div_ceil(100),
                |usd| usd.micros(),
            )
        };
        Price {
            input,
            output: self.output.micros(),
            cache_write_5m: part(self.cache_write_5m, 125),
            cache_write_1h: part(self.cache_write_1h, 200),
            cache_read: part(self.cache_read, 10),
        }
    }
}

/// The rehearsal model.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RehearsalConfig {
    /// Whether it is in the catalog. Default true.
    pub enabled: bool,
    /// How long it thinks before it answers, in milliseconds. Default 500, because clients may
    /// open the event stream just after they send; 0 for benchmarks.
    pub delay_ms: u64,
    /// Tokens that fit (it counts four characters as one). Default 200,000; small values let
    /// compaction be tried.
    pub context_window: u64,
    /// List price, so that costs and budgets can be tried. Absent means free.
    pub price: Option<PriceConfig>,
}

impl Default for RehearsalConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            delay_ms: 500,
            context_window: default_context_window(),
            price: None,
        }
    }
}

/// Prices that are not for tokens (contract 86 §3), in USD.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// A thousand web searches. Default 10.
    pub web_search_per_1000: Usd,
    /// An hour of a session's running time. Default 0.08.
    pub running_hour: Usd,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            web_search_per_1000: Usd::from_micros(10_000_000),
            running_hour: Usd::from_micros(80_000),
        }
    }
}

impl Rates {
    /// Cost of `searches` in pico-USD, exact to the pico-USD.
    pub fn searches(&self, searches: u64) -> u128 {
        // Micro-USD for a thousand is 1000 pico-USD for one.
        u128::from(searches) * u128::from(self.web_search_per_1000.micros()) * 1_000
    }
    /// Cost of running for `micros` microseconds in pico-USD, rounded down.
    pub fn running(&self, micros: u64) -> u128 {
        // Micro-USD for an hour, times microseconds, is pico-USD times the seconds of an hour.
        u128::from(micros) * u128::from(self.running_hour.micros()) / 3_600
    }
}

/// The configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A provider's base URL.
    #[error("provider `{provider}`: base_url: {reason}")]
    BaseUrl {
        /// Its name.
        provider: String,
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client could not be made, for example for want of root certificates.
    #[error("provider `{provider}`: cannot set up its HTTP client: {reason}")]
    Client {
        /// Its name.
        provider: String,
        /// What is wrong.
        reason: String,
    },
    /// Any other key.
    #[error("{path}: {reason}")]
    Value {
        /// Where, for example `models[2].id`.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl CatalogConfig {
    /// Checks what the types cannot: names, references, bounds.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |path: String, reason: &str| {
            Err(ConfigError::Value {
                path,
                reason: reason.to_owned(),
            })
        };
        let mut providers = BTreeMap::new();
        for (i, provider) in self.providers.iter().enumerate() {
            let at = |key: &str| format!("providers[{i}].{key}");
            if provider.name.is_empty() || 64 < provider.name.chars().count() {
                return wrong(at("name"), "must have 1 to 64 characters");
            }
            if providers.insert(provider.name.as_str(), i).is_some() {
                return wrong(at("name"), "is used twice");
            }
            if provider.key_env.is_some() && provider.key_file.is_some() {
                return wrong(at("key_file"), "cannot stand beside key_env");
            }
            if provider.kind == ProviderType::Messages && provider.mid_system != MidSystem::System {
                return wrong(at("mid_system"), "is for providers of type `chat`");
            }
            let t = &provider.timeouts;
            if [t.connect_ms, t.first_byte_ms, t.idle_ms].contains(&0) {
                return wrong(at("timeouts"), "must be above zero");
            }
        }
        let mut ids = BTreeMap::new();
        for (i, model) in self.models.iter().enumerate() {
            let at = |key: &str| format!("models[{i}].{key}");
            if model.id.is_empty() || 256 < model.id.chars().count() {
                return wrong(at("id"), "must have 1 to 256 characters");
            }
            if self.rehearsal.enabled && model.id == crate::rehearsal::MODEL_ID {
                return wrong(at("id"), "is the built-in model's; disable that one first");
            }
            if ids.insert(model.id.as_str(), i).is_some() {
                return wrong(at("id"), "is used twice");
            }
            if !providers.contains_key(model.provider.as_str()) {
                return wrong(at("provider"), "names no entry of `providers`");
            }
            if model.context_window == 0 || model.max_output_tokens == 0 {
                return wrong(at("context_window"), "token counts must be above zero");
            }
            if model.context_window < model.max_output_tokens {
                return wrong(at("max_output_tokens"), "is above context_window");
            }
        }
        if self.rehearsal.context_window == 0 {
            return wrong("rehearsal.context_window".into(), "must be above zero");
        }
        if crate::rehearsal::MAX_WAIT_MS < self.rehearsal.delay_ms {
            return wrong("rehearsal.delay_ms".into(), "is above 600000");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
