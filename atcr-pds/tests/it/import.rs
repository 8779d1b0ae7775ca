//! Taking over the records of CAR files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::{Did, Tid};
use atcr_pds::cbor::{self, cid_for_cbor};
use atcr_pds::repo::car::{self, CarError, CarLimits};
use atcr_pds::repo::mst::{MstError, Nodes as _};
use atcr_pds::repo::{Commit, EventKind, Import, Imported};
use atcr_pds::{RepoError, Swap};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use crate::support::{build, vector};
use crate::world::{Follower, World, did, put};

async fn import(world: &World, did: &Did, files: &[&[u8]]) -> Result<Imported, RepoError> {
    let mut import = Import::new();
    for file in files {
        import.read(*file, CarLimits::default()).await?;
    }
    world.repos.import(did, import).await
}

async fn export(world: &World, did: &Did) -> Vec<u8> {
    world.repos.export(did, None).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

/// A CAR of records by hand; `order` shuffles its blocks.
fn file(records: &BTreeMap<String, Bytes>, order: impl Fn(&mut Vec<(Cid, Bytes)>)) -> Vec<u8> {
    let map: BTreeMap<String, Cid> = records.iter().map(|(k, b)| (k.clone(), cid_for_cbor(b))).collect();
    let (root, nodes) = build(&map);
    let key = SigningKey::generate(Curve::K256).unwrap();
    let commit = Commit::sign(&did("other"), root, Tid::new(1, 1), &key).unwrap().encode().unwrap();
    let mut blocks: Vec<(Cid, Bytes)> = vec![(cid_for_cbor(&commit), commit.clone())];
    blocks.extend(nodes.cids().map(|cid| (*cid, nodes.node(cid).unwrap().bytes().clone())));
    blocks.extend(records.values().map(|b| (cid_for_cbor(b), b.clone())));
    order(&mut blocks);
    car::encode(&[cid_for_cbor(&commit)], blocks.iter().map(|(c, b)| (c, b))).to_vec()
}

fn records(range: std::ops::Range<u32>, text: &str) -> BTreeMap<String, Bytes> {
    range
        .map(|n| {
            let record = Ipld::Map(
                [
                    ("$type".to_owned(), Ipld::String("com.example.note".into())),
                    ("text".to_owned(), Ipld::String(format!("{text} {n}"))),
                ]
                .into(),
            );
            (format!("com.example.note/k{n}"), cbor::encode(&record).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_few_records_are_an_ordinary_commit() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, (0..50).map(|n| put(&format!("k{n}"), "mine")).collect()).await.unwrap();
    let mut all = records(40..90, "theirs");
    // One that is there already, as it is.
    let same = world.repos.get_record(&did, &crate::world::path("k45")).await.unwrap().unwrap();
    all.insert("com.example.note/k45".into(), same.bytes);
    let done = import(&world, &did, &[&file(&all, |_| {})]).await.unwrap();
    assert_eq!((done.created, done.updated, done.unchanged), (40, 9, 1));
    assert_eq!(done.commit, Some(world.head(&did).await));
    assert_eq!(world.verify(&did, &key).await.len(), 90);
    let mut follower = Follower::default();
    follower.follow(&world.repos, &HashMap::from([(did.clone(), key.clone())])).await;
    assert_eq!(follower.repos[&did].records.len(), 90);

    let newest = *world.repos.subscribe().borrow();
    let again = import(&world, &did, &[&file(&all, |blocks| blocks.reverse())]).await.unwrap();
    assert_eq!(again, Imported { commit: None, created: 0, updated: 0, unchanged: 50 });
    assert_eq!(*world.repos.subscribe().borrow(), newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_are_one_commit_announced_by_sync() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::at(&dir.path().join("repos.sqlite"), Arc::default()).await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, (0..100).map(|n| put(&format!("k{n}"), "mine")).collect()).await.unwrap();
    let newest = *world.repos.subscribe().borrow();
    let all = records(50..6050, "theirs");
    let done = import(&world, &did, &[&file(&all, |_| {})]).await.unwrap();
    assert_eq!((done.created, done.updated, done.unchanged), (5950, 50, 0));
    let map = world.verify(&did, &key).await;
    assert_eq!(map.len(), 6050);
    assert_eq!(map["com.example.note/k77"], cid_for_cbor(&all["com.example.note/k77"]));
    let events = world.repos.events_after(newest, 10).await.unwrap();
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Sync]);
    // And on it goes from there.
    world.write(&did, vec![put("after", "x")]).await.unwrap();
    assert_eq!(world.verify(&did, &key).await.len(), 6051);
    // What was exported can be taken over by somebody else, and comes to the same tree.
    let (bob, bobs) = world.repo("bob").await;
    import(&world, &bob, &[&export(&world, &did).await]).await.unwrap();
    assert_eq!(world.verify(&bob, &bobs).await.len(), 6051);
    assert_eq!(
        world.repos.info(&bob).await.unwrap().unwrap().data,
        world.repos.info(&did).await.unwrap().unwrap().data
    );
}

#[tokio::test]
async fn a_later_file_prevails() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let (one, two) = (records(0..30, "one"), records(20..50, "two"));
    import(&world, &did, &[&file(&one, |_| {}), &file(&two, |_| {})]).await.unwrap();
    let map = world.verify(&did, &key).await;
    assert_eq!(map.len(), 50);
    assert_eq!(map["com.example.note/k25"], cid_for_cbor(&two["com.example.note/k25"]));
    let mut follower = Follower::default();
    follower.follow(&world.repos, &HashMap::from([(did.clone(), key)])).await;
    assert_eq!(follower.repos[&did].records, map);
}

