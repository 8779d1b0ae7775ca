use std::collections::HashSet;
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use atcr_core::syntax::{Datetime, Did};
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use ipld_core::cid::Cid;
use sha2::{Digest as _, Sha256};
use tokio::sync::RwLock;

use super::{BlobContent, BlobError, BlobSink, BlobStorage};
use crate::cbor::{BlobRef, cid_for_raw_digest};
use crate::{RepoError, Repos};

/// The largest blob where nothing else is set: 5 MiB, as in the reference server.
pub const DEFAULT_BLOB_LIMIT: u64 = 5 * 1024 * 1024;

/// What the type of a blob is recognised by: so many of its first bytes.
const SNIFFED: usize = 4100;
/// Compressed bytes that are unpacked at once: at most about a thousand times as much comes out.
const PACKED_PIECE: usize = 4096;
/// Blobs removed in one step of a sweep.
const SWEEP_STEP: usize = 500;

/// Why a blob was not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// Larger than the server takes.
    #[error("the blob is larger than {limit} bytes")]
    TooLarge {
        /// The most it takes, in bytes.
        limit: u64,
    },
    /// The body broke off.
    #[error("the request body broke off: {0}")]
    Body(String),
    /// `Content-Encoding: gzip` was said, and it is not.
    #[error("the request body is not gzip, though its Content-Encoding says so")]
    Gzip,
    /// The bytes could not be kept.
    #[error(transparent)]
    Storage(#[from] BlobError),
    /// The repo does not take the blob.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Takes in, hands out and clears away blobs: the bytes in a [`BlobStorage`], the rest in [`Repos`].
#[derive(Clone)]
pub struct Blobs {
    storage: Arc<dyn BlobStorage>,
    limit: u64,
    /// Shared by uploads from the moment their bytes take their name until they are noted; alone for a sweep, which
    /// forgets first and removes bytes then. Otherwise it could remove what was uploaded anew in between.
    sweeping: Arc<RwLock<()>>,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Blobs {
    /// Blobs of at most `limit` bytes in `storage`.
    pub fn new(storage: Arc<dyn BlobStorage>, limit: u64) -> Self {
        Self { storage, limit, sweeping: Arc::default() }
    }

    /// The largest blob that is taken, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes in a blob: hashed while it is written, in bounded memory. `gzip` says that the body is packed; what is
    /// kept is what was packed. The media type is the one that the first bytes show, else `mime_type`.
    ///
    /// The blob stays invisible until a record of `did` refers to it. Cancelled or failed, nothing is left behind.
    pub async fn upload<E: fmt::Display>(
        &self,
        repos: &Repos,
        did: &Did,
        mime_type: &str,
        gzip: bool,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<BlobRef, UploadError> {
        let mut intake = Intake {
            sink: self.storage.begin().await?,
            hash: Sha256::new(),
            head: Vec::new(),
            size: 0,
            limit: self.limit,
        };
        let mut body = std::pin::pin!(body);
        let mut unpack = gzip.then(|| GzDecoder::new(Vec::new()));
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| UploadError::Body(e.to_string()))?;
            match &mut unpack {
                None => intake.take(piece).await?,
                Some(unpack) => {
                    for packed in piece.chunks(PACKED_PIECE) {
                        unpack.write_all(packed).map_err(|_| UploadError::Gzip)?;
                        intake.take(Bytes::from(std::mem::take(unpack.get_mut()))).await?;
                    }
                }
            }
        }
        if let Some(unpack) = unpack {
            intake.take(Bytes::from(unpack.finish().map_err(|_| UploadError::Gzip)?)).await?;
        }
        let blob = BlobRef {
            cid: cid_for_raw_digest(intake.hash.finalize().into()),
            mime_type: sniff(&intake.head).unwrap_or(mime_type).to_owned(),
            size: intake.size,
        };
        let _shared = self.sweeping.read().await;
        intake.sink.finish(did, &blob.cid).await?;
        repos.put_blob(did, &blob).await?;
        Ok(blob)
    }

    /// Opens the bytes of a blob; `None` when they are not there. Whether a record refers to it is for the caller to
    /// ask of [`Repos::blob`].
    pub async fn open(&self, did: &Did, cid: &Cid) -> Result<Option<BlobContent>, BlobError> {
        self.storage.open(did, cid).await
    }

    /// Removes the blobs that no record refers to and that were uploaded before `before` (the specification asks to
    /// keep them for an hour at least), and bytes that nobody knows of, since a crash came between them and the note
    /// of them. Returns how many.
    pub async fn sweep(&self, repos: &Repos, before: Datetime) -> Result<usize, UploadError> {
        Ok(self.sweep_unreferenced(repos, before).await? + self.sweep_unknown(repos).await?)
    }

    async fn sweep_unknown(&self, repos: &Repos) -> Result<usize, UploadError> {
        let mut removed = 0;
        let mut after = None;
        loop {
            let page = repos.list_repos(after, SWEEP_STEP).await?;
            let Some(last) = page.last() else { return Ok(removed) };
            after = Some(last.id);
            for repo in page {
                let mut pieces = self.storage.list(&repo.did).await?.try_chunks(SWEEP_STEP);
                while let Some(piece) = pieces.next().await {
                    let piece = piece.map_err(|error| error.1)?;
                    // No upload is between its bytes and its note now.
                    let _alone = self.sweeping.write().await;
                    let known: HashSet<Cid> = match repos.blobs(&repo.did, &piece).await {
                        Ok(rows) => rows.into_iter().map(|row| row.blob.cid).collect(),
                        // The repo went meanwhile.
                        Err(RepoError::RepoNotFound(_)) => HashSet::new(),
                        Err(error) => return Err(error.into()),
                    };
                    for cid in piece.iter().filter(|cid| !known.contains(cid)) {
                        self.storage.delete(&repo.did, cid).await?;
                        removed += 1;
                    }
                }
            }
        }
    }

    async fn sweep_unreferenced(&self, repos: &Repos, before: Datetime) -> Result<usize, UploadError> {
        let mut removed = 0;
        loop {
            let _alone = self.sweeping.write().await;
            let forgotten = repos.forget_blobs(before.clone(), SWEEP_STEP).await?;
            let mut failed = None;
            for (did, cid) in &forgotten {
                match self.storage.delete(did, cid).await {
                    Ok(()) => removed += 1,
                    // They are forgotten: each is tried now or never.
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
            if forgotten.len() < SWEEP_STEP {
                return Ok(removed);
            }
        }
    }
}

struct Intake {
    sink: Box<dyn BlobSink>,
    hash: Sha256,
    head: Vec<u8>,
    size: u64,
    limit: u64,
}

impl Intake {
    async fn take(&mut self, piece: Bytes) -> Result<(), UploadError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.size += piece.len() as u64;
        if self.size > self.limit {
            return Err(UploadError::TooLarge { limit: self.limit });
        }
        self.hash.update(&piece);
        let missing = SNIFFED.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..missing]);
        Ok(self.sink.write(piece).await?)
    }
}

/// The media type that the first bytes show. Text is never recognised: a guess there would only do harm.
fn sniff(head: &[u8]) -> Option<&'static str> {
    let kind = infer::get(head)?;
    (kind.matcher_type() != infer::MatcherType::Text).then(|| kind.mime_type())
}

#[cfg(test)]
mod tests {
    use super::sniff;

    #[test]
    fn packed_and_picture_formats_are_recognised_and_text_is_not() {
        assert_eq!(sniff(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), Some("application/gzip"));
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Some("image/png"));
        assert_eq!(sniff(b"{\"schemaVersion\":2}"), None);
        assert_eq!(sniff(b"<html><body>"), None);
        assert_eq!(sniff(b"#!/bin/sh\n"), None);
        assert_eq!(sniff(b""), None);
    }
}
