//! A store that fails: what was not acknowledged did not happen, and what comes after works.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use atcr_core::syntax::{Datetime, Did, Nsid, Tid};
use atcr_pds::cbor::BlobRef;
use atcr_pds::repo::{Event, NewEvent, RecordPath, RepoOptions};
use atcr_pds::store::{
    BlobRow, RecordRange, RepoChange, RepoId, RepoInfo, Snapshot, StoreWrite, StoredBlock, StoredRecord,
};
use atcr_pds::{MemoryKeys, RepoError, RepoStore, Repos, SqliteStore, StoreError, Swap};
use futures_util::future::join_all;
use ipld_core::cid::Cid;

use crate::world::{Follower, World, delete, put};

/// Counts the calls of a transaction and fails the one that is chosen.
struct Faulty {
    inner: SqliteStore,
    /// Calls until one fails; the highest number never comes.
    fuse: Arc<AtomicU32>,
}

struct FaultyWrite {
    inner: Box<dyn StoreWrite>,
    fuse: Arc<AtomicU32>,
}

fn burn(fuse: &AtomicU32) -> Result<(), StoreError> {
    if fuse.fetch_sub(1, Ordering::SeqCst) == 1 {
        return Err(StoreError::Database(sqlx::Error::Io(std::io::Error::other("the disk is gone"))));
    }
    Ok(())
}

