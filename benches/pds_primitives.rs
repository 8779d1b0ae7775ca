//! The parts of a repo in memory: tree, commit, encodings.
//!
//! `cargo bench -p atcr-pds --bench pds_primitives`
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::Tid;
use atcr_pds::cbor::{self, cid_for_cbor};
use atcr_pds::repo::Commit;
use atcr_pds::repo::mst::{Builder, NodeBlock, NodeMap, Tree, covering};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ipld_core::cid::Cid;
use sha2::{Digest as _, Sha256};

fn key(n: u32) -> String {
    format!("io.atcr.manifest/{}", data_encoding::HEXLOWER.encode(&Sha256::digest(n.to_be_bytes())))
}

fn value(n: u32) -> Cid {
    cid_for_cbor(&n.to_be_bytes())
}

fn build(map: &BTreeMap<String, Cid>) -> (Cid, NodeMap) {
    let mut nodes = NodeMap::default();
    let mut builder = Builder::new(|node: NodeBlock| nodes.insert(Arc::new(node)));
    for (key, value) in map {
        builder.push(key, *value).unwrap();
    }
    let root = builder.finish().unwrap();
    (root, nodes)
}

fn tree(c: &mut Criterion) {
    let map: BTreeMap<String, Cid> = (0..100_000).map(|n| (key(n), value(n))).collect();
    let mut group = c.benchmark_group("tree");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("insert 100,000 digest keys, write once", |b| {
        b.iter(|| {
            let nodes = NodeMap::default();
            let mut tree = Tree::default();
            for n in 0..100_000 {
                tree.set(&nodes, &key(n), value(n)).unwrap();
            }
            tree.write().unwrap().root
        });
    });
    group.bench_function("build from 100,000 sorted keys", |b| b.iter(|| build(&map).0));
    group.throughput(Throughput::Elements(1));
    group.sample_size(100);
    let (root, nodes) = build(&map);
    let mut n = 100_000;
    group.bench_function("one insertion into 100,000, with its proof", |b| {
        b.iter(|| {
            n += 1;
            let key = key(n);
            let mut tree = Tree::open(root);
            tree.set(&nodes, &key, value(n)).unwrap();
            let written = tree.write().unwrap();
            black_box(covering(&nodes, &root, [key.as_str()]).unwrap());
            written.root
        });
    });
    group.bench_function("read a node", |b| {
        let bytes = {
            use atcr_pds::repo::mst::Nodes as _;
            nodes.node(&root).unwrap().bytes().clone()
        };
        b.iter_batched(|| bytes.clone(), |bytes| NodeBlock::decode(bytes).unwrap(), BatchSize::SmallInput);
    });
    group.finish();
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    let did = "did:web:hold.example.com".parse().unwrap();
    for (name, curve) in [("K-256", Curve::K256), ("P-256", Curve::P256)] {
        let signing = SigningKey::generate(curve).unwrap();
        group.bench_function(format!("sign with {name}"), |b| {
            b.iter(|| Commit::sign(&did, value(1), Tid::new(1, 1), &signing).unwrap());
        });
        let commit = Commit::sign(&did, value(1), Tid::new(1, 1), &signing).unwrap();
        let public = signing.public_key();
        group.bench_function(format!("verify with {name}"), |b| {
            b.iter(|| commit.verify(&did, &public).unwrap());
        });
    }
    group.finish();
}

fn encodings(c: &mut Criterion) {
    let json: serde_json::Value = serde_json::json!({
        "$type": "io.atcr.hold.layer",
        "digest": format!("sha256:{}", "ab".repeat(32)),
        "size": 123_456_789,
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "repository": "app",
        "userDid": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "createdAt": "2026-11-20T21:43:48.449Z",
        "tags": ["a", "b", {"nested": [1, 2, 3]}],
    });
    let record = cbor::json::from_json(&json).unwrap();
    let bytes = cbor::encode(&record).unwrap();
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("read DAG-CBOR", |b| b.iter(|| cbor::decode_record(&bytes).unwrap()));
    group.bench_function("check DAG-CBOR", |b| b.iter(|| cbor::scan(&bytes).unwrap()));
    group.bench_function("write DAG-CBOR", |b| b.iter(|| cbor::encode(&record).unwrap()));
    group.bench_function("read JSON", |b| b.iter(|| cbor::json::from_json(&json).unwrap()));
    group.bench_function("write JSON", |b| b.iter(|| cbor::json::to_json(&record)));
    group.finish();
}

criterion_group!(benches, tree, commit, encodings);
criterion_main!(benches);
