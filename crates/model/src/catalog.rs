//! Which model ids there are and who answers for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use freehold_base::{IdSource, Secret, Timestamp};

use crate::chat::ChatProvider;
use crate::config::{
    CatalogConfig, ConfigError, ModelConfig, ProviderConfig, ProviderType, Rates, RehearsalConfig,
    Timeouts, default_context_window, default_max_output_tokens,
};
use crate::messages::MessagesProvider;
use crate::provider::Provider;
use crate::rehearsal::{self, Rehearsal};
use crate::usage::Price;

/// Why a catalog could not be built.
pub type CatalogError = ConfigError;

/// Characters of a model id that is looked up; longer ones resolve to nothing.
const MAX_ID_CHARS: usize = 256;

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supports {
    /// `output_config.effort`.
    pub effort: bool,
    /// Messages of role `system` in the middle of a conversation (contract 40 `system.message`).
    pub system_messages: bool,
    /// Image input.
    pub images: bool,
    /// PDF documents.
    pub pdf: bool,
    /// Thinking blocks.
    pub thinking: bool,
}

impl Supports {
    /// Everything the Messages API can carry.
    pub const ALL: Self = Self {
        effort: true,
        system_messages: true,
        images: true,
        pdf: true,
        thinking: true,
    };
    /// What Chat Completions can carry.
    pub const CHAT: Self = Self {
        effort: false,
        system_messages: true,
        images: true,
        pdf: false,
        thinking: false,
    };
}

/// One model.
#[derive(Clone)]
pub struct ModelEntry {
    /// What clients name.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// What the provider calls it; the provider itself puts it into requests.
    pub upstream_id: String,
    /// Tokens of input and output together that fit.
    pub context_window: u64,
    /// Most tokens of one answer.
    pub max_output_tokens: u64,
    /// List price; `None` means unknown (contract 86 §3: a budget is then refused).
    pub price: Option<Price>,
    /// What it can do.
    pub supports: Supports,
    /// Release time; the epoch when not configured.
    pub created_at: Timestamp,
    /// Whether this is the built-in rehearsal model.
    pub is_rehearsal: bool,
}

impl std::fmt::Debug for ModelEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelEntry")
            .field("id", &self.id)
            .field("provider", &self.provider.describe())
            .field("upstream_id", &self.upstream_id)
            .finish_non_exhaustive()
    }
}

/// All models, fixed at start.
#[derive(Clone, Default)]
pub struct Catalog {
    models: BTreeMap<String, Arc<ModelEntry>>,
    fallback: Option<Arc<dyn Provider>>,
    rates: Rates,
}

impl Catalog {
    /// A catalog without models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds the providers and models of a configuration. `keys` holds each provider's key by
    /// the provider's name; one without a key sends none. `ids` makes the ids the translating
    /// providers need.
    ///
    /// # Errors
    /// [`CatalogError`] names the first key of the configuration that cannot be used.
    pub fn from_config(
        config: &CatalogConfig,
        keys: &HashMap<String, Secret<String>>,
        ids: &IdSource,
    ) -> Result<Self, CatalogError> {
        config.check()?;
        let mut catalog = Self {
            rates: config.rates,
            ..Self::default()
        };
        let mut providers = HashMap::new();
        for provider in &config.providers {
            let built = build(provider, &config.models, keys.get(&provider.name), ids)?;
            providers.insert(provider.name.as_str(), (built, provider.kind));
        }
        for model in &config.models {
            // `check` has seen that every reference is good.
            if let Some((provider, kind)) = providers.get(model.provider.as_str()) {
                catalog.insert(entry(model, Arc::clone(provider), *kind));
            }
        }
        if config.rehearsal.enabled {
            let provider = Arc::new(Rehearsal::new(config.rehearsal, ids.clone()));
            catalog.insert(rehearsal_entry(provider, &config.rehearsal));
        }
        Ok(catalog)
    }

    /// Adds a model, or replaces the one with its id.
    pub fn insert(&mut self, entry: ModelEntry) {
        self.models.insert(entry.id.clone(), Arc::new(entry));
    }

    /// Sets the provider of every id no entry has.
    pub fn set_fallback(&mut self, provider: Arc<dyn Provider>) {
        self.fallback = Some(provider);
    }

    /// Sets a Messages API as the provider of every id no entry has (`--model-url`).
    ///
    /// # Errors
    /// [`CatalogError`] when the URL cannot be used.
    pub fn set_fallback_url(
        &mut self,
        base_url: &str,
        key: Option<Secret<String>>,
        timeouts: Timeouts,
    ) -> Result<(), CatalogError> {
        let provider =
            MessagesProvider::new("model-url", base_url, key, timeouts, BTreeMap::new())?;
        self.set_fallback(Arc::new(provider));
        Ok(())
    }

