//! The tree against a sorted map as its model, and against nodes that are not canonical.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atcr_pds::cbor;
use atcr_pds::repo::mst::{
    Builder, Change, Item, MstError, NodeBlock, NodeMap, Nodes, Range, Tree, covering, diff, invert, list,
    path,
};
use bytes::Bytes;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::support::{build, value, write};

/// Keys of three collections; few enough that removals and updates meet what is there.
fn key() -> impl Strategy<Value = String> {
    (0..3usize, 0..400u32).prop_map(|(c, n)| {
        let collection = ["com.example.note", "com.example.note.deep", "io.atcr.manifest"][c];
        format!("{collection}/k{n}")
    })
}

#[derive(Debug, Clone)]
enum Step {
    Set(String, u32),
    Remove(String),
    Write,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (key(), 0..4u32).prop_map(|(k, v)| Step::Set(k, v)),
        4 => key().prop_map(Step::Remove),
        1 => Just(Step::Write),
    ]
}

/// Notes which nodes are read.
struct Watched<'n>(&'n NodeMap, RefCell<BTreeSet<Cid>>);

impl Nodes for Watched<'_> {
    fn node(&self, cid: &Cid) -> Result<Arc<NodeBlock>, MstError> {
        self.1.borrow_mut().insert(*cid);
        self.0.node(cid)
    }
}

fn changes(before: &BTreeMap<String, Cid>, after: &BTreeMap<String, Cid>) -> Vec<Change> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .map(|k| Change {
            key: k.as_str().into(),
            before: before.get(k).copied(),
            after: after.get(k).copied(),
        })
        .filter(|c| c.before != c.after)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// After any sequence: same root and same nodes as a tree from scratch; what was removed and added is exact; the
    /// difference is that of the maps; and the covering proof alone undoes each commit, forwards and backwards.
    #[test]
    fn a_changed_tree_is_the_tree_of_its_contents(steps in prop::collection::vec(step(), 1..250)) {
        let mut model: BTreeMap<String, Cid> = BTreeMap::new();
        let (mut root, mut nodes) = build(&model);
        let mut history = nodes.clone();
        let mut committed = model.clone();
        let mut tree = Tree::open(root);
        for step in steps.into_iter().chain([Step::Write]) {
            match step {
                Step::Set(key, v) => {
                    let before = tree.set(&nodes, &key, value(v)).unwrap();
                    prop_assert_eq!(before, model.insert(key, value(v)));
                }
                Step::Remove(key) => {
                    let expected = model.remove(&key).ok_or_else(|| MstError::KeyNotFound(key.clone()));
                    prop_assert_eq!(tree.remove(&nodes, &key), expected);
                }
                Step::Write => {
                    let written = write(&mut tree, &mut nodes);
                    let new = written.root;
                    let (expected, scratch) = build(&model);
                    prop_assert_eq!(new, expected);
                    prop_assert_eq!(nodes.len(), scratch.len());
                    for cid in scratch.cids() {
                        prop_assert!(nodes.node(cid).is_ok());
                        history.insert(scratch.node(cid).unwrap());
                    }
                    let found = diff(&history, &root, &new).unwrap();
                    prop_assert_eq!(&found, &changes(&committed, &model));
                    let proof = covering(&nodes, &new, found.iter().map(|c| &*c.key)).unwrap();
                    for node in &written.added {
                        let covered = proof.iter().any(|n| n.cid() == node.cid());
                        prop_assert!(covered, "every new node is in the proof");
                    }
                    let mut alone = NodeMap::default();
                    for node in proof {
                        alone.insert(node);
                    }
                    let ops = || found.iter().map(|c| (&*c.key, c.before, c.after));
                    prop_assert_eq!(invert(&alone, &new, ops()), Ok(root));
                    prop_assert_eq!(invert(&alone, &new, ops().rev()), Ok(root));
                    root = new;
                    committed = model.clone();
                }
            }
        }
        for (key, v) in &model {
            prop_assert_eq!(tree.get(&nodes, key), Ok(Some(*v)));
        }
    }

    #[test]
    fn a_list_is_the_range_of_the_map(
        model in prop::collection::btree_map(key(), (0..9u32).prop_map(value), 0..150),
        prefix in prop::sample::select(vec!["", "com.example.note/", "com.example", "io.atcr.manifest/k1", "zz", "a"]),
        after in prop::option::of(key()),
        descending: bool,
        limit in prop::option::of(0..40usize),
    ) {
        let (root, nodes) = build(&model);
        let range = Range { prefix, after: after.as_deref(), descending, limit };
        let found: Vec<(String, Cid)> =
            list(&nodes, &root, &range).unwrap().into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        let mut expected: Vec<(String, Cid)> = model
            .into_iter()
            .filter(|(k, _)| k.starts_with(prefix))
            .filter(|(k, _)| after.as_ref().is_none_or(|a| if descending { k < a } else { k > a }))
            .collect();
        if descending {
            expected.reverse();
        }
        expected.truncate(limit.unwrap_or(usize::MAX));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn arbitrary_bytes_are_no_node_or_read_back_as_they_were(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(node) = NodeBlock::decode(Bytes::from(bytes.clone())) {
            prop_assert_eq!(node.bytes().as_ref(), &bytes[..]);
        }
    }

    /// A node with one bit turned is refused, or is another canonical node with another CID.
    #[test]
    fn a_changed_bit_never_passes_for_the_same_node(bit in 0..4000usize, n in 1..40u32) {
        let model: BTreeMap<String, Cid> = (0..n).map(|i| (format!("com.example.note/k{i}"), value(i))).collect();
        let (root, nodes) = build(&model);
        let mut bytes = nodes.node(&root).unwrap().bytes().to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(node) = NodeBlock::decode(bytes.clone().into()) {
            prop_assert_ne!(*node.cid(), root);
            prop_assert_eq!(node.bytes().as_ref(), &bytes[..]);
        }
    }
}

