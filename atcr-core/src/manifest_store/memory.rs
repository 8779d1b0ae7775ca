use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Listing, ManifestStore, Page, Referrer};
use crate::access::{Access, Principal};
use crate::error::StoreError;
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

/// Keeps manifests and tags in memory: for tests, examples and throw-away registries.
#[derive(Debug, Default)]
pub struct MemoryManifestStore {
    repositories: Mutex<BTreeMap<RepositoryName, Repository>>,
}

#[derive(Debug, Default)]
struct Repository {
    manifests: HashMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
    /// By subject, then by the referring manifest.
    referrers: BTreeMap<(Digest, Digest), Referrer>,
}

impl MemoryManifestStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RepositoryName, Repository>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn manifest_unknown(reference: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound(format!("the manifest {reference}"))
}

#[async_trait]
impl ManifestStore for MemoryManifestStore {
    async fn get(&self, access: &Access, reference: &Reference) -> Result<Manifest, StoreError> {
        let repositories = self.lock();
        let find = |repository: &Repository| {
            let digest = match reference {
                Reference::Tag(tag) => repository.tags.get(tag)?,
                Reference::Digest(digest) => digest,
            };
            repository.manifests.get(digest).cloned()
        };
        repositories.get(&access.repository).and_then(find).ok_or_else(|| manifest_unknown(reference))
    }

    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError> {
        let mut repositories = self.lock();
        let repository = repositories.entry(access.repository.clone()).or_default();
        if let Some((subject, entry)) = Referrer::of(&manifest) {
            repository.referrers.insert((subject, manifest.digest), entry);
        }
        for tag in tags {
            repository.tags.insert(tag.clone(), manifest.digest);
        }
        repository.manifests.insert(manifest.digest, manifest);
        Ok(())
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let mut repositories = self.lock();
        let repository = repositories.get_mut(&access.repository).ok_or_else(|| manifest_unknown(digest))?;
        repository.manifests.remove(digest).ok_or_else(|| manifest_unknown(digest))?;
        repository.tags.retain(|_, target| target != digest);
        repository.referrers.retain(|(_, referrer), _| referrer != digest);
        Ok(())
    }

    async fn delete_tag(&self, access: &Access, tag: &Tag) -> Result<(), StoreError> {
        let mut repositories = self.lock();
        let removed =
            repositories.get_mut(&access.repository).and_then(|repository| repository.tags.remove(tag));
        removed.map(|_| ()).ok_or_else(|| StoreError::NotFound(format!("the tag {tag}")))
    }

    async fn tags(&self, access: &Access, page: &Page) -> Result<Listing<Tag>, StoreError> {
        let repositories = self.lock();
        let name = &access.repository;
        let repository = repositories
            .get(name)
            .ok_or_else(|| StoreError::RepositoryUnknown(format!("nothing was ever pushed to {name}")))?;
        Ok(page.cut(repository.tags.keys().cloned()))
    }

    async fn referrers(&self, access: &Access, subject: &Digest) -> Result<Vec<Referrer>, StoreError> {
        let repositories = self.lock();
        let Some(repository) = repositories.get(&access.repository) else { return Ok(Vec::new()) };
        let of_subject = repository.referrers.iter().filter(|((of, _), _)| of == subject);
        Ok(of_subject.map(|(_, entry)| entry.clone()).collect())
    }

    async fn repositories(&self, _: &Principal, page: &Page) -> Result<Listing<RepositoryName>, StoreError> {
        Ok(page.cut(self.lock().keys().cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        let at = |repository: &str| Access::anonymous(repository.parse().unwrap());
        contract::check(&MemoryManifestStore::new(), &at("here/app"), &at("else/where")).await;
    }
}
