//! Whether the endpoints a server would call answer. Models and search are sent nothing but a GET of
//! their base URL: no key, no content, no cost.

use std::time::Duration;

use freehold_base::{IdSource, chain};

use super::super::serve::probed;
use super::{Check, Level};
use crate::config::{self, Settings};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Each model endpoint, and its key.
pub(super) async fn models(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    for provider in &settings.catalog.providers {
        checks.push(reach(&format!("model {}", provider.name), &provider.base_url).await);
    }
    if let Err(failure) = config::provider_keys(settings) {
        checks.push(Check::new("model keys", Level::Problem, failure.message));
    }
    if let Some(url) = &settings.model_url {
        checks.push(reach("model-url", url).await);
        match config::model_key(settings) {
            Ok(Some(_)) => {}
            Ok(None) => checks.push(
                Check::new("model key", Level::Warning, "FREEHOLD_MODEL_KEY is not set")
                    .remedy("set it, if the endpoint wants a key"),
            ),
            Err(failure) => {
                checks.push(Check::new("model key", Level::Problem, failure.message));
            }
        }
    }
    if checks.is_empty() {
        let only = if settings.catalog.rehearsal.enabled {
            "only the built-in rehearsal model, which is no language model"
        } else {
            "none"
        };
        checks.push(
            Check::new("models", Level::Warning, only)
                .remedy("set --model-url and FREEHOLD_MODEL_KEY, or providers in a --config file"),
        );
    }
    checks
}

/// The object storage, if there is any: writes, reads, lists and deletes a small object.
pub(super) async fn storage(settings: &Settings) -> Option<Check> {
    let place = settings.storage.as_ref()?;
    Some(match probed(settings, &IdSource::system()).await {
        Ok(_) => Check::new("object storage", Level::Ok, format!("{} works", place.url)),
        Err(failure) => {
            let check = Check::new("object storage", Level::Problem, failure.message);
            match failure.hint {
                Some(hint) => check.remedy(hint),
                None => check,
            }
        }
    })
}

/// The search endpoint.
pub(super) async fn search(settings: &Settings) -> Vec<Check> {
    match &settings.search_url {
        Some(url) => vec![reach("web search", url).await],
        None => vec![
            Check::new(
                "web search",
                Level::Warning,
                "not configured; the tool is unavailable",
            )
            .remedy("set --search-url to a SearXNG instance"),
        ],
    }
}

async fn reach(name: &str, url: &str) -> Check {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build();
    let answer = match client {
        Ok(client) => client.get(url).send().await,
        Err(error) => Err(error),
    };
    match answer {
        // Any answer will do: a base URL is seldom a page.
        Ok(_) => Check::new(name, Level::Ok, format!("{url} answers")),
        Err(error) => {
            let why = chain(&error.without_url());
            Check::new(
                name,
                Level::Problem,
                format!("{url} does not answer: {why}"),
            )
            .remedy("is the URL right, and may this host connect to it?")
        }
    }
}
