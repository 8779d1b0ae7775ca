use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tempfile::NamedTempFile;

use super::{Measured, PartBody, StorageError};

/// A part of at most this size is kept in memory, where it can be sent again when the storage fails.
const IN_MEMORY: usize = 256 * 1024;
/// What the names of the files of parts begin with.
const SPOOLED: &str = ".atcr-part-";
/// A file that nobody has written to for so long is nobody's.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// What came of a body until it ended or became too large for memory.
pub(super) struct Beginning {
    pub(super) pieces: Vec<Bytes>,
    pub(super) size: usize,
    pub(super) ended: bool,
}

impl Beginning {
    pub(super) async fn of(body: &mut Measured<&mut PartBody<'_>>) -> Result<Self, StorageError> {
        let mut begun = Self { pieces: Vec::new(), size: 0, ended: false };
        while begun.size < IN_MEMORY {
            let Some(piece) = body.next().await else {
                begun.ended = true;
                break;
            };
            let piece = piece.map_err(StorageError::Body)?;
            begun.size += piece.len();
            begun.pieces.push(piece);
        }
        Ok(begun)
    }

    /// As one piece.
    pub(super) fn joined(mut self) -> Bytes {
        match self.pieces.len() {
            1 => self.pieces.remove(0),
            _ => self.pieces.concat().into(),
        }
    }
}

/// Gathers a body of at most `limit` bytes in a file, which goes when it is dropped. Gives its size too.
pub(super) async fn gather(
    folder: &Path,
    begun: Beginning,
    body: &mut Measured<&mut PartBody<'_>>,
    limit: u64,
) -> Result<(NamedTempFile, u64), StorageError> {
    let folder = folder.to_owned();
    let mut size = begun.size as u64;
    let mut batch = begun.pieces;
    let mut file = blocking(move || tempfile::Builder::new().prefix(SPOOLED).tempfile_in(folder)).await?;
    loop {
        file = blocking(move || {
            batch.iter().try_for_each(|piece| file.write_all(piece))?;
            Ok(file)
        })
        .await?;
        let next = Beginning::of(body).await?;
        size += next.size as u64;
        if size > limit {
            return Err(too_large(size, limit));
        }
        batch = next.pieces;
        if batch.is_empty() {
            return Ok((file, size));
        }
    }
}

/// Removes the files of parts that a process which was killed has left.
pub(super) async fn sweep(folder: &Path) {
    let folder = folder.to_owned();
    let swept = blocking(move || {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let ours = entry.file_name().to_string_lossy().starts_with(SPOOLED);
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if ours && age > ABANDONED {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    });
    if let Err(error) = swept.await {
        tracing::debug!(%error, "what is left in the spool stays");
    }
}

/// A part is larger than the storage takes.
pub(super) fn too_large(size: u64, limit: u64) -> StorageError {
    StorageError::PartSize { size, limit: format!("one has at most {limit} bytes") }
}

/// Reading or writing a part's file failed.
pub(super) fn failed(error: io::Error) -> StorageError {
    StorageError::io("gathering a part in a file", error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).flatten().map_err(failed)
}
