//! What the measurements share.

pub(crate) mod api;
pub(crate) mod closed_loop;
pub(crate) mod connection;
pub(crate) mod disk;
pub(crate) mod plain;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod stream;
pub(crate) mod turn;
pub(crate) mod upstream;
