//! A store that fails: what was not acknowledged did not happen, and what comes after works.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use atcr_core::crypto::{PublicKey, SigningKey};
use atcr_core::syntax::{Datetime, Did, Nsid, Tid};
use atcr_pds::cbor::BlobRef;
use atcr_pds::repo::{Event, KeyError, NewEvent, RecordPath, RepoOptions};
use atcr_pds::store::{
    BlobRow, RecordRange, RepoChange, RepoId, RepoInfo, Snapshot, StoreWrite, StoredBlock, StoredRecord,
};
use atcr_pds::{
    Applied, KeyStore, MemoryKeys, RepoError, RepoStore, Repos, SqliteStore, StoreError, Swap, Write,
};
use futures_util::future::join_all;
use ipld_core::cid::Cid;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::{Follower, World, create, delete, put};

/// Counts the calls of a transaction and fails the one that is chosen.
#[derive(Clone)]
struct Faulty {
    inner: SqliteStore,
    /// Calls until one fails; the highest number never comes.
    fuse: Arc<AtomicU32>,
    /// Where it is asked, once it is set, whether a transaction may begin and may be committed.
    gate: Arc<OnceLock<UnboundedSender<Waiting>>>,
}

struct FaultyWrite {
    inner: Box<dyn StoreWrite>,
    store: Faulty,
}

/// A transaction that waits at the gate.
struct Waiting {
    step: Step,
    verdict: oneshot::Sender<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Commit,
}

impl Faulty {
    fn new(inner: SqliteStore) -> Self {
        Self { inner, fuse: Arc::new(AtomicU32::new(u32::MAX)), gate: Arc::default() }
    }

    async fn pass(&self, step: Step) -> Result<(), StoreError> {
        let Some(gate) = self.gate.get() else { return Ok(()) };
        let (verdict, decided) = oneshot::channel();
        gate.send(Waiting { step, verdict }).unwrap();
        if decided.await.unwrap() { Ok(()) } else { Err(gone()) }
    }
}

fn gone() -> StoreError {
    StoreError::Database(sqlx::Error::Io(std::io::Error::other("the disk is gone")))
}

fn burn(fuse: &AtomicU32) -> Result<(), StoreError> {
    if fuse.fetch_sub(1, Ordering::SeqCst) == 1 {
        return Err(gone());
    }
    Ok(())
}

