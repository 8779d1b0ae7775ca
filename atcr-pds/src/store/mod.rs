//! Where repos are kept.

mod model;
mod repo_store;
mod sqlite;

pub use model::{
    BlobRow, NewHead, RecordChange, RecordRange, RepoChange, RepoId, RepoInfo, RepoStatus, StoredBlock,
    StoredRecord,
};
pub use repo_store::{RepoStore, Snapshot, StoreError, StoreWrite};
pub use sqlite::SqliteStore;
