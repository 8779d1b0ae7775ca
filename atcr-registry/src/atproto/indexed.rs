//! Answers from the index, and what is done when it has none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::did_resolver::{DidDocument, DidResolver, HandleResolver, IdentityResolver, ResolveError};
use atcr_core::manifest_store::{Listing, ManifestInfo, ManifestStore, Page, Referrer};
use atcr_core::oci::{Digest, Manifest, Reference, RepositoryName, Tag};
use atcr_core::records::data::parse_cid;
use atcr_core::syntax::{Did, Handle};
use atcr_core::{Access, Principal, StoreError};
use moka::future::Cache;
use tokio::sync::Semaphore;
use url::Url;

use super::hold_directory::HoldDirectory;
use super::journal::{Journal, Written};
use super::manifest_store::{MANIFEST_LIMIT, PdsManifestStore};
use super::names::{self, OwnedRepository};
use super::own_records::OwnRecords;
use super::pds_reader::PdsReader;
use crate::index::{
    Account, Collection, Event, IdentityChange, Index, IndexError, Lookup, PageRequest, RecordOp, RepoCommit,
    RepositoryEntry, Since, StoredManifest,
};
use crate::ingest::Ingest;

/// What is known of an identity is looked up anew after this long, in milliseconds, although no event said so.
const IDENTITY_AGE: i64 = 24 * 3600 * 1000;
/// The same where no stream would tell of a change.
const UNWATCHED_AGE: i64 = 300 * 1000;
/// How long a PDS may take to confirm a tag before what is known is given instead.
const PATIENCE: Duration = Duration::from_secs(5);
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

/// What the index knows, as the other stores ask for it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    index: Index,
    ingest: Ingest,
    dids: Arc<dyn DidResolver>,
}

impl Known {
    pub(super) fn new(index: Index, ingest: Ingest, dids: Arc<dyn DidResolver>) -> Self {
        Self { index, ingest, dids }
    }

    /// The account, if the index has all of it. One that the index never heard of is noted, to be read.
    async fn complete(&self, did: &Did) -> Result<Option<Arc<Account>>, IndexError> {
        let Some(account) = self.index.account(did).await? else { return Ok(None) };
        Ok(account.complete.then_some(account))
    }

    async fn read_soon(&self, did: &Did) {
        let known = self.index.account(did).await;
        if let Ok(None) = known {
            let missed = Event::Missed { did: did.clone(), rev: None };
            if let Err(error) = self.index.apply(&[missed], None).await {
                tracing::warn!(%error, "the index does not take note of a repo");
            }
        }
        self.ingest.wake();
    }

    fn is_watched(&self, account: &Account) -> bool {
        self.ingest.freshness().covers(account.pds.as_deref())
    }

