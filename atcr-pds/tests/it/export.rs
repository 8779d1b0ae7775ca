//! Whole and partial exports.

use std::sync::Arc;

use atcr_core::syntax::Tid;
use atcr_pds::Swap;
use atcr_pds::cbor::{self, cid_for_cbor};
use atcr_pds::repo::EventKind;
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::mst::{Item, Nodes as _};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use ipld_core::ipld::Ipld;

use crate::world::{Follower, World, delete, path, put, verify_car};

/// What a consumer at an old revision lacks is in the partial export: together they are the whole repo.
#[tokio::test]
async fn an_old_copy_and_what_came_since_are_the_whole() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let mut copies = Vec::new();
    for n in 0..40u32 {
        let rkey = |i: u32| format!("k{}", (n * 7 + i * 13) % 50);
        // Batches too, in which blocks go and come back between two commits.
        let writes = (0..6).map(|i| put(&rkey(i), &format!("{}", (n + i) % 3)));
        let there = world.repos.get_record(&did, &path(&rkey(0))).await.unwrap().is_some();
        let mut waiting: Vec<_> =
            writes.map(|w| world.repos.apply_writes(&did, vec![w], Swap::Anything)).collect();
        if there {
            waiting.push(world.repos.apply_writes(&did, vec![delete(&rkey(0))], Swap::Anything));
            waiting.push(world.repos.apply_writes(&did, vec![put(&rkey(0), "back")], Swap::Anything));
        }
        for applied in join_all(waiting).await {
            applied.unwrap();
        }
        copies.push((world.head(&did).await.rev, world.export(&did, None).await));
    }
    let newest = world.export(&did, None).await;
    for (rev, old) in &copies {
        let mut joined = world.export(&did, Some(*rev)).await;
        assert!(joined.blocks.len() <= newest.blocks.len());
        for (cid, bytes) in &old.blocks {
            joined.blocks.insert(*cid, bytes.clone());
        }
        let (head, _) = verify_car(&joined, &did, &key);
        assert_eq!(head, world.head(&did).await);
    }
    let (head, _) = copies.last().unwrap();
    let none: Vec<Bytes> = world.repos.export(&did, Some(*head)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(none.concat().len(), 59, "a header and no block");
    let future = world.repos.export(&did, Some(Tid::new((1 << 53) - 1, 0))).await.unwrap();
    assert_eq!(future.try_collect::<Vec<Bytes>>().await.unwrap().concat().len(), 59);
}

/// Every revision between the commits of one transaction is a place where a consumer may stand.
#[tokio::test]
async fn a_consumer_in_the_middle_of_a_batch_gets_what_it_lacks() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, (0..30).map(|n| put(&format!("k{n}"), "x")).collect()).await.unwrap();
    let base = world.export(&did, None).await;
    let start = *world.repos.subscribe().borrow();
    let steps = vec![
        delete("k3"),
        put("k3", "x"),
        delete("k4"),
        put("new", "only here"),
        delete("new"),
        put("other", "only here"),
        delete("other"),
        put("k4", "x"),
        put("k5", "y"),
        put("k5", "x"),
        put("again", "only here"),
    ];
    let waiting = steps.into_iter().map(|w| world.repos.apply_writes(&did, vec![w], Swap::Anything));
    for applied in join_all(waiting).await {
        applied.unwrap();
    }
    // A consumer that applies the events one by one holds, at each of them, exactly what that commit reaches.
    let mut follower = Follower::default();
    for event in world.repos.events_after(0, 100).await.unwrap() {
        follower.take(&event, &key);
        if event.seq <= start || event.kind != EventKind::Commit {
            continue;
        }
        let at = follower.repos[&did].clone();
        let (root, nodes) = crate::support::build(&at.records);
        assert_eq!(root, at.data);
        let mut have = world.export(&did, Some(at.head.rev)).await;
        for cid in nodes.cids() {
            have.blocks.insert(*cid, nodes.node(cid).unwrap().bytes().clone());
        }
        for cid in at.records.values() {
            let block = base.blocks.get(cid).cloned().unwrap_or_else(|| {
                let texts = ["x", "y", "only here"];
                let found = texts.iter().find_map(|text| {
                    let record = Ipld::Map(
                        [
                            ("$type".to_owned(), Ipld::String("com.example.note".into())),
                            ("text".to_owned(), Ipld::String((*text).into())),
                        ]
                        .into(),
                    );
                    let bytes = cbor::encode(&record).unwrap();
                    (cid_for_cbor(&bytes) == *cid).then_some(bytes)
                });
                found.unwrap()
            });
            have.blocks.insert(*cid, block);
        }
        if at.head != world.head(&did).await {
            verify_car(&have, &did, &key);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_of_one_moment_whatever_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::at(&dir.path().join("repos.sqlite"), Arc::default()).await;
    let (did, key) = world.repo("alice").await;
    for part in 0..10 {
        let writes =
            (0..200).map(|n| put(&format!("k{part}-{n}"), &format!("{part} {n} {}", "x".repeat(300))));
        world.write(&did, writes.collect()).await.unwrap();
    }
    let before = world.verify(&did, &key).await;
    let head = world.head(&did).await;
    let mut stream = world.repos.export(&did, None).await.unwrap();
    let mut file = Vec::new();
    let mut n = 0;
    while let Some(chunk) = stream.next().await {
        file.extend(chunk.unwrap());
        // Between any two chunks the repo is changed where the walk has not been yet.
        let writes = (0..200).map(|i| delete(&format!("k{}-{i}", 9 - n % 10))).collect();
        if n < 10 {
            world.write(&did, writes).await.unwrap();
        }
        n += 1;
    }
    assert!(n > 5, "{n} chunks");
    let car = read_slice(file.into(), CarLimits::default()).unwrap();
    assert_eq!(verify_car(&car, &did, &key), (head, before));
    world.verify(&did, &key).await;
}

#[tokio::test]
async fn an_export_comes_in_the_order_of_the_tree() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    for part in 0..3 {
        world
            .write(&did, (0..150).map(|n| put(&format!("k{part}-{n}"), &format!("{part} {n}"))).collect())
            .await
            .unwrap();
    }
    let chunks: Vec<Bytes> = world.repos.export(&did, None).await.unwrap().try_collect().await.unwrap();
    let file = chunks.concat();
    let mut reader = atcr_pds::repo::car::CarReader::open(&file[..], CarLimits::default()).await.unwrap();
    let mut wanted = vec![reader.roots()[0]];
    while let Some((cid, bytes)) = reader.next().await.unwrap() {
        assert_eq!(wanted.pop(), Some(cid), "preorder");
        if let Ok(commit) = atcr_pds::repo::Commit::decode(&bytes) {
            wanted.push(commit.data);
        } else if let Ok(node) = atcr_pds::repo::mst::NodeBlock::decode(bytes) {
            wanted.extend(node.items().rev().map(|i| match i {
                Item::Child(cid) | Item::Leaf(_, cid) => cid,
            }));
        }
    }
    assert!(wanted.is_empty());
}
