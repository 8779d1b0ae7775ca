//! The published vectors of the tree: roots before and after, covering proofs, inversion.

use std::collections::{BTreeMap, BTreeSet};

use atcr_pds::repo::mst::{MstError, NodeMap, Nodes as _, Tree, covering, invert};
use ipld_core::cid::Cid;
use serde_json::Value;

use crate::support::{build, json, value, vector, write};

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn commit_proofs_have_exactly_the_published_blocks() {
    let cases = json("atproto-interop-tests/firehose/commit-proof-fixtures.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let comment = case["comment"].as_str().unwrap();
        let leaf: Cid = case["leafValue"].as_str().unwrap().parse().unwrap();
        let keys: BTreeMap<&str, Cid> = texts(&case["keys"]).into_iter().map(|k| (k, leaf)).collect();
        let (adds, dels) = (texts(&case["adds"]), texts(&case["dels"]));

        let (before, mut nodes) = build(&keys);
        assert_eq!(before.to_string(), case["rootBeforeCommit"].as_str().unwrap(), "{comment}");
        let mut tree = Tree::open(before);
        for key in &adds {
            tree.insert(&nodes, key, leaf).unwrap();
        }
        for key in &dels {
            tree.remove(&nodes, key).unwrap();
        }
        let after = write(&mut tree, &mut nodes).root;
        assert_eq!(after.to_string(), case["rootAfterCommit"].as_str().unwrap(), "{comment}");

        let proof = covering(&nodes, &after, adds.iter().chain(&dels).copied()).unwrap();
        let cids: BTreeSet<String> = proof.iter().map(|n| n.cid().to_string()).collect();
        let expected: BTreeSet<String> =
            texts(&case["blocksInProof"]).into_iter().map(str::to_owned).collect();
        assert_eq!(cids, expected, "{comment}");

        let mut alone = NodeMap::default();
        for node in proof {
            alone.insert(node);
        }
        let ops: Vec<(&str, Option<Cid>, Option<Cid>)> = adds
            .iter()
            .map(|k| (*k, None, Some(leaf)))
            .chain(dels.iter().map(|k| (*k, Some(leaf), None)))
            .collect();
        assert_eq!(invert(&alone, &after, ops.iter().copied()), Ok(before), "{comment}");
        assert_eq!(invert(&alone, &after, ops.iter().rev().copied()), Ok(before), "{comment}, backwards");

        let wrong = ops.iter().map(|(k, b, a)| (*k, b.map(|_| value(1)), *a));
        if !dels.is_empty() {
            assert_ne!(invert(&alone, &after, wrong), Ok(before), "{comment}: another value before");
        }
        let never = invert(&alone, &after, [("A0/000000", None, Some(leaf))]);
        assert!(
            matches!(never, Err(MstError::NotInvertible(_) | MstError::Missing(_))),
            "{comment}: {never:?}"
        );
    }
}

#[test]
fn the_example_keys_make_one_tree_in_any_order() {
    let text = String::from_utf8(vector("atproto-interop-tests/mst/example_keys.txt")).unwrap();
    let keys: Vec<&str> = text.lines().filter(|l| !l.is_empty()).collect();
    assert_eq!(keys.len(), 156);
    let all: BTreeMap<&str, Cid> = keys.iter().map(|k| (*k, value(7))).collect();
    let (root, whole) = build(&all);
    for stride in [1, 5, 7, 11, 25, 35, 77, 85, 121, 155] {
        let order = (0..keys.len()).map(|i| keys[i * stride % keys.len()]);
        let mut tree = Tree::default();
        let mut nodes = NodeMap::default();
        for key in order.clone() {
            tree.insert(&nodes, key, value(7)).unwrap();
        }
        assert_eq!(write(&mut tree, &mut nodes).root, root, "stride {stride}");
        assert_eq!(nodes.len(), whole.len());
        assert!(whole.cids().all(|cid| nodes.node(cid).is_ok()));
        let mut half = all.clone();
        for key in order.step_by(2) {
            tree.remove(&nodes, key).unwrap();
            half.remove(key);
        }
        let (expected, rest) = build(&half);
        assert_eq!(write(&mut tree, &mut nodes).root, expected, "stride {stride}, half of it");
        assert_eq!(nodes.len(), rest.len());
    }
}

#[test]
fn the_empty_tree_is_one_node() {
    let (root, nodes) = build(&BTreeMap::<&str, Cid>::new());
    // Published by the specification's reference implementation.
    assert_eq!(root.to_string(), "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm");
    let mut tree = Tree::open(root);
    tree.insert(&nodes, "a/b", value(1)).unwrap();
    tree.remove(&nodes, "a/b").unwrap();
    let written = tree.write().unwrap();
    assert_eq!((written.root, written.added.len(), written.removed.len()), (root, 0, 0));
}
