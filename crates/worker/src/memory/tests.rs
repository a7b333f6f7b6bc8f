//! The engine between a store and a folder that are both in memory.

mod fakes;
mod passes;
mod rules;
