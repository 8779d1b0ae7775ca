use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::mst::{Hash, NodeBlock};

/// Tree nodes that were used lately. A node never changes, so nothing here is ever stale.
///
/// Two generations: when the young one is full it becomes the old one, and what was not used since is dropped.
pub(super) struct NodeCache {
    state: Mutex<State>,
    /// Bytes per generation.
    limit: usize,
}

#[derive(Default)]
struct State {
    young: HashMap<Hash, Arc<NodeBlock>>,
    old: HashMap<Hash, Arc<NodeBlock>>,
    weight: usize,
}

impl NodeCache {
    pub(super) fn new(bytes: usize) -> Self {
        Self { state: Mutex::default(), limit: bytes / 2 }
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<Arc<NodeBlock>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = state.young.get(hash) {
            return Some(node.clone());
        }
        let node = state.old.remove(hash)?;
        self.put(&mut state, node.clone());
        Some(node)
    }

    pub(super) fn insert(&self, node: Arc<NodeBlock>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&mut state, node);
    }

    fn put(&self, state: &mut State, node: Arc<NodeBlock>) {
        if state.weight >= self.limit {
            state.old = std::mem::take(&mut state.young);
            state.weight = 0;
        }
        let weight = node.weight();
        if state.young.insert(node.hash(), node).is_none() {
            state.weight += weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::cid_for_cbor;
    use crate::repo::mst::Builder;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let node = |n: u32| {
            let mut made = None;
            let mut builder = Builder::new(|node| made = Some(node));
            builder.push(&format!("com.example.note/{n}"), cid_for_cbor(b"x")).unwrap();
            builder.finish().unwrap();
            Arc::new(made.unwrap())
        };
        let cache = NodeCache::new(100 * node(0).weight());
        let used = node(0);
        cache.insert(used.clone());
        for n in 1..1000 {
            cache.insert(node(n));
            assert!(cache.get(&used.hash()).is_some(), "{n}");
            let state = cache.state.lock().unwrap();
            assert!(state.young.len() + state.old.len() <= 110);
        }
        assert!(cache.get(&node(1).hash()).is_none());
        assert!(cache.get(&node(999).hash()).is_some());
    }
}
