//! What several tests need.

use std::collections::BTreeMap;
use std::sync::Arc;

use atcr_pds::cbor::{DAG_CBOR, cid_for_cbor};
use atcr_pds::repo::mst::{Builder, NodeBlock, NodeMap, Nodes as _, Tree, Written};
use ipld_core::cid::Cid;

/// A file under `tests/vectors`.
pub(crate) fn vector(path: &str) -> Vec<u8> {
    let full = format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&full).unwrap_or_else(|e| panic!("{full}: {e}"))
}

/// A JSON file under `tests/vectors`.
pub(crate) fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&vector(path)).unwrap()
}

/// Some record's CID.
pub(crate) fn value(n: u32) -> Cid {
    let cid = cid_for_cbor(&n.to_be_bytes());
    assert_eq!(cid.codec(), DAG_CBOR);
    cid
}

/// The tree of a map, made from scratch.
pub(crate) fn build<K: AsRef<str>>(map: &BTreeMap<K, Cid>) -> (Cid, NodeMap) {
    let mut nodes = NodeMap::default();
    let mut builder = Builder::new(|node: NodeBlock| nodes.insert(Arc::new(node)));
    for (key, value) in map {
        builder.push(key.as_ref(), *value).unwrap();
    }
    let root = builder.finish().unwrap();
    (root, nodes)
}

/// Writes a tree and keeps exactly the nodes that it has then.
pub(crate) fn write(tree: &mut Tree, nodes: &mut NodeMap) -> Written {
    let written = tree.write().unwrap();
    for cid in &written.removed {
        assert!(nodes.node(cid).is_ok(), "a node is removed that was not there");
        nodes.remove(cid);
    }
    for node in &written.added {
        assert!(nodes.node(node.cid()).is_err(), "a node is added that was there");
        nodes.insert(node.clone());
    }
    written
}
