//! Answers from the index, and what is done when it has none.

mod finding;
mod identities;
mod known;
mod manifest_store;
mod writing;

pub use identities::indexed_identities;
pub use manifest_store::IndexedManifestStore;

pub(super) use known::Known;
