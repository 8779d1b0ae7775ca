//! Each function panics when an input breaks a promise of atcr-pds, and returns whatever else the input is.

use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_pds::cbor::{self, cid_for_cbor, cid_matches};
use atcr_pds::repo::car::{CarError, CarLimits, CarReader, read_slice};
use atcr_pds::repo::mst::{NodeBlock, NodeMap, Range, Tree, covering, invert, list};
use atcr_pds::repo::{Commit, Frame, NewEvent, RecordPath};
use atcr_pds::xrpc::Params;
use bytes::Bytes;

/// What decodes encodes to the same bytes, and survives the JSON form.
pub fn cbor(bytes: &[u8]) {
    let scanned = cbor::scan(bytes);
    if let Ok(value) = cbor::decode(bytes) {
        assert_eq!(scanned, Ok(bytes.len()));
        assert_eq!(cbor::encode(&value).unwrap(), bytes);
        if cbor::json::check_value(&value).is_ok() {
            assert_eq!(cbor::json::from_json(&cbor::json::to_json(&value)).unwrap(), value);
        }
    }
    let _ = cbor::decode_record(bytes);
}

/// Every value that is read from JSON has canonical bytes that read back as the same value.
pub fn json(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    if let Ok(value) = cbor::json::from_json(&json) {
        let encoded = cbor::encode(&value).unwrap();
        assert_eq!(cbor::decode(&encoded).unwrap(), value);
    }
}

/// Both readers agree, and give only blocks that have their hash.
pub fn car(bytes: &[u8]) {
    let limits = CarLimits { header: 1024, block: 64 * 1024, blocks: 1000 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let streamed = runtime.block_on(async {
        let mut reader = CarReader::open(bytes, limits).await?;
        let mut count = 0;
        while let Some((cid, block)) = reader.next().await? {
            assert!(cid_matches(&cid, &block));
            count += 1;
        }
        Ok::<_, CarError>(count)
    });
    match read_slice(Bytes::copy_from_slice(bytes), limits) {
        Ok(slice) => assert!(slice.blocks.len() <= streamed.unwrap()),
        Err(error) => assert_eq!(streamed.unwrap_err(), error),
    }
}

/// A node that is accepted is in its one form, and a tree of it can be read and changed without a panic.
///
/// The input is several nodes, each with two bytes of length before it; the last is the root.
pub fn mst_node(bytes: &[u8]) {
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
    let _ = list(&nodes, &root, &Range { descending: true, limit: Some(3), ..Range::default() });
    let whole = list(&nodes, &root, &Range::default());
    for key in ["com.example.note/a", "com.example.note/k42", "io.atcr.tag/zzz"] {
        let _ = covering(&nodes, &root, [key]);
        let mut tree = Tree::open(root);
        if tree.set(&nodes, key, cid_for_cbor(b"x")).is_ok() {
            tree.write().unwrap();
            let _ = tree.remove(&nodes, key);
        }
    }
    // Of a tree that can be read whole, every key can be removed, and put back.
    if let Ok(entries) = whole {
        for (key, value) in entries.iter().take(4) {
            let mut tree = Tree::open(root);
            assert_eq!(tree.remove(&nodes, key), Ok(*value));
            tree.insert(&nodes, key, *value).unwrap();
            assert_eq!(tree.write().unwrap().root, root);
        }
    }
}

/// A commit that is accepted is in its one form; a signature is never taken for another.
pub fn commit(bytes: &[u8]) {
    if let Ok(commit) = Commit::decode(bytes) {
        assert_eq!(commit.encode().unwrap(), bytes);
        let key = SigningKey::from_bytes(Curve::P256, &[7; 32]).unwrap().public_key();
        assert!(commit.verify(&commit.did, &key).is_err());
    }
}

/// A frame that is accepted says the same when it is written again; a commit in it can be undone or is refused.
pub fn frame(bytes: &[u8]) {
    let Ok(Frame::Event(read)) = Frame::decode(bytes) else { return };
    let written = read.event.sequence(read.seq, &read.time).unwrap().frame();
    let Ok(Frame::Event(again)) = Frame::decode(&written) else { panic!("what was written is not read") };
    assert_eq!((again.seq, &again.time), (read.seq, &read.time));
    assert_eq!(again.event.sequence(read.seq, &read.time).unwrap().frame(), written);
    let NewEvent::Commit(event) = read.event else { return };
    let Ok(slice) = read_slice(event.blocks, CarLimits::default()) else { return };
    let Ok(Ok(commit)) = slice.block(&event.head.cid).map(|bytes| Commit::decode(bytes)) else { return };
    let mut nodes = NodeMap::default();
    for block in slice.blocks.into_values() {
        let _ = nodes.insert_bytes(block);
    }
    let _ = invert(&nodes, &commit.data, event.ops.iter().map(|op| (op.path.as_str(), op.prev, op.cid)));
}

/// A path, a cursor, or a query string that is read is what was written.
pub fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = text.parse::<RecordPath>() {
        assert_eq!(path.as_str(), text);
        assert_eq!(RecordPath::new(&path.collection(), &path.rkey()).unwrap(), path);
        atcr_pds::repo::mst::check_key(text).unwrap();
    }
    if let Ok(cid) = cbor::parse_cid(text) {
        assert_eq!(cid.to_string(), text);
    }
    let params = Params::parse("com.example.method", text);
    if let Ok(Some(cursor)) = params.number("cursor") {
        // A sign and leading zeros are read, and nothing else that is not a digit.
        let shown = cursor.to_string();
        assert_eq!(
            Params::parse("com.example.method", &format!("cursor={shown}")).number("cursor").unwrap(),
            Some(cursor)
        );
    }
    if let Ok(limit) = params.integer("limit", 1..=1000, 500) {
        assert!((1..=1000).contains(&limit));
    }
    let _ = params.boolean("reverse");
    let _ =
        params.many::<atcr_core::syntax::Did>("did", 10).map(|dids| assert!((1..=10).contains(&dids.len())));
}
