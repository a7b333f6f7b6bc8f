//! The gateway: sits in the private network, keeps connections to the edge open, ends the inner TLS
//! with the customer's key, and forwards each request to the server that its host names.

mod audit;
pub mod certificate;
pub mod config;
pub mod files;
pub mod limits;
pub mod proxy;
pub mod run;
pub mod setup;
pub mod status;
pub mod upstream;

pub use config::{Config, ConfigError};
pub use limits::Limits;
pub use run::{Gateway, Start};
pub use status::Status;
