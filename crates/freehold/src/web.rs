//! The web tools, which run in the server whatever the environment.

use freehold_runtime::{ToolCall, ToolReply};
use freehold_web::{AddressPolicy, Fetcher, Reply, Rules, Searxng, search};
use freehold_wire::tool::BuiltinTool;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::Settings;
use crate::exit::Failure;

/// What a call that was stopped says (contract 40, "Interrupt").
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";

/// The web tools of this process.
pub(crate) struct Web {
    fetcher: Fetcher,
    search: Option<Searxng>,
}

impl Web {
    /// Fetches from public addresses only; searches where the operator said.
    ///
    /// # Errors
    /// The search URL cannot be used.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let search = settings.search_url.as_deref().map(search_url).transpose()?;
        Ok(Self {
            fetcher: Fetcher::new(AddressPolicy::public_only()),
            search: search.as_ref().map(Searxng::new),
        })
    }

    /// Why a tool cannot be offered, if so.
    pub(crate) fn unavailable(&self, tool: BuiltinTool) -> Option<String> {
        let missing = tool == BuiltinTool::WebSearch && self.search.is_none();
        missing.then(|| "not configured (--search-url)".to_owned())
    }

    /// Runs a call; `None` if it is of no web tool.
    pub(crate) async fn call(
        &self,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Option<ToolReply> {
        let rules = call.config.as_ref().map(Rules::from).unwrap_or_default();
        let work = async {
            match (call.tool, &self.search) {
                (BuiltinTool::WebFetch, _) => Some(self.fetcher.call(&call.input, &rules).await),
                (BuiltinTool::WebSearch, Some(provider)) => {
                    Some(search::call(provider, &call.input, &rules).await)
                }
                _ => None,
            }
        };
        if !call.tool.is_server_side() {
            return None;
        }
        let reply: Option<Reply> = tokio::select! {
            reply = work => reply,
            () = cancel.cancelled() => return Some(ToolReply::error(INTERRUPTED)),
        };
        Some(match reply {
            Some(reply) => ToolReply {
                content: reply.content,
                is_error: reply.is_error,
            },
            None => ToolReply::error("web_search is not available on this server."),
        })
    }
}

fn search_url(text: &str) -> Result<Url, Failure> {
    let wrong = |why: String| Failure::usage(format!("web.search_url: {why}"));
    let url = Url::parse(text).map_err(|e| wrong(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with http:// or https://".to_owned()));
    }
    Ok(url)
}
