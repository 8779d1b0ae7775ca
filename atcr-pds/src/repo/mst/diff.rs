use std::cmp::Ordering;
use std::sync::Arc;

use ipld_core::cid::Cid;

use super::node::Link;
use super::{MstError, NodeBlock, Nodes};

/// How one key differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// Its value in the first tree.
    pub before: Option<Cid>,
    /// Its value in the second tree.
    pub after: Option<Cid>,
}

/// What comes next in a tree.
enum Next {
    /// A subtree that has not been opened: its CID, its layer, and the keys it stands between.
    Tree(Cid, Option<u8>, Option<Arc<str>>, Option<Arc<str>>),
    Leaf(Arc<str>, Cid),
}

/// A tree that is being read in order.
struct Reader<'n> {
    nodes: &'n dyn Nodes,
    /// What is still to come, the nearest last.
    stack: Vec<Next>,
}

impl<'n> Reader<'n> {
    fn new(nodes: &'n dyn Nodes, root: Cid) -> Self {
        Self { nodes, stack: vec![Next::Tree(root, None, None, None)] }
    }

    /// Puts the contents of the subtree that is next in its place.
    fn open(&mut self) -> Result<(), MstError> {
        let Some(Next::Tree(cid, layer, low, high)) = self.stack.pop() else { return Ok(()) };
        let block: Arc<NodeBlock> = self.nodes.node(&cid)?;
        let layer = match layer {
            Some(layer) => {
                block.check_place(layer, low.as_deref(), high.as_deref())?;
                layer
            }
            None => match super::proof::root_layer(&block)? {
                Some(layer) => layer,
                None => return Ok(()),
            },
        };
        let node = &block.node;
        let child = |stack: &mut Vec<Next>, at: usize| {
            if let Some(Link::Stored(hash)) = node.link(at) {
                let low = if at == 0 { low.clone() } else { Some(node.entries[at - 1].key.clone()) };
                let high = node.entries.get(at).map_or_else(|| high.clone(), |e| Some(e.key.clone()));
                stack.push(Next::Tree(hash.cid(), Some(layer.saturating_sub(1)), low, high));
            }
        };
        for at in (0..node.entries.len()).rev() {
            child(&mut self.stack, at + 1);
            self.stack.push(Next::Leaf(node.entries[at].key.clone(), node.entries[at].value.cid()));
        }
        child(&mut self.stack, 0);
        Ok(())
    }
}

/// The keys whose values differ between two trees, in order. Subtrees that both have are not read, so the work grows
/// with the difference and not with the trees.
pub fn diff(nodes: &dyn Nodes, before: &Cid, after: &Cid) -> Result<Vec<Change>, MstError> {
    let mut changes = Vec::new();
    let (mut a, mut b) = (Reader::new(nodes, *before), Reader::new(nodes, *after));
    loop {
        match (a.stack.last(), b.stack.last()) {
            (None, None) => return Ok(changes),
            (Some(Next::Tree(x, ..)), Some(Next::Tree(y, ..))) if x == y => {
                a.stack.pop();
                b.stack.pop();
            }
            (Some(Next::Tree(_, x, ..)), Some(Next::Tree(_, y, ..))) => {
                // The higher one may hold the other below it. A root whose layer is not known yet counts as highest.
                let rank = |layer: &Option<u8>| layer.map_or(u16::MAX, u16::from);
                match rank(x).cmp(&rank(y)) {
                    Ordering::Greater => a.open()?,
                    Ordering::Less => b.open()?,
                    Ordering::Equal => {
                        a.open()?;
                        b.open()?;
                    }
                }
            }
            (Some(Next::Tree(..)), _) => a.open()?,
            (_, Some(Next::Tree(..))) => b.open()?,
            (Some(Next::Leaf(x, v)), Some(Next::Leaf(y, w))) => {
                let (x, y, v, w) = (x.clone(), y.clone(), *v, *w);
                let order = x.cmp(&y);
                if order != Ordering::Greater {
                    a.stack.pop();
                }
                if order != Ordering::Less {
                    b.stack.pop();
                }
                match order {
                    Ordering::Less => changes.push(Change { key: x, before: Some(v), after: None }),
                    Ordering::Greater => changes.push(Change { key: y, before: None, after: Some(w) }),
                    Ordering::Equal if v != w => {
                        changes.push(Change { key: x, before: Some(v), after: Some(w) });
                    }
                    Ordering::Equal => {}
                }
            }
            (Some(Next::Leaf(x, v)), None) => {
                changes.push(Change { key: x.clone(), before: Some(*v), after: None });
                a.stack.pop();
            }
            (None, Some(Next::Leaf(y, w))) => {
                changes.push(Change { key: y.clone(), before: None, after: Some(*w) });
                b.stack.pop();
            }
        }
    }
}
