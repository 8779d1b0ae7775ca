use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use atcr_core::syntax::{Datetime, Did, Handle, Nsid, Tid};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipld_core::cid::Cid;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::cache::NodeCache;
use super::event_log::EventLog;
use super::import::{Import, Imported};
use super::prepared::Writes;
use super::source::Source;
use super::writer::{QUEUE, Request, Writer};
use super::{
    Applied, Event, Head, KeyStore, NewEvent, Page, Record, RecordPath, RepoError, Swap, Write, car, export,
    mst,
};
use crate::cbor::BlobRef;
use crate::store::{
    BlobRow, RecordRange, RepoId, RepoInfo, RepoStatus, RepoStore, Snapshot, StoreError, StoredRecord,
};

/// How [`Repos`] are run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepoOptions {
    /// Memory for tree nodes, in bytes. Default: 32 MiB.
    pub node_cache: usize,
    /// Memory for the newest events, in bytes, so that live subscribers do not read the store. Default: 16 MiB.
    pub event_cache: usize,
    /// Exports at the same time; each holds a snapshot of the store, for as long as its reader takes. Default: 12.
    pub exports: usize,
    /// How long another export waits for one of them to end. Default: half a minute.
    pub export_wait: Duration,
    /// The time, in microseconds since the Unix epoch. Default: the system's clock.
    pub now: fn() -> u64,
}

impl Default for RepoOptions {
    fn default() -> Self {
        Self {
            node_cache: 32 * 1024 * 1024,
            event_cache: 16 * 1024 * 1024,
            exports: 12,
            export_wait: Duration::from_secs(30),
            now: system_time,
        }
    }
}

fn system_time() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
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
/// (group commit); it makes the next ones while the store writes. What is announced or answered is durable. A clone is another handle on the same; the task ends with the last.
#[derive(Clone)]
pub struct Repos {
    store: Arc<dyn RepoStore>,
    nodes: Arc<NodeCache>,
    events: Arc<EventLog>,
    requests: mpsc::Sender<Request>,
    exports: Arc<Semaphore>,
    export_wait: Duration,
    now: fn() -> u64,
}

impl Repos {
    /// Starts the writer over a store. Needs a tokio runtime.
    pub async fn open(store: Arc<dyn RepoStore>, keys: Arc<dyn KeyStore>) -> Result<Self, RepoError> {
        Self::open_with(store, keys, RepoOptions::default()).await
    }

