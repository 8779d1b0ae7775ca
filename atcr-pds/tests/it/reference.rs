//! What other implementations wrote: the reference PDS (CARs, proofs, event frames) and indigo (repos, events).

use std::collections::BTreeMap;

use atcr_core::crypto::{Curve, PublicKey};
use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::Did;
use atcr_pds::cbor::{self, cid_for_raw};
use atcr_pds::repo::car::{CarLimits, CarSlice, read_slice};
use atcr_pds::repo::mst::{NodeBlock, NodeMap, Range, Tree, invert, list, path};
use atcr_pds::repo::{Commit, Frame, NewEvent, RecordPath, SequencedEvent};
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use crate::support::{build, json, vector};

fn car(path: &str) -> CarSlice {
    read_slice(vector(path).into(), CarLimits::default()).unwrap()
}

/// The tree nodes among the blocks of a CAR.
fn nodes(car: &CarSlice) -> NodeMap {
    let mut nodes = NodeMap::default();
    for bytes in car.blocks.values() {
        if let Ok(node) = NodeBlock::decode(bytes.clone()) {
            nodes.insert(node.into());
        }
    }
    nodes
}

fn commit(car: &CarSlice) -> Commit {
    let bytes = car.block(&car.roots[0]).unwrap();
    let commit = Commit::decode(bytes).unwrap();
    assert_eq!(&commit.encode().unwrap(), bytes);
    commit
}

struct Reference {
    did: Did,
    key: PublicKey,
    index: serde_json::Value,
}

fn reference() -> Reference {
    let index = json("reference-pds-0.5.35/index.json");
    let text = |k: &str| index[k].as_str().unwrap();
    Reference {
        did: text("did").parse().unwrap(),
        key: PublicKey::from_did_key(text("signingKey")).unwrap(),
        index: index.clone(),
    }
}

#[test]
fn a_repo_of_the_reference_pds_verifies_and_rebuilds() {
    let reference = reference();
    let car = car("reference-pds-0.5.35/repo.car");
    let commit = commit(&car);
    commit.verify(&reference.did, &reference.key).unwrap();
    assert_eq!(commit.prev, None);
    assert_eq!(commit.rev.to_string(), reference.index["getLatestCommit"]["rev"].as_str().unwrap());
    assert_eq!(car.roots[0].to_string(), reference.index["getLatestCommit"]["cid"].as_str().unwrap());

    let entries = list(&nodes(&car), &commit.data, &Range::default()).unwrap();
    let map: BTreeMap<String, Cid> = entries.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    assert_eq!(build(&map).0, commit.data);
    let mut expected = BTreeMap::new();
    for record in reference.index["records"].as_array().unwrap() {
        let text = |k: &str| record[k].as_str().unwrap();
        expected.insert(format!("{}/{}", text("collection"), text("rkey")), text("cid").parse().unwrap());
    }
    assert_eq!(map, expected);
    for (path, cid) in &map {
        let path: RecordPath = path.parse().unwrap();
        let bytes = car.block(cid).unwrap();
        let value = cbor::decode_record(bytes).unwrap();
        assert_eq!(&cbor::encode(&value).unwrap(), bytes);
        let Ipld::Map(map) = value else { panic!("a map") };
        assert_eq!(map["$type"], Ipld::String(path.collection().to_string()));
    }
}

#[test]
fn record_proofs_of_the_reference_pds_prove() {
    let reference = reference();
    let sample = &reference.index["sampleRecord"];
    let key = format!("{}/{}", sample["collection"].as_str().unwrap(), sample["rkey"].as_str().unwrap());
    let proof = car("reference-pds-0.5.35/record-proof.car");
    let commit = commit(&proof);
    commit.verify(&reference.did, &reference.key).unwrap();
    let found = Tree::open(commit.data).get(&nodes(&proof), &key).unwrap().unwrap();
    assert_eq!(found.to_string(), sample["putResponse"]["cid"].as_str().unwrap());
    cbor::decode_record(proof.block(&found).unwrap()).unwrap();
    // The path that we would send is what the reference sends.
    let ours = path(&nodes(&proof), &commit.data, &key).unwrap();
    assert_eq!(ours.len() + 2, proof.blocks.len());

    let absent = car("reference-pds-0.5.35/record-absent-proof.car");
    let commit = self::commit(&absent);
    commit.verify(&reference.did, &reference.key).unwrap();
    assert!(absent.blocks.len() > 1, "a commit and nodes");
}

#[test]
fn a_diff_of_the_reference_pds_has_the_head() {
    let reference = reference();
    let diff = car("reference-pds-0.5.35/repo-since.car");
    commit(&diff).verify(&reference.did, &reference.key).unwrap();
    let blocks = car("reference-pds-0.5.35/blocks-commit.car");
    assert!(blocks.blocks.contains_key(&diff.roots[0]));
    assert_eq!(cid_for_raw(&vector("reference-pds-0.5.35/blob.bin")).to_string(), {
        reference.index["blob"]["ref"]["$link"].as_str().unwrap()
    });
}

