use std::sync::Arc;

use atcr_core::syntax::Tid;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::Writer;
use super::batch::sync_event;
use super::commit::{MAX_EVENT_BLOCKS, event};
use crate::cbor::{self, blob_refs};
use crate::repo::import::Stage;
use crate::repo::mst::{MstError, Tree, covering};
use crate::repo::prepared::PreparedRecord;
use crate::repo::source::{Source, Stored};
use crate::repo::walk::Walk;
use crate::repo::{
    Commit, Head, Import, Imported, MAX_RECORD_BYTES, MAX_WRITES, RecordPath, RepoError, RepoOp,
};
use crate::store::{NewHead, RecordChange, RepoChange, RepoInfo, RepoStatus, StoreWrite, StoredBlock};

/// Records that are taken over at a time: that many, or that many bytes.
const PORTION: usize = 2000;
const PORTION_BYTES: usize = 4 * 1024 * 1024;

/// An import while it goes on.
struct Importing<'w> {
    nodes: Source<'w>,
    before: RepoInfo,
    rev: Tid,
    /// The root of the tree so far.
    data: Cid,
    done: Imported,
    /// The changes, while they are few enough for an event.
    ops: Option<Vec<(RepoOp, PreparedRecord)>>,
    ops_bytes: usize,
}

impl Writer {
    /// Takes over the records of files in one transaction and one commit.
    pub(super) async fn import(
        &self,
        did: &atcr_core::syntax::Did,
        import: Import,
    ) -> Result<Imported, RepoError> {
        let mut tx = self.store.begin().await?;
        let before = tx.repo(did).await?.ok_or_else(|| RepoError::RepoNotFound(did.clone()))?;
        if before.status != RepoStatus::Active {
            return Err(RepoError::Inactive { did: did.clone(), status: before.status });
        }
        let key = self.keys.signing_key(did).await?;
        let rev = self.rev(Some(before.head.rev));
        let mut importing = Importing {
            nodes: Source::new(&self.nodes),
            data: before.data,
            before,
            rev,
            done: Imported { commit: None, created: 0, updated: 0, unchanged: 0 },
            ops: Some(Vec::new()),
            ops_bytes: 0,
        };
        for (stage, root) in import.files {
            importing.file(&mut *tx, stage, root).await?;
        }
        if importing.data == importing.before.data {
            return Ok(importing.done);
        }
        let commit = Commit::sign(did, importing.data, rev, &key)?.encode()?;
        let head = Head { cid: cbor::cid_for_cbor(&commit), rev };
        let mut change = RepoChange::new(did.clone(), Some(importing.before.clone()));
        change.drop_blocks.push(importing.before.head.cid);
        change.put_blocks.push(StoredBlock { cid: head.cid, rev, bytes: commit.clone() });
        change.head = Some(NewHead { head, data: importing.data });
        tx.apply(&change).await?;
        let event = match importing.event(&mut *tx, head, &commit).await? {
            Some(event) => event,
            None => sync_event(did, head, &commit),
        };
        self.events.publish(tx.commit(vec![event], &self.datetime()).await?);
        importing.done.commit = Some(head);
        Ok(importing.done)
    }
}

