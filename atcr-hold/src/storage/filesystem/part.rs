use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use atcr_core::syntax::Tid;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::super::{Part, PartBody, PartNumber, StorageError};
use super::upload::{AppendLock, UploadDirectory};
use super::{blocking, failed};

/// Bytes that are gathered before they are written: enough that a write costs more than the way to it.
const GATHERED_BYTES: usize = 256 * 1024;
/// Bytes of one write. Larger ones make the page cache take huge pages one by one, which was measured to cost three
/// times as much CPU time for each byte (Linux 6, ext4: 0.75 s/GiB up to 128 KiB, 2.5 s/GiB from 256 KiB).
const WRITTEN_BYTES: usize = 64 * 1024;
/// Pieces that are gathered at most, however small they are.
const GATHERED_PIECES: usize = 64;

/// A part on its way to the disk. Dropped before it is finished, it leaves nothing behind.
pub(super) struct PartWriter {
    directory: UploadDirectory,
    number: PartNumber,
    etag: Tid,
    file: File,
    path: PathBuf,
    size: u64,
    place: Place,
}

enum Place {
    /// At the end of `data`, which nobody else appends to meanwhile.
    Append { start: u64, _lock: AppendLock },
    /// In a file of its own.
    Own,
    /// It has got there.
    Done,
}

impl PartWriter {
    /// Opens the end of `data` when this part is the next one there and nobody else is writing, else a file.
    pub(super) fn open(
        directory: UploadDirectory,
        number: PartNumber,
        etag: Tid,
    ) -> Result<Self, StorageError> {
        directory.check_open()?;
        if let Some(lock) = directory.lock()? {
            let (count, start) = directory.journal_end()?;
            let path = directory.data();
            if count + 1 == u64::from(number.get()) {
                let mut file = File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path)
                    .map_err(|e| directory.error("opening", &path, e))?;
                let length = file.metadata().map_err(failed("looking at", &path))?.len();
                // After a power failure the journal can be ahead of the data; what is missing is then found missing
                // at completion.
                if length >= start {
                    // What stands behind the last acknowledged part was cut off.
                    file.set_len(start).map_err(failed("truncating", &path))?;
                    file.seek(SeekFrom::Start(start)).map_err(failed("seeking in", &path))?;
                    let place = Place::Append { start, _lock: lock };
                    return Ok(Self { directory, number, etag, file, path, size: 0, place });
                }
            }
        }
        let path = directory.incoming(etag);
        let file = File::create_new(&path).map_err(|e| directory.error("making", &path, e))?;
        Ok(Self { directory, number, etag, file, path, size: 0, place: Place::Own })
    }

    fn write(&mut self, pieces: &[Bytes]) -> Result<(), StorageError> {
        for piece in pieces.iter().flat_map(|piece| piece.chunks(WRITTEN_BYTES)) {
            self.file.write_all(piece).map_err(failed("writing", &self.path))?;
            self.size += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes the part count.
    pub(super) fn finish(mut self) -> Result<Part, StorageError> {
        self.directory.check_open()?;
        match &self.place {
            Place::Append { start, .. } => self.directory.journal_push(start + self.size, self.etag)?,
            Place::Own => {
                let target = self.directory.part(self.number, self.etag);
                fs::rename(&self.path, &target).map_err(|e| self.directory.error("making", &target, e))?;
            }
            Place::Done => {}
        }
        self.place = Place::Done;
        Ok(Part { number: self.number, size: self.size, etag: self.etag.to_string() })
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        let cleared = match &self.place {
            Place::Append { start, .. } => self.file.set_len(*start),
            Place::Own => fs::remove_file(&self.path),
            Place::Done => Ok(()),
        };
        // When the upload is gone the file is too.
        if let Err(error) = cleared
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished part stays until its upload ends");
        }
    }
}

/// Writes a body to its end.
///
/// The bytes are written by the thread that received them, while they are still in its caches: handing each piece to
/// another thread costs a third more CPU time. A runtime with one thread has to hand them over.
pub(super) async fn pour(
    body: &mut PartBody<'_>,
    mut writer: PartWriter,
) -> Result<PartWriter, StorageError> {
    let in_place = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut gathered = 0;
    loop {
        let piece = body.next().await.transpose().map_err(StorageError::Body)?;
        let ended = piece.is_none();
        if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
            gathered += piece.len();
            pieces.push(piece);
        }
        if ended || gathered >= GATHERED_BYTES || pieces.len() >= GATHERED_PIECES {
            if in_place {
                tokio::task::block_in_place(|| writer.write(&pieces))?;
                pieces.clear();
            } else {
                let batch = std::mem::take(&mut pieces);
                writer = blocking(move || writer.write(&batch).map(|()| writer)).await?;
            }
            gathered = 0;
        }
        if ended {
            return Ok(writer);
        }
    }
}
