//! CAR files, version 1: a header that names the roots, then blocks.

mod error;

pub use error::CarError;