#[async_trait]
impl StoreWrite for FaultyWrite {
    async fn repo(&mut self, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
        burn(&self.store.fuse)?;
        self.inner.repo(did).await
    }
    async fn blocks(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        burn(&self.store.fuse)?;
        self.inner.blocks(repo, cids).await
    }
    async fn blobs(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError> {
        burn(&self.store.fuse)?;
        self.inner.blobs(repo, cids).await
    }
    async fn apply(&mut self, change: &RepoChange) -> Result<(), StoreError> {
        burn(&self.store.fuse)?;
        self.inner.apply(change).await
    }
    async fn forget_blobs(&mut self, before: &Datetime, limit: usize) -> Result<Vec<(Did, Cid)>, StoreError> {
        burn(&self.store.fuse)?;
        self.inner.forget_blobs(before, limit).await
    }
    async fn commit(
        self: Box<Self>,
        events: Vec<NewEvent>,
        time: &Datetime,
    ) -> Result<Vec<Event>, StoreError> {
        burn(&self.store.fuse)?;
        self.store.pass(Step::Commit).await?;
        self.inner.commit(events, time).await
    }
}

#[async_trait]
impl RepoStore for Faulty {
    async fn begin(&self) -> Result<Box<dyn StoreWrite>, StoreError> {
        burn(&self.fuse)?;
        self.pass(Step::Begin).await?;
        Ok(Box::new(FaultyWrite { inner: self.inner.begin().await?, store: self.clone() }))
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
    let faulty = Faulty::new(store.clone());
    let fuse = faulty.fuse.clone();
    let mut options = RepoOptions::default();
    // Nodes are read from the store each time, so that reading can fail too.
    options.node_cache = 1;
    let repos = Repos::open_with(Arc::new(faulty), keys.clone(), options).await.unwrap();
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

/// A world in which every transaction waits for a word, and every signature is heard of.
struct Guarded {
    world: World,
    alice: Did,
    key: PublicKey,
    file: PathBuf,
    gate: UnboundedReceiver<Waiting>,
    signed: UnboundedReceiver<()>,
    _dir: tempfile::TempDir,
}

/// Tells of each signature that is about to be made.
struct Heard(Arc<MemoryKeys>, UnboundedSender<()>);

#[async_trait]
impl KeyStore for Heard {
    async fn signing_key(&self, did: &Did) -> Result<SigningKey, KeyError> {
        let _ = self.1.send(());
        self.0.signing_key(did).await
    }
}

impl Guarded {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("repos.sqlite");
        let store = SqliteStore::open(&file).await.unwrap();
        let faulty = Faulty::new(store.clone());
        let keys = Arc::new(MemoryKeys::default());
        let (sign, mut signed) = unbounded_channel();
        let heard = Arc::new(Heard(keys.clone(), sign));
        let mut options = RepoOptions::default();
        options.node_cache = 1;
        let repos = Repos::open_with(Arc::new(faulty.clone()), heard, options).await.unwrap();
        let world = World { repos, keys, store };
        let (alice, key) = world.repo("alice").await;
        world.write(&alice, (0..50).map(|n| put(&format!("k{n}"), "x")).collect()).await.unwrap();
        let (ask, gate) = unbounded_channel();
        faulty.gate.set(ask).unwrap();
        while signed.try_recv().is_ok() {}
        Self { world, alice, key, file, gate, signed, _dir: dir }
    }

    /// Starts requests, which reach the writer in this order.
    fn start(&self, writes: Vec<Write>) -> JoinHandle<Vec<Result<Applied, RepoError>>> {
        let (repos, did) = (self.world.repos.clone(), self.alice.clone());
        tokio::spawn(async move {
            join_all(writes.into_iter().map(|w| repos.apply_writes(&did, vec![w], Swap::Anything))).await
        })
    }

    /// The transaction that has come to this step, and no other.
    async fn at(&mut self, step: Step) -> oneshot::Sender<bool> {
        let waiting = self.gate.recv().await.unwrap();
        assert_eq!(waiting.step, step);
        waiting.verdict
    }

    async fn let_through(&mut self, step: Step) {
        self.at(step).await.send(true).unwrap();
    }

    /// Waits for so many signatures.
    async fn signatures(&mut self, count: usize) {
        for _ in 0..count {
            self.signed.recv().await.unwrap();
        }
    }

    /// What is durable is whole, and what was announced leads to it.
    async fn verify(&self) -> BTreeMap<String, Cid> {
        let records = self.world.verify(&self.alice, &self.key).await;
        let mut follower = Follower::default();
        follower.follow(&self.world.repos, &HashMap::from([(self.alice.clone(), self.key.clone())])).await;
        assert_eq!(follower.repos[&self.alice].records, records);
        assert_eq!(follower.cursor, *self.world.repos.subscribe().borrow());
        records
    }

    fn newest(&self) -> u64 {
        *self.world.repos.subscribe().borrow()
    }
}

const HERE: &str = "com.example.note/new";

#[tokio::test]
async fn the_next_batch_is_made_while_one_is_written_and_waits_for_its_turn() {
    let mut guarded = Guarded::new().await;
    let (before, newest) = (guarded.verify().await, guarded.newest());
    let first = guarded.start(vec![create("new", "first")]);
    guarded.let_through(Step::Begin).await;
    let verdict = guarded.at(Step::Commit).await;
    guarded.signatures(1).await;
    // One that the first makes impossible, and one that has nothing to do with it.
    let next = guarded.start(vec![create("new", "next"), put("other", "next")]);
    guarded.signatures(1).await;
    assert!(!first.is_finished() && !next.is_finished());
    assert_eq!((guarded.verify().await, guarded.newest()), (before, newest), "nothing is durable yet");
    verdict.send(true).unwrap();
    guarded.let_through(Step::Begin).await;
    let verdict = guarded.at(Step::Commit).await;
    assert!(first.await.unwrap()[0].is_ok());
    assert_eq!(guarded.newest(), newest + 1);
    assert!(!next.is_finished(), "not even the refusal: it depends on the first");
    verdict.send(true).unwrap();
    let next = next.await.unwrap();
    assert!(matches!(next[0], Err(RepoError::RecordExists(_))), "{next:?}");
    assert!(next[1].is_ok());
    assert_eq!(guarded.verify().await.len(), 52);
}

#[tokio::test]
async fn what_was_made_on_top_of_a_batch_that_fails_is_made_anew() {
    let mut guarded = Guarded::new().await;
    let (before, newest) = (guarded.verify().await, guarded.newest());
    let first = guarded.start(vec![create("new", "first")]);
    guarded.let_through(Step::Begin).await;
    let verdict = guarded.at(Step::Commit).await;
    guarded.signatures(1).await;
    let next = guarded.start(vec![create("new", "next"), put("other", "next"), delete("k7")]);
    guarded.signatures(2).await;
    verdict.send(false).unwrap();
    assert!(matches!(first.await.unwrap()[0], Err(RepoError::Store(_))));
    assert!(!next.is_finished());
    assert_eq!((guarded.verify().await, guarded.newest()), (before.clone(), newest));
    // It is made anew, without the first; and that one fails as well.
    guarded.let_through(Step::Begin).await;
    let verdict = guarded.at(Step::Commit).await;
    guarded.signatures(3).await;
    let last = guarded.start(vec![delete("new"), delete("k7"), put("last", "x")]);
    guarded.signatures(2).await;
    verdict.send(false).unwrap();
    assert!(next.await.unwrap().iter().all(|o| matches!(o, Err(RepoError::Store(_)))));
    assert_eq!((guarded.verify().await, guarded.newest()), (before, newest));
    guarded.let_through(Step::Begin).await;
    guarded.let_through(Step::Commit).await;
    let last = last.await.unwrap();
    assert!(matches!(last[0], Err(RepoError::RecordNotFound(_))), "{last:?}");
    assert!(last[1].is_ok() && last[2].is_ok());
    let after = guarded.verify().await;
    assert!(!after.contains_key(HERE) && !after.contains_key("com.example.note/k7"));
    assert_eq!((after.len(), guarded.newest()), (50, newest + 2));
}

#[tokio::test]
async fn what_was_made_ahead_of_another_process_is_made_anew() {
    let mut guarded = Guarded::new().await;
    let other = World::at(&guarded.file, guarded.world.keys.clone()).await;
    let first = guarded.start(vec![put("first", "x")]);
    guarded.let_through(Step::Begin).await;
    let verdict = guarded.at(Step::Commit).await;
    guarded.signatures(1).await;
    let next = guarded.start(vec![create("new", "here"), put("other", "x")]);
    guarded.signatures(2).await;
    verdict.send(true).unwrap();
    let verdict = guarded.at(Step::Begin).await;
    assert!(first.await.unwrap()[0].is_ok());
    other.write(&guarded.alice, vec![create("new", "there")]).await.unwrap();
    verdict.send(true).unwrap();
    // Its transaction found the repo elsewhere: a second one begins.
    guarded.let_through(Step::Begin).await;
    guarded.let_through(Step::Commit).await;
    let next = next.await.unwrap();
    assert!(matches!(next[0], Err(RepoError::RecordExists(_))), "{next:?}");
    assert!(next[1].is_ok());
    assert_eq!(guarded.verify().await.len(), 53);
    other.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_over_a_store_that_often_fails_each_is_told_the_truth() {
    let mut guarded = Guarded::new().await;
    let tasks: Vec<_> = (0..40u32)
        .map(|task| {
            let (repos, did) = (guarded.world.repos.clone(), guarded.alice.clone());
            tokio::spawn(async move {
                let mut there = Vec::new();
                for n in 0..25 {
                    let rkey = format!("t{task}-{n}");
                    let done = repos.apply_writes(&did, vec![create(&rkey, "x")], Swap::Anything).await;
                    if done.is_ok() && n % 3 == 0 {
                        let gone = repos.apply_writes(&did, vec![delete(&rkey)], Swap::Anything).await;
                        there.push((rkey, gone.is_err()));
                    } else {
                        there.push((rkey, done.is_ok()));
                    }
                }
                there
            })
        })
        .collect();
    let all = join_all(tasks);
    tokio::pin!(all);
    let (mut transactions, mut failed) = (0u32, 0);
    let told = loop {
        tokio::select! {
            told = &mut all => break told,
            Some(waiting) = guarded.gate.recv() => {
                transactions += 1;
                let passes = !transactions.is_multiple_of(5);
                failed += u32::from(!passes);
                waiting.verdict.send(passes).unwrap();
            }
        }
    };
    assert!(failed >= 5, "{failed}");
    let records = guarded.verify().await;
    let mut there = 0;
    for (rkey, is_there) in told.into_iter().flat_map(Result::unwrap) {
        assert_eq!(records.contains_key(&format!("com.example.note/{rkey}")), is_there, "{rkey}");
        there += usize::from(is_there);
    }
    assert_eq!(records.len(), 50 + there);
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
