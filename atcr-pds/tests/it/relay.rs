//! The scenarios of indigo's relay: messages of the live network, and which of them a relay drops.

use std::collections::BTreeMap;

use atcr_core::crypto::PublicKey;
use atcr_core::syntax::{Did, Tid};
use atcr_pds::cbor;
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::mst::{NodeMap, Tree, invert};
use atcr_pds::repo::{Commit, Frame, FrameError, NewEvent, SequencedEvent};
use atcr_pds::store::RepoStatus;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use serde_json::Value;

use crate::support::json;

type Map = BTreeMap<String, Ipld>;

fn map(json: &Value) -> Map {
    let Ipld::Map(map) = cbor::json::from_json(json).unwrap() else { panic!("a map") };
    map
}

struct Account {
    did: Did,
    key: PublicKey,
    active: bool,
    rev: Option<Tid>,
}

/// What a relay keeps of its upstream.
struct Relay {
    seq: i128,
    accounts: Vec<Account>,
}

impl Relay {
    fn new(accounts: &Value) -> Self {
        let account = |account: &Value| Account {
            did: account["identity"]["did"].as_str().unwrap().parse().unwrap(),
            key: PublicKey::from_multikey(
                account["identity"]["keys"]["atproto"]["publicKeyMultibase"].as_str().unwrap(),
            )
            .unwrap(),
            active: account["status"] == "active",
            rev: None,
        };
        Self { seq: 0, accounts: accounts.as_array().unwrap().iter().map(account).collect() }
    }

    /// Whether the message is passed on.
    fn take(&mut self, kind: &str, body: &Map, frame: &[u8]) -> bool {
        let Ipld::Integer(seq) = body["seq"] else { panic!("a number") };
        if seq <= self.seq {
            return false;
        }
        self.seq = seq;
        let did = body.get("did").or(body.get("repo"));
        let Some(Ipld::String(did)) = did else { panic!("it is about somebody") };
        let account = self.accounts.iter_mut().find(|account| account.did.as_str() == did).unwrap();
        match (kind, Frame::decode(frame)) {
            (_, Ok(Frame::Event(SequencedEvent { event: NewEvent::Account { status, .. }, .. }))) => {
                account.active = status == RepoStatus::Active;
                true
            }
            (_, Ok(Frame::Event(SequencedEvent { event: NewEvent::Identity { .. }, .. }))) => true,
            (_, Ok(Frame::Event(SequencedEvent { event: NewEvent::Sync { rev, blocks, .. }, .. }))) => {
                let car = read_slice(blocks, CarLimits::default()).unwrap();
                account.commit(&Commit::decode(car.block(&car.roots[0]).unwrap()).unwrap(), rev)
            }
            (_, Ok(Frame::Event(SequencedEvent { event: NewEvent::Commit(event), .. }))) => {
                let car = read_slice(event.blocks.clone(), CarLimits::default()).unwrap();
                let commit = Commit::decode(car.block(&event.head.cid).unwrap()).unwrap();
                let mut nodes = NodeMap::default();
                for block in car.blocks.into_values() {
                    let _ = nodes.insert_bytes(block);
                }
                let ops = event.ops.iter().map(|op| (op.path.as_str(), op.prev, op.cid));
                let before = invert(&nodes, &commit.data, ops).unwrap();
                assert_eq!(Some(before), event.since.map(|since| since.data));
                account.commit(&commit, event.head.rev)
            }
            // Of before sync 1.1: the operations can be found in the tree, and not be undone.
            ("#commit", Err(FrameError::PrevData)) => account.legacy(body),
            // A revision that is none.
            ("#commit", Err(FrameError::Malformed(_))) => {
                let Ipld::String(rev) = &body["rev"] else { panic!("text") };
                assert!(rev.parse::<Tid>().is_err());
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Account {
    fn commit(&mut self, commit: &Commit, rev: Tid) -> bool {
        commit.verify(&self.did, &self.key).unwrap();
        let passes = self.active && commit.rev == rev && self.rev.is_none_or(|last| rev > last);
        if passes {
            self.rev = Some(rev);
        }
        passes
    }

    fn legacy(&mut self, body: &Map) -> bool {
        let (Ipld::Bytes(blocks), Ipld::String(rev)) = (&body["blocks"], &body["rev"]) else {
            panic!("{body:?}")
        };
        let car = read_slice(blocks.clone().into(), CarLimits::default()).unwrap();
        let commit = Commit::decode(car.block(&car.roots[0]).unwrap()).unwrap();
        let mut nodes = NodeMap::default();
        for block in car.blocks.values() {
            let _ = nodes.insert_bytes(block.clone());
        }
        let Ipld::List(ops) = &body["ops"] else { panic!("a list") };
        for op in ops {
            let Ipld::Map(op) = op else { panic!("a map") };
            let Ipld::String(path) = &op["path"] else { panic!("text") };
            let cid: Option<Cid> = match &op["cid"] {
                Ipld::Link(cid) => Some(*cid),
                _ => None,
            };
            assert_eq!(Tree::open(commit.data).get(&nodes, path), Ok(cid), "{path}");
        }
        self.commit(&commit, rev.parse().unwrap())
    }
}

#[test]
fn every_scenario_passes_on_and_drops_what_it_says() {
    let (mut passed, mut dropped) = (0, 0);
    for name in [
        "account_lifecycle",
        "deactivation",
        "legacy",
        "post_lifecycle",
        "post_lifecycle_legacy",
        "rev_ordering",
        "seq_ordering",
    ] {
        let scenario = json(&format!("indigo/relay/{name}.json"));
        let mut relay = Relay::new(&scenario["accounts"]);
        for (n, message) in scenario["messages"].as_array().unwrap().iter().enumerate() {
            let header = map(&message["frame"]["header"]);
            let body = map(&message["frame"]["body"]);
            let Ipld::String(kind) = header["t"].clone() else { panic!("text") };
            let frame = [Ipld::Map(header), Ipld::Map(body.clone())].map(|part| cbor::encode(&part).unwrap());
            let passes = relay.take(&kind, &body, &frame.concat());
            assert_eq!(passes, message["drop"] == false, "{name}, message {n}");
            if passes { passed += 1 } else { dropped += 1 }
        }
    }
    assert_eq!((passed, dropped), (30, 5));
}
