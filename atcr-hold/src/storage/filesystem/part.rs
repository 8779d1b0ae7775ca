use std::fs::{self, File};

use atcr_core::files::{Block, Output};
use atcr_core::syntax::Tid;

use super::super::{Part, PartNumber, StorageError};
use super::failed;
use super::upload::{AppendLock, UploadDirectory};

/// A part on its way to the disk. Dropped before it is finished, it leaves nothing behind.
pub(super) struct PartWriter {
    directory: UploadDirectory,
    number: PartNumber,
    etag: Tid,
    output: Output,
    place: Place,
}

impl AsMut<Output> for PartWriter {
    fn as_mut(&mut self) -> &mut Output {
        &mut self.output
    }
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
                let file = File::options()
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
                    let place = Place::Append { start, _lock: lock };
                    return Ok(Self {
                        directory,
                        number,
                        etag,
                        output: Output::new(file, path, start),
                        place,
                    });
                }
            }
        }
        let path = directory.incoming(etag);
        let file = File::create_new(&path).map_err(|e| directory.error("making", &path, e))?;
        Ok(Self { directory, number, etag, output: Output::new(file, path, 0), place: Place::Own })
    }

    /// Makes the part count, after its last bytes.
    pub(super) fn finish(mut self, last: &Block) -> Result<Part, StorageError> {
        self.output.write(last).map_err(failed("filling", self.output.path()))?;
        self.directory.check_open()?;
        let end = self.output.end();
        let mut size = end;
        match &self.place {
            Place::Append { start, .. } => {
                size -= start;
                self.directory.journal_push(end, self.etag)?;
            }
            Place::Own => {
                let target = self.directory.part(self.number, self.etag);
                fs::rename(self.output.path(), &target)
                    .map_err(|e| self.directory.error("making", &target, e))?;
            }
            Place::Done => {}
        }
        self.place = Place::Done;
        Ok(Part { number: self.number, size, etag: self.etag.to_string() })
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        let cleared = match &self.place {
            Place::Append { start, .. } => self.output.file().set_len(*start),
            Place::Own => fs::remove_file(self.output.path()),
            Place::Done => Ok(()),
        };
        // When the upload is gone the file is too.
        if let Err(error) = cleared
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.output.path().display(), %error, "an unfinished part stays until its upload ends");
        }
    }
}