/// The size at which trees of other makers are known to lose entries: keys without any order.
#[test]
fn twenty_thousand_digest_keys_a_third_deleted() {
    let key = |n: u32| {
        format!("io.atcr.manifest/{}", data_encoding::HEXLOWER.encode(&Sha256::digest(n.to_be_bytes())))
    };
    let mut model = BTreeMap::new();
    let mut nodes = NodeMap::default();
    let mut tree = Tree::default();
    for n in 0..20_000 {
        tree.insert(&nodes, &key(n), value(n)).unwrap();
        model.insert(key(n), value(n));
        if n % 997 == 0 {
            write(&mut tree, &mut nodes);
        }
    }
    let root = write(&mut tree, &mut nodes).root;
    assert_eq!(root, build(&model).0);
    for n in (0..20_000).step_by(3) {
        assert_eq!(tree.remove(&nodes, &key(n)), Ok(value(n)));
        model.remove(&key(n));
    }
    let written = write(&mut tree, &mut nodes);
    let (expected, scratch) = build(&model);
    assert_eq!(written.root, expected);
    assert_eq!(nodes.len(), scratch.len());
    assert_eq!(list(&nodes, &expected, &Range::default()).unwrap().len(), model.len());
}

#[test]
fn a_change_reads_and_writes_the_path_only() {
    let model: BTreeMap<String, Cid> =
        (0..5000).map(|n| (format!("com.example.note/k{n}"), value(n))).collect();
    let (root, nodes) = build(&model);
    assert!(nodes.len() > 1000);
    for n in 0..200 {
        let watched = Watched(&nodes, RefCell::default());
        let mut tree = Tree::open(root);
        tree.set(&watched, &format!("com.example.note/new{n}"), value(1)).unwrap();
        let written = tree.write().unwrap();
        // Ten layers at most, and two nodes per layer below a split.
        assert!(watched.1.borrow().len() <= 20, "{} nodes read", watched.1.borrow().len());
        assert!(written.nodes.len() <= 20, "{} nodes written", written.nodes.len());
    }
}