    /// The account, if all of it is known and what changes would be heard of.
    async fn current(&self, did: &Did) -> Option<Arc<Account>> {
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

/// The identities that the index knows, before those that must be asked for.
///
/// An identity is answered from the index for a day while a stream would tell of its change, for five minutes
/// otherwise, and longer only while it cannot be looked up.
pub fn indexed_identities(
    index: &Index,
    ingest: &Ingest,
    dids: Arc<dyn DidResolver>,
    handles: Arc<dyn HandleResolver>,
) -> IdentityResolver {
    let documents = Cache::builder().max_capacity(10_000).build();
    let known = Known::new(index.clone(), ingest.clone(), Arc::clone(&dids));
    let dids = IndexedDids { known: known.clone(), inner: dids, documents };
    IdentityResolver::new(Arc::new(dids), Arc::new(IndexedHandles { known, inner: handles }))
}

/// A document as it was read at a time.
type Dated = (i64, Arc<DidDocument>);

#[derive(Debug)]
struct IndexedDids {
    known: Known,
    inner: Arc<dyn DidResolver>,
    documents: Cache<Did, Dated>,
}

#[derive(Debug)]
struct IndexedHandles {
    known: Known,
    inner: Arc<dyn HandleResolver>,
}

impl Known {
    fn is_recent(&self, account: &Account) -> bool {
        let age = jiff::Timestamp::now().as_millisecond() - account.identity_at;
        age < if self.is_watched(account) { IDENTITY_AGE } else { UNWATCHED_AGE }
    }
}

impl IndexedDids {
    async fn known(&self, account: &Account) -> Option<Arc<DidDocument>> {
        if let Some((at, document)) = self.documents.get(&account.did).await
            && at == account.identity_at
        {
            return Some(document);
        }
        let document: DidDocument = serde_json::from_str(account.document.as_deref()?).ok()?;
        let document = Arc::new(document);
        self.documents.insert(account.did.clone(), (account.identity_at, Arc::clone(&document))).await;
        Some(document)
    }

    /// Keeps what was looked up of an account that the index knows.
    async fn keep(&self, account: &Account, document: &DidDocument) {
        // A handle that the document does not claim any more is not theirs; one that it claims newly must be looked
        // up, which the next reading of the repo or the next event does.
        let handle =
            account.handle.clone().filter(|handle| document.claimed_handle().as_ref() == Some(handle));
        let pds = document.pds().ok().map(|pds| pds.as_str().trim_end_matches('/').to_owned());
        let document = serde_json::to_string(document).ok();
        let change = IdentityChange { did: account.did.clone(), handle, pds, document };
        if let Err(error) = self.known.index.apply(&[Event::Identity(change)], None).await {
            tracing::debug!(%error, "the index does not take in an identity");
        }
    }
}

#[async_trait]
impl DidResolver for IndexedDids {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let Ok(Some(account)) = self.known.index.account(did).await else {
            return self.inner.resolve(did).await;
        };
        let Some(document) = self.known(&account).await else { return self.inner.resolve(did).await };
        if self.known.is_recent(&account) {
            return Ok(document);
        }
        match self.inner.resolve(did).await {
            Ok(fresh) => {
                self.keep(&account, &fresh).await;
                Ok(fresh)
            }
            Err(ResolveError::Unavailable { .. }) => Ok(document),
            Err(error) => Err(error),
        }
    }

    async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.inner.refresh(did).await
    }
}

#[async_trait]
impl HandleResolver for IndexedHandles {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        let Ok(Some(account)) = self.known.index.account_by_handle(handle).await else {
            return self.inner.resolve_handle(handle).await;
        };
        if self.known.is_recent(&account) {
            return Ok(account.did.clone());
        }
        match self.inner.resolve_handle(handle).await {
            Err(ResolveError::Unavailable { .. }) => Ok(account.did.clone()),
            other => other,
        }
    }
}

/// A question to a PDS: whose repository, and which manifest.
type Asked = (Did, RepositoryName, Reference);

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
    inner: PdsManifestStore,
    known: Known,
    identities: IdentityResolver,
    reader: PdsReader,
    /// What is being asked for now; nothing stays in it.
    under_way: Cache<Asked, Manifest>,
    /// What was asked for because the index had never heard of it, for those who want the same at the same time.
    fetched: Cache<Asked, Manifest>,
    absent: Cache<Asked, u64>,
    /// Tags that were confirmed while no stream was at work, with the count of changes at that time.
    confirmed: Cache<Asked, u64>,
    /// Accounts whose PDS did not answer.
    down: Cache<Did, ()>,
    questions: Arc<Semaphore>,
}

impl fmt::Debug for IndexedManifestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexedManifestStore").field("index", &self.known.index).finish_non_exhaustive()
    }
}

fn unknown(reference: impl fmt::Display) -> StoreError {
    StoreError::NotFound(format!("the manifest {reference}"))
}

/// Whether a PDS did not answer, as against answering no.
fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::RateLimited { .. } | StoreError::Internal(_))
}

