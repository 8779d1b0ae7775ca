//! Blobs as files below one directory.
//!
//! ```text
//! repositories/<name, "+" for "/">/blobs/sha256/<hex>   the blobs of a repository
//! blobs/sha256/ab/<hex>                                 a second name of each, by which other repositories find it
//! uploads/<id>/journal                                  how far an upload is, and which files its bytes are in
//! uploads/<id>/<segment>                                its bytes
//! ```
//!
//! A blob that several repositories have is one file with several names (hard links), so that the filesystem counts
//! the references: a blob is in a repository while its name is, and its bytes go with the last name. A filesystem
//! without hard links keeps copies.

mod upload;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::upload::Upload;
use super::{BeginUpload, BlobContent, BlobInfo, BlobStore, ByteStream, UploadState};
use crate::access::Access;
use crate::error::StoreError;
use crate::files::{self, Blocks, PourError, blocking, create_directory, named, pour, sync_directory};
use crate::oci::{Algorithm, ByteRange, Digest, RangeRequest, RepositoryName};

/// An upload that nobody went on with for this long is given up.
const IDLE: Duration = Duration::from_hours(24);
/// How often the abandoned ones are looked for.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// Keeps blobs as files in a directory. Several processes of one machine may use it at once.
///
/// What it acknowledged as a blob is synced, and so are the bytes of an upload with each acknowledged step: an upload
/// goes on after the process was killed. Memory use does not depend on what is stored. Abandoned uploads are swept
/// once an hour, when another one begins.
#[derive(Debug, Clone)]
pub struct FilesystemBlobStore {
    files: Arc<Files>,
    discovery: bool,
    idle: Duration,
    swept: Arc<Mutex<Option<Instant>>>,
    blocks: Blocks,
}

impl FilesystemBlobStore {
    /// Uses the directory `root`, making it if need be. A [`FilesystemManifestStore`](crate::manifest_store::FilesystemManifestStore)
    /// may have the same one.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let files = Files { root: root.into() };
        blocking(move || {
            for folder in [files.uploads(), files.root.join("blobs"), files.root.join("repositories")] {
                create_directory(&folder).map_err(named("making", &folder))?;
            }
            let files = Arc::new(files);
            Ok(Self { files, discovery: false, idle: IDLE, swept: Arc::default(), blocks: Blocks::default() })
        })
        .await
    }

    /// Lets a mount that names no source take the blob from any repository: for registries where everybody may read
    /// everything. Elsewhere that would tell who has which content, and give it away.
    #[must_use]
    pub fn with_discovery(self) -> Self {
        Self { discovery: true, ..self }
    }

    /// Gives up uploads that nobody went on with for `idle`; 24 hours unless set. Not shorter than the registry's own
    /// limit, or sessions end before their time.
    #[must_use]
    pub fn with_upload_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Removes the uploads that were given up, and gives their number. [`BlobStore::begin`] does it once an hour.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let (files, idle) = (Arc::clone(&self.files), self.idle);
        blocking(move || upload::sweep(&files.uploads(), idle)).await
    }

    /// Whether it is time to sweep; it is then noted as done.
    fn sweep_is_due(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        if due {
            *swept = Some(Instant::now());
        }
        due
    }
}

/// The paths. Every method that is not `async` blocks.
#[derive(Debug)]
struct Files {
    root: PathBuf,
}

/// A name that no other process or thread has.
fn unique() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::internal(error.to_string()))
}

fn unknown(digest: &Digest) -> StoreError {
    StoreError::NotFound(format!("the blob {digest}"))
}

impl Files {
    fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// A blob's name in a repository.
    fn blob(&self, repository: &RepositoryName, digest: &Digest) -> PathBuf {
        let folder = crate::files::repository_folder(&self.root, repository);
        folder.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// A blob's name for all repositories.
    fn shared(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs").join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    /// A blob's bytes, and how many they are.
    async fn open(&self, repository: &RepositoryName, digest: &Digest) -> Result<(File, u64), StoreError> {
        let path = self.blob(repository, digest);
        files::open(path.clone()).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => unknown(digest),
            _ => named("opening", &path)(error).into(),
        })
    }

