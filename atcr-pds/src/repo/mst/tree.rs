use std::collections::HashSet;
use std::sync::Arc;

use ipld_core::cid::Cid;

use super::node::{Entry, Hash, Link, Node};
use super::{MstError, NodeBlock, Nodes, check_key, height, key::check_value};

/// A tree that is being changed. Only nodes on the way to a change are read and rewritten; they stay unencoded until
/// [`Tree::write`], so that several changes share the work.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Link,
    /// Stored nodes that a change has replaced.
    replaced: HashSet<Hash>,
}

/// What [`Tree::write`] made.
#[derive(Debug, Clone)]
pub struct Written {
    /// The root.
    pub root: Cid,
    /// Every node that was encoded, children before parents. A few may be the same as before the changes.
    pub nodes: Vec<Arc<NodeBlock>>,
    /// The nodes that the tree had when it was opened and does not have now.
    pub removed: Vec<Cid>,
    /// Of `nodes`, those that the tree did not have when it was opened.
    pub added: Vec<Arc<NodeBlock>>,
}

impl Default for Tree {
    /// The empty tree.
    fn default() -> Self {
        Self { root: Link::Dirty(Arc::default()), replaced: HashSet::new() }
    }
}

impl Tree {
    /// The tree with this root. A CID that cannot be a node's is a tree that cannot be read.
    pub fn open(root: Cid) -> Self {
        // No block has this hash.
        let root = Hash::of(&root).unwrap_or(Hash::NONE);
        Self { root: Link::Stored(root), replaced: HashSet::new() }
    }

    /// The value of a key.
    pub fn get(&self, nodes: &dyn Nodes, key: &str) -> Result<Option<Cid>, MstError> {
        let op = Op { nodes, replaced: Vec::new() };
        let Some((mut node, mut layer)) = op.root(&self.root)? else { return Ok(None) };
        let (mut low, mut high): (Option<Arc<str>>, Option<Arc<str>>) = (None, None);
        loop {
            let (at, found) = node.find(key);
            if found {
                return Ok(Some(node.entries[at].value.cid()));
            }
            let Some(link) = node.link(at) else { return Ok(None) };
            if at > 0 {
                low = Some(node.entries[at - 1].key.clone());
            }
            if let Some(next) = node.entries.get(at) {
                high = Some(next.key.clone());
            }
            let below = layer.checked_sub(1).ok_or_else(|| too_deep(link))?;
            node = op.load(link, below, low.as_deref(), high.as_deref())?;
            layer = below;
        }
    }

    /// Adds a key that the tree does not have.
    pub fn insert(&mut self, nodes: &dyn Nodes, key: &str, value: Cid) -> Result<(), MstError> {
        if self.get(nodes, key)?.is_some() {
            return Err(MstError::KeyExists(key.into()));
        }
        self.set(nodes, key, value).map(drop)
    }

    /// Gives a key that the tree has another value, and returns the one it had.
    pub fn update(&mut self, nodes: &dyn Nodes, key: &str, value: Cid) -> Result<Cid, MstError> {
        if self.get(nodes, key)?.is_none() {
            return Err(MstError::KeyNotFound(key.into()));
        }
        self.set(nodes, key, value)?.ok_or_else(|| MstError::KeyNotFound(key.into()))
    }

    /// Adds a key or changes its value; returns the value it had.
    pub fn set(&mut self, nodes: &dyn Nodes, key: &str, value: Cid) -> Result<Option<Cid>, MstError> {
        check_key(key)?;
        let value = check_value(&value)?;
        let mut op = Op { nodes, replaced: Vec::new() };
        let new = Entry { key: key.into(), value, right: None };
        let target = height(key);
        let mut before = None;
        let root = match op.root(&self.root)? {
            None => {
                op.replace(&self.root);
                Node { left: None, entries: vec![new] }
            }
            Some((root, layer)) if target <= layer => {
                op.replace(&self.root);
                op.set(&root, layer, target, new, Place::default(), &mut before)?
            }
            Some((_, layer)) => {
                // The new key stands above the whole tree: split it, and bridge the layers between with empty nodes.
                let (left, right) = op.split(&self.root, layer, key, Place::default())?;
                let raise = |link: Option<Link>| link.map(|link| wrap(link, target - 1 - layer));
                Node { left: raise(left), entries: vec![Entry { right: raise(right), ..new }] }
            }
        };
        self.finish(op.replaced, root);
        Ok(before)
    }