#[test]
fn a_missing_node_is_named_and_nothing_is_changed() {
    let model: BTreeMap<String, Cid> =
        (0..500).map(|n| (format!("com.example.note/k{n}"), value(n))).collect();
    let (root, nodes) = build(&model);
    for n in (0..500).step_by(7) {
        let key = format!("com.example.note/k{n}");
        // Load what is asked for, one by one, from nothing.
        let mut have = NodeMap::default();
        let mut tree = Tree::open(root);
        let mut loads = 0;
        loop {
            match tree.remove(&have, &key) {
                Ok(v) => break assert_eq!(v, value(n)),
                Err(MstError::Missing(cid)) => {
                    assert!(have.node(&cid).is_err(), "asked for a node that it has");
                    have.insert(nodes.node(&cid).unwrap());
                    loads += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert!(loads >= 1);
        let mut rest = model.clone();
        rest.remove(&key);
        assert_eq!(tree.write().unwrap().root, build(&rest).0);
    }
}

#[test]
fn keys_out_of_order_are_not_built_from() {
    let mut builder = Builder::new(|_| {});
    builder.push("a/b", value(1)).unwrap();
    assert_eq!(builder.push("a/b", value(1)), Err(MstError::Unsorted("a/b".into())));
    assert_eq!(builder.push("a/a", value(1)), Err(MstError::Unsorted("a/a".into())));
    assert!(matches!(builder.push("a", value(1)), Err(MstError::InvalidKey(_))));
    let blob = cbor::cid_for_raw(b"x");
    assert_eq!(builder.push("a/c", blob), Err(MstError::InvalidValue(blob)));
}

/// Nodes and trees with the same contents as a canonical one, or nearly, and none is accepted.
mod not_canonical {
    use super::*;

    /// A node by hand: `(prefix, suffix, value, right)`.
    fn node(left: Option<Cid>, entries: &[(usize, &str, Option<Cid>)]) -> Bytes {
        let link = |cid: Option<Cid>| cid.map_or(Ipld::Null, Ipld::Link);
        let entries = entries.iter().map(|(p, k, t)| {
            Ipld::Map(BTreeMap::from([
                ("p".into(), Ipld::Integer(*p as i128)),
                ("k".into(), Ipld::Bytes(k.as_bytes().to_vec())),
                ("v".into(), Ipld::Link(value(1))),
                ("t".into(), link(*t)),
            ]))
        });
        let map = BTreeMap::from([("l".to_owned(), link(left)), ("e".into(), Ipld::List(entries.collect()))]);
        cbor::encode(&Ipld::Map(map)).unwrap()
    }

    fn why(bytes: Bytes) -> &'static str {
        match NodeBlock::decode(bytes) {
            Err(MstError::NotCanonical { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    /// Keys of a wanted layer.
    fn keys(layer: u8) -> impl Iterator<Item = String> {
        (0..)
            .map(|n| format!("com.example.note/k{n:05}"))
            .filter(move |k| atcr_pds::repo::mst::height(k) == layer)
    }

    #[test]
    fn a_node_by_itself() {
        let key: Vec<String> = keys(0).take(3).collect();
        let shared = key[0].bytes().zip(key[1].bytes()).take_while(|(a, b)| a == b).count();
        let high = keys(1).find(|k| *k > key[0]).unwrap();
        let high_shared = key[0].bytes().zip(high.bytes()).take_while(|(a, b)| a == b).count();
        assert!(
            NodeBlock::decode(node(None, &[(0, &key[0], None), (shared, &key[1][shared..], None)])).is_ok()
        );
        for (bytes, expected) in [
            (node(None, &[(0, &key[0], None), (0, &key[1], None)]), "a prefix is not minimal"),
            (
                node(None, &[(0, &key[0], None), (shared - 1, &key[1][shared - 1..], None)]),
                "a prefix is not minimal",
            ),
            (node(None, &[(3, &key[0], None)]), "a prefix is longer than the key before it"),
            (
                node(None, &[(0, &key[1], None), (shared, &key[0][shared..], None)]),
                "its keys are not ascending",
            ),
            (node(None, &[(0, &key[0], None), (key[0].len(), "", None)]), "its keys are not ascending"),
            (
                node(None, &[(0, &key[0], None), (high_shared, &high[high_shared..], None)]),
                "its keys belong to different layers",
            ),
            (node(Some(value(1)), &[(0, &key[0], None)]), "it has a node below the lowest layer"),
            (node(None, &[(0, &key[0], Some(value(1)))]), "it has a node below the lowest layer"),
            (node(Some(cbor::cid_for_raw(b"x")), &[(0, &high, None)]), "a link is not to a node"),
        ] {
            assert_eq!(why(bytes), expected);
        }
        assert!(matches!(
            NodeBlock::decode(node(None, &[(0, "no-slash", None)])),
            Err(MstError::InvalidKey(_))
        ));
    }

    #[test]
    fn fields_left_out_added_or_of_another_kind() {
        let good = node(None, &[(0, "com.example.note/k", None)]);
        let Ipld::Map(map) = cbor::decode(&good).unwrap() else { panic!("a map") };
        let encode = |map: &BTreeMap<String, Ipld>| cbor::encode(&Ipld::Map(map.clone())).unwrap();
        let mut without = map.clone();
        without.remove("l");
        assert!(NodeBlock::decode(encode(&without)).is_err(), "l left out");
        let mut more = map.clone();
        more.insert("x".into(), Ipld::Null);
        assert!(NodeBlock::decode(encode(&more)).is_err(), "a field more");
        let Some(Ipld::List(entries)) = map.get("e") else { panic!("a list") };
        let Ipld::Map(mut entry) = entries[0].clone() else { panic!("a map") };
        entry.remove("t");
        let mut without = map.clone();
        without.insert("e".into(), Ipld::List(vec![Ipld::Map(entry)]));
        assert!(NodeBlock::decode(encode(&without)).is_err(), "t left out");
        assert!(NodeBlock::decode([good.as_ref(), &[0]].concat().into()).is_err(), "trailing byte");
        assert!(NodeBlock::decode(Bytes::from_static(&[0xa0])).is_err());
        assert!(NodeBlock::decode(vec![0x81; 100_000].into()).is_err(), "deep");
    }

    /// Reads a tree in every way there is.
    fn read_all(nodes: &NodeMap, root: &Cid, key: &str) -> Vec<Result<(), MstError>> {
        vec![
            list(nodes, root, &Range::default()).map(drop),
            list(nodes, root, &Range { descending: true, ..Range::default() }).map(drop),
            Tree::open(*root).get(nodes, key).map(drop),
            path(nodes, root, key).map(drop),
            covering(nodes, root, [key]).map(drop),
            Tree::open(*root).set(nodes, key, value(9)).map(drop),
            diff(nodes, &build(&BTreeMap::<&str, Cid>::new()).0, root).map(drop),
        ]
    }

    #[test]
    fn a_node_in_the_wrong_place() {
        let low = keys(0).next().unwrap();
        let top = keys(2).next().unwrap();
        assert!(low < top);
        let after = keys(0).find(|k| *k > top).unwrap();
        let middle = |child: Cid| node(Some(child), &[]);
        // (what stands left of a key of layer 2, why it may not)
        let mut cases: Vec<(Vec<Bytes>, &str)> = Vec::new();
        let leaf = node(None, &[(0, &low, None)]);
        let cid = |b: &Bytes| cbor::cid_for_cbor(b);
        cases.push((vec![leaf.clone()], "its keys belong to another layer"));
        let strange = node(None, &[(0, &after, None)]);
        cases.push((
            vec![strange.clone(), middle(cid(&strange))],
            "its keys are outside the range of their subtree",
        ));
        let empty = node(None, &[]);
        cases.push((vec![empty.clone()], "it is empty"));
        cases.push((vec![empty.clone(), middle(cid(&empty))], "it is empty"));
        let deep = middle(cid(&leaf));
        cases.push((
            vec![leaf.clone(), deep.clone(), middle(cid(&deep))],
            "it has a node below the lowest layer",
        ));
        for (blocks, expected) in cases {
            let mut nodes = NodeMap::default();
            nodes.insert_bytes(empty.clone()).unwrap();
            let mut last = None;
            for block in blocks {
                last = Some(nodes.insert_bytes(block).unwrap());
            }
            let root = nodes.insert_bytes(node(last, &[(0, &top, None)])).unwrap();
            for result in read_all(&nodes, &root, &low) {
                match result {
                    Err(MstError::NotCanonical { what, .. }) => assert_eq!(what, expected),
                    other => panic!("{expected}: {other:?}"),
                }
            }
        }
        let mut nodes = NodeMap::default();
        nodes.insert_bytes(empty).unwrap();
        let leaf = nodes.insert_bytes(leaf).unwrap();
        let root = nodes.insert_bytes(middle(leaf)).unwrap();
        for result in read_all(&nodes, &root, &low) {
            assert!(
                matches!(result, Err(MstError::NotCanonical { what: "it is the root and has no entry", .. })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn the_items_of_a_node_are_in_order() {
        let model: BTreeMap<String, Cid> = (0..300).map(|n| (format!("a/k{n}"), value(n))).collect();
        let (root, nodes) = build(&model);
        let mut keys = Vec::new();
        let mut stack = vec![root];
        while let Some(cid) = stack.pop() {
            let node = nodes.node(&cid).unwrap();
            let leaves: Vec<&str> = node
                .items()
                .filter_map(|i| match i {
                    Item::Leaf(key, _) => Some(key),
                    Item::Child(cid) => {
                        stack.push(cid);
                        None
                    }
                })
                .collect();
            assert!(leaves.is_sorted());
            keys.extend(leaves.into_iter().map(str::to_owned));
        }
        keys.sort();
        assert!(keys.iter().eq(model.keys()));
    }
}
