//! Which tools of an MCP server may be offered and called. The rules are `mcp::catalogue::Standing`;
//! here they meet what the store remembers.

use std::collections::HashSet;

use freehold_base::WorkspaceId;
use freehold_mcp::catalogue::{Fingerprint, Standing, ToolClass, ToolState, Why, claimed};
use freehold_mcp::{Connector, Endpoint, Listing, McpError, ToolDefinition};
use freehold_store::{McpServerRow, McpToolRow, ObserveError, SeenTool, Store, StoreError};
use freehold_wire::credential::normalise;
use serde_json::{Map, Value};

use super::audit::{AuditLog, Entry};

/// The catalogue. Cheap to clone. Everything is of one workspace, and keyed by the server's
/// normalised URL, whatever credential it was asked with.
#[derive(Clone)]
pub struct Catalogue {
    pub(super) store: Store,
    pub(super) audit: AuditLog,
}

/// A listed tool, and what may be done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// As the server listed it.
    pub definition: ToolDefinition,
    /// To be kept with what the model is shown, for [`Catalogue::check`].
    pub fingerprint: Fingerprint,
    /// What policies go by.
    pub class: ToolClass,
    /// Where it stands.
    pub state: ToolState,
    /// Whether a model may see it.
    pub offered: bool,
    /// Whether each call must be confirmed, whatever the agent's own policy says.
    pub ask: bool,
}

/// Whether a call may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Go {
        /// What policies go by.
        class: ToolClass,
        /// It must have been confirmed.
        ask: bool,
    },
    /// It may not. [`Why::text`] is for the model.
    Stop(Why),
}

