use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use atcr_core::oci::Digest;
use serde::{Deserialize, Serialize};

use super::{Progress, Upkeep, hash};
use crate::HoldError;
use crate::storage::StorageError;
use crate::uploads::{Candidate, Pace};

/// The condition that a blob has been scrubbed. The parameter is there for another condition of the kind.
const DONE: &str = "exists (select 1 from scrubbed where scrubbed.digest = c.digest) and ?1 = ''";

/// How a scrub goes about it.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ScrubOptions {
    /// How many bytes are read a second. Default: no limit.
    pub rate: Option<NonZeroU64>,
    /// Whether it begins anew, though another scrub did not come to its end. Default: no.
    pub restart: bool,
    /// Whether blobs whose bytes are gone are forgotten. Nobody gets them anyway; but who set the wrong storage would lose
    /// the way to all. Default: no.
    pub forget_missing: bool,
}

/// What is wrong with a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// What should be there.
    pub digest: Digest,
    /// Where.
    pub key: String,
    /// What is there instead.
    #[serde(flatten)]
    pub trouble: Trouble,
}

/// What is in the place of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "trouble")]
#[non_exhaustive]
pub enum Trouble {
    /// Other bytes. They are in quarantine: nobody gets them, and after a week they are removed.
    Wrong {
        /// Their digest.
        actual: Digest,
    },
    /// Nothing.
    Missing,
    /// What the storage does not give.
    Unreadable {
        /// What it says.
        reason: String,
    },
}

/// What a scrub came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Scrubbed {
    /// How many blobs were hashed, by runs that were broken off too.
    pub blobs: u64,
    /// How many of them by such runs.
    pub before: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Upkeep {
    /// Hashes every blob as it is in the storage. Bytes that are not what they should be are locked away at once; pushing
    /// the blob again mends it. One that is broken off goes on with the next blob when it is called again.
    ///
    /// The hold may run, and pushes and deletions go on. A blob that comes while the scrub runs may be left for the next
    /// one: it was hashed when it came.
    pub async fn scrub(&self, options: ScrubOptions, progress: Progress<'_>) -> Result<Scrubbed, HoldError> {
        let ledger = self.ledger();
        if options.restart {
            ledger.end_scrub().await?;
        }
        let (before, _) = ledger.scrubbed().await?;
        let (_, total) = ledger.left(DONE, "").await?;
        let done = AtomicU64::new(0);
        let seen = |bytes: u64| progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
        let mut pace = options.rate.map(Pace::new);
        let mut last = None;
        loop {
            let page = ledger.candidates(DONE, "", last.as_ref()).await?;
            let Some(end) = page.last() else { break };
            last = Some(end.digest);
            for candidate in page {
                let trouble = self.scrub_one(&candidate, options, &mut pace, &seen).await?;
                let finding = trouble.map(|trouble| Finding {
                    digest: candidate.digest,
                    key: candidate.key().to_string(),
                    trouble,
                });
                let finding = finding.as_ref().map(serde_json::to_string).transpose()?;
                ledger.note_scrubbed(&candidate.digest, finding.as_deref()).await?;
            }
        }
        let (blobs, findings) = ledger.scrubbed().await?;
        let findings = findings.iter().map(|json| serde_json::from_str(json)).collect::<Result<_, _>>()?;
        ledger.end_scrub().await?;
        Ok(Scrubbed { blobs, before, findings })
    }

    async fn scrub_one(
        &self,
        candidate: &Candidate,
        options: ScrubOptions,
        pace: &mut Option<Pace>,
        seen: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Option<Trouble>, HoldError> {
        let (storage, ledger) = (self.uploads.storage(), self.ledger());
        let key = candidate.key();
        let hashed = match storage.stat(&key).await {
            Ok(Some(size)) => {
                hash(storage.as_ref(), &key, size, &candidate.digest, pace, seen).await.map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match hashed {
            Ok(Some(actual)) if actual == candidate.digest => Ok(None),
            // It was deleted, or pushed anew, under our eyes.
            _ if !ledger.is_unchanged(candidate).await? => Ok(None),
            Ok(Some(actual)) => {
                if !ledger.condemn(candidate, &actual, self.clock.unix()).await? {
                    return Ok(None);
                }
                let digest = candidate.digest;
                tracing::error!(%digest, %actual, %key, "QUARANTINE: a blob went bad in the storage; nobody gets it");
                Ok(Some(Trouble::Wrong { actual }))
            }
            Ok(None) | Err(StorageError::ObjectUnknown(_)) => {
                if options.forget_missing {
                    ledger.forget_missing(candidate).await?;
                }
                Ok(Some(Trouble::Missing))
            }
            Err(error) => Ok(Some(Trouble::Unreadable { reason: error.to_string() })),
        }
    }
}
