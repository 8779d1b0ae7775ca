use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use atcr_core::syntax::{Did, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;

use super::view::{InRepo, View};
use super::{Request, Writer};
use crate::cbor;
use crate::repo::mst::{MstError, NodeBlock, Tree, covering};
use crate::repo::prepared::Writes;
use crate::repo::source::Source;
use crate::repo::{Applied, Commit, Head, NewEvent, RecordPath, RepoError, car};
use crate::store::{
    NewHead, RecordChange, RepoChange, RepoId, RepoInfo, RepoStatus, StoreError, StoreWrite, StoredBlock,
};

/// What a request came to.
pub(super) enum Done {
    Applied(Applied),
    Head(Head),
    Nothing,
    /// The place of its event in the batch.
    Event(usize),
    Forgotten(Vec<(Did, Cid)>),
}

/// The changes that go into one transaction. A request that fails leaves nothing in it.
pub(super) struct Batch<'w> {
    pub(super) writer: &'w Writer,
    pub(super) view: View<'w>,
    pub(super) nodes: Source<'w>,
    /// `None`: there is no such repo.
    repos: HashMap<Did, Option<Pending>>,
    /// The order in which the repos were first changed.
    order: Vec<Did>,
    pub(super) events: Vec<NewEvent>,
    /// Whether blobs were forgotten.
    forgotten: bool,
}

/// A batch that is made, for the store to take.
pub(super) struct Whole {
    /// The transaction in which it was made; none when it was made ahead.
    pub(super) tx: Option<Box<dyn StoreWrite>>,
    pub(super) changes: Vec<RepoChange>,
    pub(super) events: Vec<NewEvent>,
    /// Whether there is something to commit besides.
    pub(super) forgotten: bool,
}

/// Where a batch leaves what it changes, known before that is durable: another batch can be made on top of it.
pub(super) struct Tip {
    repos: Vec<RepoInfo>,
    nodes: Vec<Arc<NodeBlock>>,
}

/// A repo, and what has changed of it in this batch.
pub(super) struct Pending {
    pub(super) info: RepoInfo,
    /// The repo in the store; `None` for one that the batch makes.
    before: Option<RepoInfo>,
    changed: bool,
    status: Option<RepoStatus>,
    delete: bool,
    drop_blocks: HashSet<Cid>,
    put_blocks: HashMap<Cid, (Tid, Bytes)>,
    records: BTreeMap<RecordPath, RecordChange>,
}

/// A commit that was made and not yet taken into a batch.
pub(super) struct Made {
    pub(super) head: NewHead,
    pub(super) commit: Bytes,
    pub(super) added: Vec<Arc<NodeBlock>>,
    pub(super) removed: Vec<Cid>,
    pub(super) records: Vec<RecordChange>,
}