impl IndexedManifestStore {
    pub(super) fn new(
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

    async fn owned(&self, access: &Access) -> Result<OwnedRepository, StoreError> {
        names::resolve(&self.identities, &access.repository).await
    }

    /// Finds a manifest in the index, or asks its owner's PDS for it.
    async fn find(&self, access: &Access, reference: &Reference) -> Result<Found, StoreError> {
        let owned = self.owned(access).await?;
        let account = self.known.complete(&owned.owner).await?;
        let lookup = self.known.index.lookup(&owned.owner, &owned.name, reference).await?;
        let is_tag = matches!(reference, Reference::Tag(_));
        match (lookup, account) {
            (Lookup::Found(found), Some(account)) if !is_tag || self.known.is_watched(&account) => {
                Ok(Found::Indexed(owned, found))
            }
            // A digest that the index has is right even where other things are missing.
            (Lookup::Found(found), None) if !is_tag => Ok(Found::Indexed(owned, found)),
            (Lookup::Found(found), account) => self.confirm(access, owned, reference, found, account).await,
            (Lookup::Missing, account) => {
                if account.is_none() {
                    self.known.read_soon(&owned.owner).await;
                }
                self.ask_for_unknown(access, owned, reference, account.is_some()).await.map(Found::Asked)
            }
        }
    }

    /// A tag that may have moved unseen: the PDS is asked, and what is known is given if that does not answer.
    async fn confirm(
        &self,
        access: &Access,
        owned: OwnedRepository,
        reference: &Reference,
        found: Arc<StoredManifest>,
        account: Option<Arc<Account>>,
    ) -> Result<Found, StoreError> {
        let asked = (owned.owner.clone(), owned.name.clone(), reference.clone());
        let changes = self.known.index.changes(&owned.owner);
        let is_confirmed = account.is_some() && self.confirmed.get(&asked).await == Some(changes);
        if is_confirmed || self.down.contains_key(&owned.owner) {
            return Ok(Found::Indexed(owned, found));
        }
        match tokio::time::timeout(PATIENCE, self.ask(access, &asked)).await {
            Ok(Ok(manifest)) if manifest.digest == found.digest => {
                self.confirmed.insert(asked, changes).await;
                Ok(Found::Indexed(owned, found))
            }
            Ok(Ok(manifest)) => {
                if account.is_some() {
                    let missed = Event::Missed { did: owned.owner.clone(), rev: None };
                    self.known.index.apply(&[missed], None).await?;
                }
                self.known.ingest.wake();
                Ok(Found::Asked(manifest))
            }
            Ok(Err(error)) if !is_away(&error) => Err(error),
            _ => {
                tracing::info!(owner = %owned.owner, "the PDS does not answer; what is known of it is given");
                self.down.insert(owned.owner.clone(), ()).await;
                Ok(Found::Indexed(owned, found))
            }
        }
    }

    /// What the index does not have may have come to the PDS a moment ago. If that does not answer, it is not there for
    /// an owner of whom all is known (`all_is_known`).
    async fn ask_for_unknown(
        &self,
        access: &Access,
        owned: OwnedRepository,
        reference: &Reference,
        all_is_known: bool,
    ) -> Result<Manifest, StoreError> {
        let OwnedRepository { owner, name } = owned;
        let asked = (owner.clone(), name, reference.clone());
        let changes = self.known.index.changes(&owner);
        let is_left_alone = all_is_known && self.down.contains_key(&owner);
        if is_left_alone || self.absent.get(&asked).await == Some(changes) {
            return Err(unknown(reference));
        }
        let answer = if all_is_known {
            let late = |_| Err(StoreError::unavailable(format!("the PDS of {owner}"), "it takes too long"));
            tokio::time::timeout(PATIENCE, self.fetch(access, &asked)).await.unwrap_or_else(late)
        } else {
            self.fetch(access, &asked).await
        };
        match &answer {
            Err(error) if all_is_known && is_away(error) => {
                self.down.insert(owner, ()).await;
                return Err(unknown(reference));
            }
            Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)) => {
                self.absent.insert(asked, changes).await;
            }
            _ => {}
        }
        answer
    }

    /// Asks the PDS, once for all who want the same at the same time.
    async fn ask(&self, access: &Access, asked: &Asked) -> Result<Manifest, StoreError> {
        let answer = self.under_way.try_get_with_by_ref(asked, self.question(access, asked)).await;
        // Whoever asks later asks anew.
        self.under_way.invalidate(asked).await;
        answer.map_err(super::hold_locator::shared)
    }

    /// The same for those who come within a second, too: what is pushed here is not asked for this way.
    async fn fetch(&self, access: &Access, asked: &Asked) -> Result<Manifest, StoreError> {
        let answer = self.fetched.try_get_with_by_ref(asked, self.question(access, asked)).await;
        answer.map_err(super::hold_locator::shared)
    }

    async fn question(&self, access: &Access, asked: &Asked) -> Result<Manifest, StoreError> {
        let _turn = self.questions.acquire().await.map_err(StoreError::internal)?;
        self.inner.get(access, &asked.2).await
    }

    /// Sees to it that the index has what the PDS has for these names, before that is acknowledged. It has not when another
    /// replica wrote the records and was ended before it said so: to write them again changes nothing, and is no event.
    async fn make_sure(
        &self,
        owned: &OwnedRepository,
        names: impl IntoIterator<Item = Reference>,
        wanted: Option<&Digest>,
    ) -> Result<(), StoreError> {
        for name in names {
            let known = match self.known.index.lookup(&owned.owner, &owned.name, &name).await? {
                Lookup::Found(found) => Some(found.digest),
                Lookup::Missing => None,
            };
            if known.as_ref() == wanted {
                continue;
            }
            tracing::info!(owner = %owned.owner, %name, "the index had missed it; the repo is read");
            let reading = self.known.ingest.read_repo(&owned.owner);
            if !matches!(tokio::time::timeout(PATIENCE, reading).await, Ok(Ok(()))) {
                // Until it is read, tags are confirmed by the PDS.
                let missed = Event::Missed { did: owned.owner.clone(), rev: None };
                self.known.index.apply(&[missed], None).await?;
                self.known.ingest.wake();
            }
            break;
        }
        Ok(())
    }

    async fn make_sure_it_is_gone(
        &self,
        access: &Access,
        name: Reference,
        deleted: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.fetched.invalidate_all();
        if matches!(deleted, Ok(()) | Err(StoreError::NotFound(_))) {
            self.make_sure(&self.owned(access).await?, [name], None).await?;
        }
        deleted
    }

    /// The bytes of a manifest that the index knows.
    async fn bytes(
        &self,
        access: &Access,
        owned: &OwnedRepository,
        found: &StoredManifest,
    ) -> Result<Manifest, StoreError> {
        let manifest = |bytes| Manifest { digest: found.digest, media_type: found.media_type.clone(), bytes };
        if let Some(bytes) = &found.bytes {
            return Ok(manifest(bytes.clone()));
        }
        let asked = (owned.owner.clone(), owned.name.clone(), Reference::Digest(found.digest));
        let fetch = async {
            let _turn = self.questions.acquire().await.map_err(StoreError::internal)?;
            if let Some(blob) = &found.pds_blob {
                let bytes = self.reader.blob(&owned.owner, blob, MANIFEST_LIMIT).await?;
                if Digest::of(found.digest.algorithm(), &bytes) == found.digest {
                    return Ok(manifest(bytes));
                }
            }
            self.inner.get(access, &asked.2).await
        };
        let fetched = self.under_way.try_get_with_by_ref(&asked, fetch).await;
        self.under_way.invalidate(&asked).await;
        let fetched = fetched.map_err(super::hold_locator::shared)?;
        self.known.index.keep_manifest(&owned.owner, &fetched).await?;
        Ok(fetched)
    }
}

