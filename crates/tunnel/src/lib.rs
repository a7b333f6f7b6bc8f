//! MCP tunnels (contract 60): an outbound-only way from the server to MCP servers in a private
//! network. The **edge** takes connections from gateways and opens streams over them; the
//! **gateway** sits in the private network, ends the inner TLS with the customer's key and forwards
//! to the servers. The edge carries bytes it cannot read.

pub mod certificate;
pub mod edge;
pub mod gateway;
pub mod transport;
