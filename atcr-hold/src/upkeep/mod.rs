//! Looking after the blobs of a hold from a process of its own: hashing them anew, and moving them to another storage.

mod migrate;
mod scrub;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use atcr_core::oci::{ByteRange, Digest, Hasher};
use futures_util::TryStreamExt as _;

pub use migrate::{Destination, Migrated};
pub use scrub::{Finding, ScrubOptions, Scrubbed, Trouble};

use crate::hold::{DATABASE, lock};
use crate::storage::{ObjectKey, ObjectStorage, StorageError};
use crate::uploads::{Ledger, Pace, UploadError, UploadLimits, Uploads, Verification};
use crate::{HoldError, database};

/// How far a task is: the bytes that are done, and all that there are to do.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Looks after the blobs of a hold that may run meanwhile.
#[derive(Debug)]
pub struct Upkeep {
    data_dir: PathBuf,
    uploads: Uploads,
    clock: Clock,
}

impl Upkeep {
    /// Opens the data directory of a hold that was started before, and the storage that the hold has.
    ///
    /// # Errors
    /// [`HoldError::NoRepo`] when there is no hold.
    pub async fn open(data_dir: &Path, storage: Arc<dyn ObjectStorage>) -> Result<Self, HoldError> {
        let path = data_dir.join(DATABASE);
        let there = tokio::fs::try_exists(&path).await;
        if !there.map_err(|source| HoldError::File { path: path.clone(), source })? {
            return Err(HoldError::NoRepo { path: data_dir.to_owned() });
        }
        let pool = database::open(&path).await?;
        let clock = Clock::system();
        let limits = UploadLimits {
            max_blob_size: None,
            silence: Duration::from_secs(60),
            idle: Duration::from_secs(24 * 3600),
        };
        let tails = data_dir.join("tails");
        let uploads =
            Uploads::open(storage, pool, tails, clock.clone(), limits, Verification::default()).await?;
        Ok(Self { data_dir: data_dir.to_owned(), uploads, clock })
    }

    fn ledger(&self) -> &Ledger {
        self.uploads.ledger()
    }

    /// The data directory for this process alone; `None` while the hold runs.
    fn alone(&self) -> Result<Option<File>, HoldError> {
        match lock(&self.data_dir, false) {
            Ok(lock) => Ok(Some(lock)),
            Err(HoldError::InUse { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The digest of the bytes under a key.
async fn hash(
    storage: &dyn ObjectStorage,
    key: &ObjectKey,
    size: u64,
    digest: &Digest,
    pace: &mut Option<Pace>,
    seen: &(dyn Fn(u64) + Send + Sync),
) -> Result<Digest, StorageError> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut body = storage.read(key, ByteRange { start: 0, end: size }).await?;
    let failed = |source| StorageError::Failed { doing: format!("reading {key}"), source };
    while let Some(piece) = body.try_next().await.map_err(failed)? {
        hasher.update(&piece);
        seen(piece.len() as u64);
        if let Some(pace) = pace {
            pace.after(piece.len()).await;
        }
    }
    Ok(hasher.finish())
}

fn failed(error: UploadError) -> HoldError {
    match error {
        UploadError::Storage(error) => error.into(),
        error => HoldError::Maintenance(error.into()),
    }
}
