use std::num::NonZeroU64;
use std::time::Duration;

use atcr_core::oci::{ByteRange, Digest, Hasher};
use data_encoding::HEXLOWER;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::pending::Pending;
use super::{UploadError, Uploads};
use crate::storage::{Object, ObjectKey, StorageError};

/// How long a blob is one worker's without a sign of life, in seconds. As long a process that was killed holds it up.
const LEASE: i64 = 60;
/// How often the queue is looked at when nothing tells of a new entry: another process may have made it.
const LOOK: Duration = Duration::from_secs(5);
/// How long somebody waits for a blob to be verified.
const WANTED: Duration = Duration::from_secs(10);
/// How often is looked meanwhile whether another one has done it.
const LOOK_WANTED: Duration = Duration::from_millis(100);
/// After how many attempts a blob whose object is gone counts as lost. With the pauses between them, hours.
const LOST: u32 = 20;

/// What became of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everybody sees it now.
    Verified,
    /// Its bytes are other ones.
    Quarantined,
    /// The hold had it already; these bytes are gone.
    Redundant,
    /// It could not be read, and is tried again later.
    Postponed,
    /// Another process has it.
    Taken,
}

/// A name for one who verifies.
pub(crate) fn worker_name() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)?;
    Ok(HEXLOWER.encode(&bytes))
}

impl Uploads {
    /// Verifies what was uploaded directly, for ever. Several may do so at the same time, in one process or in many.
    pub(crate) async fn verify_for_ever(&self) {
        let worker = match worker_name() {
            Ok(name) => name,
            Err(error) => return tracing::error!(%error, "blobs cannot be verified"),
        };
        loop {
            // Before the look, so that what is added after it is not missed.
            let added = self.added.notified();
            match self.verify_next(&worker).await {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a blob could not be verified; it is tried again later"),
            }
            // That the time is over is no error: it is time to look.
            let _ = tokio::time::timeout(LOOK, added).await;
        }
    }

    /// Verifies the blob that has waited longest; `None` when none waits.
    pub(crate) async fn verify_next(&self, worker: &str) -> Result<Option<Outcome>, UploadError> {
        let now = self.clock.unix();
        let Some(pending) = self.ledger.take(worker, now, LEASE).await? else { return Ok(None) };
        // The first one wakes the next, so that a queue is worked off by all.
        self.added.notify_one();
        self.verify_taken(&pending, worker).await.map(Some)
    }