    fn size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, StoreError> {
        let path = self.blob(repository, digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown(digest)),
            Err(error) => Err(named("looking at", &path)(error).into()),
        }
    }

    /// Gives the synced file `source` the durable name `target`. `None` when there is no such file.
    fn link(&self, source: &Path, target: &Path) -> Result<Option<()>, StoreError> {
        let folder = target.parent().unwrap_or(target);
        let made = match fs::hard_link(source, target) {
            Err(error) if error.kind() == ErrorKind::NotFound && source.exists() => {
                create_directory(folder).map_err(named("making", folder))?;
                fs::hard_link(source, target)
            }
            made => made,
        };
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // Too many names for one file, or a filesystem where a file has one name.
            Err(_) => self.copy(source, target)?,
        }
        sync_directory(folder).map_err(named("syncing", folder))?;
        Ok(Some(()))
    }

    fn copy(&self, source: &Path, target: &Path) -> Result<(), StoreError> {
        let copy = self.uploads().join(format!("copy-{:016x}", unique()?));
        let made = fs::copy(source, &copy)
            .and_then(|_| File::open(&copy)?.sync_all())
            .and_then(|()| fs::rename(&copy, target));
        if made.is_err() {
            let _ = fs::remove_file(&copy);
        }
        Ok(made.map_err(named("copying to", target))?)
    }

    /// Makes the synced file `source` a blob of the repository; it may be gone from where it was then.
    fn publish(&self, source: &Path, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (target, shared) = (self.blob(repository, digest), self.shared(digest));
        let size = fs::metadata(source).map_err(named("looking at", source))?.len();
        let same_size = |path: &Path| fs::metadata(path).is_ok_and(|there| there.len() == size);
        // Whether another repository has it, or had it a moment ago.
        if same_size(&shared) && self.link(&shared, &target)?.is_some() && same_size(&target) {
            return Ok(());
        }
        self.link(source, &target)?;
        if !same_size(&target) {
            // A file system that lost some of it in a crash. These are the right bytes.
            fs::rename(source, &target).map_err(named("replacing", &target))?;
            return Ok(sync_directory(target.parent().unwrap_or(&target))?);
        }
        // A name that is lost costs space and nothing else, so it is not synced.
        let folder = shared.parent().unwrap_or(&shared);
        if let Err(error) = fs::create_dir_all(folder).and_then(|()| fs::rename(source, &shared)) {
            tracing::warn!(%error, %digest, "equal blobs of other repositories will be kept apart from this one");
        }
        Ok(())
    }

    fn mount(
        &self,
        source: &Path,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, StoreError> {
        if self.link(source, &self.blob(repository, digest))?.is_none() {
            return Ok(None);
        }
        self.size(repository, digest).map(Some)
    }

    fn delete(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob(repository, digest);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(unknown(digest)),
            Err(error) => return Err(named("deleting", &path)(error).into()),
        }
        let folder = path.parent().unwrap_or(&path);
        sync_directory(folder).map_err(named("syncing", folder))?;
        // Somebody who finds the shared name at this moment gets a name of their own for the same file.
        let shared = self.shared(digest);
        if fs::metadata(&shared).is_ok_and(|metadata| metadata.nlink() == 1) {
            match fs::remove_file(&shared) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(named("deleting", &shared)(error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BlobStore for FilesystemBlobStore {
    async fn stat(&self, access: &Access, digest: &Digest) -> Result<BlobInfo, StoreError> {
        let (_, size) = self.files.open(&access.repository, digest).await?;
        Ok(BlobInfo { digest: *digest, size })
    }

    async fn open(
        &self,
        access: &Access,
        digest: &Digest,
        range: Option<RangeRequest>,
    ) -> Result<BlobContent, StoreError> {
        let (file, size) = self.files.open(&access.repository, digest).await?;
        let range = match range {
            None => ByteRange { start: 0, end: size },
            Some(range) => range.resolve(size).ok_or(StoreError::RangeNotSatisfiable { size })?,
        };
        Ok(BlobContent::Stream { size, range, body: files::stream(file, range.start, range.len()) })
    }

    async fn begin(&self, access: &Access, options: BeginUpload) -> Result<UploadState, StoreError> {
        if self.sweep_is_due() {
            let store = self.clone();
            tokio::spawn(async move {
                if let Err(error) = store.sweep().await {
                    tracing::warn!(%error, "abandoned uploads stay until the next sweep");
                }
            });
        }
        let algorithm = options.digest.map(|digest| digest.algorithm()).or(options.algorithm);
        let (files, repository) = (Arc::clone(&self.files), access.repository.clone());
        let begin =
            move || Upload::begin(&files.uploads(), &repository, algorithm.unwrap_or(Algorithm::Sha256));
        blocking(begin).await
    }

    async fn append(
        &self,
        access: &Access,
        upload: UploadState,
        mut body: ByteStream,
    ) -> Result<UploadState, StoreError> {
        let (upload, place) = Upload::of(&self.files.uploads(), &upload)?;
        let repository = access.repository.clone();
        let (writer, mut hasher) = blocking(move || upload.writer(&repository, place)).await?;
        let poured = pour(&self.blocks, &mut body, writer, |bytes| hasher.update(bytes)).await;
        let (writer, last) = poured.map_err(|error| match error {
            PourError::Body(source) => StoreError::BodyInterrupted(source),
            PourError::Output(error) => error.into(),
        })?;
        blocking(move || writer.acknowledge(&last, &hasher)).await
    }

    async fn status(&self, access: &Access, upload: &UploadState) -> Result<(), StoreError> {
        let (upload, place) = Upload::of(&self.files.uploads(), upload)?;
        let repository = access.repository.clone();
        blocking(move || upload.journal(&repository)?.until(place).map(|_| ())).await
    }

    async fn finish(
        &self,
        access: &Access,
        upload: UploadState,
        digest: &Digest,
    ) -> Result<BlobInfo, StoreError> {
        let (files, repository, digest) = (Arc::clone(&self.files), access.repository.clone(), *digest);
        let size = upload.offset;
        let (upload, place) = Upload::of(&files.uploads(), &upload)?;
        blocking(move || {
            match upload.finish(&repository, place, &digest, |file| files.publish(file, &repository, &digest))
            {
                // The client did not get the answer to what it asks for again.
                Err(StoreError::UploadUnknown) if files.size(&repository, &digest).ok() == Some(size) => {
                    Ok(())
                }
                result => result,
            }
        })
        .await?;
        Ok(BlobInfo { digest, size })
    }

    async fn abort(&self, access: &Access, upload: UploadState) -> Result<(), StoreError> {
        let (upload, place) = Upload::of(&self.files.uploads(), &upload)?;
        let repository = access.repository.clone();
        blocking(move || upload.abort(&repository, place)).await
    }

    async fn mount(
        &self,
        access: &Access,
        from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, StoreError> {
        let source = match from {
            Some(from) => self.files.blob(from, digest),
            None if self.discovery => self.files.shared(digest),
            None => return Ok(None),
        };
        let (files, repository, digest) = (Arc::clone(&self.files), access.repository.clone(), *digest);
        let size = blocking(move || files.mount(&source, &repository, &digest)).await?;
        Ok(size.map(|size| BlobInfo { digest, size }))
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let (files, repository, digest) = (Arc::clone(&self.files), access.repository.clone(), *digest);
        blocking(move || files.delete(&repository, &digest)).await
    }
}

#[cfg(test)]
mod tests;
