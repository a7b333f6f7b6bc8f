//! From a page to what a model reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::request::{Kind, Page};
use super::{charset, html};
use crate::failure::{Code, Failure, Result};

/// Longest title, characters.
const MAX_TITLE: usize = 300;

/// A page as the model sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text {
        title: Option<String>,
        text: String,
        is_cut: bool,
    },
    Image {
        media_type: &'static str,
        data: String,
    },
    Pdf {
        data: String,
    },
}

/// Reads a page; at most `most` characters of text.
pub(super) fn read(page: Page, most: usize) -> Result<Content> {
    let decoded = |is_html| charset::decode(&page.body, page.charset.as_deref(), is_html);
    match page.kind {
        Kind::Image(media_type) => Ok(Content::Image {
            media_type,
            data: STANDARD.encode(&page.body),
        }),
        Kind::Pdf => Ok(Content::Pdf {
            data: STANDARD.encode(&page.body),
        }),
        Kind::Unknown if page.body.contains(&0) => Err(Failure::new(
            Code::UnsupportedContentType,
            "the page is of unknown type and not text",
        )),
        Kind::Html => {
            let html::Text {
                title,
                text,
                is_cut,
            } = html::text(&decoded(true), &page.url, most);
            let title = title.map(|title| cut(title, MAX_TITLE).0);
            let (text, is_long) = cut(text, most);
            Ok(Content::Text {
                title,
                text,
                is_cut: is_cut || is_long || page.is_cut,
            })
        }
        Kind::Text | Kind::Unknown => {
            let (text, is_long) = cut(decoded(false), most);
            Ok(Content::Text {
                title: None,
                text,
                is_cut: is_long || page.is_cut,
            })
        }
    }
}

/// The first `most` characters, and whether there were more.
fn cut(mut text: String, most: usize) -> (String, bool) {
    let end = text.char_indices().nth(most).map(|(at, _)| at);
    if let Some(end) = end {
        text.truncate(end);
    }
    (text, end.is_some())
}
