use std::ops::RangeInclusive;
use std::sync::Arc;

use atcr_core::syntax::{Datetime, Did, Handle, Nsid, Tid};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipld_core::cid::Cid;
use tokio::sync::watch;

use super::{Applied, Event, Head, KeyStore, NewEvent, Page, Record, RecordPath, RepoError, Swap, Write};
use crate::cbor::BlobRef;
use crate::store::{BlobRow, RepoId, RepoInfo, RepoStatus, RepoStore};

/// How [`Repos`] are run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepoOptions {
    /// Memory for tree nodes, in bytes. Default: 32 MiB.
    pub node_cache: usize,
    /// Memory for the newest events, in bytes, so that live subscribers do not read the store. Default: 16 MiB.
    pub event_cache: usize,
    /// The time, in microseconds since the Unix epoch. Default: the system's clock.
    pub now: fn() -> u64,
}

/// How a repo begins.
#[derive(Debug, Clone, Default)]
pub struct NewRepo {
    /// The handle that the first `#identity` event names.
    pub handle: Option<Handle>,
}

/// All the repos of a store: the one way to write them, and every way to read them.
///
/// Writes go through one task, which takes all that wait, makes a commit of each, and writes them in one transaction
/// (group commit). What is announced is durable. A clone is another handle on the same; the task ends with the last.
#[derive(Clone)]
pub struct Repos {
    #[allow(dead_code)]
    inner: Arc<dyn RepoStore>,
}

#[allow(unused_variables, clippy::unused_async)]
impl Repos {
    /// Starts the writer over a store. Needs a tokio runtime.
    pub async fn open(store: Arc<dyn RepoStore>, keys: Arc<dyn KeyStore>) -> Result<Self, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// As [`Repos::open`], with other settings.
    pub async fn open_with(
        store: Arc<dyn RepoStore>,
        keys: Arc<dyn KeyStore>,
        options: RepoOptions,
    ) -> Result<Self, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Makes an empty repo, signed with the key that the key store has for it. Events: `#identity`, `#account`,
    /// `#commit`, `#sync`.
    pub async fn create(&self, did: &Did, new: NewRepo) -> Result<Head, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Applies writes in order, all or none, as one commit and one `#commit` event.
    ///
    /// No writes at all make an empty commit; writes that change nothing make none. A path may stand in several
    /// writes: each sees what those before it did, and the event says what they came to.
    pub async fn apply_writes(
        &self,
        did: &Did,
        writes: Vec<Write>,
        swap: Swap,
    ) -> Result<Applied, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Makes an empty commit with the key that the key store has now: what a key rotation asks for.
    pub async fn resign(&self, did: &Did) -> Result<Head, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Sets the hosting status, with an `#account` event; reactivation adds `#sync`. The same status is no change.
    pub async fn set_status(&self, did: &Did, status: RepoStatus) -> Result<(), RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Removes a repo and all that it has, with an `#account` event of status `deleted`.
    pub async fn delete(&self, did: &Did) -> Result<(), RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Appends an event that is no commit (`#identity`, mostly) and returns it with its sequence number.
    pub async fn append_event(&self, event: NewEvent) -> Result<Arc<Event>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// The repo of an account; `None` when it is not kept here. Answers whatever its status is.
    pub async fn info(&self, did: &Did) -> Result<Option<RepoInfo>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// At most `limit` repos behind `cursor`, in the order in which they were made.
    pub async fn list_repos(&self, cursor: Option<RepoId>, limit: usize) -> Result<Vec<RepoInfo>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// As [`Repos::list_repos`], of those that have a record in `collection`.
    pub async fn list_repos_by_collection(
        &self,
        collection: &Nsid,
        cursor: Option<RepoId>,
        limit: usize,
    ) -> Result<Vec<RepoInfo>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// One record; `None` when it is not there.
    pub async fn get_record(&self, did: &Did, path: &RecordPath) -> Result<Option<Record>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Records of a collection, the highest key first unless the page says `reverse`.
    pub async fn list_records(
        &self,
        did: &Did,
        collection: &Nsid,
        page: Page,
    ) -> Result<Vec<Record>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// The collections that have a record, in order.
    pub async fn collections(&self, did: &Did) -> Result<Vec<Nsid>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// The repo as a CAR file: the commit, then tree and records in the order of the tree, as it was when this was
    /// called, whatever is written meanwhile. Memory does not depend on its size.
    ///
    /// With `since`: only the blocks that came after that revision; nothing but the header when there was no commit
    /// after it.
    pub async fn export(
        &self,
        did: &Did,
        since: Option<Tid>,
    ) -> Result<BoxStream<'static, Result<Bytes, RepoError>>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// A CAR file that proves what the repo has at `path`, or that it has nothing there: the commit, the nodes on
    /// the way, and the record.
    pub async fn record_proof(&self, did: &Did, path: &RecordPath) -> Result<Bytes, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Blocks as a CAR file without a root.
    ///
    /// # Errors
    /// [`RepoError::BlocksNotFound`] names those that the repo does not have.
    pub async fn get_blocks(&self, did: &Did, cids: &[Cid]) -> Result<Bytes, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Notes a blob whose bytes are in place, so that records may refer to it.
    pub async fn put_blob(&self, did: &Did, blob: &BlobRef) -> Result<(), RepoError> {
        unimplemented!("the engine is being built")
    }

    /// What is known of a blob.
    pub async fn blob(&self, did: &Did, cid: &Cid) -> Result<Option<BlobRow>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// At most `limit` CIDs above `cursor` of blobs to which a record refers, made or changed after `since`.
    pub async fn list_blobs(
        &self,
        did: &Did,
        since: Option<Tid>,
        cursor: Option<&Cid>,
        limit: usize,
    ) -> Result<Vec<Cid>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// Forgets at most `limit` blobs that no record refers to and that were noted before `before`; the caller then
    /// removes their bytes. No record can come to refer to one meanwhile.
    pub async fn forget_blobs(&self, before: Datetime, limit: usize) -> Result<Vec<(Did, Cid)>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// At most `limit` events with sequence numbers above `cursor`, in order and without a gap. The newest come from
    /// memory.
    pub async fn events_after(&self, cursor: u64, limit: usize) -> Result<Vec<Arc<Event>>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// The sequence numbers that [`Repos::events_after`] can give; empty, beginning with the next number, when there
    /// are none.
    pub async fn event_window(&self) -> Result<RangeInclusive<u64>, RepoError> {
        unimplemented!("the engine is being built")
    }

    /// The newest durable sequence number, and a wake-up at each change. To follow: read [`Repos::events_after`] until
    /// it gives nothing, then wait for a change. Nothing can fall between the two.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        unimplemented!("the engine is being built")
    }

    /// Forgets events from before `before`.
    pub async fn prune_events(&self, before: &Datetime) -> Result<u64, RepoError> {
        unimplemented!("the engine is being built")
    }
}
