//! Pages and walking through them (contract 00 §6).

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::ClientError;

/// One page.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Cursor of the next page.
    #[serde(default = "none")]
    pub next_page: Option<String>,
}

fn none() -> Option<String> {
    None
}

/// Walks through all pages of a list, fetching each when it is needed.
pub struct Pages<T> {
    client: Client,
    path: Vec<String>,
    query: Vec<(String, String)>,
    ready: VecDeque<T>,
    next: Next,
}

enum Next {
    First,
    Page(String),
    End,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(crate) fn new(client: &Client, path: &[&str], query: &[(&str, &str)]) -> Self {
        Self {
            client: client.clone(),
            path: path.iter().map(|&s| s.to_owned()).collect(),
            query: query
                .iter()
                .map(|&(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            ready: VecDeque::new(),
            next: Next::First,
        }
    }

    /// The next item; `None` after the last.
    ///
    /// # Errors
    /// See [`ClientError`]. After an error the same page is asked for again.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            let mut query: Vec<(&str, &str)> = self
                .query
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            match &self.next {
                Next::First => {}
                Next::Page(cursor) => query.push(("page", cursor)),
                Next::End => return Ok(None),
            }
            let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
            let page: Page<T> = self.client.get(&path, &query).await?;
            self.ready = page.data.into();
            self.next = match page.next_page.filter(|c| !c.is_empty()) {
                Some(cursor) => Next::Page(cursor),
                None => Next::End,
            };
        }
    }

    /// The next `max` items at most.
    ///
    /// # Errors
    /// See [`Pages::next`].
    pub async fn take(&mut self, max: usize) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        while items.len() < max {
            match self.next().await? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        Ok(items)
    }
}
