use std::sync::Arc;

use ipld_core::cid::Cid;

use super::node::{Entry, Hash, Link, Node};
use super::{MstError, NodeBlock, check_key, height, key::check_value};

/// Builds a tree from keys in ascending order, in memory that depends on its depth only. Nodes are handed to `sink`
/// as soon as they are whole, children before parents, each once.
pub struct Builder<F> {
    sink: F,
    /// The node that is open on each layer.
    open: Vec<Node>,
    last: Option<Arc<str>>,
}

impl<F: FnMut(NodeBlock)> Builder<F> {
    /// A tree without keys so far.
    pub fn new(sink: F) -> Self {
        Self { sink, open: Vec::new(), last: None }
    }

    /// Adds a key, which must be above all before it.
    pub fn push(&mut self, key: &str, value: Cid) -> Result<(), MstError> {
        check_key(key)?;
        let value = check_value(&value)?;
        if self.last.as_deref().is_some_and(|last| last >= key) {
            return Err(MstError::Unsorted(key.into()));
        }
        let layer = usize::from(height(key));
        let key: Arc<str> = key.into();
        self.last = Some(key.clone());
        if self.open.len() <= layer {
            self.open.resize_with(layer + 1, Node::default);
        }
        self.close_below(layer)?;
        self.open[layer].entries.push(Entry { key, value, right: None });
        Ok(())
    }

    /// Finishes the open nodes below `layer` and hangs each on the one above.
    fn close_below(&mut self, layer: usize) -> Result<(), MstError> {
        for below in 0..layer {
            let node = std::mem::take(&mut self.open[below]);
            if !node.is_empty() {
                let link = Link::Stored(self.close(node)?);
                let parent = &mut self.open[below + 1];
                let end = parent.entries.len();
                parent.set_link(end, Some(link));
            }
        }
        Ok(())
    }

    fn close(&mut self, node: Node) -> Result<Hash, MstError> {
        let block = NodeBlock::encode(node)?;
        let hash = block.hash();
        (self.sink)(block);
        Ok(hash)
    }

    /// The root. An empty tree is one empty node.
    pub fn finish(mut self) -> Result<Cid, MstError> {
        // The highest open layer is that of the highest key, so it has an entry.
        if let Some(top) = self.open.len().checked_sub(1) {
            self.close_below(top)?;
        }
        let root = self.open.pop().unwrap_or_default();
        Ok(self.close(root)?.cid())
    }
}
