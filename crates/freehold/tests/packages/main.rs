//! Packages of environments, installed by real package managers from an index of the tests' own.

mod index;
mod installed;
#[path = "../ordinary/mod.rs"]
mod ordinary;
mod refused;
mod world;
