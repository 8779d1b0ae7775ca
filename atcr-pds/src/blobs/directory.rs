use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use atcr_core::syntax::Did;
use bytes::{Bytes, BytesMut};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use futures_util::stream::{BoxStream, StreamExt as _};
use ipld_core::cid::Cid;
use sha2::{Digest as _, Sha256};
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{BlobContent, BlobError, BlobSink, BlobStorage};
use crate::cbor::parse_cid;

/// Bytes read from a file at once.
const PIECE: usize = 64 * 1024;

/// Blobs as files: `<root>/<hash of the DID>/<cid>`, uploads in `<root>/incoming` until they are whole.
#[derive(Debug, Clone)]
pub struct DirectoryBlobs {
    root: PathBuf,
}

impl DirectoryBlobs {
    /// Uses `root`, making it if need be, and clears away uploads that an earlier process left unfinished.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let root = root.into();
        let incoming = root.join("incoming");
        match fs::remove_dir_all(&incoming).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&incoming)(error)),
            _ => {}
        }
        fs::create_dir_all(&incoming).await.map_err(at(&incoming))?;
        Ok(Self { root })
    }

    /// A DID may be longer than a file name and hold characters that some file systems refuse.
    fn folder(&self, did: &Did) -> PathBuf {
        let mut name = BASE32_NOPAD.encode(&Sha256::digest(did.as_str())[..20]);
        name.make_ascii_lowercase();
        self.root.join(name)
    }
}

fn at(place: &Path) -> impl FnOnce(std::io::Error) -> BlobError + use<> {
    let place = place.display().to_string();
    move |cause| BlobError { place, cause }
}

/// A file that is removed unless it was moved to its place.
struct Incoming {
    path: PathBuf,
    moved: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.moved
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished blob upload stays behind");
        }
    }
}

struct Sink {
    blobs: DirectoryBlobs,
    incoming: Incoming,
    file: fs::File,
}

#[async_trait]
impl BlobStorage for DirectoryBlobs {
    async fn begin(&self) -> Result<Box<dyn BlobSink>, BlobError> {
        let mut name = [0; 16];
        let incoming = self.root.join("incoming");
        getrandom::fill(&mut name).map_err(|e| at(&incoming)(std::io::Error::other(e)))?;
        let path = incoming.join(HEXLOWER.encode(&name));
        let file = fs::File::create_new(&path).await.map_err(at(&path))?;
        Ok(Box::new(Sink { blobs: self.clone(), incoming: Incoming { path, moved: false }, file }))
    }

    async fn open(&self, did: &Did, cid: &Cid) -> Result<Option<BlobContent>, BlobError> {
        let path = self.folder(did).join(cid.to_string());
        let file = match fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        let size = file.metadata().await.map_err(at(&path))?.len();
        let bytes = futures_util::stream::try_unfold((file, path), |(mut file, path)| async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = file.read_buf(&mut piece).await.map_err(at(&path))?;
            Ok((read > 0).then(|| (piece.freeze(), (file, path))))
        });
        Ok(Some(BlobContent { size, bytes: bytes.boxed() }))
    }

    async fn list(&self, did: &Did) -> Result<BoxStream<'static, Result<Cid, BlobError>>, BlobError> {
        let folder = self.folder(did);
        let entries = match fs::read_dir(&folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(futures_util::stream::empty().boxed());
            }
            Err(error) => return Err(at(&folder)(error)),
        };
        let names = futures_util::stream::try_unfold((entries, folder), |(mut entries, folder)| async move {
            loop {
                let Some(entry) = entries.next_entry().await.map_err(at(&folder))? else { return Ok(None) };
                // What is not named as a blob is none of ours.
                if let Some(cid) = entry.file_name().to_str().and_then(|name| parse_cid(name).ok()) {
                    return Ok(Some((cid, (entries, folder))));
                }
            }
        });
        Ok(names.boxed())
    }

    async fn delete(&self, did: &Did, cid: &Cid) -> Result<(), BlobError> {
        let path = self.folder(did).join(cid.to_string());
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl BlobSink for Sink {
    async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        self.file.write_all(&piece).await.map_err(at(&self.incoming.path))
    }

    async fn finish(self: Box<Self>, did: &Did, cid: &Cid) -> Result<(), BlobError> {
        let Self { blobs, mut incoming, mut file } = *self;
        file.flush().await.map_err(at(&incoming.path))?;
        file.sync_all().await.map_err(at(&incoming.path))?;
        let folder = blobs.folder(did);
        fs::create_dir_all(&folder).await.map_err(at(&folder))?;
        fs::rename(&incoming.path, folder.join(cid.to_string())).await.map_err(at(&incoming.path))?;
        incoming.moved = true;
        // The names have to be as durable as the bytes: the file's in its folder, the folder's in the root.
        for directory in [&folder, &blobs.root] {
            let opened = fs::File::open(directory).await.map_err(at(directory))?;
            opened.sync_all().await.map_err(at(directory))?;
        }
        Ok(())
    }
}
