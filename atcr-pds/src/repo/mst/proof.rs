use std::collections::HashSet;
use std::sync::Arc;

use ipld_core::cid::Cid;

use super::node::Link;
use super::tree::Place;
use super::{MstError, NodeBlock, Nodes, Tree};

/// The layer of a root; `None` for the empty tree.
pub(in crate::repo) fn root_layer(block: &NodeBlock) -> Result<Option<u8>, MstError> {
    if block.layer().is_none() && block.items().next().is_some() {
        return Err(MstError::NotCanonical { cid: *block.cid(), what: "it is the root and has no entry" });
    }
    Ok(block.layer())
}

/// Which way to go on from a node.
enum Way<'a> {
    /// To this key.
    Key(&'a str),
    /// To the lowest key.
    Lowest,
    /// To the highest key.
    Highest,
}

/// Follows one way down from a link and calls `visit` with every node on it.
fn descend(
    nodes: &dyn Nodes,
    link: Option<&Link>,
    layer: u8,
    place: Place<'_>,
    way: &Way<'_>,
    visit: &mut dyn FnMut(&Arc<NodeBlock>),
) -> Result<(), MstError> {
    let Some(Link::Stored(hash)) = link else { return Ok(()) };
    let block = nodes.node(&hash.cid())?;
    block.check_place(layer, place.low, place.high)?;
    visit(&block);
    follow(nodes, &block, layer, place, way, visit)
}

fn follow(
    nodes: &dyn Nodes,
    block: &NodeBlock,
    layer: u8,
    place: Place<'_>,
    way: &Way<'_>,
    visit: &mut dyn FnMut(&Arc<NodeBlock>),
) -> Result<(), MstError> {
    let node = &block.node;
    let at = match way {
        Way::Lowest => 0,
        Way::Highest => node.entries.len(),
        Way::Key(key) => match node.find(key) {
            (_, true) => return Ok(()),
            (at, false) => at,
        },
    };
    descend(nodes, node.link(at), layer.saturating_sub(1), place.child(node, at), way, visit)
}

/// The nodes from the root to where `key` is or would be: with the commit they prove that the tree has it, or that it
/// does not.
pub fn path(nodes: &dyn Nodes, root: &Cid, key: &str) -> Result<Vec<Arc<NodeBlock>>, MstError> {
    let block = nodes.node(root)?;
    let mut found = vec![block.clone()];
    if let Some(layer) = root_layer(&block)? {
        follow(nodes, &block, layer, Place::default(), &Way::Key(key), &mut |node| found.push(node.clone()))?;
    }
    Ok(found)
}

/// The nodes that somebody needs who has nothing of the tree and wants to undo changes of these keys: the way to each
/// key, and the ways to its neighbours (specification, Sync 1.1). Each node once.
pub fn covering<'k>(
    nodes: &dyn Nodes,
    root: &Cid,
    keys: impl IntoIterator<Item = &'k str>,
) -> Result<Vec<Arc<NodeBlock>>, MstError> {
    let block = nodes.node(root)?;
    let mut seen = HashSet::from([block.hash()]);
    let mut found = vec![block.clone()];
    let Some(layer) = root_layer(&block)? else { return Ok(found) };
    let mut add = |node: &Arc<NodeBlock>| {
        if seen.insert(node.hash()) {
            found.push(node.clone());
        }
    };
    for key in keys {
        let mut node = block.clone();
        let mut layer = layer;
        // The keys of the place are kept by the nodes that they came from.
        let mut above: Vec<(Arc<NodeBlock>, usize)> = Vec::new();
        loop {
            let place = above.iter().fold(Place::default(), |place, (node, at)| place.child(&node.node, *at));
            let (at, is_here) = node.node.find(key);
            let below = layer.saturating_sub(1);
            if is_here {
                let (left, right) = (node.node.link(at), node.node.link(at + 1));
                descend(nodes, left, below, place.child(&node.node, at), &Way::Highest, &mut add)?;
                descend(nodes, right, below, place.child(&node.node, at + 1), &Way::Lowest, &mut add)?;
                break;
            }
            let Some(Link::Stored(hash)) = node.node.link(at) else { break };
            let next = nodes.node(&hash.cid())?;
            let place = place.child(&node.node, at);
            next.check_place(below, place.low, place.high)?;
            add(&next);
            above.push((node, at));
            node = next;
            layer = below;
        }
    }
    Ok(found)
}

/// Undoes operations on a tree and returns the root that it had before them. The operations are (key, CID before, CID
/// after); their order does not matter, since each key comes once.
///
/// # Errors
/// [`MstError::NotInvertible`] when an operation does not fit the tree, [`MstError::Missing`] when `nodes` does not
/// cover them.
pub fn invert<'k>(
    nodes: &dyn Nodes,
    root: &Cid,
    ops: impl IntoIterator<Item = (&'k str, Option<Cid>, Option<Cid>)>,
) -> Result<Cid, MstError> {
    let mut tree = Tree::open(*root);
    for (key, before, after) in ops {
        if tree.get(nodes, key)? != after {
            return Err(MstError::NotInvertible(key.into()));
        }
        match (before, after) {
            (Some(before), _) => {
                tree.set(nodes, key, before)?;
            }
            (None, Some(_)) => {
                tree.remove(nodes, key)?;
            }
            (None, None) => return Err(MstError::NotInvertible(key.into())),
        }
    }
    Ok(tree.write()?.root)
}
