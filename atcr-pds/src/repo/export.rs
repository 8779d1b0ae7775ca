use std::collections::{HashMap, HashSet};

use atcr_core::syntax::Tid;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use ipld_core::cid::Cid;

use super::mst::{Item, NodeBlock};
use super::{RepoError, car};
use crate::store::{Snapshot, StoreError, StoredBlock};

/// Blocks that are loaded ahead of the walk: that many, or that many bytes.
const AHEAD: usize = 4096;
const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// Blocks of one query.
const QUERY: usize = 256;
/// Subtrees up to this layer are loaded whole, when they fit.
const WHOLE: u8 = 4;

/// What is still to be sent, in the order of the tree.
enum Todo {
    Commit(Cid),
    Node(Cid, Option<u8>),
    Record(Cid),
}

impl Todo {
    fn cid(&self) -> Cid {
        match self {
            Self::Commit(cid) | Self::Node(cid, _) | Self::Record(cid) => *cid,
        }
    }
}

/// A walk over a repo in preorder: each node comes before what it refers to, each record in the order of its key.
struct Walk {
    snapshot: Box<dyn Snapshot>,
    since: Option<Tid>,
    /// The nearest last.
    todo: Vec<Todo>,
    ahead: HashMap<Cid, StoredBlock>,
    /// Bytes of `ahead`.
    bytes: usize,
}

/// The blocks of a repo that came after `since`, the commit first.
pub(super) fn stream(
    snapshot: Box<dyn Snapshot>,
    since: Option<Tid>,
) -> BoxStream<'static, Result<Bytes, RepoError>> {
    let head = snapshot.info().head;
    let data = snapshot.info().data;
    let todo = match since {
        Some(since) if since >= head.rev => Vec::new(),
        _ => vec![Todo::Node(data, None), Todo::Commit(head.cid)],
    };
    let walk = Walk { snapshot, since, todo, ahead: HashMap::new(), bytes: 0 };
    let blocks = try_unfold(walk, |mut walk| async move {
        Ok(walk.next().await?.map(|block| ((block.cid, block.bytes), walk)))
    });
    car::stream(head.cid, Box::pin(blocks)).boxed()
}

impl Walk {
    /// The next block to be sent.
    async fn next(&mut self) -> Result<Option<StoredBlock>, RepoError> {
        while let Some(todo) = self.todo.last() {
            let cid = todo.cid();
            if !self.ahead.contains_key(&cid) {
                self.fill().await?;
            }
            let Some(todo) = self.todo.pop() else { break };
            // A record may stand in several places; it is loaded for each.
            let block = self.ahead.remove(&cid).ok_or_else(|| missing(&cid))?;
            self.bytes -= block.bytes.len();
            if !self.is_new(&block) {
                continue;
            }
            if let Todo::Node(_, layer) = todo {
                let node = NodeBlock::decode(block.bytes.clone())?;
                self.push(&node, layer);
            }
            return Ok(Some(block));
        }
        Ok(None)
    }

    /// A node that is older than asked for has nothing below it that is newer.
    fn is_new(&self, block: &StoredBlock) -> bool {
        self.since.is_none_or(|since| block.rev > since)
    }

    fn push(&mut self, node: &NodeBlock, layer: Option<u8>) {
        let below = layer.or(node.layer()).map(|layer| layer.saturating_sub(1));
        self.todo.extend(node.items().rev().map(|item| match item {
            Item::Child(cid) => Todo::Node(*cid, below),
            Item::Leaf(_, cid) => Todo::Record(*cid),
        }));
    }

    /// Loads what comes next: the subtree at hand layer by layer, if it is low, else what is nearest of the list.
    async fn fill(&mut self) -> Result<(), RepoError> {
        let mut wanted: Vec<(Cid, Option<u8>)> = Vec::new();
        let mut unique = HashSet::new();
        for todo in self.todo.iter().rev().take(QUERY) {
            let (cid, layer) = match todo {
                Todo::Commit(cid) | Todo::Record(cid) => (*cid, None),
                Todo::Node(cid, layer) => (*cid, layer.filter(|layer| *layer <= WHOLE)),
            };
            if !self.ahead.contains_key(&cid) && unique.insert(cid) {
                wanted.push((cid, layer));
            }
        }
        while !wanted.is_empty() {
            let take = wanted.len().min(QUERY);
            let layers: HashMap<Cid, Option<u8>> = wanted.drain(..take).collect();
            let cids: Vec<Cid> = layers.keys().copied().collect();
            let mut below = Vec::new();
            for block in self.snapshot.blocks(&cids).await? {
                if let Some(Some(layer)) = layers.get(&block.cid)
                    && self.is_new(&block)
                {
                    let node = NodeBlock::decode(block.bytes.clone())?;
                    let down = layer.saturating_sub(1);
                    below.extend(node.items().map(|item| match item {
                        Item::Child(cid) => (*cid, Some(down)),
                        Item::Leaf(_, cid) => (*cid, None),
                    }));
                }
                self.bytes += block.bytes.len();
                if let Some(twice) = self.ahead.insert(block.cid, block) {
                    self.bytes -= twice.bytes.len();
                }
            }
            // The list itself is always loaded; its subtrees only while there is room.
            if self.bytes > AHEAD_BYTES || self.ahead.len() > AHEAD {
                break;
            }
            below.retain(|(cid, _)| !self.ahead.contains_key(cid) && unique.insert(*cid));
            wanted.extend(below);
        }
        Ok(())
    }
}

fn missing(cid: &Cid) -> RepoError {
    StoreError::Corrupt(format!("block {cid} is missing")).into()
}
