use atcr_core::syntax::{AtUri, Nsid, RecordKey, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::{RecordPath, RepoError};
use crate::cbor::{self, CborError};

/// The largest record, in bytes of DAG-CBOR. Relays drop an event with a record block above a million bytes.
pub const MAX_RECORD_BYTES: usize = 1_000_000;

/// The most writes of one commit: what one event may carry.
pub const MAX_WRITES: usize = 200;

/// One change of a record.
///
/// `value` is a map. Its `$type` is the collection; it is filled in where it is missing.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Makes a record that must not exist yet ([`RepoError::RecordExists`]).
    Create {
        /// The collection.
        collection: Nsid,
        /// The key.
        rkey: RecordKey,
        /// The record.
        value: Ipld,
    },
    /// Replaces a record that must exist ([`RepoError::RecordNotFound`]).
    Update {
        /// The collection.
        collection: Nsid,
        /// The key.
        rkey: RecordKey,
        /// The record.
        value: Ipld,
        /// What must be there before.
        expect: Expect,
    },
    /// Makes or replaces a record. The same content again is no change.
    Put {
        /// The collection.
        collection: Nsid,
        /// The key.
        rkey: RecordKey,
        /// The record.
        value: Ipld,
        /// What must be there before.
        expect: Expect,
    },
    /// Removes a record that must exist ([`RepoError::RecordNotFound`]).
    Delete {
        /// The collection.
        collection: Nsid,
        /// The key.
        rkey: RecordKey,
        /// What must be there before.
        expect: Expect,
    },
}

impl Write {
    /// Where the record is, or will be.
    ///
    /// # Errors
    /// [`RepoError::InvalidPath`] when the collection is not a normalised NSID.
    pub fn path(&self) -> Result<RecordPath, RepoError> {
        let (Self::Create { collection, rkey, .. }
        | Self::Update { collection, rkey, .. }
        | Self::Put { collection, rkey, .. }
        | Self::Delete { collection, rkey, .. }) = self;
        Ok(RecordPath::new(collection, rkey)?)
    }
}

/// What a write expects of the record it changes (`swapRecord`); else [`RepoError::RecordSwap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Whatever is there.
    #[default]
    Anything,
    /// Nothing is there (`swapRecord: null`).
    Absent,
    /// The record with this CID.
    Cid(Cid),
}

/// What a set of writes expects of the repo (`swapCommit`); else [`RepoError::CommitSwap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Swap {
    /// Whatever commit is the newest.
    #[default]
    Anything,
    /// This commit is the newest.
    Commit(Cid),
}

/// The newest commit of a repo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// CID of the commit block.
    pub cid: Cid,
    /// Its revision.
    pub rev: Tid,
}

/// What a set of writes did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The commit that was made; `None` when nothing changed.
    pub commit: Option<Head>,
    /// One result per write, in order.
    pub results: Vec<WriteResult>,
}

/// What one write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteResult {
    /// The record.
    pub uri: AtUri,
    /// Its new CID; `None` after a deletion.
    pub cid: Option<Cid>,
    /// What happened.
    pub action: WriteAction,
}

/// What a write did to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteAction {
    /// It was made.
    Create,
    /// It was replaced.
    Update,
    /// It was removed.
    Delete,
    /// It had that content already.
    Unchanged,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub path: RecordPath,
    /// Its CID.
    pub cid: Cid,
    /// Its canonical DAG-CBOR.
    pub bytes: Bytes,
}

impl Record {
    /// The record as a value.
    pub fn value(&self) -> Result<Ipld, CborError> {
        cbor::decode(&self.bytes)
    }

    /// The record as JSON, ready to be sent.
    pub fn to_json(&self) -> Result<serde_json::Value, CborError> {
        Ok(cbor::json::to_json(&self.value()?))
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most this many.
    pub limit: usize,
    /// Go on behind this key, which was the last of the page before.
    pub cursor: Option<RecordKey>,
    /// Ascending by key; otherwise the highest key (with TIDs: the newest record) comes first.
    pub reverse: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, cursor: None, reverse: false }
    }
}
