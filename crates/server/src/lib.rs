//! The HTTP API. Start at [`router`] for the list of endpoints; each `routes` file holds the
//! endpoints of one noun, under the name that noun has in `wire` and `store`. `http` is what lies
//! around them: the outer layer, bodies, replies, event streams and the accept loop.

pub mod app;
mod auth;
pub mod credential;
mod http;
mod routes;
pub mod tunnels;

pub use app::{About, App, Parts};
pub use http::serve::serve;
pub use routes::router;
pub use tunnels::{DEFAULT_DOMAIN, StoreDirectory, Tunnels};
