//! Packages of environments, installed by real package managers from an index of the tests' own.

mod index;
mod installed;
mod refused;
mod world;