impl Pending {
    fn new(info: RepoInfo, before: Option<RepoInfo>) -> Self {
        Self {
            info,
            before,
            changed: false,
            status: None,
            delete: false,
            drop_blocks: HashSet::new(),
            put_blocks: HashMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// Takes a commit: it is the newest now. What an earlier commit of the batch brought and this one removes is never
    /// stored at all.
    fn absorb(&mut self, made: Made) {
        let rev = made.head.head.rev;
        let old_commit = (!self.changed_head_is_new()).then_some(self.info.head.cid);
        for cid in made.removed.into_iter().chain(old_commit) {
            if self.put_blocks.remove(&cid).is_none() {
                self.drop_blocks.insert(cid);
            }
        }
        for node in made.added {
            self.put_blocks.insert(*node.cid(), (rev, node.bytes().clone()));
        }
        self.put_blocks.insert(made.head.head.cid, (rev, made.commit));
        for record in made.records {
            self.records.insert(record.path.clone(), record);
        }
        self.info.head = made.head.head;
        self.info.data = made.head.data;
        self.changed = true;
    }

    /// A repo that is made in this batch and has no commit yet.
    fn changed_head_is_new(&self) -> bool {
        self.before.is_none() && !self.changed
    }

    fn into_change(self) -> RepoChange {
        let mut change = RepoChange::new(self.info.did.clone(), self.before);
        change.head = Some(NewHead { head: self.info.head, data: self.info.data });
        change.status = self.status;
        change.drop_blocks = self.drop_blocks.into_iter().collect();
        change.put_blocks =
            self.put_blocks.into_iter().map(|(cid, (rev, bytes))| StoredBlock { cid, rev, bytes }).collect();
        change.records = self.records.into_values().collect();
        change.delete = self.delete;
        change
    }
}

impl<'w> Batch<'w> {
    pub(super) fn new(writer: &'w Writer, view: View<'w>) -> Self {
        Self {
            writer,
            view,
            nodes: Source::new(&writer.nodes),
            repos: HashMap::new(),
            order: Vec::new(),
            events: Vec::new(),
            forgotten: false,
        }
    }

    /// A batch on top of one that the store does not have yet.
    pub(super) fn on(writer: &'w Writer, tip: &Tip) -> Self {
        let mut batch = Self::new(writer, View::Store(&*writer.store));
        for info in &tip.repos {
            batch.repos.insert(info.did.clone(), Some(Pending::new(info.clone(), Some(info.clone()))));
        }
        for node in &tip.nodes {
            batch.nodes.hold(node.clone());
        }
        batch
    }

    /// Makes every request's changes, one after the other.
    pub(super) async fn make(&mut self, requests: &[Request]) -> Vec<Result<Done, RepoError>> {
        if let Err(error) = self.load_heads(requests).await {
            return requests.iter().map(|_| Err(error.clone())).collect();
        }
        if requests.len() > 1 {
            // Only a help; what goes wrong here goes wrong again where it matters.
            let _ = self.prefetch(requests).await;
        }
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(self.one(request).await);
        }
        outcomes
    }

    async fn one(&mut self, request: &Request) -> Result<Done, RepoError> {
        match request {
            Request::Apply(writes, _) => self.apply(writes).await.map(Done::Applied),
            Request::Create(did, handle, _) => self.create(did, handle.clone()).await.map(Done::Head),
            Request::Resign(did, _) => {
                self.active(did)?;
                let (made, event) = self.empty_commit(did).await?;
                let head = made.head.head;
                self.take(did, made);
                self.events.push(event);
                Ok(Done::Head(head))
            }
            Request::SetStatus(did, status, _) => self.set_status(did, *status).await.map(|()| Done::Nothing),
            Request::Delete(did, _) => self.delete(did).map(|()| Done::Nothing),
            Request::Append(event, _) => {
                self.events.push(event.clone());
                Ok(Done::Event(self.events.len() - 1))
            }
            Request::ForgetBlobs(before, limit, _) => {
                self.forgotten = true;
                Ok(Done::Forgotten(self.view.forget_blobs(before, *limit).await?))
            }
            // Done by the writer, in a transaction of its own.
            Request::Import(..) => Ok(Done::Nothing),
        }
    }

    /// Finds out where every repo of the batch is.
    async fn load_heads(&mut self, requests: &[Request]) -> Result<(), RepoError> {
        for did in requests.iter().filter_map(Request::did) {
            if self.repos.contains_key(did) {
                continue;
            }
            let pending = self.view.repo(did).await?.map(|info| Pending::new(info.clone(), Some(info)));
            self.repos.insert(did.clone(), pending);
        }
        Ok(())
    }

    /// Loads the tree nodes that the writes of each repo need, for all of them at once.
    async fn prefetch(&mut self, requests: &[Request]) -> Result<(), RepoError> {
        let mut paths: HashMap<&Did, Vec<(&str, bool)>> = HashMap::new();
        for request in requests {
            if let Request::Apply(Writes { did, list, .. }, _) = request {
                let keys = list.iter().map(|w| (w.path.as_str(), w.record.is_none()));
                paths.entry(did).or_default().extend(keys);
            }
        }
        for (did, keys) in paths {
            let Some(Some(pending)) = self.repos.get(did) else { continue };
            let (repo, data) = (pending.info.id, pending.info.data);
            let mut blocks = InRepo(&mut self.view, repo);
            let operations = keys
                .into_iter()
                .map(|(key, removed)| {
                    move |nodes: &Source<'_>| -> Result<(), MstError> {
                        if removed {
                            covering(nodes, &data, [key]).map(drop)
                        } else {
                            Tree::open(data).get(nodes, key).map(drop)
                        }
                    }
                })
                .collect();
            self.nodes.prefetch(&mut blocks, operations).await?;
        }
        Ok(())
    }

    /// The repo of an account.
    pub(super) fn repo(&self, did: &Did) -> Result<&Pending, RepoError> {
        match self.repos.get(did) {
            Some(Some(pending)) if !pending.delete => Ok(pending),
            _ => Err(RepoError::RepoNotFound(did.clone())),
        }
    }

    /// The repo of an account that takes commits.
    pub(super) fn active(&self, did: &Did) -> Result<&Pending, RepoError> {
        let pending = self.repo(did)?;
        match pending.info.status {
            RepoStatus::Active => Ok(pending),
            status => Err(RepoError::Inactive { did: did.clone(), status }),
        }
    }

