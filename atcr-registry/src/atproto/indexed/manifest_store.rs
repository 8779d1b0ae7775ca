//! The manifest store over an index.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::manifest_store::{Listing, ManifestInfo, ManifestStore, Page, Referrer};
use atcr_core::oci::{Digest, Manifest, Reference, RepositoryName, Tag};
use atcr_core::syntax::Did;
use atcr_core::{Access, Principal, StoreError};
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::super::manifest_store::PdsManifestStore;
use super::super::names::{self, OwnedRepository};
use super::super::own_records::OwnRecords;
use super::super::pds_reader::PdsReader;
use super::finding::{Asked, Found, PATIENCE, is_away};
use super::known::Known;
use crate::index::{Lookup, PageRequest, RepositoryEntry};

/// A PDS that did not answer is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// A tag that its PDS has confirmed is given for so long while no stream is at work.
const CONFIRMED: Duration = Duration::from_secs(30);
/// What a PDS did not have is not asked for again for so long.
const ABSENT: Duration = Duration::from_secs(5);
/// Questions to PDSs at the same time.
const ASKED_AT_ONCE: usize = 64;
/// Bytes of manifests that were just asked for.
const FETCHED: u64 = 16 << 20;
/// Names of which something is remembered, of each kind.
const NAMES: u64 = 20_000;

/// A [`ManifestStore`] that answers from an index, and from the owners' PDSs where the index has no answer that can be
/// relied on.
///
/// - A digest is answered from the index: what it names cannot change.
/// - A tag is, while a stream is at work that would have told of a move. Otherwise the PDS is asked; if that does not
///   answer, what is known is given.
/// - A repository that the index does not know is asked for at the PDS, once for all who want the same, and its repo is
///   read in the background. What is not there is remembered for five seconds.
/// - So is what the index does not know of an owner of whom it has all else; if that PDS does not answer, it is not there.
/// - What is pushed here is in the index before the push is acknowledged.
#[derive(Clone)]
pub struct IndexedManifestStore {
    pub(super) inner: PdsManifestStore,
    pub(super) known: Known,
    pub(super) identities: IdentityResolver,
    pub(super) reader: PdsReader,
    /// What is being asked for now; nothing stays in it.
    pub(super) under_way: Cache<Asked, Manifest>,
    /// What was asked for because the index had never heard of it, for those who want the same at the same time.
    pub(super) fetched: Cache<Asked, Manifest>,
    pub(super) absent: Cache<Asked, u64>,
    /// Tags that were confirmed while no stream was at work, with the count of changes at that time.
    pub(super) confirmed: Cache<Asked, u64>,
    /// Accounts whose PDS did not answer.
    pub(super) down: Cache<Did, ()>,
    pub(super) questions: Arc<Semaphore>,
}

impl fmt::Debug for IndexedManifestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexedManifestStore").field("index", &self.known.index).finish_non_exhaustive()
    }
}

impl IndexedManifestStore {
    pub(in crate::atproto) fn new(
        inner: PdsManifestStore,
        known: Known,
        identities: IdentityResolver,
        reader: PdsReader,
    ) -> Self {
        let cache = |time: Duration| Cache::builder().max_capacity(NAMES).time_to_live(time).build();
        Self {
            inner,
            known,
            identities,
            reader,
            under_way: Cache::builder().max_capacity(1024).time_to_live(Duration::from_secs(1)).build(),
            fetched: Cache::builder()
                .max_capacity(FETCHED)
                .weigher(|_, manifest: &Manifest| {
                    u32::try_from(manifest.bytes.len() + 512).unwrap_or(u32::MAX)
                })
                .time_to_live(Duration::from_secs(1))
                .build(),
            absent: cache(ABSENT),
            confirmed: cache(CONFIRMED),
            down: Cache::builder().max_capacity(NAMES).time_to_live(LEFT_ALONE).build(),
            questions: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        }
    }

    /// The way to the other records of the people whose manifests are here: the index takes in what is written on it.
    pub fn own_records(&self) -> OwnRecords {
        self.inner.records().clone()
    }

    pub(super) async fn owned(&self, access: &Access) -> Result<OwnedRepository, StoreError> {
        names::resolve(&self.identities, &access.repository).await
    }
}

#[async_trait]
impl ManifestStore for IndexedManifestStore {
    async fn get(&self, access: &Access, reference: &Reference) -> Result<Manifest, StoreError> {
        match self.find(access, reference).await? {
            Found::Indexed(owned, found) => self.bytes(access, &owned, &found).await,
            Found::Asked(manifest) => Ok(manifest),
        }
    }

