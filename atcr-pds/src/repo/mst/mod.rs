//! The Merkle search tree (specification, Repository, "MST Structure"). Nothing in here does I/O.

mod error;

pub use error::MstError;
