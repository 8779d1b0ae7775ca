//! Objects as files below one directory.
//!
//! ```text
//! docker/registry/v2/blobs/sha256/ab/<hex>/data   objects, under their keys
//! uploads/<id>/lock, completing                   held by whoever appends to `data`, or completes
//! uploads/<id>/data                               the parts that came in order, one after the other
//! uploads/<id>/journal                            where each part in `data` ends, and its ETag
//! uploads/<id>/part-<number>-<etag>               parts that came out of order, or again
//! uploads/<id>/complete                           the object, until it is relocated
//! ```
//!
//! Bytes of `data` below the last end in the journal never change while the upload goes on. In the usual case, parts
//! in order, completion is a sync and a rename.

mod part;
mod upload;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::blob_store::ByteStream;
use atcr_core::files::{Blocks, PourError, create_directory, pour, sync_directory};
use atcr_core::oci::ByteRange;
use atcr_core::syntax::TidClock;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use url::Url;

use self::part::PartWriter;
use self::upload::UploadDirectory;
use super::{
    Capabilities, Measured, Object, ObjectKey, ObjectStorage, OpenUpload, Part, PartBody, PartNumber,
    SignedRequest, StorageError, StorageUpload, Usage,
};

/// Bytes read from a file at once.
const READ_PIECE: u64 = 256 * 1024;

/// Keeps objects as files in a directory, in the layout of CNCF distribution. Not shared with other storages; several
/// processes on one machine may use it at once.
#[derive(Debug, Clone)]
pub struct FilesystemStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    etags: TidClock,
    blocks: Blocks,
}

impl FilesystemStorage {
    /// Uses the directory `root`, making it if need be.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        let clock = getrandom::u32().map_or(0, |n| u16::try_from(n & 0x3ff).unwrap_or_default());
        blocking(move || {
            let uploads = root.join("uploads");
            create_directory(&uploads).map_err(failed("making", &uploads))?;
            Ok(Self {
                inner: Arc::new(Inner {
                    root,
                    etags: TidClock::after(None, clock),
                    blocks: Blocks::default(),
                }),
            })
        })
        .await
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.inner.root.join(key.as_str())
    }

    fn directory(&self, upload: &StorageUpload) -> Result<UploadDirectory, StorageError> {
        UploadDirectory::new(&self.inner.root, upload)
    }
}

/// Runs what may block on its own thread. It runs to its end even when the caller goes away.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Failed { doing: "using a file".into(), source: error.into() }),
    }
}

/// Names the file in an error.
fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
    let doing = format!("{doing} {}", path.display());
    move |error| StorageError::io(doing, error)
}

fn size_of(path: &Path) -> Result<Option<u64>, StorageError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed("looking at", path)(error)),
    }
}

#[async_trait]
impl ObjectStorage for FilesystemStorage {
    fn capabilities(&self) -> Capabilities {
        Capabilities::unlimited()
    }

