//! Files that are there after a power failure, written at little cost: what the stores on a filesystem have in common.

mod cached;
mod pour;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::oci::RepositoryName;

pub use cached::{open, stream};
pub use pour::{Block, Blocks, Output, PourError, WRITE_BYTES, pour};

/// Makes a change of the entries of a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    #[cfg(test)]
    synced::note(path);
    Ok(())
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

/// Opens a file for appending. Where there is none it is made, and nobody but its owner may read it (on Unix).
pub fn open_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
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

/// The folder of a repository below the root of a store. One folder for each repository, whatever its name has of
/// slashes, so that none lies in another.
pub(crate) fn repository_folder(root: &Path, repository: &RepositoryName) -> PathBuf {
    root.join("repositories").join(repository.as_str().replace('/', "+"))
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
