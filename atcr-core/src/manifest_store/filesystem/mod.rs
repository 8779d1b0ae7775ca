//! Manifests and tags as a log in a file for each repository.
//!
//! ```text
//! repositories/<name, "+" for "/">/manifests   what was done, one record after the other
//! repositories/<name, "+" for "/">/lock        held by whoever appends to it
//! ```
//!
//! A put or a deletion is one record, synced before it is acknowledged: all of it is there after a crash, or nothing.
//! What the records come to is kept in memory and brought up to date when the file has grown, whoever wrote to it.

mod index;
mod log;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use moka::future::Cache;

use self::index::{Entry, Index};
use self::log::{Change, Log};
use super::{Listing, ManifestInfo, ManifestStore, Page, Referrer};
use crate::access::{Access, Principal};
use crate::error::StoreError;
use crate::files::{blocking, create_directory, named, repository_folder};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

/// Repositories whose index is kept in memory.
const REPOSITORIES: u64 = 256;
/// Bytes of manifests that are kept in memory.
const CACHED_BYTES: u64 = 16 << 20;
/// A manifest that is larger is read each time.
const CACHED_MANIFEST: usize = 1 << 20;

/// Keeps manifests and tags in files below a directory. Several processes of one machine may use it at once.
///
/// Memory holds what is listed of the repositories in use (some 200 bytes for each manifest and tag) and 16 MiB of
/// manifests.
#[derive(Debug, Clone)]
pub struct FilesystemManifestStore {
    root: Arc<PathBuf>,
    repositories: Cache<RepositoryName, Arc<Repository>>,
    manifests: Cache<Digest, Bytes>,
}

impl FilesystemManifestStore {
    /// Uses the directory `root`, making it if need be. A [`FilesystemBlobStore`](crate::blob_store::FilesystemBlobStore)
    /// may have the same one.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = Arc::new(root.into());
        let folder = root.join("repositories");
        blocking(move || create_directory(&folder).map_err(named("making", &folder))).await?;
        let weight = |_: &Digest, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Self {
            root,
            repositories: Cache::new(REPOSITORIES),
            manifests: Cache::builder().max_capacity(CACHED_BYTES).weigher(weight).build(),
        })
    }

    /// A repository with an index that is up to date; `None` when nothing was ever pushed there.
    async fn repository(&self, name: &RepositoryName) -> Result<Option<Arc<Repository>>, StoreError> {
        if let Some(repository) = self.repositories.get(name).await
            && repository.is_fresh()
        {
            return Ok(Some(repository));
        }
        let repository = self.any(name).await;
        let there = {
            let repository = Arc::clone(&repository);
            blocking(move || repository.refresh()).await?
        };
        Ok(there.then_some(repository))
    }

    /// A repository, whatever its index has.
    async fn any(&self, name: &RepositoryName) -> Arc<Repository> {
        let repository = || Arc::new(Repository::new(repository_folder(&self.root, name)));
        self.repositories.get_with_by_ref(name, async { repository() }).await
    }

    async fn change<T: Send + 'static>(
        &self,
        name: &RepositoryName,
        change: impl FnOnce(&Repository) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let repository = self.any(name).await;
        blocking(move || change(&repository)).await
    }

    async fn entry(
        &self,
        access: &Access,
        reference: &Reference,
    ) -> Result<(Arc<Repository>, Digest, Entry), StoreError> {
        if let Some(repository) = self.repository(&access.repository).await?
            && let Some((digest, entry)) = repository.index().find(reference)
        {
            return Ok((Arc::clone(&repository), digest, entry));
        }
        Err(manifest_unknown(reference))
    }
}

/// A repository's folder. Its methods block, but for [`Repository::index`].
#[derive(Debug)]
struct Repository {
    folder: PathBuf,
    index: Mutex<Index>,
}

fn manifest_unknown(reference: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound(format!("the manifest {reference}"))
}

impl Repository {
    fn new(folder: PathBuf) -> Self {
        Self { folder, index: Mutex::default() }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// Whether nobody has written since the index was brought up to date. One look at a file that was used before:
    /// this does not block for longer than a lock does.
    fn is_fresh(&self) -> bool {
        let seen = fs::metadata(self.log()).map(|metadata| (metadata.ino(), metadata.len()));
        let index = self.index();
        index.end() > 0 && seen.is_ok_and(|seen| index.seen() == Some(seen))
    }

    /// Brings the index up to date; `false` when nothing was ever pushed.
    fn refresh(&self) -> Result<bool, StoreError> {
        let path = self.log();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(named("opening", &path)(error).into()),
        };
        let log = Log::new(file).map_err(named("looking at", &path))?;
        let failed = named("reading", &path);
        if self.index().is_of(&log) {
            self.index().read_on(log).map_err(failed)?;
        } else {
            // All of it may take a while, in which nobody should wait for the lock.
            let mut index = Index::default();
            index.read_on(log).map_err(failed)?;
            *self.index() = index;
        }
        Ok(self.index().end() > 0)
    }

