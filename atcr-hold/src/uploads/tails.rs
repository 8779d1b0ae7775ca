//! The beginnings of parts that are too short to be parts: files of the hold, until what is missing has come.
//!
//! ```text
//! tails/<upload>/<part number>
//! ```
//!
//! How much of such a file counts is what the sender was told, and says again with the next piece. What stands behind
//! that was never acknowledged. A file stays until the upload ends, or until the sender goes on in the file of a later
//! part: until then the sender may have to repeat a step.

use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::methods::UploadId;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::UploadError;
use super::body::PartIntake;
use crate::storage::{PartNumber, StorageError};

/// Bytes of a file that are read at once.
const READ_PIECE: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Tails {
    folder: PathBuf,
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> UploadError {
    let doing = format!("keeping the beginning of a part in {}", path.display());
    |error| StorageError::io(doing, error).into()
}

async fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path).await?.sync_all().await
}

impl Tails {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn of(&self, id: &UploadId) -> PathBuf {
        // An id is random base64url, which is a name of a file as it is.
        self.folder.join(id.as_str())
    }

    /// Writes what comes behind the first `offset` bytes of the part, durably; gives the size that it has then.
    pub(super) async fn keep(
        &self,
        id: &UploadId,
        number: PartNumber,
        offset: u64,
        body: &mut PartIntake,
    ) -> Result<u64, UploadError> {
        let folder = self.of(id);
        let path = folder.join(number.to_string());
        let new = !fs::try_exists(&path).await.map_err(failed(&path))?;
        if new && offset > 0 {
            return Err(UploadError::MissingBeginning { number, offset });
        }
        if new {
            fs::create_dir_all(&folder).await.map_err(failed(&folder))?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(&path).await;
        let mut file = file.map_err(failed(&path))?;
        if file.metadata().await.map_err(failed(&path))?.len() < offset {
            return Err(UploadError::MissingBeginning { number, offset });
        }
        file.seek(SeekFrom::Start(offset)).await.map_err(failed(&path))?;
        let mut end = offset;
        while let Some(piece) = body.try_next().await.map_err(StorageError::Body)? {
            file.write_all(&piece).await.map_err(failed(&path))?;
            end += piece.len() as u64;
        }
        file.sync_all().await.map_err(failed(&path))?;
        if new {
            for made in [&folder, &self.folder] {
                sync(made).await.map_err(failed(made))?;
            }
        }
        if offset > 0 {
            self.forget_before(&folder, number).await;
        }
        Ok(end)
    }

    /// The first bytes of a part.
    pub(super) async fn read(
        &self,
        id: &UploadId,
        number: PartNumber,
        length: u64,
    ) -> Result<ByteStream, UploadError> {
        let path = self.of(id).join(number.to_string());
        let file = match File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(UploadError::MissingBeginning { number, offset: length });
            }
            Err(error) => return Err(failed(&path)(error)),
        };
        if file.metadata().await.map_err(failed(&path))?.len() < length {
            return Err(UploadError::MissingBeginning { number, offset: length });
        }
        Ok(ReaderStream::with_capacity(file.take(length), READ_PIECE).map_err(Source::from).boxed())
    }

    /// Removes the files of parts before this one, where the sender does not go back to.
    async fn forget_before(&self, folder: &Path, number: PartNumber) {
        let Ok(mut entries) = fs::read_dir(folder).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let of: Option<PartNumber> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if of.is_some_and(|of| of < number) {
                // What stays goes with the upload.
                let _ = fs::remove_file(entry.path()).await;
            }
        }
    }

    /// Removes what is kept of an upload.
    pub(super) async fn end(&self, id: &UploadId) -> Result<(), UploadError> {
        let folder = self.of(id);
        match fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&folder)(error)),
            _ => Ok(()),
        }
    }

    /// The uploads of which something has been kept for so long.
    pub(super) async fn older_than(&self, age: Duration) -> Result<Vec<UploadId>, UploadError> {
        let mut entries = match fs::read_dir(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.folder)(error)),
        };
        let mut old = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(failed(&self.folder))? {
            let Ok(metadata) = entry.metadata().await else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if modified.elapsed().unwrap_or_default() >= age {
                old.extend(id);
            }
        }
        Ok(old)
    }
}
