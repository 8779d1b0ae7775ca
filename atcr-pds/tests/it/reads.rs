//! Lists and proofs.

use atcr_core::syntax::Did;
use atcr_pds::Write;
use atcr_pds::repo::Page;
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::mst::Tree;

use crate::world::{World, nodes_of, note, path, put};

#[tokio::test]
async fn lists_go_both_ways_and_on_from_a_cursor() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let keys: Vec<String> = (0..25).map(|n| format!("k{n:02}")).collect();
    world.write(&did, keys.iter().map(|k| put(k, k)).collect()).await.unwrap();
    // Neighbours in the order of bytes that are not of the collection.
    for other in ["com.example.note.deep", "com.example.notes", "com.example.not"] {
        let write = Write::Create {
            collection: other.parse().unwrap(),
            rkey: "x".parse().unwrap(),
            value: note("x"),
        };
        world.write(&did, vec![write]).await.unwrap();
    }
    let collection = path("a").collection();
    for reverse in [false, true] {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let page = Page { limit: 7, cursor: cursor.take(), reverse };
            let records = world.repos.list_records(&did, &collection, page).await.unwrap();
            let Some(last) = records.last() else { break };
            cursor = Some(last.path.rkey());
            found.extend(records.into_iter().map(|r| r.path.rkey().to_string()));
        }
        let mut expected = keys.clone();
        if !reverse {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
    let collections: Vec<String> =
        world.repos.collections(&did).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(collections.len(), 4);
    for name in ["com.example.not", "com.example.note", "com.example.note.deep", "com.example.notes"] {
        assert!(collections.iter().any(|c| c == name));
    }
    let (bob, _) = world.repo("bob").await;
    let with = |c: &str| {
        let (repos, c) = (world.repos.clone(), c.parse().unwrap());
        async move {
            let found = repos.list_repos_by_collection(&c, None, 10).await.unwrap();
            found.into_iter().map(|r| r.did).collect::<Vec<Did>>()
        }
    };
    assert_eq!(with("com.example.note").await, std::slice::from_ref(&did));
    assert!(with("com.example.no").await.is_empty());
    let all = world.repos.list_repos(None, 1).await.unwrap();
    assert_eq!(all[0].did, did);
    assert_eq!(world.repos.list_repos(Some(all[0].id), 10).await.unwrap()[0].did, bob);
}

#[tokio::test]
async fn proofs_prove_presence_and_absence() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    for n in 0..60 {
        world.write(&did, vec![put(&format!("k{n}"), "x")]).await.unwrap();
    }
    let whole = world.export(&did, None).await.blocks.len();
    for rkey in ["k7", "k33", "absent", "zzz", "0"] {
        let proof = world.repos.record_proof(&did, &path(rkey)).await.unwrap();
        let car = read_slice(proof, CarLimits::default()).unwrap();
        assert!(car.blocks.len() < whole / 3);
        let commit = atcr_pds::repo::Commit::decode(car.block(&car.roots[0]).unwrap()).unwrap();
        commit.verify(&did, &key).unwrap();
        let found = Tree::open(commit.data).get(&nodes_of(&car), path(rkey).as_str()).unwrap();
        let record = world.repos.get_record(&did, &path(rkey)).await.unwrap();
        assert_eq!(found, record.as_ref().map(|r| r.cid), "{rkey}");
        if let Some(record) = record {
            assert_eq!(car.block(&record.cid).unwrap(), &record.bytes);
        }
    }
    let head = world.head(&did).await.cid;
    let blocks =
        read_slice(world.repos.get_blocks(&did, &[head]).await.unwrap(), CarLimits::default()).unwrap();
    assert!(blocks.roots.is_empty() && blocks.blocks.contains_key(&head));
}