    /// Appends the record that `decide` makes of the index as it is now, while nobody else does.
    fn append(
        &self,
        decide: impl FnOnce(&Index) -> Result<(Change, Bytes), StoreError>,
    ) -> Result<(), StoreError> {
        let lock = self.folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock);
        let lock = lock.map_err(named("opening the lock in", &self.folder))?;
        lock.lock().map_err(named("locking", &self.folder))?;
        self.refresh()?;
        let (change, body) = decide(&self.index())?;
        let end = self.index().end();
        log::append(&self.folder, &self.log(), end, &change, &body)?;
        self.refresh()?;
        if self.index().is_worth_compacting() {
            let records = self.index().records();
            log::replace(&self.folder, &self.log(), records)?;
            self.refresh()?;
        }
        Ok(())
    }
}

#[async_trait]
impl ManifestStore for FilesystemManifestStore {
    async fn get(&self, access: &Access, reference: &Reference) -> Result<Manifest, StoreError> {
        let (_, digest, entry) = self.entry(access, reference).await?;
        let media_type = entry.media_type.clone();
        if let Some(bytes) = self.manifests.get(&digest).await {
            return Ok(Manifest { digest, media_type, bytes });
        }
        let bytes = blocking(move || entry.read(&digest)).await?;
        if bytes.len() <= CACHED_MANIFEST {
            self.manifests.insert(digest, bytes.clone()).await;
        }
        Ok(Manifest { digest, media_type, bytes })
    }

    async fn head(&self, access: &Access, reference: &Reference) -> Result<ManifestInfo, StoreError> {
        let (_, digest, entry) = self.entry(access, reference).await?;
        Ok(ManifestInfo { digest, size: entry.size, media_type: entry.media_type })
    }

    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError> {
        let tags = tags.to_vec();
        self.change(&access.repository, move |repository| {
            create_directory(&repository.folder).map_err(named("making", &repository.folder))?;
            repository.append(|index| {
                let subject = Referrer::of(&manifest).map(|(subject, _)| subject);
                let Manifest { digest, media_type, bytes } = manifest;
                // What is there already is only given its tags.
                let body = if index.has(&digest) { Bytes::new() } else { bytes.clone() };
                let size = bytes.len() as u64;
                Ok((Change::Put { digest, media_type, size, subject, tags }, body))
            })
        })
        .await
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let digest = *digest;
        self.change(&access.repository, move |repository| {
            if !repository.folder.exists() {
                return Err(manifest_unknown(digest));
            }
            repository.append(|index| {
                let deletion = index.has(&digest).then(|| (Change::Delete { digest }, Bytes::new()));
                deletion.ok_or_else(|| manifest_unknown(digest))
            })
        })
        .await
    }

    async fn delete_tag(&self, access: &Access, tag: &Tag) -> Result<(), StoreError> {
        let tag = tag.clone();
        self.change(&access.repository, move |repository| {
            let unknown = StoreError::NotFound(format!("the tag {tag}"));
            if !repository.folder.exists() {
                return Err(unknown);
            }
            repository.append(|index| match index.find(&Reference::Tag(tag.clone())) {
                Some(_) => Ok((Change::Untag { tag }, Bytes::new())),
                None => Err(unknown),
            })
        })
        .await
    }

    async fn tags(&self, access: &Access, page: &Page) -> Result<Listing<Tag>, StoreError> {
        let name = &access.repository;
        match self.repository(name).await? {
            Some(repository) => Ok(repository.index().tags(page)),
            None => Err(StoreError::RepositoryUnknown(format!("nothing was ever pushed to {name}"))),
        }
    }

    async fn referrers(&self, access: &Access, subject: &Digest) -> Result<Vec<Referrer>, StoreError> {
        let Some(repository) = self.repository(&access.repository).await? else { return Ok(Vec::new()) };
        let found = repository.index().referrers(subject);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        blocking(move || {
            let referrer = |(digest, entry): (Digest, Entry)| {
                let bytes = entry.read(&digest)?;
                Ok(Referrer::of(&Manifest { digest, media_type: entry.media_type, bytes }))
            };
            let referrers: Result<Vec<_>, StoreError> = found.into_iter().map(referrer).collect();
            Ok(referrers?.into_iter().flatten().map(|(_, referrer)| referrer).collect())
        })
        .await
    }

    async fn repositories(&self, _: &Principal, page: &Page) -> Result<Listing<RepositoryName>, StoreError> {
        let folder = self.root.join("repositories");
        let mut names = blocking(move || repositories(&folder)).await?;
        names.sort_unstable();
        Ok(page.cut(names))
    }
}

/// The repositories that something was pushed to.
fn repositories(folder: &Path) -> Result<Vec<RepositoryName>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(named("listing", folder))? {
        let entry = entry.map_err(named("listing", folder))?;
        let name = entry.file_name().to_str().and_then(|name| name.replace('+', "/").parse().ok());
        let pushed_to =
            || fs::metadata(entry.path().join("manifests")).is_ok_and(|metadata| metadata.len() > 0);
        names.extend(name.filter(|_| pushed_to()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