    async fn head(&self, access: &Access, reference: &Reference) -> Result<ManifestInfo, StoreError> {
        let manifest = match self.find(access, reference).await? {
            Found::Indexed(owned, found) => match (&found.bytes, found.size) {
                (Some(_), Some(size)) => {
                    return Ok(ManifestInfo {
                        digest: found.digest,
                        size,
                        media_type: found.media_type.clone(),
                    });
                }
                _ => self.bytes(access, &owned, &found).await?,
            },
            Found::Asked(manifest) => manifest,
        };
        let size = manifest.bytes.len() as u64;
        Ok(ManifestInfo { digest: manifest.digest, size, media_type: manifest.media_type })
    }

    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError> {
        let owned = self.owned(access).await?;
        let left = self.about_to_leave(&owned, &manifest.digest, tags).await;
        self.inner.put(access, manifest.clone(), tags).await?;
        let named = tags.iter().cloned().map(Reference::Tag).chain([Reference::Digest(manifest.digest)]);
        self.make_sure(&owned, named, Some(&manifest.digest)).await?;
        // The record of a large one does not have the bytes.
        if let Err(error) = self.known.index.keep_manifest(&owned.owner, &manifest).await {
            tracing::warn!(%error, "the index did not keep the bytes of a manifest");
        }
        for digest in left {
            if let Err(error) = self.remove_untagged(access, &owned, &digest).await {
                tracing::warn!(%digest, %error, "a manifest that has no tag any more stays");
            }
        }
        Ok(())
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let deleted = self.inner.delete(access, digest).await;
        self.make_sure_it_is_gone(access, Reference::Digest(*digest), deleted).await
    }

    async fn delete_tag(&self, access: &Access, tag: &Tag) -> Result<(), StoreError> {
        let deleted = self.inner.delete_tag(access, tag).await;
        self.make_sure_it_is_gone(access, Reference::Tag(tag.clone()), deleted).await
    }

    async fn tags(&self, access: &Access, page: &Page) -> Result<Listing<Tag>, StoreError> {
        let owned = self.owned(access).await?;
        let current = self.known.current(&owned.owner).await.is_some();
        if !current && !self.down.contains_key(&owned.owner) {
            match tokio::time::timeout(PATIENCE, self.inner.tags(access, page)).await {
                Ok(Err(error)) if is_away(&error) => self.down.insert(owned.owner.clone(), ()).await,
                Ok(answer) => return answer,
                Err(_) => self.down.insert(owned.owner.clone(), ()).await,
            }
        }
        let limit = page.limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
        let tags = self.known.index.tags(&owned.owner, &owned.name, page.after.as_deref(), limit).await?;
        let Some(tags) = tags else {
            let message = format!("nothing was ever pushed to {}", access.repository);
            return Err(StoreError::RepositoryUnknown(message));
        };
        Ok(page.cut(tags))
    }

    async fn referrers(&self, access: &Access, subject: &Digest) -> Result<Vec<Referrer>, StoreError> {
        let owned = match self.owned(access).await {
            Err(StoreError::RepositoryUnknown(_)) => return Ok(Vec::new()),
            other => other?,
        };
        if self.known.current(&owned.owner).await.is_none() && !self.down.contains_key(&owned.owner) {
            match tokio::time::timeout(PATIENCE, self.inner.referrers(access, subject)).await {
                Ok(Err(error)) if is_away(&error) => self.down.insert(owned.owner.clone(), ()).await,
                Ok(answer) => return answer,
                Err(_) => self.down.insert(owned.owner.clone(), ()).await,
            }
        }
        let mut referrers = Vec::new();
        for entry in self.known.index.referrers(&owned.owner, &owned.name, subject).await? {
            let reference = Reference::Digest(entry.digest);
            // What a referrers list says stands in the manifest itself.
            if let Lookup::Found(found) =
                self.known.index.lookup(&owned.owner, &owned.name, &reference).await?
            {
                let manifest = self.bytes(access, &owned, &found).await?;
                referrers.extend(Referrer::of(&manifest).map(|(_, entry)| entry));
            }
        }
        Ok(referrers)
    }

    async fn repositories(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listing<RepositoryName>, StoreError> {
        let account = match principal.did() {
            Some(did) => self.known.current(did).await,
            None => None,
        };
        let Some(account) = account else { return self.inner.repositories(principal, page).await };
        let mut names = Vec::new();
        let mut request = PageRequest::first(200);
        loop {
            let part = self.known.index.repositories_of(&account.did, &request).await?;
            let called =
                |entry: &RepositoryEntry| names::of_owner(&account.did, account.handle.as_ref(), &entry.name);
            names.extend(part.items.iter().filter_map(called));
            request.cursor = part.next;
            if request.cursor.is_none() {
                return Ok(page.cut(names));
            }
        }
    }
}
