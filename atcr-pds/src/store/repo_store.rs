use std::ops::RangeInclusive;

use async_trait::async_trait;
use atcr_core::syntax::{Datetime, Did, Nsid, Tid};
use ipld_core::cid::Cid;

use super::{BlobRow, RecordRange, RepoChange, RepoId, RepoInfo, StoredBlock, StoredRecord};
use crate::cbor::BlobRef;
use crate::repo::{Event, NewEvent, RecordPath};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What is stored does not read as what it should be.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The store was written by a newer version of this program.
    #[error("the store has schema version {found}; this program knows up to {known}")]
    TooNew {
        /// The version found.
        found: i64,
        /// The newest that is understood.
        known: i64,
    },
    /// The database failed: full disk, lost connection, missing permission.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A repo is not where a change says that it begins: another process has written it meanwhile. Read it anew.
    #[error("the repo of {0} was changed by another process meanwhile")]
    Conflict(Did),
    /// A value could not be encoded.
    #[error(transparent)]
    Cbor(#[from] crate::cbor::CborError),
}

/// A place for repos: their blocks, an index of their records, what is known of their blobs, and the sequence of
/// events.
///
/// Contract for every implementation:
/// - When [`StoreWrite::commit`] returns, everything is durable; when it fails, or is never reached, nothing of the
///   transaction is there. Sequence numbers are given inside it: consecutive, from 1, never twice.
/// - Reads see whole transactions only, and all that were finished before the read began.
/// - Blocks come back with bytes that have the hash of their CID, or the read fails with [`StoreError::Corrupt`].
/// - Every method may be called at the same time as every other; one that is cancelled leaves nothing behind.
#[async_trait]
pub trait RepoStore: Send + Sync + 'static {
    /// The repo of an account.
    async fn repo(&self, did: &Did) -> Result<Option<RepoInfo>, StoreError>;

    /// At most `limit` repos with numbers above `after`, in the order of their numbers.
    async fn repos(&self, after: Option<RepoId>, limit: usize) -> Result<Vec<RepoInfo>, StoreError>;

    /// As [`RepoStore::repos`], of those that have a record in `collection`.
    async fn repos_with_collection(
        &self,
        collection: &Nsid,
        after: Option<RepoId>,
        limit: usize,
    ) -> Result<Vec<RepoInfo>, StoreError>;

    /// The blocks of a repo among `cids`, whether nodes, commits or records, each once and in any order; those it does
    /// not have are left out.
    async fn blocks(&self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError>;

    /// The repo as it is now, held still: see [`Snapshot`].
    async fn snapshot(&self, did: &Did) -> Result<Option<Box<dyn Snapshot>>, StoreError>;

    /// One record.
    async fn record(&self, repo: RepoId, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError>;

    /// Records of one collection, in the order of their keys.
    async fn records(&self, repo: RepoId, range: &RecordRange) -> Result<Vec<StoredRecord>, StoreError>;

    /// At most `limit` records of the whole repo behind `after`, in the order of the tree, without their bytes.
    async fn index(
        &self,
        repo: RepoId,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<(RecordPath, Cid)>, StoreError>;

    /// The collections that have a record, in order.
    async fn collections(&self, repo: RepoId) -> Result<Vec<Nsid>, StoreError>;

    /// Notes a blob whose bytes are in place. Known already: its media type is replaced while nothing refers to it,
    /// and its age begins anew.
    async fn put_blob(&self, repo: RepoId, blob: &BlobRef, at: &Datetime) -> Result<(), StoreError>;

    /// What is known of the blobs among `cids`, in any order.
    async fn blobs(&self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError>;

    /// At most `limit` CIDs above `after` of blobs to which a record of a revision above `since` refers, in order.
    async fn list_blobs(
        &self,
        repo: RepoId,
        since: Option<Tid>,
        after: Option<&Cid>,
        limit: usize,
    ) -> Result<Vec<Cid>, StoreError>;

    /// At most `limit` events with sequence numbers above `after`, in order.
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// The sequence numbers that [`RepoStore::events`] can give. When none is kept, the range is empty and begins
    /// with the number that comes next.
    async fn event_window(&self) -> Result<RangeInclusive<u64>, StoreError>;

    /// Forgets events from before `before`; their numbers are not used again. Returns how many.
    async fn prune_events(&self, before: &Datetime) -> Result<u64, StoreError>;

    /// Begins a transaction that writes. There is one at a time, over all processes; the next waits for it.
    async fn begin(&self) -> Result<Box<dyn StoreWrite>, StoreError>;
}

/// A transaction that writes. What it reads nobody else changes before it ends. Dropped before
/// [`StoreWrite::commit`], it leaves nothing.
#[async_trait]
pub trait StoreWrite: Send {
    /// The repo of an account.
    async fn repo(&mut self, did: &Did) -> Result<Option<RepoInfo>, StoreError>;

    /// The nodes and commits of a repo among `cids`, each once and in any order.
    async fn blocks(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError>;

    /// What is known of the blobs among `cids`, in any order.
    async fn blobs(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError>;

    /// Makes a change. Several of one repo may follow each other; all but the last have no head, and all have the
    /// same `before`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a change with a head or a status says of a repo that it is where it is not.
    async fn apply(&mut self, change: &RepoChange) -> Result<(), StoreError>;

    /// Forgets at most `limit` blobs that nothing refers to and that were noted before `before`, and names them.
    async fn forget_blobs(&mut self, before: &Datetime, limit: usize) -> Result<Vec<(Did, Cid)>, StoreError>;

    /// Makes everything durable, and returns the events with their numbers and `time` as their time.
    async fn commit(
        self: Box<Self>,
        events: Vec<NewEvent>,
        time: &Datetime,
    ) -> Result<Vec<Event>, StoreError>;
}

/// One repo as it was at a moment. Until it is dropped, every block that its newest commit of then can reach stays
/// readable through it, whatever is written meanwhile. It holds no lock and no transaction open.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The repo at that moment.
    fn info(&self) -> &RepoInfo;

    /// The nodes and commits among `cids`, each once and in any order; those the repo did not have may be left out.
    async fn blocks(&self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError>;

    /// The records at these paths, in any order; where there was none it is left out.
    async fn records(&self, paths: &[&str]) -> Result<Vec<StoredRecord>, StoreError>;
}
