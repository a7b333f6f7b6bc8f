//! The tools that run on the server: `web_fetch` and `web_search` (contract 55 §12, contract 10).
//! What they are asked for comes from a model, what they find from anyone: where they may connect is
//! decided on resolved addresses ([`AddressPolicy`]), on which domains by the agent's [`Rules`].

mod client;
mod failure;
pub mod fetch;
mod input;

mod rules;
pub mod search;

use freehold_wire::content::ContentBlock;

pub use fetch::Fetcher;
pub use freehold_base::net::AddressPolicy;
pub use rules::Rules;
pub use search::{SearchProvider, Searxng};

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// At least one block: text, and from `web_fetch` also one image or PDF.
    pub content: Vec<ContentBlock>,
    /// Whether the tool failed; the text then begins with a code such as `url_not_allowed`.
    pub is_error: bool,
}

impl Reply {
    fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![ContentBlock::text(text)],
            is_error: false,
        }
    }
}

impl From<failure::Failure> for Reply {
    fn from(failure: failure::Failure) -> Self {
        Self {
            content: vec![ContentBlock::text(failure.to_string())],
            is_error: true,
        }
    }
}
