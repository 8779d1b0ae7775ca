//! Repos over a store, and a judge that believes nothing but bytes and the public key.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use atcr_core::crypto::{Curve, PublicKey, SigningKey};
use atcr_core::syntax::{Did, Tid};
use atcr_pds::cbor;
use atcr_pds::repo::car::{CarLimits, CarSlice, read_slice};
use atcr_pds::repo::mst::{NodeBlock, NodeMap, Range, invert, list};
use atcr_pds::repo::{Commit, Event, EventKind, Head, RecordPath};
use atcr_pds::{
    Applied, Expect, MemoryKeys, NewRepo, RepoError, RepoStore as _, Repos, SqliteStore, Swap, Write,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use crate::support::build;

pub(crate) struct World {
    pub(crate) repos: Repos,
    pub(crate) keys: Arc<MemoryKeys>,
    pub(crate) store: SqliteStore,
}

pub(crate) fn did(name: &str) -> Did {
    format!("did:web:{name}.example.com").parse().unwrap()
}

pub(crate) fn path(rkey: &str) -> RecordPath {
    format!("com.example.note/{rkey}").parse().unwrap()
}

pub(crate) fn note(text: impl Into<String>) -> Ipld {
    Ipld::Map([("text".to_owned(), Ipld::String(text.into()))].into())
}

pub(crate) fn put(rkey: &str, text: &str) -> Write {
    let path = path(rkey);
    Write::Put {
        collection: path.collection(),
        rkey: path.rkey(),
        value: note(text),
        expect: Expect::Anything,
    }
}

pub(crate) fn create(rkey: &str, text: &str) -> Write {
    let path = path(rkey);
    Write::Create { collection: path.collection(), rkey: path.rkey(), value: note(text) }
}

pub(crate) fn update(rkey: &str, text: &str) -> Write {
    let path = path(rkey);
    Write::Update {
        collection: path.collection(),
        rkey: path.rkey(),
        value: note(text),
        expect: Expect::Anything,
    }
}

pub(crate) fn delete(rkey: &str) -> Write {
    let path = path(rkey);
    Write::Delete { collection: path.collection(), rkey: path.rkey(), expect: Expect::Anything }
}

impl World {
    pub(crate) async fn in_memory() -> Self {
        Self::over(SqliteStore::in_memory().await.unwrap(), Arc::default()).await
    }

    pub(crate) async fn at(path: &Path, keys: Arc<MemoryKeys>) -> Self {
        Self::over(SqliteStore::open(path).await.unwrap(), keys).await
    }

    pub(crate) async fn over(store: SqliteStore, keys: Arc<MemoryKeys>) -> Self {
        let repos = Repos::open(Arc::new(store.clone()), keys.clone()).await.unwrap();
        Self { repos, keys, store }
    }

    pub(crate) async fn repo(&self, name: &str) -> (Did, PublicKey) {
        let did = did(name);
        let key = SigningKey::generate(if name.len().is_multiple_of(2) { Curve::K256 } else { Curve::P256 })
            .unwrap();
        self.keys.insert(did.clone(), key.clone());
        self.repos.create(&did, NewRepo::default()).await.unwrap();
        (did, key.public_key())
    }

    pub(crate) async fn write(&self, did: &Did, writes: Vec<Write>) -> Result<Applied, RepoError> {
        self.repos.apply_writes(did, writes, Swap::Anything).await
    }

    pub(crate) async fn head(&self, did: &Did) -> Head {
        self.repos.info(did).await.unwrap().unwrap().head
    }

    pub(crate) async fn export(&self, did: &Did, since: Option<Tid>) -> CarSlice {
        let chunks: Vec<Bytes> = self.repos.export(did, since).await.unwrap().try_collect().await.unwrap();
        read_slice(chunks.concat().into(), CarLimits::default()).unwrap()
    }

    /// Exports a repo and checks all of it: signature, canonical tree, exactly the blocks that it needs, records that
    /// are what their collection says, and an index and a block table that agree. Returns the records.
    pub(crate) async fn verify(&self, did: &Did, key: &PublicKey) -> BTreeMap<String, Cid> {
        let car = self.export(did, None).await;
        let (head, map) = verify_car(&car, did, key);
        let info = self.repos.info(did).await.unwrap().unwrap();
        assert_eq!(info.head, head);
        let (root, nodes) = build(&map);
        assert_eq!(info.data, root);
        let distinct: std::collections::BTreeSet<&Cid> = map.values().collect();
        assert_eq!(car.blocks.len(), 1 + nodes.len() + distinct.len(), "not one block more or less");

        let mut index = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.store.index(info.id, after.as_ref(), 1000).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            index.extend(page.into_iter().map(|(path, cid)| (path.to_string(), cid)));
        }
        assert_eq!(index, map);
        map
    }
}

