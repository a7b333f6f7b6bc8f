//! What a workspace knows of MCP servers' tools; needs an admin key.

use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

const SERVERS: [&str; 4] = ["v1", "freehold", "mcp", "servers"];

impl Client {
    /// `GET /v1/freehold/mcp/servers`, oldest first.
    pub fn mcp_servers(&self) -> Pages<Value> {
        Pages::new(self, &SERVERS, &[("limit", "100")])
    }

    /// `GET /v1/freehold/mcp/servers?url=…`: the server with this URL, if it is known.
    pub fn mcp_servers_at(&self, url: &str) -> Pages<Value> {
        Pages::new(self, &SERVERS, &[("url", url)])
    }

    /// `POST …/servers/{id}/pin` or `…/unpin`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pin_mcp_server(&self, id: &str, pinned: bool) -> Result<Value, ClientError> {
        let act = if pinned { "pin" } else { "unpin" };
        self.act(&at(id, &[act])).await
    }

    /// `POST …/servers/{id}/policy`: calls of these classes of tools must be confirmed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_mcp_policy(&self, id: &str, confirm: &[&str]) -> Result<Value, ClientError> {
        let body = json!({ "confirm_classes": confirm });
        self.post(&at(id, &["policy"]), &body).await
    }

    /// `GET …/servers/{id}/diff`, of one tool or of all that wait for a decision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn mcp_diff(&self, id: &str, tool: Option<&str>) -> Result<Value, ClientError> {
        let query: Vec<_> = tool.map(|tool| ("tool", tool)).into_iter().collect();
        self.get(&at(id, &["diff"]), &query).await
    }

    /// `GET …/servers/{id}/tools`, in the order of their names.
    pub fn mcp_tools(&self, id: &str) -> Pages<Value> {
        Pages::new(self, &at(id, &["tools"]), &[("limit", "100")])
    }

    /// `GET …/servers/{id}/tools/{name}`, with every definition that is kept.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn mcp_tool(&self, id: &str, name: &str) -> Result<Value, ClientError> {
        self.get(&at(id, &["tools", name]), &[]).await
    }

    /// `POST …/tools/{name}/approve` or `…/refuse`: of the definition with this fingerprint.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn decide_mcp_tool(
        &self,
        id: &str,
        name: &str,
        fingerprint: &str,
        approve: bool,
    ) -> Result<Value, ClientError> {
        let act = if approve { "approve" } else { "refuse" };
        let body = json!({ "fingerprint": fingerprint });
        self.post(&at(id, &["tools", name, act]), &body).await
    }

    /// `POST …/tools/{name}/deprecate`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deprecate_mcp_tool(&self, id: &str, name: &str) -> Result<Value, ClientError> {
        self.act(&at(id, &["tools", name, "deprecate"])).await
    }

    /// `POST …/tools/{name}/class`; `None` goes back to what the definition claims.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_mcp_class(
        &self,
        id: &str,
        name: &str,
        class: Option<&str>,
    ) -> Result<Value, ClientError> {
        let body = json!({ "class": class });
        self.post(&at(id, &["tools", name, "class"]), &body).await
    }

    /// `GET /v1/freehold/mcp/audit`, newest first; `narrow` are `server_url`, `tool`, `action` and
    /// `outcome`.
    pub fn mcp_audit(&self, narrow: &[(&str, &str)]) -> Pages<Value> {
        Pages::new(self, &["v1", "freehold", "mcp", "audit"], narrow)
    }
}

fn at<'a>(id: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    SERVERS.iter().chain([&id]).chain(rest).copied().collect()
}
