use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::{ByteRange, Digest, Hasher};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};

use super::{Finding, Progress, Trouble, Upkeep, failed, hash};
use crate::HoldError;
use crate::storage::{Object, ObjectKey, ObjectStorage, PartNumber, StorageError, StorageUpload};
use crate::uploads::{Candidate, Migration, Pace, worker_name};

/// The condition that a blob is at the other storage.
const DONE: &str =
    "exists (select 1 from migrated where migrated.digest = c.digest and target = ?1 and placed = 1)";

/// Where blobs go.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Destination {
    /// The storage.
    pub storage: Arc<dyn ObjectStorage>,
    /// Its name, by which a migration that was broken off knows it again.
    pub name: String,
    /// Whether it is the storage where the blobs are, in another layout.
    pub same: bool,
    /// How many bytes are read a second. Default: no limit.
    pub rate: Option<NonZeroU64>,
}

/// What a migration came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Migrated {
    /// How many blobs were moved or copied by this run.
    pub blobs: u64,
    /// What could not be: while there is any, the hold stays where it is.
    pub findings: Vec<Finding>,
    /// Whether the hold has its blobs in the new storage from now on.
    pub switched: bool,
    /// Whether the hold runs, which alone is why it was not switched.
    pub running: bool,
}

impl Destination {
    /// Another storage than that where the blobs are.
    pub fn new(storage: Arc<dyn ObjectStorage>, name: impl Into<String>) -> Self {
        Self { storage, name: name.into(), same: false, rate: None }
    }
}

impl Upkeep {
    /// Brings all blobs to another storage, or into another layout, and the hold with them.
    ///
    /// Every blob is hashed on its way. To another storage it is copied, also while the hold runs; when the hold is stopped
    /// and all blobs are there, the hold is switched over in one step, and must be started with the new storage. Nothing
    /// is removed from the old one. Called again, it goes on where it was.
    ///
    /// # Errors
    /// [`HoldError::InUse`] for another layout of the same storage while the hold runs.
    pub async fn migrate(&self, to: &Destination, progress: Progress<'_>) -> Result<Migrated, HoldError> {
        let alone = self.alone()?;
        if to.same && alone.is_none() {
            return Err(HoldError::InUse { path: self.data_dir.clone() });
        }
        if alone.is_some() {
            self.settle().await?;
        }
        let ledger = self.ledger();
        let done = if to.same { "?1 <> ?1" } else { DONE };
        for broken in ledger.unfinished(&to.name).await? {
            if broken.key.is_none() {
                to.storage.abort_upload(&broken.upload).await?;
                ledger.unmigrate(&to.name, &broken.digest).await?;
            }
        }
        let (_, total) = ledger.left(done, &to.name).await?;
        let count = AtomicU64::new(0);
        let seen = |bytes: u64| progress(count.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
        let mut run = Run { upkeep: self, to, pace: to.rate.map(Pace::new), seen: &seen };
        let (mut blobs, mut findings, mut last) = (0, Vec::new(), None);
        loop {
            let page = ledger.candidates(done, &to.name, last.as_ref()).await?;
            let Some(end) = page.last() else { break };
            last = Some(end.digest);
            for candidate in page {
                let moved =
                    if to.same { run.rearrange(&candidate).await } else { run.copy(&candidate).await };
                let trouble = match moved {
                    Ok(None) => {
                        blobs += 1;
                        continue;
                    }
                    Ok(Some(trouble)) => trouble,
                    Err(HoldError::Storage(error)) => Trouble::Unreadable { reason: error.to_string() },
                    Err(error) => return Err(error),
                };
                // It was deleted, or pushed anew, under our eyes.
                if ledger.is_unchanged(&candidate).await? {
                    let key = candidate.key().to_string();
                    findings.push(Finding { digest: candidate.digest, key, trouble });
                }
            }
        }
        let complete = findings.is_empty();
        let running = alone.is_none();
        if complete && !running && !to.same {
            self.switch(to).await?;
        }
        Ok(Migrated { blobs, findings, switched: complete && !running, running: running && complete })
    }

    /// Ends what the hold was at when it was stopped: verifies what waits, and ends uploads, which clients begin anew.
    async fn settle(&self) -> Result<(), HoldError> {
        self.ledger().free_all().await?;
        let worker = worker_name().map_err(|_| HoldError::Random)?;
        while self.uploads.verify_next(&worker).await.map_err(failed)?.is_some() {}
        if self.uploads.waiting().await.map_err(failed)? > 0 {
            let message = "blobs wait to be verified and cannot be read; start the hold, and see its log";
            return Err(HoldError::Maintenance(message.into()));
        }
        self.uploads.end_sessions().await.map_err(failed)
    }

    /// Makes the other storage the hold's. Nobody else uses the database.
    async fn switch(&self, to: &Destination) -> Result<(), HoldError> {
        for gone in self.ledger().left_over(&to.name).await? {
            to.storage.delete(&gone).await?;
        }
        self.ledger().switch(&to.name, self.clock.unix()).await?;
        Ok(())
    }
}

/// One call of [`Upkeep::migrate`].
struct Run<'a> {
    upkeep: &'a Upkeep,
    to: &'a Destination,
    pace: Option<Pace>,
    /// Is told of bytes as they are read.
    seen: &'a (dyn Fn(u64) + Send + Sync),
}

