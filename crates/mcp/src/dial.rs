//! Where connections to MCP servers, and to whatever they point at, come from. One seam for all of
//! it: directly, with the address policy, or through a tunnel. The binary decides which.

use std::fmt;

use async_trait::async_trait;
use freehold_base::WorkspaceId;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream that HTTP/1.1 is spoken on, already encrypted if the URL said so.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// An open connection. Whoever made it may close it at any time: a tunnel does when what it trusts
/// has changed.
pub type Connection = Box<dyn Stream>;

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// On whose behalf: tunnels belong to a workspace, and connections are never shared between two.
    pub workspace: WorkspaceId,
    /// `https`; otherwise plain `http`.
    pub tls: bool,
    /// Host of the URL, lower case, without trailing dot; an IPv6 address without brackets.
    pub host: String,
    /// Port of the URL, or the scheme's.
    pub port: u16,
}

/// Opens connections.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens one, within ten seconds.
    async fn dial(&self, to: &Destination) -> Result<Connection, DialError>;
}

/// Why there is no connection. The text is for clients: it names no address that was looked up, and
/// does not tell another workspace's tunnel from one that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialError(pub String);

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for DialError {}
