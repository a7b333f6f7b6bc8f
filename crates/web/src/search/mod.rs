//! `web_search`: titles, addresses and extracts from a search provider that the operator configures.

mod searxng;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use url::Url;

use crate::failure::{Code, Failure, Result};
use crate::{Reply, Rules, input};

pub use searxng::Searxng;

/// Time for a search.
const MAX_TIME: Duration = Duration::from_secs(20);
/// Longest query, characters.
const MAX_QUERY: usize = 1_000;
/// Most results that are told.
const MAX_RESULTS: usize = 10;
/// Longest title, characters.
const MAX_TITLE: usize = 300;
/// Longest extract, characters.
const MAX_EXTRACT: usize = 1_000;
/// Longest address, bytes; results with longer ones are left out.
const MAX_URL: usize = 2_048;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// The model's words, at most 1,000 characters.
    pub text: &'a str,
    /// If set, results elsewhere will be dropped: a provider that can should look only there.
    pub allowed_domains: Option<&'a [String]>,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub url: Url,
    /// Its title; may be empty.
    pub title: String,
    /// A passage; may be empty.
    pub extract: String,
}

/// A search failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The provider could not be reached or broke off.
    #[error("the search provider could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered, but not with results.
    #[error("the search provider answered with status {0}")]
    Status(u16),
    /// Its answer makes no sense or is too large.
    #[error("the search provider's answer could not be read: {0}")]
    Answer(String),
    /// No HTTP client could be made.
    #[error("the server cannot make outgoing connections")]
    NoClient,
}

/// Where results come from.
#[async_trait]
pub trait SearchProvider: Send + Sync {
    /// Searches. May give more results than are wanted, or results from elsewhere; both are dropped.
    ///
    /// # Errors
    /// See [`SearchError`].
    async fn search(&self, query: &Query<'_>) -> std::result::Result<Vec<Hit>, SearchError>;
}

/// Runs a `web_search` call with the input `{"query"}`.
pub async fn call(provider: &dyn SearchProvider, input: &RawValue, rules: &Rules) -> Reply {
    run(provider, input, rules)
        .await
        .unwrap_or_else(Reply::from)
}

async fn run(provider: &dyn SearchProvider, input: &RawValue, rules: &Rules) -> Result<Reply> {
    let input::Search { query } = input::parse("web_search", input)?;
    let query = query.trim();
    if query.is_empty() || query.chars().count() > MAX_QUERY {
        let detail = format!("the query must have 1 to {MAX_QUERY} characters");
        return Err(Failure::new(Code::InvalidToolInput, detail));
    }
    let query = Query {
        text: query,
        allowed_domains: rules.allowed_domains.as_deref(),
    };
    let found = match tokio::time::timeout(MAX_TIME, provider.search(&query)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "web_search failed");
            return Err(Failure::new(Code::Unavailable, error.to_string()));
        }
        Err(_) => {
            let detail = format!("the search took more than {} s", MAX_TIME.as_secs());
            return Err(Failure::new(Code::Unavailable, detail));
        }
    };
    let kept = found.into_iter().filter(|hit| {
        let is_web = matches!(hit.url.scheme(), "http" | "https");
        is_web && hit.url.as_str().len() <= MAX_URL && rules.permit(&hit.url)
    });
    let told: Vec<_> = kept.take(MAX_RESULTS).enumerate().map(tell).collect();
    tracing::debug!(results = told.len(), "web_search done");
    Ok(Reply::text(if told.is_empty() {
        "no results".to_owned()
    } else {
        told.join("\n\n")
    }))
}

fn tell((index, hit): (usize, Hit)) -> String {
    let title = line(&hit.title, MAX_TITLE);
    let title = if title.is_empty() {
        "(no title)"
    } else {
        &title
    };
    let extract = line(&hit.extract, MAX_EXTRACT);
    let mut told = format!("{}. {title}\n{}", index + 1, hit.url);
    if !extract.is_empty() {
        told.push('\n');
        told.push_str(&extract);
    }
    told
}

/// `text` on one line, at most `most` characters: a result cannot pass itself off as several.
fn line(text: &str, most: usize) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(most)
        .collect()
}
