//! The client against a scripted server on loopback.

mod fake;
mod requests;
mod streams;