impl IndexedManifestStore {
    /// The manifests that these tags point at and will not any more, for owners who want those removed that have no tag
    /// left.
    async fn about_to_leave(&self, owned: &OwnedRepository, to: &Digest, tags: &[Tag]) -> Vec<Digest> {
        let mut left = Vec::new();
        if tags.is_empty() || self.known.current(&owned.owner).await.is_none() {
            return left;
        }
        let profile = self.known.index.profile(&owned.owner).await.ok().flatten();
        if !profile.is_some_and(|profile| profile.auto_remove_untagged) {
            return left;
        }
        for tag in tags {
            let reference = Reference::Tag(tag.clone());
            if let Ok(Lookup::Found(found)) =
                self.known.index.lookup(&owned.owner, &owned.name, &reference).await
                && found.digest != *to
                && !left.contains(&found.digest)
            {
                left.push(found.digest);
            }
        }
        left
    }

    /// Removes a manifest that no tag of the repository and no index of the owner names.
    async fn remove_untagged(
        &self,
        access: &Access,
        owned: &OwnedRepository,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let index = &self.known.index;
        if !index.tags_of(&owned.owner, &owned.name, digest).await?.is_empty()
            || index.is_child(&owned.owner, digest).await?
        {
            return Ok(());
        }
        // The PDS is asked once more: somebody may have tagged it meanwhile.
        match self.inner.remove(access, digest, false).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            done => done,
        }
    }
}

/// Where a manifest was found.
enum Found {
    Indexed(OwnedRepository, Arc<StoredManifest>),
    Asked(Manifest),
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