    /// Takes a commit that was made for a repo.
    pub(super) fn take(&mut self, did: &Did, made: Made) {
        for node in &made.added {
            self.nodes.hold(node.clone());
        }
        self.change(did, |pending| pending.absorb(made));
    }

    fn change(&mut self, did: &Did, change: impl FnOnce(&mut Pending)) {
        if let Some(Some(pending)) = self.repos.get_mut(did) {
            if !self.order.contains(did) {
                self.order.push(did.clone());
            }
            change(pending);
            pending.changed = true;
        }
    }

    async fn create(
        &mut self,
        did: &Did,
        handle: Option<atcr_core::syntax::Handle>,
    ) -> Result<Head, RepoError> {
        if self.repo(did).is_ok() {
            return Err(RepoError::RepoExists(did.clone()));
        }
        let written = Tree::default().write()?;
        let node = written.nodes.last().cloned().ok_or(MstError::Missing(written.root))?;
        let key = self.writer.keys.signing_key(did).await?;
        let rev = self.writer.rev(None);
        let commit = Commit::sign(did, written.root, rev, &key)?.encode()?;
        let head = Head { cid: cbor::cid_for_cbor(&commit), rev };
        let info = RepoInfo {
            id: RepoId(0),
            did: did.clone(),
            head,
            data: written.root,
            status: RepoStatus::Active,
        };
        self.repos.insert(did.clone(), Some(Pending::new(info, None)));
        let event = NewEvent::Commit(Box::new(crate::repo::CommitEvent {
            did: did.clone(),
            head,
            since: None,
            ops: Vec::new(),
            blocks: car::encode(&[head.cid], [(&head.cid, &commit), (node.cid(), node.bytes())]),
        }));
        let sync = sync_event(did, head, &commit);
        self.take(
            did,
            Made {
                head: NewHead { head, data: written.root },
                commit,
                added: vec![node],
                removed: Vec::new(),
                records: Vec::new(),
            },
        );
        self.events.extend([
            NewEvent::Identity { did: did.clone(), handle },
            NewEvent::Account { did: did.clone(), status: RepoStatus::Active },
            event,
            sync,
        ]);
        Ok(head)
    }

    async fn set_status(&mut self, did: &Did, status: RepoStatus) -> Result<(), RepoError> {
        let pending = self.repo(did)?;
        if pending.info.status == status {
            return Ok(());
        }
        // Who has looked away meanwhile is told where the repo is now.
        let sync = match status {
            RepoStatus::Active => {
                let (repo, head) = (pending.info.id, pending.info.head);
                let commit = match pending.put_blocks.get(&head.cid) {
                    Some((_, bytes)) => bytes.clone(),
                    None => self.commit_block(repo, &head.cid).await?,
                };
                Some(sync_event(did, head, &commit))
            }
            _ => None,
        };
        self.change(did, |pending| {
            pending.info.status = status;
            pending.status = Some(status);
        });
        self.events.push(NewEvent::Account { did: did.clone(), status });
        self.events.extend(sync);
        Ok(())
    }

    async fn commit_block(&mut self, repo: RepoId, cid: &Cid) -> Result<Bytes, RepoError> {
        let found = self.view.blocks(repo, &[*cid]).await?.pop();
        Ok(found.ok_or_else(|| StoreError::Corrupt(format!("commit {cid} is missing")))?.bytes)
    }

    fn delete(&mut self, did: &Did) -> Result<(), RepoError> {
        self.repo(did)?;
        self.change(did, |pending| pending.delete = true);
        self.events.push(NewEvent::Account { did: did.clone(), status: RepoStatus::Deleted });
        Ok(())
    }

    /// Ends the batch: what is to be written, and where that leads.
    pub(super) fn finish(mut self) -> (Whole, Tip) {
        let changed: Vec<Pending> =
            self.order.iter().filter_map(|did| self.repos.remove(did).flatten()).collect();
        let repos = changed.iter().map(|pending| pending.info.clone()).collect();
        let changes: Vec<RepoChange> = changed.into_iter().map(Pending::into_change).collect();
        let cids = changes.iter().flat_map(|change| &change.put_blocks).map(|block| &block.cid);
        let nodes = self.nodes.remember(cids);
        let Self { view, events, forgotten, .. } = self;
        let tx = match view {
            View::Transaction(tx) => Some(tx),
            View::Store(_) => None,
        };
        (Whole { tx, changes, events, forgotten }, Tip { repos, nodes })
    }
}

/// `#sync`: the repo is at this commit.
pub(super) fn sync_event(did: &Did, head: Head, commit: &Bytes) -> NewEvent {
    let blocks = car::encode(&[head.cid], [(&head.cid, commit)]);
    NewEvent::Sync { did: did.clone(), rev: head.rev, blocks }
}
