use std::collections::{HashMap, VecDeque};

use atcr_core::syntax::Tid;
use ipld_core::cid::Cid;

use super::RepoError;
use super::mst::{self, Item, MstError, NodeBlock};
use super::source::LoadRecords;
use crate::store::{Snapshot, StoredBlock};

/// Blocks that are loaded ahead of the walk: that many of a kind, or that many bytes.
const AHEAD: usize = 4096;
const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// Blocks of one query.
const QUERY: usize = 256;
/// Subtrees up to this layer are loaded whole, when they fit.
const WHOLE: u8 = 4;

/// What is still to be visited, in the order of the tree.
enum Todo {
    Commit(Cid),
    /// A node, and its layer; none for the root, which tells it itself.
    Node(Cid, Option<u8>),
    Record(Box<str>, Cid),
}

/// A node that was loaded ahead.
struct Ahead {
    rev: Tid,
    node: NodeBlock,
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
    nodes: HashMap<Cid, Ahead>,
    records: HashMap<Box<str>, StoredBlock>,
    /// Bytes of `nodes` and `records`.
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

impl<L: LoadRecords> Walk<L> {
    /// A tree.
    pub(super) fn tree(blocks: L, root: Cid) -> Self {
        Self { todo: vec![Todo::Node(root, None)], ..Self::nothing(blocks) }
    }

    /// Nothing at all.
    pub(super) fn nothing(blocks: L) -> Self {
        Self {
            blocks,
            since: None,
            last: Box::default(),
            todo: Vec::new(),
            nodes: HashMap::new(),
            records: HashMap::new(),
            bytes: 0,
        }
    }

    /// The next block.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, RepoError> {
        while let Some(todo) = self.todo.pop() {
            match todo {
                Todo::Commit(cid) => {
                    let block = self.blocks.load(&[cid]).await?.pop();
                    let block = block.ok_or_else(|| self.blocks.missing(&cid))?;
                    return Ok(Some(Step { block, key: None }));
                }
                Todo::Node(cid, layer) => {
                    if !self.nodes.contains_key(&cid) {
                        self.load_nodes(cid, layer).await?;
                    }
                    let Ahead { rev, node } =
                        self.nodes.remove(&cid).ok_or_else(|| self.blocks.missing(&cid))?;
                    self.bytes -= node.bytes().len();
                    // A node that is older than asked for has nothing below it that is newer.
                    if self.is_new(rev) {
                        self.push(&node, layer)?;
                        let block = StoredBlock { cid, rev, bytes: node.bytes().clone() };
                        return Ok(Some(Step { block, key: None }));
                    }
                }
                Todo::Record(key, cid) => {
                    if key <= self.last {
                        return Err(MstError::Unsorted(key.into()).into());
                    }
                    if !self.records.contains_key(&key) {
                        self.load_records(&key, cid).await?;
                    }
                    let block = self.records.remove(&key).filter(|block| block.cid == cid);
                    let block = block.ok_or_else(|| self.blocks.missing(&cid))?;
                    self.bytes -= block.bytes.len();
                    self.last.clone_from(&key);
                    if self.is_new(block.rev) {
                        return Ok(Some(Step { block, key: Some(key) }));
                    }
                }
            }
        }
        Ok(None)
    }

    fn is_new(&self, rev: Tid) -> bool {
        self.since.is_none_or(|since| rev > since)
    }

    fn has_room(&self) -> bool {
        self.bytes < AHEAD_BYTES && self.nodes.len() < AHEAD && self.records.len() < AHEAD
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
            Item::Child(cid) => Todo::Node(cid, below),
            Item::Leaf(key, cid) => Todo::Record(key.into(), cid),
        }));
        Ok(())
    }

    /// Loads a node, and the nodes below it layer by layer if it stands low.
    async fn load_nodes(&mut self, cid: Cid, layer: Option<u8>) -> Result<(), RepoError> {
        let mut wanted = VecDeque::from([(cid, layer)]);
        while !wanted.is_empty() && (self.has_room() || !self.nodes.contains_key(&cid)) {
            let take = wanted.len().min(QUERY);
            let layers: HashMap<Cid, Option<u8>> = wanted.drain(..take).collect();
            let cids: Vec<Cid> = layers.keys().copied().collect();
            for block in self.blocks.load(&cids).await? {
                let node = NodeBlock::decode(block.bytes)?;
                if let Some(Some(layer @ 1..=WHOLE)) = layers.get(node.cid())
                    && self.is_new(block.rev)
                {
                    let children = node.items().filter_map(|item| match item {
                        Item::Child(cid) => Some((cid, Some(layer - 1))),
                        Item::Leaf(..) => None,
                    });
                    wanted.extend(children.filter(|(cid, _)| !self.nodes.contains_key(cid)));
                }
                self.bytes += node.bytes().len();
                if let Some(twice) = self.nodes.insert(*node.cid(), Ahead { rev: block.rev, node }) {
                    self.bytes -= twice.node.bytes().len();
                }
            }
        }
        Ok(())
    }

    /// Loads a record and those that come after it, as far as the nodes between them are known.
    async fn load_records(&mut self, key: &str, cid: Cid) -> Result<(), RepoError> {
        let mut wanted: Vec<(Box<str>, Cid)> = vec![(key.into(), cid)];
        for todo in self.todo.iter().rev() {
            if wanted.len() >= QUERY {
                break;
            }
            match todo {
                Todo::Record(key, cid) => self.want(key, *cid, &mut wanted),
                Todo::Node(cid, _) if !self.upcoming(cid, &mut wanted) => break,
                Todo::Node(..) | Todo::Commit(_) => {}
            }
        }
        for (key, block) in self.blocks.load_records(&wanted).await? {
            self.bytes += block.bytes.len();
            if let Some(twice) = self.records.insert(key, block) {
                self.bytes -= twice.bytes.len();
            }
        }
        Ok(())
    }

    fn want(&self, key: &str, cid: Cid, wanted: &mut Vec<(Box<str>, Cid)>) {
        if !self.records.contains_key(key) {
            wanted.push((key.into(), cid));
        }
    }

    /// Collects the records below a node; false when it is not known, so that what follows is too far away.
    fn upcoming(&self, cid: &Cid, wanted: &mut Vec<(Box<str>, Cid)>) -> bool {
        let Some(ahead) = self.nodes.get(cid) else { return false };
        if !self.is_new(ahead.rev) {
            return true;
        }
        for item in ahead.node.items() {
            if wanted.len() >= QUERY {
                break;
            }
            match item {
                Item::Leaf(key, cid) => self.want(key, cid, wanted),
                Item::Child(cid) => {
                    if !self.upcoming(&cid, wanted) {
                        return false;
                    }
                }
            }
        }
        true
    }
}
