//! Files that are there after a power failure, written at little cost: what the stores on a filesystem have in common.

mod cached;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::blob_store::ByteStream;
use crate::error::Source;
use crate::oci::RepositoryName;

pub use cached::{open, stream};

/// Bytes of a body that are gathered before they are written: enough that a write costs more than the way to it.
const GATHERED_BYTES: usize = 1024 * 1024;
/// Pieces that are gathered at most, however small they are.
const GATHERED_PIECES: usize = 256;

/// The bytes that one write to a file should have at most. Larger ones make the page cache take huge pages one by one,
/// which was measured to cost three times as much CPU time for each byte (Linux 6, ext4).
pub const WRITE_BYTES: usize = 64 * 1024;

/// Makes a change of the entries of a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    #[cfg(test)]
    synced::note(path);
    Ok(())
}

/// What was synced, for tests: nothing that survives a test tells of it.
#[cfg(test)]
pub(crate) mod synced {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    pub(super) fn note(path: &Path) {
        DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    }

    /// Whether a directory was synced since it was made.
    pub(crate) fn has(path: &Path) -> bool {
        DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|synced| synced == path)
    }
}

/// Makes a directory with all that is above it, durably. It is no error when it is there.
pub fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_directory(path.parent().ok_or(error)?)?;
            create_directory(path)
        }
        Err(error) => Err(error),
    }
}

/// Names the file in an error, and keeps its kind.
pub fn named(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error + use<> {
    let doing = format!("{doing} {}", path.display());
    move |error| io::Error::new(error.kind(), format!("{doing}: {error}"))
}

/// Runs what may block on a thread of its own. It runs to its end even when the caller goes away.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error).into()),
    }
}

/// Where [`pour`] pours to.
pub trait Sink: Send + 'static {
    /// Takes the next bytes; it may block.
    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()>;
}

/// Why a body did not get into its sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PourError {
    /// The body ended early.
    #[error("the body was cut off")]
    Body(#[source] Source),
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// Writes a body to its end and gives the sink back. The sink is dropped when that fails or the future is.
///
/// The bytes are written by the thread that received them, while they are still in its caches: handing each piece to
/// another thread costs a third more CPU time. A runtime with one thread has to hand them over.
pub async fn pour<S: Sink>(mut body: ByteStream, mut sink: S) -> Result<S, PourError> {
    let in_place = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut gathered = 0;
    loop {
        let piece = body.next().await.transpose().map_err(PourError::Body)?;
        let ended = piece.is_none();
        if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
            gathered += piece.len();
            pieces.push(piece);
        }
        if gathered > 0 && (ended || gathered >= GATHERED_BYTES || pieces.len() >= GATHERED_PIECES) {
            if in_place {
                tokio::task::block_in_place(|| sink.write(&pieces))?;
                pieces.clear();
            } else {
                let batch = std::mem::take(&mut pieces);
                sink = blocking(move || sink.write(&batch).map(|()| sink)).await?;
            }
            gathered = 0;
        }
        if ended {
            return Ok(sink);
        }
    }
}

/// The folder of a repository below the root of a store. One folder for each repository, whatever its name has of
/// slashes, so that none lies in another.
pub(crate) fn repository_folder(root: &Path, repository: &RepositoryName) -> PathBuf {
    root.join("repositories").join(repository.as_str().replace('/', "+"))
}
