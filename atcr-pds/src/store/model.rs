use std::fmt;

use atcr_core::syntax::{Did, Nsid, RecordKey, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;

use crate::cbor::BlobRef;
use crate::repo::{Head, RecordPath};

/// The number by which a store knows a repo. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(pub i64);

/// The hosting status of an account (specification, Account Hosting).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RepoStatus {
    /// Takes commits and is served.
    #[default]
    Active,
    /// Switched off by its owner.
    Deactivated,
    /// Suspended by the operator, for a time.
    Suspended,
    /// Taken down by the operator.
    Takendown,
    /// Deleted; only ever seen in an event.
    Deleted,
}

impl RepoStatus {
    /// The name in the lexicon; `active` for the one that has none there.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Suspended => "suspended",
            Self::Takendown => "takendown",
            Self::Deleted => "deleted",
        }
    }

    /// Reads what [`RepoStatus::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Deactivated, Self::Suspended, Self::Takendown, Self::Deleted]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

impl fmt::Display for RepoStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A repo as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoInfo {
    /// Its number in this store.
    pub id: RepoId,
    /// Whose it is.
    pub did: Did,
    /// The newest commit.
    pub head: Head,
    /// The root of the tree.
    pub data: Cid,
    /// Hosting status.
    pub status: RepoStatus,
}

/// A block with the revision that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its CID.
    pub cid: Cid,
    /// The first revision that has it, since it was last absent.
    pub rev: Tid,
    /// Its bytes; their hash is the CID's.
    pub bytes: Bytes,
}

/// A record with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it is.
    pub path: RecordPath,
    /// Its CID.
    pub cid: Cid,
    /// The revision that put it there.
    pub rev: Tid,
    /// Its bytes; their hash is the CID's.
    pub bytes: Bytes,
}

/// A part of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRange {
    /// The collection.
    pub collection: Nsid,
    /// Begin behind this key, in the direction of the list.
    pub after: Option<RecordKey>,
    /// From the lowest key up; otherwise from the highest down.
    pub ascending: bool,
    /// At most this many records.
    pub limit: usize,
}

/// What a blob is, apart from its bytes, which the store of repos does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    /// CID, media type and size.
    pub blob: BlobRef,
    /// Whether a record refers to it. A blob that none refers to is neither listed nor served.
    pub referenced: bool,
}

/// A commit that becomes the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewHead {
    /// The commit.
    pub head: Head,
    /// The root of its tree.
    pub data: Cid,
}

/// How one repo changes in a transaction.
#[derive(Debug, Clone)]
pub struct RepoChange {
    /// Whose repo.
    pub did: Did,
    /// The repo before the transaction; `None` when it does not exist and is made by this change.
    pub before: Option<RepoInfo>,
    /// The commit that becomes the newest.
    pub head: Option<NewHead>,
    /// The new hosting status.
    pub status: Option<RepoStatus>,
    /// Tree nodes and commits that are gone. They may stay readable by their CID for a while.
    pub drop_blocks: Vec<Cid>,
    /// Tree nodes and commits that are new. One that stands in `drop_blocks` too went and came back: it has its new
    /// revision from now on.
    pub put_blocks: Vec<StoredBlock>,
    /// Records that are made, replaced or removed, each path once.
    pub records: Vec<RecordChange>,
    /// The repo and all that it has is removed, after everything else.
    pub delete: bool,
}

impl RepoChange {
    /// A change of nothing yet.
    pub fn new(did: Did, before: Option<RepoInfo>) -> Self {
        Self {
            did,
            before,
            head: None,
            status: None,
            drop_blocks: Vec::new(),
            put_blocks: Vec::new(),
            records: Vec::new(),
            delete: false,
        }
    }
}

/// How one record changes.
#[derive(Debug, Clone)]
pub struct RecordChange {
    /// Which record.
    pub path: RecordPath,
    /// Its CID and its bytes now; `None` when it is removed.
    pub record: Option<(Cid, Bytes)>,
    /// The revision that did it.
    pub rev: Tid,
    /// The blobs that it refers to now.
    pub blobs: Vec<Cid>,
}
