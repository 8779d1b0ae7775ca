use std::path::PathBuf;

use atcr_core::crypto::KeyError;
use atcr_core::syntax::Did;
use atcr_pds::blobs::BlobError;
use atcr_pds::cbor::{CborError, DataError};
use url::Url;

use crate::identity::IdentityError;
use crate::storage::StorageError;

/// Why a hold could not be opened, or one of its own tasks failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// The public URL cannot be the hold's identity.
    #[error("{url} cannot be the public URL of a hold: {reason}")]
    PublicUrl {
        /// The URL.
        url: Box<Url>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file or directory of the hold could not be used.
    #[error("{} cannot be used: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// Another process, or another hold of this one, uses the data directory.
    #[error("{} is in use by another hold; end that one first", path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The data directory holds the repo of another identity.
    #[error(
        "{} holds the repo of {stored}, but the hold is to be {configured}; set its identity back, or choose another data directory", path.display()
    )]
    OtherIdentity {
        /// Which directory.
        path: PathBuf,
        /// Whose repo is there.
        stored: Did,
        /// Who the hold is to be.
        configured: Did,
    },
    /// There is no repo in the data directory.
    #[error("{} holds no repo; is it the data directory of a hold that was started before?", path.display())]
    NoRepo {
        /// Which directory.
        path: PathBuf,
    },
    /// The hold cannot be who it is to be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A key file has something else in it.
    #[error("{} does not hold a key: {reason}; restore it from a backup", path.display())]
    KeyFile {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system gave no random numbers.
    #[error("no random numbers could be had from the system")]
    Random,
    /// The hold's database failed.
    #[error("the hold's database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The storage of the blobs failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The hold's repo failed.
    #[error("the hold's repo failed: {0}")]
    Repo(#[from] atcr_pds::RepoError),
    /// The store of the hold's repo failed.
    #[error("the hold's repo could not be opened: {0}")]
    RepoStore(#[from] atcr_pds::StoreError),
    /// The files that the hold's records refer to cannot be kept.
    #[error(transparent)]
    RepoBlobs(#[from] BlobError),
    /// A task of the hold itself failed.
    #[error("the hold could not do its own work: {0}")]
    Maintenance(Box<dyn std::error::Error + Send + Sync>),
    /// A record of the hold's own repo could not be read or written.
    #[error("a record of the hold's repo is not usable: {0}")]
    Record(Box<dyn std::error::Error + Send + Sync>),
}

impl From<KeyError> for HoldError {
    fn from(_: KeyError) -> Self {
        Self::Random
    }
}

impl From<CborError> for HoldError {
    fn from(error: CborError) -> Self {
        Self::Record(error.into())
    }
}

impl From<DataError> for HoldError {
    fn from(error: DataError) -> Self {
        Self::Record(error.into())
    }
}

impl From<serde_json::Error> for HoldError {
    fn from(error: serde_json::Error) -> Self {
        Self::Record(error.into())
    }
}