    async fn verify_taken(&self, pending: &Pending, worker: &str) -> Result<Outcome, UploadError> {
        match self.verify_one(pending, worker).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let pause = 2_i64.saturating_pow(pending.failures.min(9) + 1);
                self.ledger.put_back(pending, worker, self.clock.unix().saturating_add(pause)).await?;
                tracing::warn!(%error, digest = %pending.digest, again_in = pause, "a blob could not be read back");
                Ok(Outcome::Postponed)
            }
        }
    }

    /// Verifies a blob now that waits and that somebody asks for, unless it is too large for that, and comes back when it
    /// is done or takes too long. It is read once, whoever asks.
    pub(crate) async fn verify_wanted(&self, digest: &Digest) -> Result<(), UploadError> {
        let most = self.verification.on_demand;
        if most == 0 {
            return Ok(());
        }
        let (uploads, digest) = (self.clone(), *digest);
        // It goes on when the one who asked goes away: a blob that was taken is nobody else's for a while.
        let verified = tokio::spawn(async move { uploads.verify_all_of(&digest, most).await });
        match tokio::time::timeout(WANTED, verified).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => Err(UploadError::Internal(error.into())),
            Err(_) => Ok(()),
        }
    }

    async fn verify_all_of(&self, digest: &Digest, most: u64) -> Result<(), UploadError> {
        let worker = worker_name().map_err(|error| UploadError::Internal(error.to_string().into()))?;
        let until = Instant::now() + WANTED;
        while Instant::now() < until && self.find(digest).await?.is_none() {
            let Ok(_turn) = self.urgent.acquire().await else { return Ok(()) };
            let now = self.clock.unix();
            if let Some(pending) = self.ledger.take_wanted(digest, most, &worker, now, LEASE).await? {
                self.verify_taken(&pending, &worker).await?;
            } else if self.ledger.waits(digest, most).await? {
                // Somebody else reads it.
                tokio::time::sleep(LOOK_WANTED).await;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many blobs wait.
    pub(crate) async fn waiting(&self) -> Result<u64, UploadError> {
        Ok(self.ledger.waiting().await?)
    }

    async fn verify_one(&self, pending: &Pending, worker: &str) -> Result<Outcome, UploadError> {
        if self.find(&pending.digest).await?.is_some() {
            return self.drop_redundant(pending, worker).await;
        }
        // A process that was killed in the middle may have given the object its last name, which it does only to
        // bytes that are right.
        let wanted = ObjectKey::of_blob(&pending.digest);
        let object = match self.storage.stat(&pending.object.key).await? {
            Some(size) => Object { key: pending.object.key.clone(), size },
            None => match self.storage.stat(&wanted).await? {
                Some(size) => Object { key: wanted.clone(), size },
                None if pending.failures < LOST => {
                    return Err(StorageError::ObjectUnknown(pending.object.key.clone()).into());
                }
                None => return self.lock_away(pending, worker, None).await,
            },
        };
        let Some(actual) = self.hash_leased(pending, worker, &object).await? else {
            return Ok(Outcome::Taken);
        };
        if actual != pending.digest || object.size != pending.object.size {
            return self.lock_away(pending, worker, Some(&actual)).await;
        }
        let key = self.storage.relocate(&object.key, &wanted).await?;
        let admitted = self.ledger.admit(pending, worker, &key, self.clock.unix()).await?;
        self.places.forget(&pending.digest);
        if admitted {
            tracing::debug!(digest = %pending.digest, "verified");
            Ok(Outcome::Verified)
        } else {
            Ok(Outcome::Taken)
        }
    }

    async fn drop_redundant(&self, pending: &Pending, worker: &str) -> Result<Outcome, UploadError> {
        // The bytes first: what is still in the queue is found again.
        self.storage.abort_upload(&pending.storage_upload).await?;
        self.ledger.forget(pending, worker).await?;
        Ok(Outcome::Redundant)
    }

    async fn lock_away(
        &self,
        pending: &Pending,
        worker: &str,
        actual: Option<&Digest>,
    ) -> Result<Outcome, UploadError> {
        if !self.ledger.lock_away(pending, worker, actual, self.clock.unix()).await? {
            return Ok(Outcome::Taken);
        }
        let (digest, uploader, key) = (&pending.digest, &pending.uploader, &pending.object.key);
        let actual = actual.map_or_else(|| "lost".to_owned(), ToString::to_string);
        tracing::error!(
            %digest, actual, uploader, %key,
            "QUARANTINE: what was uploaded directly is not what the uploader said; nobody gets it"
        );
        Ok(Outcome::Quarantined)
    }

    /// Hashes an object, and says meanwhile that it is being done; `None` when somebody else has taken it over.
    async fn hash_leased(
        &self,
        pending: &Pending,
        worker: &str,
        object: &Object,
    ) -> Result<Option<Digest>, UploadError> {
        let hashing = self.hash(object, 0, Hasher::new(pending.digest.algorithm()), self.verification.rate);
        tokio::pin!(hashing);
        let beat = Duration::from_secs(LEASE.unsigned_abs() / 4);
        loop {
            tokio::select! {
                digest = &mut hashing => return digest.map(Some),
                () = tokio::time::sleep(beat) => {
                    let until = self.clock.unix().saturating_add(LEASE);
                    if !self.ledger.keep(pending, worker, until).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The digest of an object of which everything before `start` is in the hasher already.
    pub(super) async fn hash(
        &self,
        object: &Object,
        start: u64,
        mut hasher: Hasher,
        rate: Option<NonZeroU64>,
    ) -> Result<Digest, UploadError> {
        let mut body = self.storage.read(&object.key, ByteRange { start, end: object.size }).await?;
        let failed = |source| StorageError::Failed { doing: format!("reading {} back", object.key), source };
        let mut pace = rate.map(Pace::new);
        while let Some(piece) = body.try_next().await.map_err(failed)? {
            hasher.update(&piece);
            if let Some(pace) = &mut pace {
                pace.after(piece.len()).await;
            }
        }
        Ok(hasher.finish())
    }
}

/// Lets bytes pass at a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    bytes: u64,
    rate: NonZeroU64,
}

impl Pace {
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self { began: Instant::now(), bytes: 0, rate }
    }

    /// Waits until these bytes more are due.
    pub(crate) async fn after(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        tokio::time::sleep_until(self.began + due(self.bytes, self.rate)).await;
    }
}

/// How long so many bytes take.
fn due(bytes: u64, rate: NonZeroU64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.get());
    // A century is long enough, and can still be added to a time.
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
        .min(Duration::from_secs(100 * 365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_as_long_as_the_rate_says() {
        let rate = NonZeroU64::new(1000).unwrap();
        assert_eq!(due(5000, rate), Duration::from_secs(5));
        assert_eq!(due(1, rate), Duration::from_millis(1));
        let longest = due(u64::MAX, NonZeroU64::MIN);
        assert!(Instant::now().checked_add(longest).is_some());
    }
}