pub(crate) fn verify_car(car: &CarSlice, did: &Did, key: &PublicKey) -> (Head, BTreeMap<String, Cid>) {
    let commit = Commit::decode(car.block(&car.roots[0]).unwrap()).unwrap();
    commit.verify(did, key).unwrap();
    let nodes = nodes_of(car);
    let entries = list(&nodes, &commit.data, &Range::default()).unwrap();
    let map: BTreeMap<String, Cid> = entries.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    for (key, cid) in &map {
        let path: RecordPath = key.parse().unwrap();
        let Ipld::Map(record) = cbor::decode_record(car.block(cid).unwrap()).unwrap() else {
            panic!("a map")
        };
        assert_eq!(record["$type"], Ipld::String(path.collection().to_string()));
    }
    (Head { cid: car.roots[0], rev: commit.rev }, map)
}

pub(crate) fn nodes_of(car: &CarSlice) -> NodeMap {
    let mut nodes = NodeMap::default();
    for bytes in car.blocks.values() {
        if let Ok(node) = NodeBlock::decode(bytes.clone()) {
            nodes.insert(node.into());
        }
    }
    nodes
}

/// A consumer of the event stream that follows every repo and verifies everything it is told.
#[derive(Default)]
pub(crate) struct Follower {
    pub(crate) cursor: u64,
    pub(crate) repos: HashMap<Did, Followed>,
    pub(crate) commits: usize,
}

#[derive(Clone)]
pub(crate) struct Followed {
    pub(crate) head: Head,
    pub(crate) data: Cid,
    pub(crate) records: BTreeMap<String, Cid>,
}

impl Follower {
    /// Reads all events there are.
    pub(crate) async fn follow(&mut self, repos: &Repos, keys: &HashMap<Did, PublicKey>) {
        loop {
            let events = repos.events_after(self.cursor, 100).await.unwrap();
            if events.is_empty() {
                return;
            }
            for event in events {
                assert_eq!(event.seq, self.cursor + 1, "no gap and none twice");
                self.cursor = event.seq;
                self.take(&event, &keys[&event.did]);
            }
        }
    }

    pub(crate) fn take(&mut self, event: &Event, key: &PublicKey) {
        let (header, body) = {
            let frame = event.frame();
            assert!(frame.len() <= 5_000_000);
            let (header, body) = cbor::split_first(&frame).unwrap();
            (cbor::decode(header).unwrap(), cbor::decode(body).unwrap())
        };
        let (Ipld::Map(header), Ipld::Map(body)) = (header, body) else { panic!("maps") };
        assert_eq!(header["t"], Ipld::String(event.kind.as_str().into()));
        assert_eq!(body["seq"], Ipld::Integer(event.seq.into()));
        let Ipld::String(time) = &body["time"] else { panic!("text") };
        time.parse::<atcr_core::syntax::Datetime>().unwrap();
        match event.kind {
            EventKind::Commit => self.commit(event, &body, key),
            EventKind::Sync => {
                let Ipld::Bytes(blocks) = &body["blocks"] else { panic!("bytes") };
                let car = read_slice(blocks.clone().into(), CarLimits::default()).unwrap();
                assert_eq!(car.blocks.len(), 1, "the commit alone");
                let commit = Commit::decode(car.block(&car.roots[0]).unwrap()).unwrap();
                commit.verify(&event.did, key).unwrap();
                assert_eq!(body["rev"], Ipld::String(commit.rev.to_string()));
                let repo = &self.repos[&event.did];
                assert_eq!((repo.head.cid, repo.data), (car.roots[0], commit.data));
            }
            EventKind::Account => {
                if body.get("status") == Some(&Ipld::String("deleted".into())) {
                    self.repos.remove(&event.did);
                }
            }
            EventKind::Identity => {}
        }
    }

