//! The log of a repository: what is in the file.
//!
//! It begins with [`MAGIC`]. A record is: the length of its change (4 bytes, little-endian), the length of its body (4 bytes), the first 8
//! bytes of the SHA-256 of the change, the change as JSON, the body: a manifest, byte for byte.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::files::{named, sync_directory};
use crate::oci::{Digest, MediaType, Tag};

/// What a log begins with: its format.
const MAGIC: &[u8; 16] = b"atcr manifests 1";
/// What stands before a change.
const HEAD: usize = 16;
/// No change is longer: it has a few fields and at most as many tags as a request has room for.
const MAX_CHANGE: u32 = 1 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Change {
    /// A manifest, and tags that point at it from now on. The body is the manifest, or empty when it is there.
    Put { digest: Digest, media_type: MediaType, size: u64, subject: Option<Digest>, tags: Vec<Tag> },
    /// A manifest with its tags is gone.
    Delete { digest: Digest },
    /// A tag is gone.
    Untag { tag: Tag },
}

/// A record as it was read.
pub(super) struct Record {
    pub(super) change: Change,
    /// Where the body is in the file.
    pub(super) body: (u64, u64),
    /// One past its last byte.
    pub(super) end: u64,
}

/// A file of records, as long as it was when it was opened.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) file: Arc<File>,
    inode: u64,
    len: u64,
}

impl Log {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { inode: metadata.ino(), len: metadata.len(), file: Arc::new(file) })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was ever written to it, or its first writer was killed.
    pub(super) fn is_empty(&self) -> bool {
        self.len < MAGIC.len() as u64
    }

    /// Where the first record begins.
    pub(super) fn begin(&self) -> io::Result<u64> {
        let mut magic = [0; MAGIC.len()];
        self.file.read_exact_at(&mut magic, 0)?;
        if magic == *MAGIC {
            Ok(MAGIC.len() as u64)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not a log of manifests that this version reads",
            ))
        }
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// The record that begins at this offset. `None` at the end, which also is where a record is not whole: it is
    /// being written, or its writer was killed.
    pub(super) fn record(&self, at: u64) -> io::Result<Option<Record>> {
        let Some(left) = self.len.checked_sub(at + HEAD as u64) else { return Ok(None) };
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, at)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (change_len, body_len) = (number(0), u64::from(number(4)));
        if change_len > MAX_CHANGE || u64::from(change_len) + body_len > left {
            return Ok(None);
        }
        let mut change = vec![0; change_len as usize];
        self.file.read_exact_at(&mut change, at + HEAD as u64)?;
        if Digest::sha256(&change).as_bytes()[..8] != head[8..] {
            return Ok(None);
        }
        let Ok(change) = serde_json::from_slice(&change) else { return Ok(None) };
        let body = at + HEAD as u64 + u64::from(change_len);
        let record = Record { change, body: (body, body_len), end: body + body_len };
        // A record before the last one was synced before the next was begun.
        if record.end == self.len && !self.is_whole(&record)? {
            return Ok(None);
        }
        Ok(Some(record))
    }

    fn is_whole(&self, record: &Record) -> io::Result<bool> {
        let (at, length) = record.body;
        match &record.change {
            Change::Put { digest, size, .. } if length > 0 => {
                Ok(*size == length && read(&self.file, at, length, digest)?.is_some())
            }
            _ => Ok(true),
        }
    }
}

/// The bytes of a manifest; `None` when they are not those of its digest.
pub(super) fn read(file: &File, at: u64, length: u64, digest: &Digest) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok((Digest::of(digest.algorithm(), &bytes) == *digest).then(|| bytes.into()))
}

fn encode(change: &Change, body: &[u8]) -> Result<Vec<u8>, StoreError> {
    let change = serde_json::to_vec(change).map_err(StoreError::internal)?;
    let length = |length: usize| u32::try_from(length).map_err(StoreError::internal);
    let mut record = Vec::with_capacity(HEAD + change.len() + body.len());
    record.extend_from_slice(&length(change.len())?.to_le_bytes());
    record.extend_from_slice(&length(body.len())?.to_le_bytes());
    record.extend_from_slice(&Digest::sha256(&change).as_bytes()[..8]);
    record.extend_from_slice(&change);
    record.extend_from_slice(body);
    Ok(record)
}

/// Writes a record behind the last one that is whole, durably. The caller has the lock.
pub(super) fn append(
    folder: &Path,
    path: &Path,
    end: u64,
    change: &Change,
    body: &[u8],
) -> Result<(), StoreError> {
    let mut record = encode(change, body)?;
    if end == 0 {
        record.splice(..0, *MAGIC);
    }
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(named("opening", path))?;
    let length = file.metadata().map_err(named("looking at", path))?.len();
    if length > end {
        // What a writer left that was killed, or had no room.
        file.set_len(end).map_err(named("cutting", path))?;
    }
    if let Err(error) = file.write_all_at(&record, end) {
        let _ = file.set_len(end);
        return Err(named("writing to", path)(error).into());
    }
    file.sync_data().map_err(named("syncing", path))?;
    if end == 0 {
        sync_directory(folder).map_err(named("syncing", folder))?;
    }
    Ok(())
}

/// Puts these records in place of the log, durably. The caller has the lock.
pub(super) fn replace(
    folder: &Path,
    path: &Path,
    records: impl IntoIterator<Item = Result<(Change, Bytes), StoreError>>,
) -> Result<(), StoreError> {
    let next = folder.join("manifests.next");
    let file = File::create(&next).map_err(named("making", &next))?;
    let write = |bytes: &[u8], at| file.write_all_at(bytes, at).map_err(named("writing to", &next));
    write(MAGIC, 0)?;
    let mut end = MAGIC.len() as u64;
    for record in records {
        let (change, body) = record?;
        let record = encode(&change, &body)?;
        write(&record, end)?;
        end += record.len() as u64;
    }
    file.sync_all().map_err(named("syncing", &next))?;
    fs::rename(&next, path).map_err(named("replacing", path))?;
    Ok(sync_directory(folder).map_err(named("syncing", folder))?)
}
