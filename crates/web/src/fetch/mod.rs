//! `web_fetch`: a page as text, an image or a PDF as a block.

mod charset;
mod content;
mod html;
mod request;

use std::time::Duration;

use freehold_wire::content::{Base64Source, ContentBlock, DocumentBlock, ImageBlock, Source};
use serde_json::value::RawValue;

use crate::client::Clients;
use crate::failure::{Code, Failure, Result};
use crate::{AddressPolicy, Reply, Rules, input};
use content::Content;

/// Time for a page with all its redirects.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Characters of a token, about.
const CHARS_PER_TOKEN: u64 = 4;
/// Most text of a page, characters, also where rules set more.
const MAX_TEXT: usize = 400_000;

/// The `web_fetch` tool. One serves all sessions.
#[derive(Debug)]
pub struct Fetcher {
    clients: Clients,
    time: Duration,
}

impl Fetcher {
    /// A tool that connects only where `policy` permits.
    pub fn new(policy: AddressPolicy) -> Self {
        Self {
            clients: Clients::new(policy),
            time: MAX_TIME,
        }
    }

    /// The same with another limit on the time of a call instead of 30 s.
    #[must_use]
    pub fn with_time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Runs a call with the input `{"url"}`. Follows at most five redirects, each checked like the
    /// first URL. Dropping the future ends the connection.
    pub async fn call(&self, input: &RawValue, rules: &Rules) -> Reply {
        let done = match tokio::time::timeout(self.time, self.fetch(input, rules)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::new(
                Code::UrlNotAccessible,
                format!("the page took more than {:?}", self.time),
            )),
        };
        done.unwrap_or_else(Reply::from)
    }

    async fn fetch(&self, input: &RawValue, rules: &Rules) -> Result<Reply> {
        let input::Fetch { url } = input::parse("web_fetch", input)?;
        let page = request::get(&self.clients, &url, rules).await?;
        tracing::debug!(bytes = page.body.len(), cut = page.is_cut, "page fetched");
        let most = rules.max_content_tokens.map_or(MAX_TEXT, |tokens| {
            usize::try_from(tokens.saturating_mul(CHARS_PER_TOKEN)).unwrap_or(MAX_TEXT)
        });
        let most = most.min(MAX_TEXT);
        let url = page.url.clone();
        // Up to megabytes of markup: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || content::read(page, most)).await;
        let content = read.map_err(|_| {
            Failure::new(Code::Unavailable, "the page could not be turned into text")
        })??;
        Ok(reply(&url, content))
    }
}

fn reply(url: &url::Url, content: Content) -> Reply {
    match content {
        Content::Text {
            title,
            text,
            is_cut,
        } => {
            let mut whole = format!("URL: {url}\n");
            if let Some(title) = title {
                whole.push_str(&format!("Title: {title}\n"));
            }
            whole.push('\n');
            whole.push_str(if text.is_empty() {
                "(the page has no text)"
            } else {
                &text
            });
            if is_cut {
                whole.push_str("\n\n[content truncated]");
            }
            Reply::text(whole)
        }
        Content::Image { media_type, data } => {
            let source = Source::Base64(Base64Source {
                media_type: media_type.to_owned(),
                data,
            });
            blocks(url, ContentBlock::Image(ImageBlock { source }))
        }
        Content::Pdf { data } => {
            let media_type = "application/pdf".to_owned();
            let source = Source::Base64(Base64Source { media_type, data });
            let block = DocumentBlock {
                source,
                title: None,
                context: None,
            };
            blocks(url, ContentBlock::Document(block))
        }
    }
}

fn blocks(url: &url::Url, block: ContentBlock) -> Reply {
    Reply {
        content: vec![ContentBlock::text(format!("URL: {url}")), block],
        is_error: false,
    }
}