    /// Removes a key that the tree has, and returns its value.
    pub fn remove(&mut self, nodes: &dyn Nodes, key: &str) -> Result<Cid, MstError> {
        let missing = || MstError::KeyNotFound(key.into());
        let mut op = Op { nodes, replaced: Vec::new() };
        let (root, layer) = op.root(&self.root)?.ok_or_else(missing)?;
        let target = height(key);
        if target > layer {
            return Err(missing());
        }
        op.replace(&self.root);
        let (root, value) = op.remove(&root, layer, target, key, Place::default())?;
        let mut root = Link::Dirty(Arc::new(root.unwrap_or_default()));
        // No entry at the top: the tree has lost its highest layer, or several of them.
        let mut layer = layer;
        loop {
            let node = match &root {
                Link::Dirty(node) => node.clone(),
                // The keys were checked to be in range on the way that made this link, or are all the keys there are.
                Link::Stored(_) => op.load(&root, layer, None, None)?,
            };
            match &node.left {
                Some(left) if node.entries.is_empty() => {
                    op.replace(&root);
                    layer = layer.checked_sub(1).ok_or_else(|| too_deep(left))?;
                    root = left.clone();
                }
                _ => break,
            }
        }
        self.replaced.extend(op.replaced);
        self.root = root;
        Ok(value)
    }

    fn finish(&mut self, replaced: Vec<Hash>, root: Node) {
        self.replaced.extend(replaced);
        self.root = Link::Dirty(Arc::new(root));
    }

    /// Encodes what has changed. Afterwards the tree goes on from there.
    ///
    /// # Errors
    /// [`MstError::NotCanonical`] when a node has grown beyond [`MAX_NODE_BYTES`](super::MAX_NODE_BYTES); the tree is
    /// as before.
    pub fn write(&mut self) -> Result<Written, MstError> {
        let mut nodes = Vec::new();
        let root = write(&self.root, &mut nodes)?;
        let hashes: HashSet<Hash> = nodes.iter().map(|n| n.hash()).collect();
        let removed =
            self.replaced.iter().filter(|hash| !hashes.contains(hash)).map(|hash| hash.cid()).collect();
        let added = nodes.iter().filter(|n| !self.replaced.contains(&n.hash())).cloned().collect();
        self.replaced.clear();
        self.root = Link::Stored(root);
        Ok(Written { root: root.cid(), nodes, removed, added })
    }
}

fn write(link: &Link, out: &mut Vec<Arc<NodeBlock>>) -> Result<Hash, MstError> {
    let node = match link {
        Link::Stored(hash) => return Ok(*hash),
        Link::Dirty(node) => node,
    };
    let mut resolve =
        |link: &Option<Link>| link.as_ref().map(|link| write(link, out).map(Link::Stored)).transpose();
    let left = resolve(&node.left)?;
    let mut entries = Vec::with_capacity(node.entries.len());
    for e in &node.entries {
        entries.push(Entry { key: e.key.clone(), value: e.value, right: resolve(&e.right)? });
    }
    let block = NodeBlock::encode(Node { left, entries })?;
    let hash = block.hash();
    out.push(Arc::new(block));
    Ok(hash)
}

/// A link that stands `layers` layers higher than its node.
fn wrap(link: Link, layers: u8) -> Link {
    (0..layers).fold(link, |link, _| Link::Dirty(Arc::new(Node { left: Some(link), entries: Vec::new() })))
}

fn too_deep(link: &Link) -> MstError {
    let cid = match link {
        Link::Stored(hash) => hash.cid(),
        Link::Dirty(_) => Cid::default(),
    };
    MstError::NotCanonical { cid, what: "it is below the lowest layer" }
}

/// Between which keys a subtree stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    pub(super) low: Option<&'a str>,
    pub(super) high: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// The place of the link before entry `at` of a node that stands here.
    pub(super) fn child(self, node: &'a Node, at: usize) -> Self {
        let low = at.checked_sub(1).map_or(self.low, |i| Some(&*node.entries[i].key));
        let high = node.entries.get(at).map_or(self.high, |e| Some(&*e.key));
        Self { low, high }
    }
}

/// One change while it is being made.
struct Op<'n> {
    nodes: &'n dyn Nodes,
    /// Stored nodes that the change replaces.
    replaced: Vec<Hash>,
}