    fn commit(&mut self, event: &Event, body: &BTreeMap<String, Ipld>, key: &PublicKey) {
        self.commits += 1;
        assert_eq!(body["repo"], Ipld::String(event.did.to_string()));
        assert_eq!((&body["rebase"], &body["tooBig"]), (&Ipld::Bool(false), &Ipld::Bool(false)));
        assert_eq!(body["blobs"], Ipld::List(vec![]));
        let Ipld::Bytes(blocks) = &body["blocks"] else { panic!("bytes") };
        assert!(blocks.len() <= 2_000_000);
        let car = read_slice(blocks.clone().into(), CarLimits::default()).unwrap();
        let (Ipld::Link(head), Ipld::String(rev)) = (&body["commit"], &body["rev"]) else {
            panic!("{body:?}")
        };
        assert_eq!(car.roots, [*head]);
        let commit = Commit::decode(car.block(head).unwrap()).unwrap();
        commit.verify(&event.did, key).unwrap();
        assert_eq!(commit.rev.to_string(), *rev);
        assert_eq!(commit.prev, None);

        let before = self.repos.remove(&event.did);
        match (&before, &body["since"]) {
            (None, Ipld::Null) => assert!(!body.contains_key("prevData")),
            (Some(before), Ipld::String(since)) => {
                assert_eq!(before.head.rev.to_string(), *since, "since is the commit before");
                assert!(before.head.rev < commit.rev, "revisions only grow");
                assert_eq!(body["prevData"], Ipld::Link(before.data), "prevData is the tree before");
            }
            (before, since) => panic!("{:?} but since {since:?}", before.as_ref().map(|b| b.head)),
        }
        let mut records = before.as_ref().map(|b| b.records.clone()).unwrap_or_default();
        let nodes = nodes_of(&car);
        let Ipld::List(ops) = &body["ops"] else { panic!("a list") };
        let mut undo: Vec<(String, Option<Cid>, Option<Cid>)> = Vec::new();
        for op in ops {
            let Ipld::Map(op) = op else { panic!("a map") };
            let (Ipld::String(path), Ipld::String(action)) = (&op["path"], &op["action"]) else {
                panic!("{op:?}")
            };
            let link = |name: &str| match op.get(name) {
                Some(Ipld::Link(cid)) => Some(*cid),
                Some(Ipld::Null) | None => None,
                other => panic!("{other:?}"),
            };
            let (prev, cid) = (link("prev"), link("cid"));
            assert!(undo.iter().all(|(p, ..)| p != path), "one operation per path");
            match action.as_str() {
                "create" => assert!(!op.contains_key("prev") && cid.is_some()),
                "update" => assert!(prev.is_some() && cid.is_some() && prev != cid),
                "delete" => assert!(prev.is_some() && op["cid"] == Ipld::Null),
                other => panic!("{other}"),
            }
            let was = match cid {
                Some(cid) => {
                    cbor::decode_record(car.block(&cid).unwrap()).unwrap();
                    records.insert(path.clone(), cid)
                }
                None => records.remove(path),
            };
            assert_eq!(was, prev);
            undo.push((path.clone(), prev, cid));
        }
        if let Some(before) = &before {
            let ops = || undo.iter().map(|(path, prev, cid)| (path.as_str(), *prev, *cid));
            assert_eq!(invert(&nodes, &commit.data, ops()), Ok(before.data));
            assert_eq!(invert(&nodes, &commit.data, ops().rev()), Ok(before.data));
        }
        let followed = Followed { head: Head { cid: *head, rev: commit.rev }, data: commit.data, records };
        self.repos.insert(event.did.clone(), followed);
    }
}
