use std::sync::Arc;

use atcr_core::syntax::{Did, SyntaxError};
use ipld_core::cid::Cid;

use super::car::CarError;
use super::mst::MstError;
use super::{CommitError, KeyError, MAX_RECORD_BYTES, MAX_WRITES, RecordPath};
use crate::cbor::{CborError, DataError};
use crate::store::{RepoStatus, StoreError};

/// What can go wrong with a repo.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// There is no repo of that DID here.
    #[error("no repo of {0} is kept here")]
    RepoNotFound(Did),
    /// A repo of that DID exists.
    #[error("a repo of {0} exists already")]
    RepoExists(Did),
    /// The account is not active, so its repo takes no commits.
    #[error("the repo of {did} is {status}")]
    Inactive {
        /// Whose repo.
        did: Did,
        /// What it is instead.
        status: RepoStatus,
    },
    /// Update or delete of a record that is not there.
    #[error("there is no record {0}")]
    RecordNotFound(RecordPath),
    /// Create of a record that is there.
    #[error("a record {0} exists already")]
    RecordExists(RecordPath),
    /// The record is not what the write expected.
    #[error("record {path} was at {}", actual.map_or_else(|| "null".to_owned(), |c| c.to_string()))]
    RecordSwap {
        /// Which record.
        path: RecordPath,
        /// Its CID; `None` when it is not there.
        actual: Option<Cid>,
    },
    /// The newest commit is not what the write expected.
    #[error("commit was at {actual}")]
    CommitSwap {
        /// The newest commit.
        actual: Cid,
    },
    /// The collection is not a normalised NSID.
    #[error(transparent)]
    InvalidPath(#[from] SyntaxError),
    /// The record is not a value of the data model.
    #[error("record {path}: {cause}")]
    InvalidRecord {
        /// Which record.
        path: RecordPath,
        /// What is wrong with it.
        cause: DataError,
    },
    /// The record's `$type` names another collection.
    #[error("record {path} has $type {found:?}")]
    TypeMismatch {
        /// Which record.
        path: RecordPath,
        /// Its `$type`.
        found: String,
    },
    /// The record is above [`MAX_RECORD_BYTES`].
    #[error("record {path} has {size} bytes; at most {MAX_RECORD_BYTES} fit")]
    RecordTooLarge {
        /// Which record.
        path: RecordPath,
        /// Its size as DAG-CBOR.
        size: usize,
    },
    /// More than [`MAX_WRITES`] at once.
    #[error("{0} writes at once; at most {MAX_WRITES} go into one commit")]
    TooManyWrites(usize),
    /// The commit would not fit into one event; write in smaller portions.
    #[error("the commit has {0} bytes of blocks; at most 2,000,000 fit into one event")]
    CommitTooLarge(usize),
    /// The record names a blob that was not uploaded.
    #[error("blob {0} is not known; upload it before the record that names it")]
    BlobNotFound(Cid),
    /// The record names a blob with another media type than it was uploaded with.
    #[error("blob {cid} is {actual}, not {given}")]
    BlobMimeType {
        /// The blob.
        cid: Box<Cid>,
        /// Media type in the record.
        given: String,
        /// Media type of the upload.
        actual: String,
    },
    /// The record names a blob with another size than it has.
    #[error("blob {cid} has {actual} bytes, not {given}")]
    BlobSize {
        /// The blob.
        cid: Cid,
        /// Size in the record.
        given: u64,
        /// Size of the upload.
        actual: u64,
    },
    /// Blocks that were asked for by CID and are not in the repo.
    #[error("the repo does not have {} of the blocks", .0.len())]
    BlocksNotFound(Vec<Cid>),
    /// The tree is damaged, or was not one.
    #[error(transparent)]
    Mst(#[from] MstError),
    /// A commit is damaged, or its signature is wrong.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A block is not canonical.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A CAR file is malformed.
    #[error(transparent)]
    Car(#[from] CarError),
    /// The signing key could not be had.
    #[error(transparent)]
    Key(Arc<KeyError>),
    /// The store failed; nothing of the request took effect.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// As many exports as are allowed are under way, and none has ended for a while.
    #[error("too many repos are being exported; try again later")]
    Busy,
    /// The writer has ended: this process is shutting down.
    #[error("the repo writer has ended")]
    Closed,
}

impl From<StoreError> for RepoError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<KeyError> for RepoError {
    fn from(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}
