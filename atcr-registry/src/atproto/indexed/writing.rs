//! What is seen to when something is written.

use atcr_core::oci::{Digest, Reference, Tag};
use atcr_core::{Access, StoreError};

use super::super::names::OwnedRepository;
use super::finding::PATIENCE;
use super::manifest_store::IndexedManifestStore;
use crate::index::{Event, Lookup};

impl IndexedManifestStore {
    /// Sees to it that the index has what the PDS has for these names, before that is acknowledged. It has not when another
    /// replica wrote the records and was ended before it said so: to write them again changes nothing, and is no event.
    pub(super) async fn make_sure(
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

    pub(super) async fn make_sure_it_is_gone(
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

    /// The manifests that these tags point at and will not any more, for owners who want those removed that have no tag
    /// left.
    pub(super) async fn about_to_leave(
        &self,
        owned: &OwnedRepository,
        to: &Digest,
        tags: &[Tag],
    ) -> Vec<Digest> {
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
    pub(super) async fn remove_untagged(
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
