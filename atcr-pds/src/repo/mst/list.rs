use std::sync::Arc;

use ipld_core::cid::Cid;

use super::tree::Place;
use super::{Item, MstError, NodeBlock, Nodes};

/// A part of a tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range<'a> {
    /// Only keys that begin with this text.
    pub prefix: &'a str,
    /// Begin behind this key, in the direction of the list.
    pub after: Option<&'a str>,
    /// From the highest key down.
    pub descending: bool,
    /// At most this many keys; none means all.
    pub limit: Option<usize>,
}

impl Range<'_> {
    fn has(&self, key: &str) -> bool {
        key.starts_with(self.prefix)
            && self.after.is_none_or(|after| if self.descending { key < after } else { key > after })
    }

    /// Whether a subtree between two keys can have a key of the range.
    fn meets(&self, place: Place<'_>) -> bool {
        // Below: every key of the subtree is under the prefix, or behind where the list begins.
        let below = place.high.is_some_and(|high| high <= self.prefix);
        let above = place.low.is_some_and(|low| low > self.prefix && !low.starts_with(self.prefix));
        let passed = match (self.after, self.descending) {
            (None, _) => false,
            (Some(after), false) => place.high.is_some_and(|high| high <= after),
            (Some(after), true) => place.low.is_some_and(|low| low >= after),
        };
        !below && !above && !passed
    }
}

/// The keys and values of a part of the tree, in order. Reads the nodes of that part only, and checks each.
pub fn list(nodes: &dyn Nodes, root: &Cid, range: &Range<'_>) -> Result<Vec<(Arc<str>, Cid)>, MstError> {
    let mut found = Vec::new();
    let block = nodes.node(root)?;
    if let Some(layer) = super::proof::root_layer(&block)? {
        walk(nodes, &block, layer, Place::default(), range, &mut found)?;
    }
    Ok(found)
}

fn walk(
    nodes: &dyn Nodes,
    block: &NodeBlock,
    layer: u8,
    place: Place<'_>,
    range: &Range<'_>,
    found: &mut Vec<(Arc<str>, Cid)>,
) -> Result<(), MstError> {
    let full = |found: &Vec<_>| range.limit.is_some_and(|limit| found.len() >= limit);
    // The number of entries before the item, which names the place of a child.
    let mut at = if range.descending { block.node.entries.len() } else { 0 };
    let items: Box<dyn Iterator<Item = Item<'_>>> =
        if range.descending { Box::new(block.items().rev()) } else { Box::new(block.items()) };
    for item in items {
        if full(found) {
            break;
        }
        match item {
            Item::Leaf(key, value) => {
                if range.has(key) {
                    found.push((key.into(), value));
                }
                at = if range.descending { at - 1 } else { at + 1 };
            }
            Item::Child(cid) => {
                let place = place.child(&block.node, at);
                if range.meets(place) {
                    let below = nodes.node(&cid)?;
                    // Layer 0 has no children: the decoder saw to it, and check_place for nodes without entries.
                    let down = layer.saturating_sub(1);
                    below.check_place(down, place.low, place.high)?;
                    walk(nodes, &below, down, place, range, found)?;
                }
            }
        }
    }
    Ok(())
}