#[tokio::test]
async fn a_repo_of_the_reference_pds_is_taken_over() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let mut import = Import::new();
    let commit =
        import.read(&vector("reference-pds-0.5.35/repo.car")[..], CarLimits::default()).await.unwrap();
    assert!(commit.did.as_str().starts_with("did:plc:"));
    world.repos.import(&did, import).await.unwrap();
    assert_eq!(world.repos.info(&did).await.unwrap().unwrap().data, commit.data);
    world.verify(&did, &key).await;
}

#[tokio::test]
async fn a_bad_file_leaves_the_repo_as_it_was() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, vec![put("k1", "mine")]).await.unwrap();
    let head = world.head(&did).await;
    let newest = *world.repos.subscribe().borrow();
    let all = records(0..5000, "theirs");
    let last_record = cid_for_cbor(all.values().next_back().unwrap());

    let missing = file(&all, |blocks| blocks.retain(|(cid, _)| *cid != last_record));
    let error = import(&world, &did, &[&missing]).await.unwrap_err();
    assert!(matches!(error, RepoError::Car(CarError::Missing(cid)) if cid == last_record), "{error}");

    let (root, nodes) = build(&all.iter().map(|(k, b)| (k.clone(), cid_for_cbor(b))).collect());
    let without_node = *nodes.cids().find(|cid| **cid != root).unwrap();
    let missing = file(&all, |blocks| blocks.retain(|(cid, _)| *cid != without_node));
    let error = import(&world, &did, &[&missing]).await.unwrap_err();
    assert!(matches!(error, RepoError::Car(CarError::Missing(cid)) if cid == without_node), "{error}");

    let no_commit = file(&all, |blocks| drop(blocks.remove(0)));
    assert!(matches!(import(&world, &did, &[&no_commit]).await, Err(RepoError::Car(CarError::Missing(_)))));

    let good = file(&all, |_| {});
    let cut = &good[..good.len() - 1];
    assert!(matches!(import(&world, &did, &[cut]).await, Err(RepoError::Car(CarError::Truncated))));

    let mut untyped = all.clone();
    untyped.insert("com.example.note/untyped".into(), Bytes::from_static(&[0xa0]));
    let error = import(&world, &did, &[&file(&untyped, |_| {})]).await.unwrap_err();
    assert!(matches!(error, RepoError::TypeMismatch { .. }), "{error}");

    let mut float = all.clone();
    float.insert("com.example.note/k0".into(), Bytes::from_static(b"\xfb\x3f\xf8\0\0\0\0\0\0"));
    assert!(matches!(import(&world, &did, &[&file(&float, |_| {})]).await, Err(RepoError::Cbor(_))));

    // A key of the tree that is not a record path.
    let mut not_nsid = all.clone();
    not_nsid.insert("A0/1".into(), all["com.example.note/k0"].clone());
    assert!(matches!(
        import(&world, &did, &[&file(&not_nsid, |_| {})]).await,
        Err(RepoError::InvalidPath(_))
    ));
    let mut upper = all.clone();
    upper.insert("Com.example.note/k0".into(), all["com.example.note/k0"].clone());
    assert!(matches!(import(&world, &did, &[&file(&upper, |_| {})]).await, Err(RepoError::InvalidPath(_))));

    assert_eq!(world.head(&did).await, head);
    assert_eq!(*world.repos.subscribe().borrow(), newest);
    assert_eq!(world.verify(&did, &key).await.len(), 1);
}

