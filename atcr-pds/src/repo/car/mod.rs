//! CAR files, version 1: a header that names the roots, then sections of a CID and its block
//! (specification, Repository, "CAR File Serialization").
//!
//! A reader takes blocks in any order, duplicates, and blocks that nothing refers to. It never believes a length: what
//! a section promises is checked against a limit before anything is read, and memory grows only with bytes that came.

mod error;
mod read;
mod slice;
mod write;

pub use error::CarError;
pub use read::{CarLimits, CarReader};
pub use slice::{CarSlice, read_slice};
pub use write::{encode, header, section, stream};
