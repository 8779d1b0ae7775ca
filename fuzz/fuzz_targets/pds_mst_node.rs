//! A node that is accepted is in its one form, and a tree of it can be read and changed without a panic.
#![no_main]

use std::sync::Arc;

use atcr_pds::cbor::cid_for_cbor;
use atcr_pds::repo::mst::{NodeBlock, NodeMap, Range, Tree, covering, list};
use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Several nodes in one input, each with two bytes of length before it; the last is the root.
    let mut nodes = NodeMap::default();
    let mut root = None;
    let mut rest = bytes;
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(tail.len());
        let (node, tail) = tail.split_at(len);
        rest = tail;
        if let Ok(node) = NodeBlock::decode(Bytes::copy_from_slice(node)) {
            root = Some(*node.cid());
            nodes.insert(Arc::new(node));
        }
    }
    let Some(root) = root else { return };
    let _ = list(&nodes, &root, &Range::default());
    let _ = list(&nodes, &root, &Range { descending: true, limit: Some(3), ..Range::default() });
    for key in ["com.example.note/a", "com.example.note/k42", "io.atcr.tag/zzz"] {
        let _ = covering(&nodes, &root, [key]);
        let mut tree = Tree::open(root);
        if tree.set(&nodes, key, cid_for_cbor(b"x")).is_ok() {
            tree.write().unwrap();
            let _ = tree.remove(&nodes, key);
        }
    }
});
