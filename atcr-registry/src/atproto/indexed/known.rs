//! What the index knows, as the other stores ask for it.

use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::did_resolver::DidResolver;
use atcr_core::oci::Digest;
use atcr_core::records::data::parse_cid;
use atcr_core::syntax::Did;
use url::Url;

use super::super::hold_directory::HoldDirectory;
use super::super::journal::{Journal, Written};
use crate::index::{Account, Collection, Event, Index, IndexError, RecordOp, RepoCommit, Since};
use crate::ingest::Ingest;

/// What the index knows, as the other stores ask for it.
#[derive(Debug, Clone)]
pub(in crate::atproto) struct Known {
    pub(super) index: Index,
    pub(super) ingest: Ingest,
    dids: Arc<dyn DidResolver>,
}

impl Known {
    pub(in crate::atproto) fn new(index: Index, ingest: Ingest, dids: Arc<dyn DidResolver>) -> Self {
        Self { index, ingest, dids }
    }

    /// The account, if the index has all of it. One that the index never heard of is noted, to be read.
    pub(super) async fn complete(&self, did: &Did) -> Result<Option<Arc<Account>>, IndexError> {
        let Some(account) = self.index.account(did).await? else { return Ok(None) };
        Ok(account.complete.then_some(account))
    }

    pub(super) async fn read_soon(&self, did: &Did) {
        let known = self.index.account(did).await;
        if let Ok(None) = known {
            let missed = Event::Missed { did: did.clone(), rev: None };
            if let Err(error) = self.index.apply(&[missed], None).await {
                tracing::warn!(%error, "the index does not take note of a repo");
            }
        }
        self.ingest.wake();
    }

    pub(super) fn is_watched(&self, account: &Account) -> bool {
        self.ingest.freshness().covers(account.pds.as_deref())
    }

    /// The account, if all of it is known and what changes would be heard of.
    pub(super) async fn current(&self, did: &Did) -> Option<Arc<Account>> {
        let account = self.complete(did).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the index cannot be asked");
            None
        });
        account.filter(|account| self.is_watched(account))
    }
}

#[async_trait]
impl HoldDirectory for Known {
    async fn chosen_hold(&self, owner: &Did) -> Option<Option<Did>> {
        self.current(owner).await?;
        let profile = self.index.profile(owner).await.ok()?;
        Some(profile.and_then(|profile| profile.default_hold))
    }

    async fn successor(&self, hold: &Did) -> Option<Did> {
        let mut seen = vec![hold.clone()];
        while let Ok(Some(captain)) = self.index.captain(seen.last()?).await {
            match captain.successor {
                Some(next) if !seen.contains(&next) && seen.len() < 8 => seen.push(next),
                _ => break,
            }
        }
        seen.pop().filter(|last| last != hold)
    }

    async fn holds_of(&self, owner: &Did, digest: &Digest) -> Vec<Did> {
        self.index.holds_of_blob(owner, digest).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the index cannot be asked for holds");
            Vec::new()
        })
    }

    async fn open_hold(&self, owner: &Did, digest: &Digest) -> Option<(Did, Url)> {
        for hold in self.index.holds_of_blob(owner, digest).await.ok()? {
            let public = self.index.captain(&hold).await.ok()?.is_some_and(|captain| captain.public);
            if !public || !self.index.hold_has(&hold, owner, digest).await.ok()? {
                continue;
            }
            let Ok(document) = self.dids.resolve(&hold).await else { continue };
            let Ok(url) = document.service("atcr_hold").or_else(|_| document.pds()) else { continue };
            // Its stream says that it is up.
            if self.ingest.freshness().follows(&url) {
                return Some((hold, url));
            }
        }
        None
    }
}

#[async_trait]
impl Journal for Known {
    async fn wrote(&self, owner: &Did, commit: Written) {
        let mut ops = Vec::with_capacity(commit.records.len());
        for (collection, rkey, now) in commit.records {
            let Some(collection) = Collection::of(collection.as_str()) else { continue };
            ops.push(match now {
                None => RecordOp::gone(collection, rkey),
                Some((cid, value)) => {
                    let Ok(cid) = parse_cid(&cid) else { continue };
                    let Ok(hash) = <[u8; 32]>::try_from(cid.hash().digest()) else { continue };
                    RecordOp::written(collection, rkey, hash, value)
                }
            });
        }
        let commit =
            RepoCommit { did: owner.clone(), rev: commit.rev, since: Since::Unknown, data: None, ops };
        // The stream brings it again, so that a failure here only makes it late.
        if let Err(error) = self.index.apply(&[Event::Commit(commit)], None).await {
            tracing::error!(%owner, %error, "the index did not take in what was just pushed");
        }
        self.ingest.wake();
    }
}