    async fn begin_upload(&self) -> Result<StorageUpload, StorageError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| StorageError::Failed {
            doing: "drawing an upload id".into(),
            source: e.to_string().into(),
        })?;
        let upload = StorageUpload(HEXLOWER.encode(&id));
        let directory = self.directory(&upload)?;
        blocking(move || directory.create()).await?;
        Ok(upload)
    }

    async fn put_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError> {
        let directory = self.directory(upload)?;
        let etag = self.inner.etags.now();
        let writer = blocking(move || PartWriter::open(directory, number, etag)).await?;
        let poured = pour(&self.inner.blocks, &mut Measured::new(size, body), writer, |_| ()).await;
        let (writer, last) = poured.map_err(|error| match error {
            PourError::Body(source) => StorageError::Body(source),
            PourError::Output(error) => StorageError::io("taking a part", error),
        })?;
        blocking(move || writer.finish(&last)).await
    }

    async fn presign_part(
        &self,
        _: &StorageUpload,
        _: PartNumber,
        _: Duration,
    ) -> Result<Option<SignedRequest>, StorageError> {
        Ok(None)
    }

    async fn list_parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError> {
        let directory = self.directory(upload)?;
        blocking(move || directory.parts()).await
    }

    async fn complete_upload(&self, upload: &StorageUpload, parts: &[Part]) -> Result<Object, StorageError> {
        let directory = self.directory(upload)?;
        let parts = parts.to_vec();
        let key = directory.key();
        let size = blocking(move || directory.complete(&parts)).await?;
        Ok(Object { key, size })
    }

    async fn abort_upload(&self, upload: &StorageUpload) -> Result<(), StorageError> {
        let directory = self.directory(upload)?;
        blocking(move || directory.remove()).await
    }

    async fn list_uploads(&self) -> Result<Vec<OpenUpload>, StorageError> {
        let root = self.inner.root.clone();
        blocking(move || {
            let folder = root.join("uploads");
            let mut open = Vec::new();
            for entry in fs::read_dir(&folder).map_err(failed("listing", &folder))? {
                let entry = entry.map_err(failed("listing", &folder))?;
                let upload = StorageUpload(entry.file_name().to_string_lossy().into_owned());
                let Ok(directory) = UploadDirectory::new(&root, &upload) else { continue };
                // It may end while it is being listed.
                if let Some(started) = directory.started()? {
                    open.push(OpenUpload { upload, started });
                }
            }
            Ok(open)
        })
        .await
    }

    async fn relocate(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        let (source, target) = (self.path(from), self.path(wanted));
        let (from, wanted) = (from.clone(), wanted.clone());
        blocking(move || {
            let folder = target.parent().unwrap_or(&target);
            for attempt in 0.. {
                create_directory(folder).map_err(failed("making", folder))?;
                match fs::rename(&source, &target) {
                    Ok(()) => break,
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(failed("moving an object to", &target)(error));
                    }
                    Err(_) if size_of(&source)?.is_none() => {
                        let there = size_of(&target)?.is_some();
                        return if there { Ok(wanted) } else { Err(StorageError::ObjectUnknown(from)) };
                    }
                    // A deletion took the empty folder away in between.
                    Err(error) if attempt == 3 => return Err(failed("moving an object to", &target)(error)),
                    Err(_) => {}
                }
            }
            sync_directory(folder).map_err(failed("syncing", folder))?;
            if let Some(upload) = UploadDirectory::of_key(&source)
                && let Err(error) = upload.remove()
            {
                tracing::warn!(%error, "what is left of a completed upload stays until the next sweep");
            }
            Ok(wanted)
        })
        .await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError> {
        let path = self.path(key);
        blocking(move || size_of(&path)).await
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        let path = self.path(key);
        let key = key.clone();
        let file = blocking(move || {
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(StorageError::ObjectUnknown(key));
                }
                Err(error) => return Err(failed("opening", &path)(error)),
            };
            file.seek(SeekFrom::Start(range.start)).map_err(failed("reading", &path))?;
            Ok(file)
        })
        .await?;
        let pieces = futures_util::stream::try_unfold((file, range.len()), |(file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = move || {
                let wanted = left.min(READ_PIECE);
                let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
                (&file).take(wanted).read_to_end(&mut piece)?;
                if piece.len() as u64 != wanted {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof));
                }
                Ok((file, piece))
            };
            let (file, piece) = tokio::task::spawn_blocking(read).await??;
            let left = left - piece.len() as u64;
            Ok(Some((Bytes::from(piece), (file, left))))
        });
        Ok(pieces.boxed())
    }

    async fn presign_get(&self, _: &ObjectKey, _: Duration) -> Result<Option<Url>, StorageError> {
        Ok(None)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let path = self.path(key);
        let root = self.inner.root.clone();
        blocking(move || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("deleting", &path)(error));
                }
                _ => {}
            }
            // In this layout an object has a folder of its own; it goes with it unless something came in meanwhile.
            if let Some(folder) = path.parent().filter(|folder| **folder != *root) {
                let _ = fs::remove_dir(folder);
            }
            Ok(())
        })
        .await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        let root = self.inner.root.clone();
        blocking(move || {
            let uploads = root.join("uploads");
            let mut usage = Usage::default();
            let mut folders = vec![root];
            while let Some(folder) = folders.pop() {
                let entries = match fs::read_dir(&folder) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed("listing", &folder)(error)),
                };
                for entry in entries {
                    let path = entry.map_err(failed("listing", &folder))?.path();
                    if path.is_dir() {
                        if path != uploads {
                            folders.push(path);
                        }
                    } else if let Some(size) = size_of(&path)? {
                        usage.objects += 1;
                        usage.bytes += size;
                    }
                }
            }
            Ok(usage)
        })
        .await
    }
}

/// When an upload was begun, by the age of its lock file.
fn timestamp(metadata: &fs::Metadata) -> Timestamp {
    metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        crate::storage::contract::check(|| async {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            FilesystemStorage::open(directory.path().join(n.to_string())).await.unwrap()
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract_on_several_threads() {
        let directory = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        crate::storage::contract::check(|| async {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            FilesystemStorage::open(directory.path().join(n.to_string())).await.unwrap()
        })
        .await;
    }
}
