//! Archives as strangers send them.

mod common;
mod hostile;
mod ordinary;
