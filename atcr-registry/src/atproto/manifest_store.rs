use std::collections::BTreeSet;

use async_trait::async_trait;
use atcr_auth::pds_session::SessionError;
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::manifest_store::{Listing, ManifestStore, Page, Referrer};
use atcr_core::oci::{Digest, Manifest, MediaType, Reference, RepositoryName, Tag};
use atcr_core::records::{ManifestRecord, Record, TagRecord, manifest_rkey, tag_rkey};
use atcr_core::syntax::{AtIdentifier, Datetime, Did, Handle, RecordKey};
use atcr_core::{Access, Principal, StoreError};
use serde_json::Value;

use super::hold_client::session_error;
use super::hold_locator::HoldLocator;
use super::names::{self, OwnedRepository};
use super::notify::HoldNotifier;
use super::own_records::{OwnRecords, SWAP_ATTEMPTS, WriteError, create_or_update, delete};
use super::pds_reader::Found;

/// No manifest is larger, whoever wrote it.
pub(super) const MANIFEST_LIMIT: usize = 8 * 1024 * 1024;

/// A [`ManifestStore`] whose manifests and tags are records in the owners' own PDSs.
///
/// Reads go to the owner's PDS as anybody can do them. Writes are done in the owner's name, with one commit for a
/// manifest and its tags, guarded by the commit that was read before: two pushes at the same time cannot undo each
/// other unseen.
#[derive(Debug, Clone)]
pub struct PdsManifestStore {
    identities: IdentityResolver,
    records: OwnRecords,
    locator: HoldLocator,
    notifier: HoldNotifier,
}

/// A tag's record, where it is.
struct FoundTag {
    rkey: RecordKey,
    record: TagRecord,
}

fn unknown(reference: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound(format!("the manifest {reference}"))
}

impl PdsManifestStore {
    pub(super) fn new(
        identities: IdentityResolver,
        records: OwnRecords,
        locator: HoldLocator,
        notifier: HoldNotifier,
    ) -> Self {
        Self { identities, records, locator, notifier }
    }

    /// The way to its owners' other records.
    #[cfg(feature = "index")]
    pub(super) fn records(&self) -> &OwnRecords {
        &self.records
    }

    async fn owned(&self, access: &Access) -> Result<OwnedRepository, StoreError> {
        names::resolve(&self.identities, &access.repository).await
    }

    /// The repository, if it is the caller's own: nobody else's PDS can be written to.
    async fn writable(&self, access: &Access) -> Result<OwnedRepository, StoreError> {
        let owned = self.owned(access).await?;
        match access.principal.did() {
            None => {
                Err(StoreError::Unauthenticated("sign in to push: docker login <this registry>".to_owned()))
            }
            Some(did) if *did == owned.owner => Ok(owned),
            Some(_) => Err(StoreError::Denied(format!(
                "{} belongs to another account; you can push under your own name only",
                access.repository
            ))),
        }
    }

    /// The record of a manifest, wherever its record key came from.
    async fn manifest_record(
        &self,
        owner: &Did,
        digest: &Digest,
    ) -> Result<Option<Found<ManifestRecord>>, StoreError> {
        let collection = ManifestRecord::collection();
        let found: Option<Found<ManifestRecord>> =
            self.records.reader().record(owner, &collection, &manifest_rkey(digest)).await?;
        // Whoever wrote the record chose its key; what counts is the digest inside.
        Ok(found.filter(|found| found.value.digest == *digest))
    }

    /// The record of a tag. The key that we would write is tried first; any other key is found by listing.
    async fn tag_record(&self, owned: &OwnedRepository, tag: &Tag) -> Result<Option<FoundTag>, StoreError> {
        let collection = TagRecord::collection();
        let rkey = tag_rkey(&owned.name, tag);
        let matches = |record: &TagRecord| record.repository == owned.name && record.tag == *tag;
        let found: Option<Found<TagRecord>> =
            self.records.reader().record(&owned.owner, &collection, &rkey).await?;
        if let Some(found) = found.filter(|found| matches(&found.value)) {
            return Ok(Some(FoundTag { rkey, record: found.value }));
        }
        let all = self.tags_where(&owned.owner, matches).await?;
        Ok(all.into_iter().max_by_key(|found| found.record.written_at().map(Datetime::timestamp)))
    }

