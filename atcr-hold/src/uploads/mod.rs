//! How a blob comes in: upload sessions, whose whole state is in the database and the storage.
//!
//! A session belongs to the account that began it. Its parts are hashed as they come in order; the state of the hash
//! is kept with each acknowledged part, so that a session goes on after a restart where it stood. At the end the
//! digest is known without reading the blob again, unless parts came out of order, the final digest uses another
//! algorithm, or the machine was restarted meanwhile (what was not yet on the disk may then be gone). A blob gets its
//! name only when the digest is right.
//!
//! Where the storage takes parts from the uploader directly, nothing is hashed on the way. Such a blob waits in a queue
//! in the database ([`pending`]), visible to its uploader alone, until the hold has read it back ([`verifier`]). What
//! then is not what was said goes into quarantine.

mod blobs;
mod body;
mod candidates;
mod claims;
mod complete;
mod error;
mod ledger;
mod migration;
mod pending;
mod places;
mod quota;
mod receive;
mod sweep;
mod tails;
mod verification;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use sqlx::SqlitePool;
use tokio::sync::{Notify, Semaphore};

pub(crate) use blobs::{Blob, Found, Trust};
pub(crate) use candidates::Candidate;
pub(crate) use error::UploadError;
pub(crate) use ledger::Ledger;
pub(crate) use migration::Migration;
use places::Places;
pub(crate) use receive::{Incoming, NewUpload, PartRequests};
pub use sweep::Swept;
use tails::Tails;
pub use verification::{Verification, Verify};
pub(crate) use verifier::{Pace, worker_name};

use crate::storage::ObjectStorage;

/// How long what nobody has any more stays, in seconds. Whoever asks for it meanwhile begins that time anew.
pub(crate) const UNUSED: i64 = 24 * 3600;

/// The upload sessions and blobs of a hold. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    storage: Arc<dyn ObjectStorage>,
    ledger: Ledger,
    places: Arc<Places>,
    clock: Clock,
    limits: UploadLimits,
    verification: Verification,
    tails: Tails,
    /// Who may verify at once what somebody waits for.
    urgent: Arc<Semaphore>,
    /// Wakes those that verify.
    added: Arc<Notify>,
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
    /// Joins a storage with the hold's database. `tails` is a folder for the beginnings of parts.
    pub(crate) async fn open(
        storage: Arc<dyn ObjectStorage>,
        pool: SqlitePool,
        tails: PathBuf,
        clock: Clock,
        limits: UploadLimits,
        verification: Verification,
    ) -> Result<Self, sqlx::Error> {
        let ledger = Ledger::open(pool).await?;
        Ok(Self {
            storage,
            ledger,
            places: Arc::default(),
            clock,
            limits,
            verification,
            tails: Tails::new(tails),
            urgent: Arc::new(Semaphore::new(verification.parallel.max(1))),
            added: Arc::default(),
        })
    }

    /// Frees what a process that has ended was verifying. Only for who has the database alone.
    pub(crate) async fn free_all(&self) -> Result<(), sqlx::Error> {
        self.ledger.free_all().await
    }

    /// When blobs are verified.
    pub(crate) fn verification(&self) -> Verification {
        self.verification
    }

    /// The sessions and blobs in the database.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The storage.
    pub(crate) fn storage(&self) -> &Arc<dyn ObjectStorage> {
        &self.storage
    }
}
