use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ipld_core::cid::Cid;

use super::{MstError, NodeBlock};

/// Where a tree finds its nodes.
pub trait Nodes {
    /// The node with this CID.
    ///
    /// # Errors
    /// [`MstError::Missing`] when it is not at hand; whatever [`NodeBlock::decode`] says when it is not a node.
    fn node(&self, cid: &Cid) -> Result<Arc<NodeBlock>, MstError>;
}

/// Nodes in memory.
#[derive(Debug, Clone, Default)]
pub struct NodeMap(HashMap<Cid, Arc<NodeBlock>>);

impl NodeMap {
    /// Adds a node.
    pub fn insert(&mut self, node: Arc<NodeBlock>) {
        self.0.insert(*node.cid(), node);
    }

    /// Reads a node and adds it. Its CID is computed, so a block cannot pass for another.
    pub fn insert_bytes(&mut self, bytes: Bytes) -> Result<Cid, MstError> {
        let node = NodeBlock::decode(bytes)?;
        let cid = *node.cid();
        self.insert(Arc::new(node));
        Ok(cid)
    }

    /// Removes a node.
    pub fn remove(&mut self, cid: &Cid) {
        self.0.remove(cid);
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The CIDs of the nodes, in no order.
    pub fn cids(&self) -> impl Iterator<Item = &Cid> {
        self.0.keys()
    }
}

impl Nodes for NodeMap {
    fn node(&self, cid: &Cid) -> Result<Arc<NodeBlock>, MstError> {
        self.0.get(cid).cloned().ok_or(MstError::Missing(*cid))
    }
}
