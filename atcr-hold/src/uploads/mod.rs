//! How a blob comes in: upload sessions, whose whole state is in the database and the storage.
//!
//! A session belongs to the account that began it. Its parts are hashed as they come in order; the state of the hash
//! is kept with each acknowledged part, so that a session goes on after a restart where it stood. At the end the
//! digest is known without reading the blob again, unless parts came out of order, the final digest uses another
//! algorithm, or the machine was restarted meanwhile (what was not yet on the disk may then be gone). A blob gets its
//! name only when the digest is right.

mod blobs;
mod body;
mod claims;
mod complete;
mod error;
mod ledger;
mod receive;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use sqlx::SqlitePool;

pub(crate) use blobs::Blob;
pub(crate) use error::UploadError;
use ledger::Ledger;
pub(crate) use receive::NewUpload;
pub use sweep::Swept;

use crate::storage::ObjectStorage;

/// The upload sessions and blobs of a hold. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    storage: Arc<dyn ObjectStorage>,
    ledger: Ledger,
    clock: Clock,
    limits: UploadLimits,
}

/// What an upload may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UploadLimits {
    /// The largest blob in bytes.
    pub(crate) max_blob_size: Option<u64>,
    /// How long a sender may be silent in the middle of a part.
    pub(crate) silence: Duration,
    /// How long a session may lie unused.
    pub(crate) idle: Duration,
}

impl Uploads {
    /// Joins a storage with the hold's database.
    pub(crate) async fn open(
        storage: Arc<dyn ObjectStorage>,
        pool: SqlitePool,
        clock: Clock,
        limits: UploadLimits,
    ) -> Result<Self, sqlx::Error> {
        let ledger = Ledger::open(pool).await?;
        Ok(Self { storage, ledger, clock, limits })
    }

    /// The storage.
    pub(crate) fn storage(&self) -> &Arc<dyn ObjectStorage> {
        &self.storage
    }
}
