use std::collections::{HashMap, HashSet};

use atcr_core::syntax::Tid;
use ipld_core::cid::Cid;

use super::RepoError;
use super::mst::{self, Item, MstError, NodeBlock};
use super::source::Load;
use crate::store::{Snapshot, StoredBlock};

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
    Record(Cid, Box<str>),
}

impl Todo {
    fn cid(&self) -> Cid {
        match self {
            Self::Commit(cid) | Self::Node(cid, _) | Self::Record(cid, _) => *cid,
        }
    }
}

/// A walk over a repo in preorder: each node comes before what it refers to, each record in the order of its key.
///
/// Every node is checked: its own form, its layer, and, since it comes in order, that all keys ascend.
pub(super) struct Walk<L> {
    blocks: L,
    since: Option<Tid>,
    /// The key of the record that came last.
    last: Box<str>,
    /// The nearest last.
    todo: Vec<Todo>,
    ahead: HashMap<Cid, StoredBlock>,
    /// Bytes of `ahead`.
    bytes: usize,
}

/// A block, and the key that names it if it is a record.
pub(super) struct Step {
    pub(super) block: StoredBlock,
    pub(super) key: Option<Box<str>>,
}

impl Walk<Box<dyn Snapshot>> {
    /// The commit and the tree of a repo; with `since`, what came after it.
    pub(super) fn repo(snapshot: Box<dyn Snapshot>, since: Option<Tid>) -> Self {
        let info = snapshot.info();
        let todo = vec![Todo::Node(info.data, None), Todo::Commit(info.head.cid)];
        Self { since, todo, ..Self::nothing(snapshot) }
    }
}

impl<L: Load> Walk<L> {
    /// A tree.
    pub(super) fn tree(blocks: L, root: Cid) -> Self {
        Self { todo: vec![Todo::Node(root, None)], ..Self::nothing(blocks) }
    }

    /// Nothing at all.
    pub(super) fn nothing(blocks: L) -> Self {
        Self { blocks, since: None, last: Box::default(), todo: Vec::new(), ahead: HashMap::new(), bytes: 0 }
    }

    /// The next block.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, RepoError> {
        while let Some(todo) = self.todo.last() {
            let cid = todo.cid();
            if !self.ahead.contains_key(&cid) {
                self.fill().await?;
            }
            let Some(todo) = self.todo.pop() else { break };
            // A record may stand in several places; it is loaded for each.
            let block = self.ahead.remove(&cid).ok_or_else(|| self.blocks.missing(&cid))?;
            self.bytes -= block.bytes.len();
            if !self.is_new(&block) {
                continue;
            }
            let key = match todo {
                Todo::Commit(_) => None,
                Todo::Node(_, layer) => {
                    self.push(&NodeBlock::decode(block.bytes.clone())?, layer)?;
                    None
                }
                Todo::Record(_, key) => {
                    if key <= self.last && self.since.is_none() {
                        return Err(MstError::Unsorted(key.into()).into());
                    }
                    self.last.clone_from(&key);
                    Some(key)
                }
            };
            return Ok(Some(Step { block, key }));
        }
        Ok(None)
    }

    /// A node that is older than asked for has nothing below it that is newer.
    fn is_new(&self, block: &StoredBlock) -> bool {
        self.since.is_none_or(|since| block.rev > since)
    }

    fn push(&mut self, node: &NodeBlock, layer: Option<u8>) -> Result<(), MstError> {
        let layer = match layer {
            Some(layer) => {
                node.check_place(layer, None, None)?;
                Some(layer)
            }
            None => mst::root_layer(node)?,
        };
        let below = layer.map(|layer| layer.saturating_sub(1));
        self.todo.extend(node.items().rev().map(|item| match item {
            Item::Child(cid) => Todo::Node(*cid, below),
            Item::Leaf(key, cid) => Todo::Record(*cid, key.into()),
        }));
        Ok(())
    }

    /// Loads what comes next: the subtree at hand layer by layer, if it is low, else what is nearest of the list.
    async fn fill(&mut self) -> Result<(), RepoError> {
        let mut wanted: Vec<(Cid, Option<u8>)> = Vec::new();
        let mut unique = HashSet::new();
        for todo in self.todo.iter().rev().take(QUERY) {
            let (cid, layer) = match todo {
                Todo::Commit(cid) | Todo::Record(cid, _) => (*cid, None),
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
            for block in self.blocks.load(&cids).await? {
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
