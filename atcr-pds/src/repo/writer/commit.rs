use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use atcr_core::syntax::{Did, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;

use super::Writer;
use super::batch::{Batch, Made};
use super::view::InRepo;
use crate::cbor;
use crate::repo::mst::{Hash, MstError, NodeBlock, Nodes, Tree, Written, covering};
use crate::repo::prepared::{PreparedRecord, Writes};
use crate::repo::{
    Applied, Commit, CommitEvent, Head, NewEvent, RecordPath, RepoError, RepoOp, Since, Swap, WriteResult,
    car,
};
use crate::store::{BlobRow, NewHead, RecordChange, RepoInfo};

/// The most bytes of blocks in one event (lexicon com.atproto.sync.subscribeRepos).
pub(super) const MAX_EVENT_BLOCKS: usize = 2_000_000;

/// What writes do to a tree.
struct Plan<'w> {
    written: Written,
    /// The nodes that prove the changes, the root first: all new ones are among them.
    proof: Vec<Arc<NodeBlock>>,
    /// What has changed on balance, one per path, with the record that is there now.
    ops: Vec<(RepoOp, Option<&'w PreparedRecord>)>,
    results: Vec<WriteResult>,
}

/// Nodes that were just written, over those they came from.
struct Over<'a>(&'a dyn Nodes, HashMap<Hash, &'a Arc<NodeBlock>>);

impl Nodes for Over<'_> {
    fn node(&self, cid: &Cid) -> Result<Arc<NodeBlock>, MstError> {
        let new = Hash::of(cid).and_then(|hash| self.1.get(&hash));
        new.map_or_else(|| self.0.node(cid), |node| Ok(Arc::clone(node)))
    }
}

fn plan<'w>(nodes: &dyn Nodes, info: &RepoInfo, writes: &'w Writes) -> Result<Plan<'w>, RepoError> {
    let mut tree = Tree::open(info.data);
    let mut ops: Vec<(RepoOp, Option<&PreparedRecord>)> = Vec::with_capacity(writes.list.len());
    let mut seen: HashMap<&RecordPath, usize> = HashMap::with_capacity(writes.list.len());
    let mut results = Vec::with_capacity(writes.list.len());
    for write in &writes.list {
        let path = &write.path;
        let at = if let Some(at) = seen.get(path) {
            *at
        } else {
            let before = tree.get(nodes, path.as_str())?;
            ops.push((RepoOp { path: path.clone(), cid: before, prev: before }, None));
            seen.insert(path, ops.len() - 1);
            ops.len() - 1
        };
        let (op, record) = &mut ops[at];
        let action = write.check(op.cid)?;
        let cid = write.record.as_ref().map(|r| r.cid);
        if cid != op.cid {
            match cid {
                Some(cid) => drop(tree.set(nodes, path.as_str(), cid)?),
                None => drop(tree.remove(nodes, path.as_str())?),
            }
        }
        op.cid = cid;
        *record = write.record.as_ref();
        results.push(WriteResult { uri: path.to_uri(&info.did), cid, action });
    }
    ops.retain(|(op, _)| op.cid != op.prev);
    let written = tree.write()?;
    let over = Over(nodes, written.nodes.iter().map(|n| (n.hash(), n)).collect());
    let proof = covering(&over, &written.root, ops.iter().map(|(op, _)| op.path.as_str()))?;
    Ok(Plan { written, proof, ops, results })
}

/// The event of a commit on top of `before`.
///
/// # Errors
/// [`RepoError::CommitTooLarge`] when its blocks are more than an event may have.
pub(super) fn event(
    before: &RepoInfo,
    head: Head,
    commit: &Bytes,
    proof: &[Arc<NodeBlock>],
    ops: &[(RepoOp, Option<&PreparedRecord>)],
) -> Result<NewEvent, RepoError> {
    let mut slice: Vec<(&Cid, &Bytes)> = vec![(&head.cid, commit)];
    slice.extend(proof.iter().map(|node| (node.cid(), node.bytes())));
    let mut seen = HashSet::new();
    let records = ops.iter().filter_map(|(_, record)| *record);
    slice.extend(records.filter(|r| seen.insert(r.cid)).map(|r| (&r.cid, &r.bytes)));
    let size: usize = slice.iter().map(|(_, bytes)| bytes.len() + 40).sum();
    if size > MAX_EVENT_BLOCKS {
        return Err(RepoError::CommitTooLarge(size));
    }
    Ok(NewEvent::Commit(Box::new(CommitEvent {
        did: before.did.clone(),
        head,
        since: Some(Since { rev: before.head.rev, data: before.data }),
        ops: ops.iter().map(|(op, _)| op.clone()).collect(),
        blocks: car::encode(&[head.cid], slice),
    })))
}