    /// The model clients mean by `id`: the entry of that id, else one made for the fallback
    /// provider, with no price and default sizes. `None`: there is no such model.
    pub fn resolve(&self, id: &str) -> Option<Arc<ModelEntry>> {
        if let Some(entry) = self.models.get(id) {
            return Some(Arc::clone(entry));
        }
        let provider = Arc::clone(self.fallback.as_ref()?);
        if id.is_empty() || MAX_ID_CHARS < id.chars().count() {
            return None;
        }
        Some(Arc::new(ModelEntry {
            id: id.to_owned(),
            display_name: id.to_owned(),
            provider,
            upstream_id: id.to_owned(),
            context_window: default_context_window(),
            max_output_tokens: default_max_output_tokens(),
            price: None,
            supports: Supports::ALL,
            created_at: Timestamp::default(),
            is_rehearsal: false,
        }))
    }

    /// All entries, newest release first, then by id. Ids of the fallback are not listed.
    pub fn list(&self) -> Vec<Arc<ModelEntry>> {
        let mut all: Vec<_> = self.models.values().cloned().collect();
        all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(a.id.cmp(&b.id)));
        all
    }

    /// Whether ids without an entry resolve.
    pub fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    /// The provider of ids without an entry.
    pub fn fallback(&self) -> Option<&Arc<dyn Provider>> {
        self.fallback.as_ref()
    }

    /// Prices that are not for tokens.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }
}

fn build(
    config: &ProviderConfig,
    models: &[ModelConfig],
    key: Option<&Secret<String>>,
    ids: &IdSource,
) -> Result<Arc<dyn Provider>, ConfigError> {
    let names: BTreeMap<String, String> = models
        .iter()
        .filter(|m| m.provider == config.name)
        .filter_map(|m| Some((m.id.clone(), m.upstream.clone()?)))
        .collect();
    let (name, url, key, times) = (
        config.name.as_str(),
        config.base_url.as_str(),
        key.cloned(),
        config.timeouts,
    );
    Ok(match config.kind {
        ProviderType::Messages => Arc::new(MessagesProvider::new(name, url, key, times, names)?),
        ProviderType::Chat => Arc::new(ChatProvider::new(
            name,
            url,
            key,
            times,
            names,
            config.mid_system,
            ids.clone(),
        )?),
    })
}

fn entry(model: &ModelConfig, provider: Arc<dyn Provider>, kind: ProviderType) -> ModelEntry {
    let base = match kind {
        ProviderType::Messages => Supports::ALL,
        ProviderType::Chat => Supports::CHAT,
    };
    let said = &model.supports;
    ModelEntry {
        id: model.id.clone(),
        display_name: model.display_name.clone().unwrap_or(model.id.clone()),
        provider,
        upstream_id: model.upstream.clone().unwrap_or(model.id.clone()),
        context_window: model.context_window,
        max_output_tokens: model.max_output_tokens,
        price: model.price.map(|p| p.price()),
        supports: Supports {
            effort: said.effort.unwrap_or(base.effort),
            system_messages: said.system_messages.unwrap_or(base.system_messages),
            images: said.images.unwrap_or(base.images),
            pdf: said.pdf.unwrap_or(base.pdf),
            thinking: said.thinking.unwrap_or(base.thinking),
        },
        created_at: model.created_at.unwrap_or_default(),
        is_rehearsal: false,
    }
}

/// The entry of the built-in model. Without a configured price it is free, which is a known price:
/// budgets can be set.
pub fn rehearsal_entry(provider: Arc<dyn Provider>, config: &RehearsalConfig) -> ModelEntry {
    let free = Price {
        input: 0,
        output: 0,
        cache_write_5m: 0,
        cache_write_1h: 0,
        cache_read: 0,
    };
    ModelEntry {
        id: rehearsal::MODEL_ID.to_owned(),
        display_name: rehearsal::DISPLAY_NAME.to_owned(),
        provider,
        upstream_id: rehearsal::MODEL_ID.to_owned(),
        context_window: config.context_window,
        max_output_tokens: default_max_output_tokens().min(config.context_window),
        price: Some(config.price.map_or(free, |p| p.price())),
        supports: Supports::ALL,
        created_at: rehearsal::CREATED_AT,
        is_rehearsal: true,
    }
}

#[cfg(test)]
mod tests;
