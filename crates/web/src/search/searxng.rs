//! SearXNG's JSON interface.

use std::sync::OnceLock;

use async_trait::async_trait;
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use super::{Hit, Query, SearchError, SearchProvider};
use crate::client;

/// Largest answer, bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Most domains that are spelled out in a query; engines cut longer ones.
const MAX_SITES: usize = 8;

/// A SearXNG instance. Its address is the operator's choice and may be a private one; the format
/// `json` must be enabled in its settings.
#[derive(Debug)]
pub struct Searxng {
    endpoint: Url,
    client: OnceLock<Client>,
}

impl Searxng {
    /// The instance at `base`, with or without a slash at its end; http or https.
    pub fn new(base: &Url) -> Self {
        let mut endpoint = base.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let path = format!("{}/search", base.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        Self {
            endpoint,
            client: OnceLock::new(),
        }
    }

    /// The client, made when first needed: that reads the system's certificates.
    fn client(&self) -> Result<&Client, SearchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = client::builder()
            .build()
            .map_err(|_| SearchError::NoClient)?;
        Ok(self.client.get_or_init(|| client))
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Found>,
}

/// One result; what else it carries does not matter.
#[derive(Deserialize)]
struct Found {
    url: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    content: Option<String>,
}

#[async_trait]
impl SearchProvider for Searxng {
    async fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>, SearchError> {
        let unreachable = |error: reqwest::Error| SearchError::Unreachable(error.without_url());
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("q", &words(query))
            .append_pair("format", "json");
        let mut response = self.client()?.get(url).send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(SearchError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER {
                return Err(SearchError::Answer(format!("more than {MAX_ANSWER} bytes")));
            }
        }
        let answer: Answer = serde_json::from_slice(&body)
            // Where it went wrong, not what is there.
            .map_err(|e| {
                SearchError::Answer(format!("line {}, column {}", e.line(), e.column()))
            })?;
        let hits = answer.results.into_iter().filter_map(|found| {
            Some(Hit {
                url: Url::parse(&found.url).ok()?,
                title: found.title.unwrap_or_default(),
                extract: found.content.unwrap_or_default(),
            })
        });
        Ok(hits.collect())
    }
}

/// The query with the allowed domains in the words that search engines know.
fn words(query: &Query<'_>) -> String {
    match query.allowed_domains {
        Some(domains) if (1..=MAX_SITES).contains(&domains.len()) => {
            let sites: Vec<_> = domains
                .iter()
                .map(|d| format!("site:{}", d.trim_end_matches('/')))
                .collect();
            format!("{} {}", query.text, sites.join(" OR "))
        }
        _ => query.text.to_owned(),
    }
}