impl Importing<'_> {
    async fn file(&mut self, tx: &mut dyn StoreWrite, stage: Stage, root: Cid) -> Result<(), RepoError> {
        let mut walk = Walk::tree(stage, root);
        let (mut portion, mut size) = (Vec::with_capacity(PORTION), 0);
        loop {
            let step = walk.next().await?;
            let ended = step.is_none();
            if let Some(step) = step
                && let Some(key) = step.key
            {
                size += step.block.bytes.len();
                portion.push((key.parse::<RecordPath>()?, record(&key, &step.block)?));
            }
            if ended || portion.len() == PORTION || size > PORTION_BYTES {
                self.portion(tx, std::mem::take(&mut portion)).await?;
                size = 0;
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Takes over some records, in the order of the tree.
    async fn portion(
        &mut self,
        tx: &mut dyn StoreWrite,
        records: Vec<(RecordPath, PreparedRecord)>,
    ) -> Result<(), RepoError> {
        let data = self.data;
        let mut stored = Stored(&mut *tx, self.before.id);
        let get = |path: &RecordPath| {
            let path = path.clone();
            move |nodes: &Source<'_>| Tree::open(data).get(nodes, path.as_str()).map(drop)
        };
        self.nodes.prefetch(&mut stored, records.iter().map(|(path, _)| get(path)).collect()).await?;
        let (written, befores) = self
            .nodes
            .run(&mut stored, |nodes| {
                let mut tree = Tree::open(data);
                let befores: Vec<Option<Cid>> = records
                    .iter()
                    .map(|(path, record)| tree.set(nodes, path.as_str(), record.cid))
                    .collect::<Result<_, MstError>>()?;
                Ok((tree.write()?, befores))
            })
            .await?;
        self.data = written.root;
        self.nodes.clear();
        for node in &written.added {
            self.nodes.hold(Arc::clone(node));
        }

        let mut change = RepoChange::new(self.before.did.clone(), Some(self.before.clone()));
        change.drop_blocks = written.removed;
        let rev = self.rev;
        let block = |cid: &Cid, bytes: &bytes::Bytes| StoredBlock { cid: *cid, rev, bytes: bytes.clone() };
        change.put_blocks = written.added.iter().map(|node| block(node.cid(), node.bytes())).collect();
        for ((path, record), prev) in records.into_iter().zip(befores) {
            match prev {
                Some(prev) if prev == record.cid => {
                    self.done.unchanged += 1;
                    continue;
                }
                Some(_) => self.done.updated += 1,
                None => self.done.created += 1,
            }
            change.records.push(RecordChange {
                path: path.clone(),
                record: Some((record.cid, record.bytes.clone())),
                rev,
                blobs: record.blobs.iter().map(|blob| blob.cid).collect(),
            });
            self.note(RepoOp { path, cid: Some(record.cid), prev }, record);
        }
        Ok(tx.apply(&change).await?)
    }

    /// Keeps a change for the event, unless it has become too large for one.
    fn note(&mut self, op: RepoOp, record: PreparedRecord) {
        let Some(ops) = &mut self.ops else { return };
        self.ops_bytes += record.bytes.len();
        // A later file may change the same record again: one operation per path.
        match ops.iter_mut().find(|(known, _)| known.path == op.path) {
            Some((known, last)) => {
                known.cid = op.cid;
                *last = record;
            }
            None => ops.push((op, record)),
        }
        if ops.len() > MAX_WRITES || self.ops_bytes > MAX_EVENT_BLOCKS {
            self.ops = None;
        }
    }

    /// The `#commit` event, if all fits into one.
    async fn event(
        &mut self,
        tx: &mut dyn StoreWrite,
        head: Head,
        commit: &bytes::Bytes,
    ) -> Result<Option<crate::repo::NewEvent>, RepoError> {
        let Some(mut ops) = self.ops.take() else { return Ok(None) };
        ops.retain(|(op, _)| op.cid != op.prev);
        let mut stored = Stored(tx, self.before.id);
        let data = self.data;
        let keys = || ops.iter().map(|(op, _)| op.path.as_str());
        let proof = self.nodes.run(&mut stored, |nodes| Ok(covering(nodes, &data, keys())?)).await?;
        let ops: Vec<_> = ops.iter().map(|(op, record)| (op.clone(), Some(record))).collect();
        match event(&self.before, head, commit, &proof, &ops) {
            Ok(event) => Ok(Some(event)),
            Err(RepoError::CommitTooLarge(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A record from a file: any that says what it is.
fn record(key: &str, block: &StoredBlock) -> Result<PreparedRecord, RepoError> {
    let path = || key.parse::<RecordPath>().map_err(RepoError::from);
    if block.bytes.len() > MAX_RECORD_BYTES {
        return Err(RepoError::RecordTooLarge { path: path()?, size: block.bytes.len() });
    }
    let value = cbor::decode_record(&block.bytes)?;
    if !matches!(&value, Ipld::Map(map) if matches!(map.get("$type"), Some(Ipld::String(_)))) {
        return Err(RepoError::TypeMismatch { path: path()?, found: String::new() });
    }
    Ok(PreparedRecord { cid: block.cid, bytes: block.bytes.clone(), blobs: blob_refs(&value) })
}
