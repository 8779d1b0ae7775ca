//! The store of a registry's manifests and tags: the trait, and its implementations in memory and on a filesystem.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(unix)]
mod filesystem;
mod memory;

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;

#[cfg(unix)]
pub use filesystem::FilesystemManifestStore;
pub use memory::MemoryManifestStore;

use crate::access::{Access, Principal};
use crate::error::StoreError;
use crate::oci::{Digest, Manifest, MediaType, Reference, RepositoryName, Tag};

/// Where a registry keeps manifests, and the tags that name them.
///
/// Contract, checked by the suite in `contract`:
/// - what was put is what is got, byte for byte, with the media type it was put with;
/// - a put with tags is one step: the manifest and all tags, or nothing;
/// - a deletion is complete when it is acknowledged: the manifest, its tags and its place among the referrers of its
///   subject are gone for every later call.
#[async_trait]
pub trait ManifestStore: Debug + Send + Sync + 'static {
    /// A manifest by tag or digest.
    async fn get(&self, access: &Access, reference: &Reference) -> Result<Manifest, StoreError>;

    /// What is known of a manifest without its bytes.
    async fn head(&self, access: &Access, reference: &Reference) -> Result<ManifestInfo, StoreError> {
        let manifest = self.get(access, reference).await?;
        Ok(ManifestInfo {
            digest: manifest.digest,
            size: manifest.bytes.len() as u64,
            media_type: manifest.media_type,
        })
    }

    /// Keeps a manifest and points `tags` at it. The caller has checked that `manifest.digest` is that of its bytes.
    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError>;

    /// Removes a manifest and every tag that points at it.
    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError>;

    /// Removes a tag; the manifest stays.
    async fn delete_tag(&self, access: &Access, tag: &Tag) -> Result<(), StoreError>;

    /// The tags of a repository in byte order. [`StoreError::RepositoryUnknown`] when nothing was ever pushed there.
    async fn tags(&self, access: &Access, page: &Page) -> Result<Listing<Tag>, StoreError>;

    /// The manifests whose `subject` is this digest, in a stable order; none for an unknown repository or digest.
    async fn referrers(&self, access: &Access, subject: &Digest) -> Result<Vec<Referrer>, StoreError>;

    /// The repositories that this caller can push to, in byte order.
    async fn repositories(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listing<RepositoryName>, StoreError>;
}

/// What is known of a manifest without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it was pushed as.
    pub media_type: MediaType,
}

/// An entry of a referrers list (distribution specification, Listing Referrers).
#[derive(Debug, Clone, PartialEq)]
pub struct Referrer {
    /// The digest of the referring manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it was pushed as.
    pub media_type: MediaType,
    /// Its artifact type, or its config's media type.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Referrer {
    /// The entry for a manifest, if it has a subject: that subject, and the entry in its list.
    pub fn of(manifest: &Manifest) -> Option<(Digest, Self)> {
        let content = manifest.content().ok()?;
        let subject = content.subject.as_ref()?.digest;
        let entry = Self {
            digest: manifest.digest,
            size: manifest.bytes.len() as u64,
            media_type: manifest.media_type.clone(),
            artifact_type: content.effective_artifact_type().map(str::to_owned),
            annotations: content.annotations,
        };
        Some((subject, entry))
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most this many entries; all when absent.
    pub limit: Option<usize>,
    /// Only entries after this text in byte order; it need not be an entry.
    pub after: Option<String>,
}

impl Page {
    /// Cuts the page out of a complete, sorted list.
    pub fn cut<T: AsRef<str>>(&self, sorted: impl IntoIterator<Item = T>) -> Listing<T> {
        let mut rest = sorted
            .into_iter()
            .skip_while(|item| self.after.as_deref().is_some_and(|after| item.as_ref() <= after));
        let Some(limit) = self.limit else { return Listing { items: rest.collect(), more: false } };
        let items = rest.by_ref().take(limit).collect();
        Listing { items, more: limit > 0 && rest.next().is_some() }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// The entries, in byte order.
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}