/// Every frame decodes, our encoder makes the same bytes of it, and each commit undoes to the one before.
#[test]
fn frames_of_the_reference_pds_are_what_we_would_send() {
    let reference = reference();
    let frames = json("reference-pds-0.5.35/frames/index.json");
    let mut kinds = BTreeMap::new();
    let mut commits = 0;
    for entry in frames.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let frame = vector(&format!("reference-pds-0.5.35/{file}"));
        let Ok(Frame::Event(SequencedEvent { seq, time, event })) = Frame::decode(&frame) else {
            panic!("{file} is an event")
        };
        *kinds.entry(event.kind().as_str()).or_insert(0) += 1;
        let again = event.sequence(seq, &time).unwrap();
        assert_eq!(again.frame(), frame, "{file}");

        let NewEvent::Commit(event) = event else { continue };
        if event.did != reference.did {
            continue;
        }
        let car = read_slice(event.blocks.clone(), CarLimits::default()).unwrap();
        assert_eq!(car.roots, [event.head.cid]);
        let commit = commit(&car);
        commit.verify(&reference.did, &reference.key).unwrap();
        for op in &event.ops {
            if let Some(cid) = &op.cid {
                cbor::decode_record(car.block(cid).unwrap()).unwrap();
            }
        }
        if let Some(since) = event.since {
            let ops = || event.ops.iter().map(|op| (op.path.as_str(), op.prev, op.cid));
            assert_eq!(invert(&nodes(&car), &commit.data, ops()), Ok(since.data), "{file}");
            assert_eq!(invert(&nodes(&car), &commit.data, ops().rev()), Ok(since.data), "{file}");
        }
        commits += 1;
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(commits >= 25, "{commits}");
}

#[test]
fn a_repo_that_indigo_keeps_verifies_with_a_legacy_key() {
    let doc = json("indigo/greenground.didDoc.json");
    let method = &doc["verificationMethod"][0];
    assert_eq!(method["type"], "EcdsaSecp256k1VerificationKey2019");
    let key = PublicKey::from_legacy_multibase(Curve::K256, method["publicKeyMultibase"].as_str().unwrap())
        .unwrap();
    let car = car("indigo/greenground.repo.car");
    let block = Commit::decode(car.block(&car.roots[0]).unwrap());
    match block {
        Ok(commit) => {
            commit.verify(&commit.did, &key).unwrap();
            let entries = list(&nodes(&car), &commit.data, &Range::default()).unwrap();
            assert!(!entries.is_empty());
        }
        // A repo from before version 3 is told apart from a broken one.
        Err(error) => panic!("{error}"),
    }
}

/// Recorded before sync 1.1: no `prevData`, but signed commits and the way to each record.
#[test]
fn events_of_the_live_network_prove_their_operations() {
    for name in ["4621317030", "4621317332", "4621332152", "4623075231"] {
        let event = json(&format!("indigo/firehose_commit_{name}.json"));
        let Ipld::Map(body) = cbor::json::from_json(&event).unwrap() else { panic!("a map") };
        let Ipld::Bytes(blocks) = &body["blocks"] else { panic!("bytes") };
        let car = read_slice(blocks.clone().into(), CarLimits::default()).unwrap();
        let commit = commit(&car);
        assert_eq!(commit.rev.to_string(), event["rev"].as_str().unwrap());
        assert_eq!(commit.did.as_str(), event["repo"].as_str().unwrap());
        let Ipld::List(ops) = &body["ops"] else { panic!("a list") };
        assert!(!ops.is_empty());
        for op in ops {
            let Ipld::Map(op) = op else { panic!("a map") };
            let (Ipld::String(path), Ipld::Link(cid)) = (&op["path"], &op["cid"]) else { panic!("{op:?}") };
            assert_eq!(Tree::open(commit.data).get(&nodes(&car), path), Ok(Some(*cid)), "{name}: {path}");
            cbor::decode_record(car.block(cid).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_slice_that_indigo_keeps_has_its_record() {
    let expected = json("indigo/repo_slice_record.json");
    let cid: Cid = expected["cid"].as_str().unwrap().parse().unwrap();
    let record = cbor::decode_record(car("indigo/repo_slice.car").block(&cid).unwrap()).unwrap();
    assert_eq!(cbor::json::to_json(&record), expected["value"]);
}

#[test]
fn documents_of_the_reference_plc_directory_name_key_and_pds() {
    let reference = reference();
    let documents: Vec<DidDocument> =
        serde_json::from_slice(&vector("reference-pds-0.5.35/did-docs-all.json")).unwrap();
    assert_eq!(documents.len(), 2);
    for document in &documents {
        assert!(document.pds().is_ok() && document.claimed_handle().is_some(), "{}", document.id);
    }
    assert_eq!(documents[0].id, reference.did);
    assert_eq!(documents[0].signing_key().unwrap(), reference.key);
}