#[async_trait]
impl StoreWrite for FaultyWrite {
    async fn repo(&mut self, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
        burn(&self.fuse)?;
        self.inner.repo(did).await
    }
    async fn blocks(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        burn(&self.fuse)?;
        self.inner.blocks(repo, cids).await
    }
    async fn blobs(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError> {
        burn(&self.fuse)?;
        self.inner.blobs(repo, cids).await
    }
    async fn apply(&mut self, change: &RepoChange) -> Result<(), StoreError> {
        burn(&self.fuse)?;
        self.inner.apply(change).await
    }
    async fn forget_blobs(&mut self, before: &Datetime, limit: usize) -> Result<Vec<(Did, Cid)>, StoreError> {
        burn(&self.fuse)?;
        self.inner.forget_blobs(before, limit).await
    }
    async fn commit(
        self: Box<Self>,
        events: Vec<NewEvent>,
        time: &Datetime,
    ) -> Result<Vec<Event>, StoreError> {
        burn(&self.fuse)?;
        self.inner.commit(events, time).await
    }
}

#[async_trait]
impl RepoStore for Faulty {
    async fn begin(&self) -> Result<Box<dyn StoreWrite>, StoreError> {
        burn(&self.fuse)?;
        Ok(Box::new(FaultyWrite { inner: self.inner.begin().await?, fuse: self.fuse.clone() }))
    }
    async fn repo(&self, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
        self.inner.repo(did).await
    }
    async fn repos(&self, after: Option<RepoId>, limit: usize) -> Result<Vec<RepoInfo>, StoreError> {
        self.inner.repos(after, limit).await
    }
    async fn repos_with_collection(
        &self,
        collection: &Nsid,
        after: Option<RepoId>,
        limit: usize,
    ) -> Result<Vec<RepoInfo>, StoreError> {
        self.inner.repos_with_collection(collection, after, limit).await
    }
    async fn blocks(&self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        self.inner.blocks(repo, cids).await
    }
    async fn snapshot(&self, did: &Did) -> Result<Option<Box<dyn Snapshot>>, StoreError> {
        self.inner.snapshot(did).await
    }
    async fn record(&self, repo: RepoId, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError> {
        self.inner.record(repo, path).await
    }
    async fn records(&self, repo: RepoId, range: &RecordRange) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.records(repo, range).await
    }
    async fn index(
        &self,
        repo: RepoId,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<(RecordPath, Cid)>, StoreError> {
        self.inner.index(repo, after, limit).await
    }
    async fn collections(&self, repo: RepoId) -> Result<Vec<Nsid>, StoreError> {
        self.inner.collections(repo).await
    }
    async fn put_blob(&self, repo: RepoId, blob: &BlobRef, at: &Datetime) -> Result<(), StoreError> {
        self.inner.put_blob(repo, blob, at).await
    }
    async fn blobs(&self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError> {
        self.inner.blobs(repo, cids).await
    }
    async fn list_blobs(
        &self,
        repo: RepoId,
        since: Option<Tid>,
        after: Option<&Cid>,
        limit: usize,
    ) -> Result<Vec<Cid>, StoreError> {
        self.inner.list_blobs(repo, since, after, limit).await
    }
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.events(after, limit).await
    }
    async fn event_window(&self) -> Result<RangeInclusive<u64>, StoreError> {
        self.inner.event_window().await
    }
    async fn prune_events(&self, before: &Datetime) -> Result<u64, StoreError> {
        self.inner.prune_events(before).await
    }
}

#[tokio::test]
async fn a_failure_at_any_step_undoes_the_whole_transaction() {
    let store = SqliteStore::in_memory().await.unwrap();
    let keys = Arc::new(MemoryKeys::default());
    let fuse = Arc::new(AtomicU32::new(u32::MAX));
    let faulty = Arc::new(Faulty { inner: store.clone(), fuse: fuse.clone() });
    let mut options = RepoOptions::default();
    // Nodes are read from the store each time, so that reading can fail too.
    options.node_cache = 1;
    let repos = Repos::open_with(faulty, keys.clone(), options).await.unwrap();
    let world = World { repos, keys, store };
    let (alice, alices) = world.repo("alice").await;
    let (bob, bobs) = world.repo("bob").await;
    for did in [&alice, &bob] {
        world.write(did, (0..100).map(|n| put(&format!("k{n}"), "x")).collect()).await.unwrap();
    }
    let both = HashMap::from([(alice.clone(), alices.clone()), (bob.clone(), bobs.clone())]);
    let mut failures = 0;
    for step in 1..40 {
        let before = (world.verify(&alice, &alices).await, world.verify(&bob, &bobs).await);
        let newest = *world.repos.subscribe().borrow();
        fuse.store(step, Ordering::SeqCst);
        let writes = (0..6).map(|n| {
            let did = if n % 2 == 0 { &alice } else { &bob };
            let list = vec![put(&format!("s{step}-{n}"), "y"), delete(&format!("k{}", (step + n) % 100))];
            world.repos.apply_writes(did, list, Swap::Anything)
        });
        let outcomes = join_all(writes).await;
        fuse.store(u32::MAX, Ordering::SeqCst);
        let failed = outcomes.iter().filter(|o| matches!(o, Err(RepoError::Store(_)))).count();
        let done = outcomes.iter().filter(|o| o.is_ok()).count();
        failures += failed;
        let after = (world.verify(&alice, &alices).await, world.verify(&bob, &bobs).await);
        let events = *world.repos.subscribe().borrow() - newest;
        assert_eq!(events, done as u64, "an event for each that was done, none for the others");
        if done == 0 {
            assert_eq!(after, before);
        }
        for (n, outcome) in outcomes.iter().enumerate() {
            let records = if n % 2 == 0 { &after.0 } else { &after.1 };
            let there = records.contains_key(&format!("com.example.note/s{step}-{n}"));
            assert_eq!(there, outcome.is_ok(), "step {step}, write {n}: {outcome:?}");
        }
    }
    assert!(failures >= 30, "{failures} writes failed");
    let mut follower = Follower::default();
    follower.follow(&world.repos, &both).await;
    assert_eq!(follower.repos[&alice].records, world.verify(&alice, &alices).await);
    assert_eq!(follower.repos[&bob].records, world.verify(&bob, &bobs).await);
}

#[tokio::test]
async fn exports_beyond_the_limit_are_told_to_come_back() {
    let store = SqliteStore::in_memory().await.unwrap();
    let keys = Arc::new(MemoryKeys::default());
    let mut options = RepoOptions::default();
    options.exports = 2;
    options.export_wait = std::time::Duration::from_millis(1);
    let repos = Repos::open_with(Arc::new(store.clone()), keys.clone(), options).await.unwrap();
    let world = World { repos, keys, store };
    let (did, key) = world.repo("alice").await;
    let first = world.repos.export(&did, None).await.unwrap();
    let second = world.repos.export(&did, None).await.unwrap();
    assert!(matches!(world.repos.export(&did, None).await, Err(RepoError::Busy)));
    // A proof does not wait for exports.
    world.repos.record_proof(&did, &crate::world::path("a")).await.unwrap();
    drop(first);
    world.verify(&did, &key).await;
    drop(second);
}