impl Run<'_> {
    /// Copies a blob to the other storage.
    async fn copy(&mut self, candidate: &Candidate) -> Result<Option<Trouble>, HoldError> {
        let (to, ledger) = (self.to, self.upkeep.ledger());
        let wanted = ObjectKey::of_blob(&candidate.digest);
        let begun = ledger.migration(&to.name, &candidate.digest).await?;
        let object = if let Some(Migration { key: Some(key), size, .. }) = begun {
            Object { key, size }
        } else {
            let from = self.upkeep.uploads.storage();
            let Some(size) = from.stat(&candidate.key()).await? else { return Ok(Some(Trouble::Missing)) };
            let upload = to.storage.begin_upload().await?;
            ledger.begin_migration(&to.name, &candidate.digest, &upload).await?;
            let (object, actual) = self.transfer(candidate, size, &upload).await?;
            if actual != candidate.digest {
                to.storage.abort_upload(&upload).await?;
                ledger.unmigrate(&to.name, &candidate.digest).await?;
                return Ok(Some(Trouble::Wrong { actual }));
            }
            ledger.migrated(&to.name, &candidate.digest, &object.key, object.size, false).await?;
            object
        };
        let key = to.storage.relocate(&object.key, &wanted).await?;
        ledger.migrated(&to.name, &candidate.digest, &key, object.size, true).await?;
        Ok(None)
    }

    /// Sends the bytes part by part, and gives their digest as they were read.
    async fn transfer(
        &mut self,
        candidate: &Candidate,
        size: u64,
        upload: &StorageUpload,
    ) -> Result<(Object, Digest), HoldError> {
        let (from, to) = (self.upkeep.uploads.storage(), &self.to.storage);
        let step = to.capabilities().part_size_for(Some(size));
        let key = candidate.key();
        let mut hasher = Hasher::new(candidate.digest.algorithm());
        let mut parts = Vec::new();
        for (number, start) in (1..).zip((0..size).step_by(usize::try_from(step).unwrap_or(usize::MAX))) {
            let range = ByteRange { start, end: size.min(start + step) };
            let body = from.read(&key, range).await?;
            let passing = Passing { body, hasher: &mut hasher, pace: &mut self.pace, seen: self.seen };
            let mut body = Box::pin(stream::try_unfold(passing, Passing::next));
            let number = PartNumber::MIN.saturating_add(number - 1);
            parts.push(to.put_part(upload, number, Some(range.len()), &mut body).await?);
        }
        let object = to.complete_upload(upload, &parts).await?;
        if object.size != size {
            let (doing, source) = (format!("copying {key}"), "the copy has another size".into());
            return Err(StorageError::Failed { doing, source }.into());
        }
        Ok((object, hasher.finish()))
    }

    /// Moves a blob inside its storage.
    async fn rearrange(&mut self, candidate: &Candidate) -> Result<Option<Trouble>, HoldError> {
        let storage = self.to.storage.as_ref();
        let (from, wanted) = (candidate.key(), ObjectKey::of_blob(&candidate.digest));
        if from == wanted {
            return Ok(None);
        }
        // A run that was broken off may have moved it already.
        let (now, size) = match storage.stat(&from).await? {
            Some(size) => (&from, size),
            None => match storage.stat(&wanted).await? {
                Some(size) => (&wanted, size),
                None => return Ok(Some(Trouble::Missing)),
            },
        };
        let actual = hash(storage, now, size, &candidate.digest, &mut self.pace, self.seen).await?;
        if actual != candidate.digest {
            return Ok(Some(Trouble::Wrong { actual }));
        }
        let key = storage.relocate(now, &wanted).await?;
        self.upkeep.ledger().moved(&candidate.digest, &from, &key).await?;
        if key != from {
            storage.delete(&from).await?;
        }
        Ok(None)
    }
}

/// Bytes on their way from one storage to the other.
struct Passing<'a> {
    body: ByteStream,
    hasher: &'a mut Hasher,
    pace: &'a mut Option<Pace>,
    seen: &'a (dyn Fn(u64) + Send + Sync),
}

impl Passing<'_> {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Source> {
        let Some(piece) = self.body.try_next().await? else { return Ok(None) };
        self.hasher.update(&piece);
        (self.seen)(piece.len() as u64);
        if let Some(pace) = self.pace {
            pace.after(piece.len()).await;
        }
        Ok(Some((piece, self)))
    }
}