/// Nothing may be offered or called: the catalogue fails closed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The list is not taken in.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What is stored does not hold together: somebody edited it, or it is damaged.
    #[error("the stored record of the MCP tool `{0}` is damaged")]
    Damaged(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Catalogue {
    /// The catalogue in a store; decisions and refusals go to `audit`.
    pub fn new(store: Store, audit: AuditLog) -> Self {
        Self { store, audit }
    }

    /// Where decisions and requests are recorded.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The server's tools now, judged. Never from the cache: a list kept for one credential would
    /// bring back what a newer list, asked for with another, has replaced.
    ///
    /// # Errors
    /// The server gave none, or they cannot be recorded; then none may be offered.
    pub async fn list(
        &self,
        connector: &Connector,
        from: &Endpoint,
    ) -> Result<Vec<Judged>, McpError> {
        let listing = connector.refresh(from).await?;
        let judged = self.observe(&from.workspace, &from.url, &listing).await;
        judged.map_err(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(owner = from.owner, error, "MCP tools not recorded");
            McpError::Connection("the server's tools cannot be recorded".to_owned())
        })
    }

    /// Takes in what a server lists, and judges it. To be called with each list, cached or not:
    /// what an operator decided meanwhile counts at once. In the order of the list; tools whose
    /// definitions cannot be fingerprinted, and a name's second definition, are left out.
    ///
    /// # Errors
    /// See [`CatalogueError`]: then none of the server's tools may be offered.
    pub async fn observe(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        listing: &Listing,
    ) -> Result<Vec<Judged>, CatalogueError> {
        let mut names = HashSet::new();
        let listed = listing.tools.iter().filter_map(|definition| {
            let fingerprint = Fingerprint::of(definition).ok()?;
            let first = names.insert(definition.name.as_str());
            first.then_some((definition, fingerprint))
        });
        let listed: Vec<_> = listed.collect();
        let seen = listed.iter().map(|(definition, fingerprint)| {
            Ok(SeenTool {
                name: definition.name.clone(),
                fingerprint: fingerprint.to_string(),
                definition: serde_json::to_string(definition)
                    .map_err(|_| CatalogueError::Damaged(definition.name.clone()))?,
                claimed: claimed(definition),
            })
        });
        let seen = seen.collect::<Result<Vec<_>, CatalogueError>>()?;
        let url = normalise(url);
        let observed = self.store.observe_mcp_server(workspace, &url, seen);
        let (server, tools) = observed.await?;
        let judged = listed.into_iter().map(|(definition, fingerprint)| {
            let found = tools.binary_search_by(|row| row.name.cmp(&definition.name));
            let damaged = || CatalogueError::Damaged(definition.name.clone());
            let row = tools
                .get(found.map_err(|_| damaged())?)
                .ok_or_else(damaged)?;
            let standing = standing(&server, row)?;
            // Another list may have come in between.
            let offered = standing.objection(&fingerprint).is_none();
            Ok(Judged {
                definition: definition.clone(),
                class: standing.effective_class(),
                state: standing.state(),
                offered,
                ask: standing.ask(),
                fingerprint,
            })
        });
        judged.collect()
    }

    /// Whether the tool may be called with the definition that the model was `shown`. To be asked
    /// when the call goes out, however long ago it was shown or confirmed. A refusal is recorded,
    /// for `owner`.
    ///
    /// # Errors
    /// See [`CatalogueError`]: then the call must not go out.
    pub async fn check(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        owner: &str,
        tool: &str,
        shown: &Fingerprint,
    ) -> Result<Verdict, CatalogueError> {
        let server = normalise(url);
        let found = self.store.mcp_tool_at(workspace, &server, tool).await?;
        let verdict = match found {
            None => Verdict::Stop(Why::Unknown),
            Some((server, row)) => {
                let standing = standing(&server, &row)?;
                match standing.objection(shown) {
                    Some(why) => Verdict::Stop(why),
                    None => Verdict::Go {
                        class: standing.effective_class(),
                        ask: standing.ask(),
                    },
                }
            }
        };
        if let Verdict::Stop(why) = verdict {
            let mut body = Map::new();
            body.insert("owner".into(), owner.into());
            body.insert("fingerprint".into(), shown.as_str().into());
            self.note(workspace, url, "tools/call", Some(tool), why.as_str(), body);
        }
        Ok(verdict)
    }

    /// Records that somebody allowed or denied one call. `binding` is `mcp::catalogue::binding` of
    /// the call.
    pub fn confirmed(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        owner: &str,
        tool: &str,
        binding: &str,
        allowed: bool,
    ) {
        let mut body = Map::new();
        body.insert("owner".into(), owner.into());
        body.insert("binding".into(), binding.into());
        let outcome = if allowed { "allowed" } else { "denied" };
        self.note(workspace, url, "confirm", Some(tool), outcome, body);
    }

    pub(super) fn note(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        action: &str,
        tool: Option<&str>,
        outcome: &str,
        body: Map<String, Value>,
    ) {
        self.audit.record(Entry {
            workspace: workspace.clone(),
            at: None,
            server: url.to_owned(),
            action: action.to_owned(),
            tool: tool.map(str::to_owned),
            outcome: outcome.to_owned(),
            body,
        });
    }
}

/// What the rules need, from what is stored.
pub(super) fn standing(
    server: &McpServerRow,
    tool: &McpToolRow,
) -> Result<Standing, CatalogueError> {
    let parse = |text: &String| {
        let parsed = text.parse::<Fingerprint>();
        parsed.map_err(|_| CatalogueError::Damaged(tool.name.clone()))
    };
    if tool.current.is_some() && tool.claimed.is_none() {
        // What is served is not among the definitions that were seen.
        return Err(CatalogueError::Damaged(tool.name.clone()));
    }
    Ok(Standing {
        pinned: server.pinned,
        confirm: server.confirm.clone(),
        current: tool.current.as_ref().map(parse).transpose()?,
        approved: tool.approved.as_ref().map(parse).transpose()?,
        refused: tool.refused.iter().map(parse).collect::<Result<_, _>>()?,
        was_different: 1 < tool.versions,
        deprecated: tool.deprecated,
        claimed: tool.claimed.unwrap_or(ToolClass::Write),
        class: tool.class,
    })
}
