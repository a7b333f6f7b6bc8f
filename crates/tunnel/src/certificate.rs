//! Which certificates a tunnel trusts (contract 60 §4): rules for an authority when it is registered,
//! and for the certificate a gateway shows, at every handshake. `rules` is what both have in common.

pub mod authority;
mod rules;
pub mod verifier;

pub use authority::{Authority, Refusal};