    async fn tags_where(
        &self,
        owner: &Did,
        matches: impl Fn(&TagRecord) -> bool,
    ) -> Result<Vec<FoundTag>, StoreError> {
        let keep = |found: Found<TagRecord>| {
            let rkey = found.uri.rkey()?;
            matches(&found.value).then_some(FoundTag { rkey, record: found.value })
        };
        self.records.reader().scan(owner, &TagRecord::collection(), keep).await
    }

    /// Whether the manifest is one of this repository: its record says so, or a tag of the repository points at it
    /// (another registry may have rewritten the record for another repository).
    async fn belongs(&self, owned: &OwnedRepository, record: &ManifestRecord) -> Result<bool, StoreError> {
        if record.is_in(&owned.name) {
            return Ok(true);
        }
        let points_here =
            |tag: &TagRecord| tag.repository == owned.name && tag.manifest_digest() == Some(record.digest);
        Ok(!self.tags_where(&owned.owner, points_here).await?.is_empty())
    }

    /// The manifest, from the record or from the blob it names; its bytes are what the digest says, or it is nothing.
    async fn load(&self, owner: &Did, record: &ManifestRecord) -> Result<Manifest, StoreError> {
        if let Some(inline) = record.inline_manifest() {
            return Ok(inline);
        }
        if let Some(blob) = &record.manifest_blob {
            let bytes = self.records.reader().blob(owner, &blob.cid.to_string(), MANIFEST_LIMIT).await?;
            if let Some(manifest) = record.manifest_with(bytes) {
                return Ok(manifest);
            }
        }
        // The oldest records keep the fields only; written the usual way they often give the same bytes again.
        record.manifest_with(record.rebuild().bytes).ok_or_else(|| {
            StoreError::unavailable(
                format!("the manifest {}", record.digest),
                "its record does not hold bytes with that digest; push it again",
            )
        })
    }

    /// Plans writes from what is there, does them, and plans anew when the repo changed in between.
    async fn write_planned<F, Fut>(&self, owner: &Did, what: &str, plan: F) -> Result<(), StoreError>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<Vec<Value>, StoreError>> + Send,
    {
        for _ in 0..SWAP_ATTEMPTS {
            let commit = self.records.reader().latest_commit(owner).await?;
            let writes = plan().await?;
            if writes.is_empty() {
                return Ok(());
            }
            match self.records.write(owner, writes, Some(commit)).await {
                Ok(()) => return Ok(()),
                Err(WriteError::Swapped) => {}
                Err(WriteError::Failed(error)) => return Err(error),
            }
        }
        Err(StoreError::Conflict(what.to_owned()))
    }

    /// The record to write for a manifest, with its bytes where they fit. The blob is what other readers look for; a PDS
    /// that refuses it (they limit blobs hard) does not stop a push whose bytes stand in the record.
    async fn new_record(
        &self,
        owned: &OwnedRepository,
        manifest: &Manifest,
    ) -> Result<ManifestRecord, StoreError> {
        let content = manifest.content().map_err(|e| StoreError::Invalid(e.to_string()))?;
        let hold = self.locator.push_hold(&owned.owner).await?;
        let mut record = ManifestRecord::from_manifest(
            owned.name.clone(),
            manifest,
            &content,
            Some(hold),
            Datetime::now(),
        )
        .map_err(|e| StoreError::Invalid(e.to_string()))?;
        let inline = record.manifest_bytes.is_some();
        let media_type = manifest.media_type.as_str();
        let uploaded = self.records.try_upload(&owned.owner, media_type, manifest.bytes.clone()).await;
        match uploaded {
            Ok(Ok(blob)) => record.manifest_blob = Some(blob),
            Ok(Err(error)) if inline => tracing::warn!(%error, "the PDS answered an upload with no blob"),
            Ok(Err(error)) => return Err(StoreError::unavailable("your PDS", error)),
            Err(error @ SessionError::NoSession(_)) => return Err(session_error(error)),
            Err(error) if inline => {
                tracing::warn!(%error, digest = %manifest.digest, "the PDS took no blob; the record holds the bytes");
            }
            Err(error) => return Err(session_error(error)),
        }
        Ok(record)
    }
}

