use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use ipld_core::cid::Cid;

use super::RepoError;
use super::cache::NodeCache;
use super::mst::{Hash, MstError, NodeBlock, Nodes};
use crate::store::{RepoId, Snapshot, StoreError, StoreWrite, StoredBlock, StoredRecord};

/// Where blocks come from.
#[async_trait]
pub(super) trait Load: Send {
    /// The nodes and commits among `cids`, in any order.
    async fn load(&mut self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError>;

    /// What it means that a block is not there which another one refers to.
    fn missing(&self, cid: &Cid) -> RepoError {
        StoreError::Corrupt(format!("block {cid} is missing")).into()
    }
}

/// Where a whole repo comes from.
#[async_trait]
pub(super) trait LoadRecords: Load {
    /// The records that the tree has under these keys, in any order.
    async fn load_records(
        &mut self,
        records: &[(Box<str>, Cid)],
    ) -> Result<Vec<(Box<str>, StoredBlock)>, StoreError>;
}

#[async_trait]
impl Load for Box<dyn Snapshot> {
    async fn load(&mut self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        self.blocks(cids).await
    }
}

#[async_trait]
impl LoadRecords for Box<dyn Snapshot> {
    async fn load_records(
        &mut self,
        records: &[(Box<str>, Cid)],
    ) -> Result<Vec<(Box<str>, StoredBlock)>, StoreError> {
        let paths: Vec<&str> = records.iter().map(|(key, _)| &**key).collect();
        let found = self.records(&paths).await?;
        let block = |r: StoredRecord| {
            (r.path.as_str().into(), StoredBlock { cid: r.cid, rev: r.rev, bytes: r.bytes })
        };
        Ok(found.into_iter().map(block).collect())
    }
}

/// The blocks of a repo as a transaction has left them.
pub(super) struct Stored<'a>(pub(super) &'a mut dyn StoreWrite, pub(super) RepoId);

#[async_trait]
impl Load for Stored<'_> {
    async fn load(&mut self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        self.0.blocks(self.1, cids).await
    }
}

/// Nodes at hand: those loaded or made for the work that is under way, over the shared cache.
pub(super) struct Source<'a> {
    cache: &'a NodeCache,
    /// Kept until the work is done, so that no node is asked for twice, however small the cache is.
    held: HashMap<Hash, Arc<NodeBlock>>,
}

impl Nodes for Source<'_> {
    fn node(&self, cid: &Cid) -> Result<Arc<NodeBlock>, MstError> {
        let hash = Hash::of(cid).ok_or(MstError::Missing(*cid))?;
        self.held.get(&hash).cloned().or_else(|| self.cache.get(&hash)).ok_or(MstError::Missing(*cid))
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(cache: &'a NodeCache) -> Self {
        Self { cache, held: HashMap::new() }
    }

    /// Puts nodes that are held into the cache, and gives them.
    pub(super) fn remember<'c>(&self, cids: impl Iterator<Item = &'c Cid>) -> Vec<Arc<NodeBlock>> {
        let nodes: Vec<_> = cids.filter_map(|cid| self.held.get(&Hash::of(cid)?)).cloned().collect();
        for node in &nodes {
            self.cache.insert(node.clone());
        }
        nodes
    }

    /// Lets go of what is held.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    pub(super) fn hold(&mut self, node: Arc<NodeBlock>) {
        self.held.insert(node.hash(), node);
    }

    /// Loads nodes that the tree of a repo refers to, so they must be there.
    pub(super) async fn load(&mut self, blocks: &mut dyn Load, cids: &[Cid]) -> Result<(), RepoError> {
        for block in blocks.load(cids).await? {
            let node = Arc::new(NodeBlock::decode(block.bytes)?);
            self.cache.insert(node.clone());
            self.hold(node);
        }
        match cids.iter().find(|cid| Hash::of(cid).is_none_or(|hash| !self.held.contains_key(&hash))) {
            None => Ok(()),
            Some(cid) => Err(blocks.missing(cid)),
        }
    }

    /// Runs an operation on a tree until every node that it needs is there.
    pub(super) async fn run<T>(
        &mut self,
        blocks: &mut dyn Load,
        mut operation: impl FnMut(&Self) -> Result<T, RepoError>,
    ) -> Result<T, RepoError> {
        loop {
            match operation(self) {
                Err(RepoError::Mst(MstError::Missing(cid))) => self.load(blocks, &[cid]).await?,
                result => return result,
            }
        }
    }

    /// Makes sure of the nodes that operations on many keys need, layer by layer, with one query per layer.
    pub(super) async fn prefetch(
        &mut self,
        blocks: &mut dyn Load,
        mut operations: Vec<impl Fn(&Self) -> Result<(), MstError>>,
    ) -> Result<(), RepoError> {
        loop {
            let mut missing = Vec::new();
            operations.retain(|operation| match operation(self) {
                Err(MstError::Missing(cid)) => {
                    missing.push(cid);
                    true
                }
                // What else is wrong comes up when the operation is done in earnest.
                _ => false,
            });
            if missing.is_empty() {
                return Ok(());
            }
            missing.sort_unstable();
            missing.dedup();
            self.load(blocks, &missing).await?;
        }
    }
}