    /// As [`Repos::open`], with other settings.
    pub async fn open_with(
        store: Arc<dyn RepoStore>,
        keys: Arc<dyn KeyStore>,
        options: RepoOptions,
    ) -> Result<Self, RepoError> {
        let newest = *store.event_window().await?.end();
        let nodes = Arc::new(NodeCache::new(options.node_cache));
        let events = Arc::new(EventLog::new(newest, options.event_cache));
        let mut clock = [0; 2];
        // Without randomness, revisions of two processes may coincide; a repo has one writer, so they do not meet.
        let _ = getrandom::fill(&mut clock);
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            store: store.clone(),
            keys,
            nodes: nodes.clone(),
            events: events.clone(),
            now: options.now,
            clock: u16::from_be_bytes(clock) & 0x3ff,
        };
        tokio::spawn(writer.run(queue));
        let exports = Arc::new(Semaphore::new(options.exports));
        Ok(Self {
            store,
            nodes,
            events,
            requests,
            exports,
            export_wait: options.export_wait,
            now: options.now,
        })
    }

    /// Makes an empty repo, signed with the key that the key store has for it. Events: `#identity`, `#account`,
    /// `#commit`, `#sync`.
    pub async fn create(&self, did: &Did, new: NewRepo) -> Result<Head, RepoError> {
        self.ask(|reply| Request::Create(did.clone(), new.handle, reply)).await
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
        let writes = Writes::new(did.clone(), writes, swap)?;
        self.ask(|reply| Request::Apply(writes, reply)).await
    }

    /// Takes over the records of CAR files: makes those that are missing here and replaces those that differ, all in
    /// one commit. Nothing is removed. Memory does not depend on the size of the files.
    ///
    /// The commit is announced by `#commit` when it fits into one event, else by `#sync`. Other writes wait
    /// meanwhile. Blobs that the records name need not be there.
    pub async fn import(&self, did: &Did, import: Import) -> Result<Imported, RepoError> {
        self.ask(|reply| Request::Import(did.clone(), import, reply)).await
    }

    /// Makes an empty commit with the key that the key store has now: what a key rotation asks for.
    pub async fn resign(&self, did: &Did) -> Result<Head, RepoError> {
        self.ask(|reply| Request::Resign(did.clone(), reply)).await
    }

    /// Sets the hosting status, with an `#account` event; reactivation adds `#sync`. The same status is no change.
    pub async fn set_status(&self, did: &Did, status: RepoStatus) -> Result<(), RepoError> {
        self.ask(|reply| Request::SetStatus(did.clone(), status, reply)).await
    }

    /// Removes a repo and all that it has, with an `#account` event of status `deleted`.
    pub async fn delete(&self, did: &Did) -> Result<(), RepoError> {
        self.ask(|reply| Request::Delete(did.clone(), reply)).await
    }

    /// Appends an event that is no commit (`#identity`, mostly) and returns it with its sequence number.
    pub async fn append_event(&self, event: NewEvent) -> Result<Arc<Event>, RepoError> {
        self.ask(|reply| Request::Append(event, reply)).await
    }

    /// The repo of an account; `None` when it is not kept here. Answers whatever its status is.
    pub async fn info(&self, did: &Did) -> Result<Option<RepoInfo>, RepoError> {
        Ok(self.store.repo(did).await?)
    }

    /// At most `limit` repos behind `cursor`, in the order in which they were made.
    pub async fn list_repos(&self, cursor: Option<RepoId>, limit: usize) -> Result<Vec<RepoInfo>, RepoError> {
        Ok(self.store.repos(cursor, limit).await?)
    }

    /// As [`Repos::list_repos`], of those that have a record in `collection`.
    pub async fn list_repos_by_collection(
        &self,
        collection: &Nsid,
        cursor: Option<RepoId>,
        limit: usize,
    ) -> Result<Vec<RepoInfo>, RepoError> {
        Ok(self.store.repos_with_collection(collection, cursor, limit).await?)
    }

    /// One record; `None` when it is not there.
    pub async fn get_record(&self, did: &Did, path: &RecordPath) -> Result<Option<Record>, RepoError> {
        let repo = self.id(did).await?;
        Ok(self.store.record(repo, path).await?.map(record))
    }

    /// Records of a collection, the highest key first unless the page says `reverse`.
    pub async fn list_records(
        &self,
        did: &Did,
        collection: &Nsid,
        page: Page,
    ) -> Result<Vec<Record>, RepoError> {
        let repo = self.id(did).await?;
        let range = RecordRange {
            collection: collection.clone(),
            after: page.cursor,
            ascending: page.reverse,
            limit: page.limit,
        };
        Ok(self.store.records(repo, &range).await?.into_iter().map(record).collect())
    }

    /// The collections that have a record, in order.
    pub async fn collections(&self, did: &Did) -> Result<Vec<Nsid>, RepoError> {
        let repo = self.id(did).await?;
        Ok(self.store.collections(repo).await?)
    }

    /// The repo as a CAR file: the commit, then tree and records in the order of the tree, as it was when this was
    /// called, whatever is written meanwhile. Memory does not depend on its size.
    ///
    /// With `since`: only the blocks that came after that revision; nothing but the header when there was no commit
    /// after it.
    ///
    /// # Errors
    /// [`RepoError::Busy`] when [`RepoOptions::exports`] others are under way and none ends in [`RepoOptions::export_wait`]. Whoever
    /// hands the stream to a client sees to it that a client which does not read is cut off.
    pub async fn export(
        &self,
        did: &Did,
        since: Option<Tid>,
    ) -> Result<BoxStream<'static, Result<Bytes, RepoError>>, RepoError> {
        let permit = tokio::time::timeout(self.export_wait, self.exports.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| RepoError::Busy)?.map_err(|_| RepoError::Closed)?;
        Ok(export::stream(self.snapshot(did).await?, permit, since))
    }

    /// A CAR file that proves what the repo has at `at`, or that it has nothing there: the commit, the nodes on
    /// the way, and the record.
    pub async fn record_proof(&self, did: &Did, at: &RecordPath) -> Result<Bytes, RepoError> {
        let mut snapshot = self.snapshot(did).await?;
        let head = snapshot.info().head.cid;
        let data = snapshot.info().data;
        let mut nodes = Source::new(&self.nodes);
        let (path, found) = nodes
            .run(&mut snapshot, |nodes| {
                let way = mst::path(nodes, &data, at.as_str())?;
                Ok((way, mst::Tree::open(data).get(nodes, at.as_str())?))
            })
            .await?;
        let damaged = |what: String| RepoError::from(StoreError::Corrupt(what));
        let commit = snapshot.blocks(&[head]).await?.pop();
        let commit = commit.ok_or_else(|| damaged(format!("commit {head} is missing")))?;
        let record = match found {
            None => None,
            Some(cid) => {
                let record = snapshot.records(&[at.as_str()]).await?.pop().filter(|record| record.cid == cid);
                Some(record.ok_or_else(|| damaged(format!("record {at} is missing")))?)
            }
        };
        let nodes = path.iter().map(|n| (n.cid(), n.bytes()));
        let all = [(&commit.cid, &commit.bytes)].into_iter().chain(nodes);
        Ok(car::encode(&[head], all.chain(record.as_ref().map(|r| (&r.cid, &r.bytes)))))
    }

    /// Blocks as a CAR file without a root.
    ///
    /// # Errors
    /// [`RepoError::BlocksNotFound`] names those that the repo does not have.
    pub async fn get_blocks(&self, did: &Did, cids: &[Cid]) -> Result<Bytes, RepoError> {
        let repo = self.id(did).await?;
        let found = self.store.blocks(repo, cids).await?;
        let missing: Vec<Cid> =
            cids.iter().filter(|cid| !found.iter().any(|b| b.cid == **cid)).copied().collect();
        if !missing.is_empty() {
            return Err(RepoError::BlocksNotFound(missing));
        }
        Ok(car::encode(&[], found.iter().map(|b| (&b.cid, &b.bytes))))
    }

    /// Notes a blob whose bytes are in place, so that records may refer to it.
    pub async fn put_blob(&self, did: &Did, blob: &BlobRef) -> Result<(), RepoError> {
        let repo = self.id(did).await?;
        Ok(self.store.put_blob(repo, blob, &self.datetime()).await?)
    }

    /// What is known of a blob.
    pub async fn blob(&self, did: &Did, cid: &Cid) -> Result<Option<BlobRow>, RepoError> {
        let repo = self.id(did).await?;
        Ok(self.store.blobs(repo, &[*cid]).await?.into_iter().next())
    }

    /// What is known of the blobs among `cids`, in any order; those that nobody uploaded are left out.
    pub async fn blobs(&self, did: &Did, cids: &[Cid]) -> Result<Vec<BlobRow>, RepoError> {
        let repo = self.id(did).await?;
        Ok(self.store.blobs(repo, cids).await?)
    }

    /// At most `limit` CIDs above `cursor` of blobs to which a record refers, made or changed after `since`.
    pub async fn list_blobs(
        &self,
        did: &Did,
        since: Option<Tid>,
        cursor: Option<&Cid>,
        limit: usize,
    ) -> Result<Vec<Cid>, RepoError> {
        let repo = self.id(did).await?;
        Ok(self.store.list_blobs(repo, since, cursor, limit).await?)
    }

    /// Forgets at most `limit` blobs that no record refers to and that were noted before `before`; the caller then
    /// removes their bytes. No record can come to refer to one meanwhile.
    pub async fn forget_blobs(&self, before: Datetime, limit: usize) -> Result<Vec<(Did, Cid)>, RepoError> {
        self.ask(|reply| Request::ForgetBlobs(before, limit, reply)).await
    }

    /// At most `limit` events with sequence numbers above `cursor`, in order and without a gap. The newest come from
    /// memory.
    pub async fn events_after(&self, cursor: u64, limit: usize) -> Result<Vec<Arc<Event>>, RepoError> {
        Ok(self.events.after(&*self.store, cursor, limit).await?)
    }

    /// The sequence numbers that [`Repos::events_after`] can give; empty, beginning with the next number, when there
    /// are none.
    pub async fn event_window(&self) -> Result<RangeInclusive<u64>, RepoError> {
        Ok(self.store.event_window().await?)
    }

    /// The newest durable sequence number, and a wake-up at each change. To follow: read [`Repos::events_after`] until
    /// it gives nothing, then wait for a change. Nothing can fall between the two.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Takes note of what another process on the same store has written: [`Repos::subscribe`] wakes as for what was
    /// written here. To be called now and then, and before reading what must be the newest.
    pub async fn notice(&self) -> Result<(), RepoError> {
        self.events.notice(*self.store.event_window().await?.end());
        Ok(())
    }

    /// Forgets events from before `before`.
    pub async fn prune_events(&self, before: &Datetime) -> Result<u64, RepoError> {
        let pruned = self.store.prune_events(before).await?;
        self.events.forget_before(*self.store.event_window().await?.start());
        Ok(pruned)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, RepoError>>) -> Request,
    ) -> Result<T, RepoError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| RepoError::Closed)?;
        answer.await.map_err(|_| RepoError::Closed)?
    }

    async fn id(&self, did: &Did) -> Result<RepoId, RepoError> {
        let info = self.store.repo(did).await?;
        info.map(|info| info.id).ok_or_else(|| RepoError::RepoNotFound(did.clone()))
    }

    async fn snapshot(&self, did: &Did) -> Result<Box<dyn Snapshot>, RepoError> {
        self.store.snapshot(did).await?.ok_or_else(|| RepoError::RepoNotFound(did.clone()))
    }

    fn datetime(&self) -> Datetime {
        let micros = i64::try_from((self.now)()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_microsecond(micros).map_or_else(|_| Datetime::now(), Datetime::from)
    }
}

impl std::fmt::Debug for Repos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repos").finish_non_exhaustive()
    }
}

fn record(stored: StoredRecord) -> Record {
    Record { path: stored.path, cid: stored.cid, bytes: stored.bytes }
}
