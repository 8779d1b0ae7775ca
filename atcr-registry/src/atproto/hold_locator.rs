use std::sync::Arc;
use std::time::Duration;

use atcr_core::StoreError;
use atcr_core::oci::Digest;
use atcr_core::records::{ManifestRecord, ProfileRecord, Record};
use atcr_core::syntax::{Did, RecordKey};
use moka::future::Cache;
use url::Url;

use super::hold_directory::HoldDirectory;
use super::pds_reader::PdsReader;

/// Knows which hold has a blob, and which one takes the next.
#[derive(Debug, Clone)]
pub(super) struct HoldLocator {
    reader: PdsReader,
    default_hold: Did,
    /// Learned from the manifests that were read and written.
    holds: Cache<(Did, Digest), Did>,
    push_holds: Cache<Did, Did>,
    directory: Option<Arc<dyn HoldDirectory>>,
}

impl HoldLocator {
    pub(super) fn new(reader: PdsReader, default_hold: Did) -> Self {
        Self {
            reader,
            default_hold,
            holds: Cache::builder().max_capacity(200_000).time_to_live(Duration::from_secs(600)).build(),
            push_holds: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build(),
            directory: None,
        }
    }

    /// Asks this directory before anybody else.
    #[cfg(feature = "index")]
    pub(super) fn with_directory(mut self, directory: Arc<dyn HoldDirectory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// The hold that takes what this account pushes: the one its profile names, else the registry's own.
    pub(super) async fn push_hold(&self, owner: &Did) -> Result<Did, StoreError> {
        let Some(directory) = &self.directory else { return self.chosen_hold(owner).await };
        let hold = match directory.chosen_hold(owner).await {
            Some(chosen) => chosen.unwrap_or_else(|| self.default_hold.clone()),
            None => self.chosen_hold(owner).await?,
        };
        Ok(directory.successor(&hold).await.unwrap_or(hold))
    }

    /// Where a hold answers that is known to be up, to have the blob, and to give it to anybody.
    pub(super) async fn open_hold(&self, owner: &Did, digest: &Digest) -> Option<(Did, Url)> {
        self.directory.as_ref()?.open_hold(owner, digest).await
    }

    async fn chosen_hold(&self, owner: &Did) -> Result<Did, StoreError> {
        let look_up = async {
            let found = self.reader.record(owner, &ProfileRecord::collection(), &RecordKey::this()).await?;
            let profile = found.map(|found| found.value);
            let chosen = profile.and_then(|profile: ProfileRecord| profile.default_hold);
            Ok(chosen.unwrap_or_else(|| self.default_hold.clone()))
        };
        self.push_holds.try_get_with_by_ref(owner, look_up).await.map_err(shared)
    }

    /// Remembers that the content which a manifest names is at its hold.
    pub(super) async fn learn(&self, owner: &Did, record: &ManifestRecord) {
        let Some(hold) = record.hold() else { return };
        for digest in record.blob_digests() {
            self.holds.insert((owner.clone(), digest), hold.clone()).await;
        }
    }

    /// The holds where a blob may be, the likeliest first: the one a manifest that was seen names, and the one that the
    /// owner pushes to.
    pub(super) async fn candidates(&self, owner: &Did, digest: &Digest) -> Result<Vec<Did>, StoreError> {
        let mut holds = Vec::with_capacity(2);
        if let Some(directory) = &self.directory {
            holds = directory.holds_of(owner, digest).await;
        }
        if let Some(learned) = self.holds.get(&(owner.clone(), *digest)).await {
            self.add_with_successor(&mut holds, learned).await;
        }
        match self.push_hold(owner).await {
            Ok(push_hold) if !holds.contains(&push_hold) => holds.push(push_hold),
            Err(error) if holds.is_empty() => return Err(error),
            // What is known need not wait for the owner's PDS.
            Ok(_) | Err(_) => {}
        }
        Ok(holds)
    }

    /// The holds of all manifests of the owner that name the blob: the slow way, when the likely ones do not have it.
    pub(super) async fn search(&self, owner: &Did, digest: &Digest) -> Result<Vec<Did>, StoreError> {
        let of_blob = |record: &ManifestRecord| record.blob_digests().any(|named| named == *digest);
        let collection = ManifestRecord::collection();
        let found = self.reader.scan(owner, &collection, |found| {
            let record: ManifestRecord = found.value;
            of_blob(&record).then(|| record.hold()).flatten()
        });
        let mut found = found.await?;
        found.sort();
        found.dedup();
        let mut holds = Vec::with_capacity(found.len());
        for hold in found {
            self.add_with_successor(&mut holds, hold).await;
        }
        Ok(holds)
    }

    /// Adds a hold behind the one that it has moved to, if that is known.
    async fn add_with_successor(&self, holds: &mut Vec<Did>, hold: Did) {
        let successor = match &self.directory {
            Some(directory) => directory.successor(&hold).await,
            None => None,
        };
        for hold in successor.into_iter().chain([hold]) {
            if !holds.contains(&hold) {
                holds.push(hold);
            }
        }
    }
}

/// An error that several callers waited for together.
pub(super) fn shared(error: Arc<StoreError>) -> StoreError {
    match Arc::try_unwrap(error) {
        Ok(error) => error,
        Err(shared) => match &*shared {
            StoreError::NotFound(what) => StoreError::NotFound(what.clone()),
            StoreError::RepositoryUnknown(message) => StoreError::RepositoryUnknown(message.clone()),
            StoreError::RateLimited { message, retry_after } => {
                StoreError::RateLimited { message: message.clone(), retry_after: *retry_after }
            }
            StoreError::Unavailable { what, source } => {
                StoreError::unavailable(what.clone(), source.to_string())
            }
            other => StoreError::internal(other.to_string()),
        },
    }
}