impl Op<'_> {
    fn load(
        &self,
        link: &Link,
        layer: u8,
        low: Option<&str>,
        high: Option<&str>,
    ) -> Result<Arc<Node>, MstError> {
        match link {
            Link::Dirty(node) => Ok(node.clone()),
            Link::Stored(hash) => {
                let block = self.nodes.node(&hash.cid())?;
                block.check_place(layer, low, high)?;
                Ok(block.node.clone())
            }
        }
    }

    /// The root and its layer; `None` for the empty tree.
    fn root(&self, link: &Link) -> Result<Option<(Arc<Node>, u8)>, MstError> {
        let node = match link {
            Link::Dirty(node) => node.clone(),
            Link::Stored(hash) => self.nodes.node(&hash.cid())?.node.clone(),
        };
        match (node.layer(), link) {
            (Some(layer), _) => Ok(Some((node, layer))),
            (None, Link::Stored(hash)) if node.left.is_some() => {
                Err(MstError::NotCanonical { cid: hash.cid(), what: "it is the root and has no entry" })
            }
            (None, _) => Ok(None),
        }
    }

    fn replace(&mut self, link: &Link) {
        if let Link::Stored(hash) = link {
            self.replaced.push(*hash);
        }
    }

    /// `node`, which stands at `layer`, with the entry set.
    fn set(
        &mut self,
        node: &Node,
        layer: u8,
        target: u8,
        new: Entry,
        place: Place<'_>,
        before: &mut Option<Cid>,
    ) -> Result<Node, MstError> {
        let (at, found) = node.find(&new.key);
        let below = place.child(node, at);
        let mut changed = node.clone();
        if found {
            *before = Some(node.entries[at].value.cid());
            changed.entries[at].value = new.value;
        } else if layer == target {
            let (left, right) = match node.link(at) {
                None => (None, None),
                Some(link) => {
                    let down = layer.checked_sub(1).ok_or_else(|| too_deep(link))?;
                    self.split(link, down, &new.key, below)?
                }
            };
            changed.set_link(at, left);
            changed.entries.insert(at, Entry { right, ..new });
        } else {
            // `target` is below `layer` here, so there is a layer below.
            let down = layer - 1;
            let child = if let Some(link) = node.link(at) {
                let child = self.load(link, down, below.low, below.high)?;
                self.replace(link);
                Link::Dirty(Arc::new(self.set(&child, down, target, new, below, before)?))
            } else {
                let leaf = Link::Dirty(Arc::new(Node { left: None, entries: vec![new] }));
                wrap(leaf, down - target)
            };
            changed.set_link(at, Some(child));
        }
        Ok(changed)
    }

    /// Splits the subtree at `link` into what is below `key` and what is above it.
    fn split(
        &mut self,
        link: &Link,
        layer: u8,
        key: &str,
        place: Place<'_>,
    ) -> Result<(Option<Link>, Option<Link>), MstError> {
        let node = self.load(link, layer, place.low, place.high)?;
        let (at, _) = node.find(key);
        let (low, high) = match node.link(at) {
            None => (None, None),
            Some(child) => {
                let down = layer.checked_sub(1).ok_or_else(|| too_deep(child))?;
                self.split(child, down, key, place.child(&node, at))?
            }
        };
        // The key is beyond one end: the node goes to the other side as it is.
        match node.link(at) {
            None if at == 0 => return Ok((None, Some(link.clone()))),
            None if at == node.entries.len() => return Ok((Some(link.clone()), None)),
            _ => self.replace(link),
        }
        let mut left = Node { left: node.left.clone(), entries: node.entries[..at].to_vec() };
        left.set_link(at, low);
        let right = Node { left: high, entries: node.entries[at..].to_vec() };
        let some = |node: Node| (!node.is_empty()).then(|| Link::Dirty(Arc::new(node)));
        Ok((some(left), some(right)))
    }

    /// `node`, which stands at `layer`, without the key; `None` when nothing is left of it.
    fn remove(
        &mut self,
        node: &Node,
        layer: u8,
        target: u8,
        key: &str,
        place: Place<'_>,
    ) -> Result<(Option<Node>, Cid), MstError> {
        let missing = || MstError::KeyNotFound(key.into());
        let (at, found) = node.find(key);
        let mut changed = node.clone();
        let value = if found {
            let left = node.link(at);
            let right = node.entries[at].right.as_ref();
            let merged = match (left, right) {
                (Some(left), Some(right)) => {
                    let down = layer.checked_sub(1).ok_or_else(|| too_deep(left))?;
                    let (low, high) = (place.child(node, at), place.child(node, at + 1));
                    Some(self.merge(left, low, right, high, down)?)
                }
                (one, other) => one.or(other).cloned(),
            };
            let entry = changed.entries.remove(at);
            changed.set_link(at, merged);
            entry.value.cid()
        } else {
            if layer <= target {
                return Err(missing());
            }
            let link = node.link(at).ok_or_else(missing)?;
            let below = place.child(node, at);
            let child = self.load(link, layer - 1, below.low, below.high)?;
            self.replace(link);
            let (child, value) = self.remove(&child, layer - 1, target, key, below)?;
            changed.set_link(at, child.map(|c| Link::Dirty(Arc::new(c))));
            value
        };
        Ok(((!changed.is_empty()).then_some(changed), value))
    }

    /// Joins two neighbouring subtrees of one layer between which a key has gone.
    fn merge(
        &mut self,
        left: &Link,
        left_place: Place<'_>,
        right: &Link,
        right_place: Place<'_>,
        layer: u8,
    ) -> Result<Link, MstError> {
        let a = self.load(left, layer, left_place.low, left_place.high)?;
        let b = self.load(right, layer, right_place.low, right_place.high)?;
        self.replace(left);
        self.replace(right);
        let end = a.entries.len();
        let middle = match (a.link(end), b.link(0)) {
            (Some(x), Some(y)) => {
                let down = layer.checked_sub(1).ok_or_else(|| too_deep(x))?;
                Some(self.merge(x, left_place.child(&a, end), y, right_place.child(&b, 0), down)?)
            }
            (one, other) => one.or(other).cloned(),
        };
        let mut joined = Node { left: a.left.clone(), entries: a.entries.clone() };
        joined.set_link(end, middle);
        joined.entries.extend(b.entries.iter().cloned());
        Ok(Link::Dirty(Arc::new(joined)))
    }
}