impl Writer {
    /// A revision after `last`, at the time it is or as shortly after as can be.
    pub(super) fn rev(&self, last: Option<Tid>) -> Tid {
        let next = last.map_or(0, |last| last.micros() + 1);
        Tid::new((self.now)().max(next), self.clock)
    }
}

impl Batch<'_> {
    pub(super) async fn apply(&mut self, writes: &Writes) -> Result<Applied, RepoError> {
        let did = &writes.did;
        let info = self.active(did)?.info.clone();
        if let Swap::Commit(expected) = writes.swap
            && expected != info.head.cid
        {
            return Err(RepoError::CommitSwap { actual: info.head.cid });
        }
        self.check_blobs(&info, writes).await?;
        let mut blocks = InRepo(&mut self.view, info.id);
        let plan = self.nodes.run(&mut blocks, |nodes| plan(nodes, &info, writes)).await?;
        if plan.ops.is_empty() && !writes.list.is_empty() {
            return Ok(Applied { commit: None, results: plan.results });
        }
        let Plan { written, proof, ops, results } = plan;
        let (made, event) = self.commit(&info, written, &proof, &ops).await?;
        let head = made.head.head;
        self.take(did, made);
        self.events.push(event);
        Ok(Applied { commit: Some(head), results })
    }

    /// A commit of the same tree.
    pub(super) async fn empty_commit(&mut self, did: &Did) -> Result<(Made, NewEvent), RepoError> {
        let info = self.active(did)?.info.clone();
        let writes = Writes { did: did.clone(), swap: Swap::Anything, list: Vec::new() };
        let mut blocks = InRepo(&mut self.view, info.id);
        let plan = self.nodes.run(&mut blocks, |nodes| plan(nodes, &info, &writes)).await?;
        self.commit(&info, plan.written, &plan.proof, &[]).await
    }

    /// Signs a commit and makes its event.
    async fn commit(
        &mut self,
        info: &RepoInfo,
        written: Written,
        proof: &[Arc<NodeBlock>],
        ops: &[(RepoOp, Option<&PreparedRecord>)],
    ) -> Result<(Made, NewEvent), RepoError> {
        let key = self.writer.keys.signing_key(&info.did).await?;
        let rev = self.writer.rev(Some(info.head.rev));
        let commit = Commit::sign(&info.did, written.root, rev, &key)?.encode()?;
        let head = Head { cid: cbor::cid_for_cbor(&commit), rev };

        let record = |(op, record): &(RepoOp, Option<&PreparedRecord>)| RecordChange {
            path: op.path.clone(),
            record: record.map(|r| (r.cid, r.bytes.clone())),
            rev,
            blobs: record.map(|r| r.blobs.iter().map(|b| b.cid).collect()).unwrap_or_default(),
        };
        let records = ops.iter().map(record).collect();
        let event = event(info, head, &commit, proof, ops)?;
        let made = Made {
            head: NewHead { head, data: written.root },
            commit,
            added: written.added,
            removed: written.removed,
            records,
        };
        Ok((made, event))
    }

    /// Refuses records that name blobs which are not there, or which are something else than they say.
    async fn check_blobs(&mut self, info: &RepoInfo, writes: &Writes) -> Result<(), RepoError> {
        let named: Vec<_> =
            writes.list.iter().filter_map(|w| w.record.as_ref()).flat_map(|r| &r.blobs).collect();
        if named.is_empty() {
            return Ok(());
        }
        let mut cids: Vec<Cid> = named.iter().map(|b| b.cid).collect();
        cids.sort_unstable();
        cids.dedup();
        let known = self.view.blobs(info.id, &cids).await?;
        let known: HashMap<Cid, BlobRow> = known.into_iter().map(|row| (row.blob.cid, row)).collect();
        for blob in named {
            let cid = blob.cid;
            let row = known.get(&cid).ok_or(RepoError::BlobNotFound(cid))?;
            if row.referenced {
                continue;
            }
            if row.blob.mime_type != blob.mime_type {
                let (given, actual) = (blob.mime_type.clone(), row.blob.mime_type.clone());
                return Err(RepoError::BlobMimeType { cid: cid.into(), given, actual });
            }
            if row.blob.size != blob.size {
                return Err(RepoError::BlobSize { cid, given: blob.size, actual: row.blob.size });
            }
        }
        Ok(())
    }
}
