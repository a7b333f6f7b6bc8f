//! `/v1/models` (contract 82 §7), and what agents may ask of a model.

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_model::{Catalog, ModelEntry};
use freehold_wire::agent::Effort;
use freehold_wire::list::ListModels;
use freehold_wire::models::{Lifecycle, ModelInfo, ModelTag};
use freehold_wire::{ApiError, IdPage, ModelFacts, Models};

use super::query::Asked;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Reply, json};

/// Ids named in the message about one that is not configured.
const NAMED: usize = 10;

/// The models of this installation, as agents see them.
pub(super) struct Configured<'a>(pub(super) &'a Catalog);

impl Models for Configured<'_> {
    fn facts(&self, id: &str) -> Result<ModelFacts, ApiError> {
        let Some(entry) = self.0.resolve(id) else {
            return Err(unmapped(self.0, id));
        };
        Ok(ModelFacts {
            default_effort: Effort::High,
            effort: entry.supports.effort,
            fast: false,
            priced: entry.price.is_some(),
        })
    }
}

fn unmapped(catalog: &Catalog, id: &str) -> ApiError {
    let id: String = id.chars().take(80).flat_map(char::escape_debug).collect();
    let known = catalog.list();
    let mut names: Vec<_> = known
        .iter()
        .take(NAMED)
        .map(|m| format!("`{}`", m.id))
        .collect();
    if known.len() > NAMED {
        names.push("…".into());
    }
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    ApiError::invalid(format!(
        "model: `{id}` is not configured on this server (configured: {names}). Map it with a \
         [[models]] entry in the server's configuration, or start the server with --model-url to \
         send every other model id to one Messages API."
    ))
}

/// `GET /v1/models`
pub(crate) async fn list(State(app): State<Arc<App>>, _: Caller, Asked(query): Asked) -> Reply {
    let asked = ListModels::read(&query)?;
    // Configured models have no end of life: all are active.
    let all = match asked.lifecycle.contains(&Lifecycle::Active) {
        true => app.models.list(),
        false => Vec::new(),
    };
    let place = |key: &str, id: &str| {
        let unknown = || ApiError::invalid(format!("{key}: no such model in this list"));
        all.iter().position(|m| m.id == id).ok_or_else(unknown)
    };
    let (page, has_more) = match (&asked.after_id, &asked.before_id) {
        (Some(id), _) => {
            let rest = &all[place("after_id", id)? + 1..];
            (
                &rest[..rest.len().min(asked.limit)],
                rest.len() > asked.limit,
            )
        }
        (None, Some(id)) => {
            let rest = &all[..place("before_id", id)?];
            let start = rest.len().saturating_sub(asked.limit);
            (&rest[start..], start > 0)
        }
        (None, None) => (&all[..all.len().min(asked.limit)], all.len() > asked.limit),
    };
    let data: Vec<_> = page.iter().map(|m| info(m)).collect();
    json(&IdPage {
        has_more,
        first_id: data.first().map(|m| m.id.clone()),
        last_id: data.last().map(|m| m.id.clone()),
        data,
    })
}

/// `GET /v1/models/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(id): Path<String>,
) -> Reply {
    let entry = app
        .models
        .resolve(&id)
        .ok_or_else(|| ApiError::not_found("Model", &id))?;
    json(&info(&entry))
}

fn info(entry: &ModelEntry) -> ModelInfo {
    ModelInfo {
        id: entry.id.clone(),
        r#type: ModelTag::Model,
        display_name: entry.display_name.clone(),
        created_at: entry.created_at,
        lifecycle: Lifecycle::Active,
        line: None,
        max_input_tokens: Some(entry.context_window),
        max_tokens: Some(entry.max_output_tokens),
        deprecated_at: None,
        retires_at: None,
        capabilities: None,
        allowed_fallback_models: None,
    }
}