/// A tree whose nodes are each canonical but do not belong together.
#[tokio::test]
async fn a_tree_put_together_wrongly_is_refused() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let all = records(0..300, "theirs");
    let map: BTreeMap<String, Cid> = all.iter().map(|(k, b)| (k.clone(), cid_for_cbor(b))).collect();
    let (root, nodes) = build(&map);
    let top = nodes.node(&root).unwrap();
    // The first child of the root once more in the place of the second.
    let Ipld::Map(mut node) = cbor::decode(top.bytes()).unwrap() else { panic!("a map") };
    let Some(Ipld::Link(first)) = node.get("l").cloned() else { panic!("{node:?}") };
    let Some(Ipld::List(entries)) = node.get_mut("e") else { panic!("a list") };
    let Some(Ipld::Map(entry)) = entries.first_mut() else { panic!("a map") };
    entry.insert("t".into(), Ipld::Link(first));
    let forged = cbor::encode(&Ipld::Map(node)).unwrap();
    let key = SigningKey::generate(Curve::K256).unwrap();
    let commit = Commit::sign(&did, cid_for_cbor(&forged), Tid::new(1, 1), &key).unwrap().encode().unwrap();
    let mut blocks = vec![(cid_for_cbor(&commit), commit.clone()), (cid_for_cbor(&forged), forged)];
    blocks.extend(nodes.cids().map(|cid| (*cid, nodes.node(cid).unwrap().bytes().clone())));
    blocks.extend(all.values().map(|b| (cid_for_cbor(b), b.clone())));
    let file = car::encode(&[cid_for_cbor(&commit)], blocks.iter().map(|(c, b)| (c, b)));
    let error = import(&world, &did, &[&file]).await.unwrap_err();
    assert!(
        matches!(error, RepoError::Mst(MstError::Unsorted(_) | MstError::NotCanonical { .. })),
        "{error}"
    );
    assert!(world.repos.collections(&did).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_during_an_import_wait_and_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::at(&dir.path().join("repos.sqlite"), Arc::default()).await;
    let (did, key) = world.repo("alice").await;
    let bytes = file(&records(0..3000, "theirs"), |_| {});
    let mut import = Import::new();
    import.read(&bytes[..], CarLimits::default()).await.unwrap();
    let (repos, alice) = (world.repos.clone(), did.clone());
    let importing = tokio::spawn(async move { repos.import(&alice, import).await });
    let writes = (0..40).map(|n| {
        let (repos, did) = (world.repos.clone(), did.clone());
        tokio::spawn(async move {
            repos.apply_writes(&did, vec![put(&format!("mine{n}"), "x")], Swap::Anything).await.unwrap();
        })
    });
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(importing.await.unwrap().unwrap().created, 3000);
    assert_eq!(world.verify(&did, &key).await.len(), 3040);
    assert!(matches!(
        world.repos.import(&crate::world::did("nobody"), Import::new()).await,
        Err(RepoError::RepoNotFound(_))
    ));
}