#[async_trait]
impl ManifestStore for PdsManifestStore {
    async fn get(&self, access: &Access, reference: &Reference) -> Result<Manifest, StoreError> {
        let owned = self.owned(access).await?;
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => {
                let found = self.tag_record(&owned, tag).await?.ok_or_else(|| unknown(tag))?;
                found.record.manifest_digest().ok_or_else(|| unknown(tag))?
            }
        };
        let found = self.manifest_record(&owned.owner, &digest).await?.ok_or_else(|| unknown(reference))?;
        let record = found.value;
        if matches!(reference, Reference::Digest(_)) && !self.belongs(&owned, &record).await? {
            return Err(unknown(reference));
        }
        self.locator.learn(&owned.owner, &record).await;
        self.load(&owned.owner, &record).await
    }

    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError> {
        let owned = self.writable(access).await?;
        let mut fresh = None;
        if self
            .manifest_record(&owned.owner, &manifest.digest)
            .await?
            .is_none_or(|found| !found.value.has_bytes())
        {
            fresh = Some(self.new_record(&owned, &manifest).await?);
        }
        let (owned_ref, fresh_ref, digest) = (&owned, &fresh, manifest.digest);
        let media_type: &MediaType = &manifest.media_type;
        let plan = || async move {
            let owned = owned_ref;
            let mut writes = Vec::with_capacity(1 + tags.len());
            let there = self.manifest_record(&owned.owner, &digest).await?;
            let exists = there.is_some();
            let record = match (there.map(|found| found.value), fresh_ref) {
                (Some(there), None) if there.is_in(&owned.name) => None,
                (Some(there), None) => Some(there),
                (Some(there), Some(fresh)) => {
                    let repositories = there.repositories().cloned().collect();
                    Some(ManifestRecord { repositories, ..fresh.clone() })
                }
                (None, Some(fresh)) => Some(fresh.clone()),
                // It was deleted between the two looks.
                (None, None) => return Err(StoreError::Conflict(format!("the manifest {digest}"))),
            };
            if let Some(mut record) = record {
                record.add_repository(&owned.name);
                let rkey = manifest_rkey(&digest);
                writes.push(create_or_update(exists, ManifestRecord::NSID, &rkey, &record));
            }
            for tag in tags {
                let there = self.tag_record(owned, tag).await?;
                let exists = there.is_some();
                if there.as_ref().is_some_and(|found| found.record.manifest_digest() == Some(digest)) {
                    continue;
                }
                let (rkey, created_at) = match there {
                    Some(found) => (found.rkey, found.record.created_at),
                    None => (self.free_tag_rkey(owned, tag).await?, None),
                };
                let now = Datetime::now();
                let (name, media_type) = (owned.name.clone(), Some(media_type.clone()));
                let mut record = TagRecord::new(&owned.owner, name, tag.clone(), &digest, media_type, now);
                record.created_at = created_at.or(record.created_at);
                writes.push(create_or_update(exists, TagRecord::NSID, &rkey, &record));
            }
            Ok(writes)
        };
        self.write_planned(&owned.owner, access.repository.as_str(), plan).await?;
        let record = match fresh {
            Some(record) => record,
            None => match self.manifest_record(&owned.owner, &manifest.digest).await? {
                Some(found) => found.value,
                None => return Ok(()),
            },
        };
        self.locator.learn(&owned.owner, &record).await;
        self.notifier.pushed(&owned.owner, &owned.name, &manifest, &record, tags).await;
        Ok(())
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        self.remove(access, digest, true).await
    }

    async fn delete_tag(&self, access: &Access, tag: &Tag) -> Result<(), StoreError> {
        let owned = self.writable(access).await?;
        let matches = |record: &TagRecord| record.repository == owned.name && record.tag == *tag;
        let found = self.tags_where(&owned.owner, matches).await?;
        if found.is_empty() {
            return Err(StoreError::NotFound(format!("the tag {tag}")));
        }
        let writes = found.iter().map(|tag| delete(TagRecord::NSID, &tag.rkey)).collect();
        match self.records.write(&owned.owner, writes, None).await {
            Ok(()) => Ok(()),
            Err(WriteError::Swapped) => Err(StoreError::Conflict(format!("the tag {tag}"))),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    async fn tags(&self, access: &Access, page: &Page) -> Result<Listing<Tag>, StoreError> {
        let owned = self.owned(access).await?;
        let found = self.tags_where(&owned.owner, |record| record.repository == owned.name).await?;
        if found.is_empty() && !self.has_manifests(&owned).await? {
            let message = format!("nothing was ever pushed to {}", access.repository);
            return Err(StoreError::RepositoryUnknown(message));
        }
        let sorted: BTreeSet<Tag> = found.into_iter().map(|found| found.record.tag).collect();
        Ok(page.cut(sorted))
    }

    async fn referrers(&self, access: &Access, subject: &Digest) -> Result<Vec<Referrer>, StoreError> {
        let owned = match self.owned(access).await {
            Err(StoreError::RepositoryUnknown(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let keep = |found: Found<ManifestRecord>| {
            let refers = found.value.subject.as_ref().is_some_and(|to| to.digest == *subject);
            (refers && found.value.is_in(&owned.name)).then_some(found.value)
        };
        let mut records =
            self.records.reader().scan(&owned.owner, &ManifestRecord::collection(), keep).await?;
        records.sort_by_key(|record| record.digest);
        let mut referrers = Vec::with_capacity(records.len());
        for record in records {
            let manifest = self.load(&owned.owner, &record).await?;
            referrers.extend(Referrer::of(&manifest).map(|(_, entry)| entry));
        }
        Ok(referrers)
    }

    async fn repositories(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listing<RepositoryName>, StoreError> {
        let Some(did) = principal.did() else { return Ok(Listing { items: Vec::new(), more: false }) };
        let identity =
            self.identities.resolve(&AtIdentifier::Did(did.clone())).await.map_err(names::identity_error)?;
        let handle = Some(&identity.handle).filter(|handle| **handle != Handle::invalid());
        let manifests =
            |found: Found<ManifestRecord>| Some(found.value.repositories().cloned().collect::<Vec<_>>());
        let named = self.records.reader().scan(did, &ManifestRecord::collection(), manifests).await?;
        let names: BTreeSet<RepositoryName> =
            named.into_iter().flatten().filter_map(|name| names::of_owner(did, handle, &name)).collect();
        Ok(page.cut(names))
    }
}

impl PdsManifestStore {
    /// Removes a manifest from a repository. One that tags point at stays, unless they go too.
    pub(super) async fn remove(
        &self,
        access: &Access,
        digest: &Digest,
        with_tags: bool,
    ) -> Result<(), StoreError> {
        let owned = self.writable(access).await?;
        let (owned_ref, digest_copy) = (&owned, *digest);
        let first = self.manifest_record(&owned.owner, digest).await?.ok_or_else(|| unknown(digest))?;
        if !self.belongs(&owned, &first.value).await? {
            return Err(unknown(digest));
        }
        let plan = || async move {
            let (owned, digest) = (owned_ref, digest_copy);
            let mut writes = Vec::new();
            let Some(found) = self.manifest_record(&owned.owner, &digest).await? else { return Ok(writes) };
            let Some(rkey) = found.uri.rkey() else { return Ok(writes) };
            let tags = self.tags_where(&owned.owner, |tag| tag.manifest_digest() == Some(digest)).await?;
            let (ours, others): (Vec<_>, Vec<_>) =
                tags.into_iter().partition(|t| t.record.repository == owned.name);
            if !with_tags && !ours.is_empty() {
                return Ok(writes);
            }
            let mut record = found.value;
            for tag in &others {
                record.add_repository(&tag.record.repository);
            }
            writes.extend(ours.iter().map(|tag| delete(TagRecord::NSID, &tag.rkey)));
            if record.remove_repository(&owned.name) {
                writes.push(create_or_update(true, ManifestRecord::NSID, &rkey, &record));
            } else {
                writes.push(delete(ManifestRecord::NSID, &rkey));
            }
            Ok(writes)
        };
        self.write_planned(&owned.owner, access.repository.as_str(), plan).await
    }

    async fn has_manifests(&self, owned: &OwnedRepository) -> Result<bool, StoreError> {
        let keep = |found: Found<ManifestRecord>| found.value.is_in(&owned.name).then_some(());
        Ok(!self.records.reader().scan(&owned.owner, &ManifestRecord::collection(), keep).await?.is_empty())
    }

    /// A key for a tag that has no record yet. The usual one may be taken: `a_b` + `c` and `a` + `b_c` give the same.
    async fn free_tag_rkey(&self, owned: &OwnedRepository, tag: &Tag) -> Result<RecordKey, StoreError> {
        let usual = tag_rkey(&owned.name, tag);
        let taken: Option<Found<Value>> =
            self.records.reader().record(&owned.owner, &TagRecord::collection(), &usual).await?;
        if taken.is_none() {
            return Ok(usual);
        }
        // No name and no tag has a colon.
        format!("{}:{tag}", owned.name.as_str().replace('/', "~")).parse().map_err(StoreError::internal)
    }
}
