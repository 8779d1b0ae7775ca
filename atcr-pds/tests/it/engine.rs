//! The engine over its store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::{Datetime, Did, Tid};
use atcr_pds::cbor::{self, BlobRef, cid_for_cbor, cid_for_raw};
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::mst::{Item, Nodes as _, Tree};
use atcr_pds::repo::{EventKind, MAX_RECORD_BYTES, NewEvent, Page, RepoOptions, WriteAction};
use atcr_pds::store::RepoStatus;
use atcr_pds::{
    Expect, MemoryKeys, NewRepo, RepoError, RepoStore as _, Repos, SqliteStore, StoreError, Swap, Write,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use proptest::prelude::*;

use crate::world::{Follower, World, create, delete, did, nodes_of, note, path, put, update, verify_car};

fn kinds(events: &[Arc<atcr_pds::repo::Event>]) -> Vec<EventKind> {
    events.iter().map(|e| e.kind).collect()
}

#[tokio::test]
async fn a_new_repo_is_announced_and_empty() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    assert!(world.verify(&did, &key).await.is_empty());
    let events = world.repos.events_after(0, 100).await.unwrap();
    assert_eq!(kinds(&events), [EventKind::Identity, EventKind::Account, EventKind::Commit, EventKind::Sync]);
    let again = world.repos.create(&did, NewRepo::default()).await;
    assert!(matches!(again, Err(RepoError::RepoExists(d)) if d == did));
    assert!(matches!(
        world.repos.create(&crate::world::did("nobody"), NewRepo::default()).await,
        Err(RepoError::Key(_))
    ));
}

#[tokio::test]
async fn records_are_made_read_replaced_and_removed() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let made = world.write(&did, vec![create("a", "one")]).await.unwrap();
    assert_eq!(made.results[0].action, WriteAction::Create);
    assert_eq!(made.results[0].uri.as_str(), format!("at://{did}/com.example.note/a"));
    assert_eq!(made.commit, Some(world.head(&did).await));
    let record = world.repos.get_record(&did, &path("a")).await.unwrap().unwrap();
    assert_eq!(Some(record.cid), made.results[0].cid);
    let json = record.to_json().unwrap();
    assert_eq!(json, serde_json::json!({"$type": "com.example.note", "text": "one"}));

    let replaced = world.write(&did, vec![update("a", "two")]).await.unwrap();
    assert_eq!(replaced.results[0].action, WriteAction::Update);
    let removed = world.write(&did, vec![delete("a")]).await.unwrap();
    assert_eq!((removed.results[0].action, removed.results[0].cid), (WriteAction::Delete, None));
    assert_eq!(world.repos.get_record(&did, &path("a")).await.unwrap(), None);
    assert!(world.verify(&did, &key).await.is_empty());
    assert!(matches!(
        world.repos.get_record(&crate::world::did("nobody"), &path("a")).await,
        Err(RepoError::RepoNotFound(_))
    ));
}

#[tokio::test]
async fn writes_that_do_not_fit_what_is_there() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let first = world.write(&did, vec![create("a", "one")]).await.unwrap();
    let cid = first.results[0].cid.unwrap();
    let head = world.head(&did).await;
    let p = path("a");
    let with = |expect: Expect| {
        vec![Write::Put { collection: p.collection(), rkey: p.rkey(), value: note("x"), expect }]
    };
    let other = cid_for_cbor(b"other");
    assert!(matches!(world.write(&did, vec![create("a", "x")]).await, Err(RepoError::RecordExists(_))));
    assert!(matches!(world.write(&did, vec![update("b", "x")]).await, Err(RepoError::RecordNotFound(_))));
    assert!(matches!(world.write(&did, vec![delete("b")]).await, Err(RepoError::RecordNotFound(_))));
    assert!(matches!(
        world.write(&did, with(Expect::Absent)).await,
        Err(RepoError::RecordSwap { actual, .. }) if actual == Some(cid)
    ));
    assert!(matches!(
        world.write(&did, with(Expect::Cid(other))).await,
        Err(RepoError::RecordSwap { actual, .. }) if actual == Some(cid)
    ));
    let stale = world.repos.apply_writes(&did, vec![put("a", "x")], Swap::Commit(other)).await;
    assert!(matches!(stale, Err(RepoError::CommitSwap { actual }) if actual == head.cid));
    // One that does not fit takes all with it.
    assert!(world.write(&did, vec![put("c", "x"), create("a", "x")]).await.is_err());
    assert_eq!(world.head(&did).await, head);
    assert_eq!(world.verify(&did, &key).await.len(), 1);

    assert!(world.write(&did, with(Expect::Cid(cid))).await.unwrap().commit.is_some());
    let p = path("fresh");
    let fresh =
        Write::Put { collection: p.collection(), rkey: p.rkey(), value: note("x"), expect: Expect::Absent };
    assert!(world.write(&did, vec![fresh]).await.unwrap().commit.is_some());
    let head = world.head(&did).await.cid;
    assert!(world.repos.apply_writes(&did, vec![put("z", "x")], Swap::Commit(head)).await.is_ok());
}

#[tokio::test]
async fn what_changes_nothing_makes_no_commit() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let first = world.write(&did, vec![put("a", "one")]).await.unwrap();
    let newest = *world.repos.subscribe().borrow();
    let again = world.write(&did, vec![put("a", "one")]).await.unwrap();
    assert_eq!(again.commit, None);
    assert_eq!(again.results[0].action, WriteAction::Unchanged);
    assert_eq!(again.results[0].cid, first.results[0].cid);
    let both = world.write(&did, vec![create("b", "x"), delete("b")]).await.unwrap();
    assert_eq!(both.commit, None);
    assert_eq!(*world.repos.subscribe().borrow(), newest, "no event either");
    // No writes at all are an empty commit, as with the reference PDS.
    let empty = world.write(&did, vec![]).await.unwrap();
    assert!(empty.commit.is_some_and(|head| head.rev > first.commit.unwrap().rev));
}

#[tokio::test]
async fn several_writes_of_one_record_come_to_one_operation() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, vec![put("old", "x"), put("gone", "x")]).await.unwrap();
    let before = *world.repos.subscribe().borrow();
    let writes = vec![
        create("a", "1"),
        delete("a"),
        create("a", "2"),
        delete("old"),
        create("old", "y"),
        update("gone", "z"),
        delete("gone"),
        create("b", "1"),
        delete("b"),
    ];
    let applied = world.write(&did, writes).await.unwrap();
    assert_eq!(applied.results.len(), 9);
    let events = world.repos.events_after(before, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    let Ipld::Map(body) = cbor::decode(&events[0].body).unwrap() else { panic!("a map") };
    let Ipld::List(ops) = &body["ops"] else { panic!("a list") };
    let actions: Vec<(String, String)> = ops
        .iter()
        .map(|op| match op {
            Ipld::Map(op) => match (&op["path"], &op["action"]) {
                (Ipld::String(p), Ipld::String(a)) => (p.clone(), a.clone()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    let expect = |rkey: &str, action: &str| (format!("com.example.note/{rkey}"), action.to_owned());
    assert_eq!(actions, [expect("a", "create"), expect("old", "update"), expect("gone", "delete")]);
    assert_eq!(world.verify(&did, &key).await.len(), 2);
    let mut follower = Follower::default();
    follower.follow(&world.repos, &HashMap::from([(did, key)])).await;
}

#[tokio::test]
async fn two_records_with_one_content_share_a_block_until_both_are_gone() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, vec![put("a", "same"), put("b", "same")]).await.unwrap();
    let cid = world.repos.get_record(&did, &path("a")).await.unwrap().unwrap().cid;
    world.write(&did, vec![delete("a")]).await.unwrap();
    assert_eq!(world.repos.get_record(&did, &path("b")).await.unwrap().unwrap().cid, cid);
    world.verify(&did, &key).await;
    world.write(&did, vec![delete("b"), put("c", "same")]).await.unwrap();
    assert_eq!(world.repos.get_record(&did, &path("c")).await.unwrap().unwrap().cid, cid);
    world.write(&did, vec![delete("c")]).await.unwrap();
    assert!(matches!(
        world.repos.get_blocks(&did, &[cid]).await,
        Err(RepoError::BlocksNotFound(missing)) if missing == [cid]
    ));
    world.verify(&did, &key).await;
}

#[tokio::test]
async fn records_that_are_none() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let write = |value: Ipld| {
        let p = path("a");
        vec![Write::Create { collection: p.collection(), rkey: p.rkey(), value }]
    };
    let map = |key: &str, value: Ipld| Ipld::Map([(key.to_owned(), value)].into());
    let deep = (0..40).fold(Ipld::Integer(1), |v, _| Ipld::List(vec![v]));
    for bad in [
        Ipld::String("text".into()),
        map("x", Ipld::Float(1.5)),
        map("x", Ipld::Integer(1 << 53)),
        map("x", deep),
        map("$type", Ipld::Integer(1)),
        map("x", map("$link", Ipld::String("y".into()))),
    ] {
        assert!(matches!(world.write(&did, write(bad)).await, Err(RepoError::InvalidRecord { .. })));
    }
    let other = map("$type", Ipld::String("com.example.other".into()));
    assert!(matches!(world.write(&did, write(other)).await, Err(RepoError::TypeMismatch { .. })));
    let long = |n: usize| note("x".repeat(n));
    let overhead = {
        world.write(&did, vec![put("size", "")]).await.unwrap();
        world.repos.get_record(&did, &path("size")).await.unwrap().unwrap().bytes.len() + 4
    };
    let most = MAX_RECORD_BYTES - overhead;
    assert!(world.write(&did, write(long(most))).await.is_ok());
    assert!(matches!(
        world.write(&did, write(long(most + 1))).await,
        Err(RepoError::RecordTooLarge { size, .. }) if size == MAX_RECORD_BYTES + 1
    ));
    let upper: Result<atcr_core::syntax::Nsid, _> = "Com.Example.note".parse();
    if let Ok(collection) = upper {
        let write = Write::Create { collection, rkey: path("a").rkey(), value: note("x") };
        assert!(matches!(world.write(&did, vec![write]).await, Err(RepoError::InvalidPath(_))));
    }
    let many = (0..201).map(|n| put(&format!("k{n}"), "x")).collect();
    assert!(matches!(world.write(&did, many).await, Err(RepoError::TooManyWrites(201))));
    let two_hundred = (0..200).map(|n| put(&format!("k{n}"), "x")).collect();
    assert!(world.write(&did, two_hundred).await.is_ok());
    let before = world.head(&did).await;
    let heavy = (0..3).map(|n| put(&format!("heavy{n}"), &format!("{n}").repeat(900_000))).collect();
    assert!(matches!(world.write(&did, heavy).await, Err(RepoError::CommitTooLarge(_))));
    assert_eq!(world.head(&did).await, before);
}

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

#[tokio::test]
async fn a_rotated_key_signs_the_next_commit() {
    let world = World::in_memory().await;
    let (did, old) = world.repo("alice").await;
    world.write(&did, vec![put("a", "x")]).await.unwrap();
    let before = world.repos.info(&did).await.unwrap().unwrap();
    let key = SigningKey::generate(Curve::P256).unwrap();
    world.keys.insert(did.clone(), key.clone());
    let head = world.repos.resign(&did).await.unwrap();
    let after = world.repos.info(&did).await.unwrap().unwrap();
    assert_eq!((after.data, after.head), (before.data, head));
    assert!(head.rev > before.head.rev);
    world.verify(&did, &key.public_key()).await;
    assert_ne!(old, key.public_key());
    // The event is a commit without operations that still says where it came from.
    let newest = *world.repos.subscribe().borrow();
    let events = world.repos.events_after(newest - 1, 10).await.unwrap();
    let Ipld::Map(body) = cbor::decode(&events[0].body).unwrap() else { panic!("a map") };
    assert_eq!((&body["ops"], &body["prevData"]), (&Ipld::List(vec![]), &Ipld::Link(before.data)));
}

#[tokio::test]
async fn an_account_that_is_not_active_takes_no_commits() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    world.write(&did, vec![put("a", "x")]).await.unwrap();
    let from = *world.repos.subscribe().borrow();
    for status in [RepoStatus::Deactivated, RepoStatus::Takendown, RepoStatus::Suspended] {
        world.repos.set_status(&did, status).await.unwrap();
        world.repos.set_status(&did, status).await.unwrap();
        for error in [
            world.write(&did, vec![put("b", "x")]).await.unwrap_err(),
            world.repos.resign(&did).await.unwrap_err(),
        ] {
            assert!(matches!(error, RepoError::Inactive { status: s, .. } if s == status), "{error}");
        }
    }
    world.repos.set_status(&did, RepoStatus::Active).await.unwrap();
    let events = world.repos.events_after(from, 100).await.unwrap();
    let account = EventKind::Account;
    assert_eq!(kinds(&events), [account, account, account, account, EventKind::Sync]);
    world.write(&did, vec![put("b", "x")]).await.unwrap();
    assert_eq!(world.verify(&did, &key).await.len(), 2);
}

#[tokio::test]
async fn a_deleted_repo_leaves_nothing_and_can_be_made_anew() {
    let world = World::in_memory().await;
    let (alice, _) = world.repo("alice").await;
    let (bob, bobs) = world.repo("bob").await;
    world.write(&bob, vec![put("a", "x")]).await.unwrap();
    world.write(&alice, vec![put("a", "x"), put("b", "x")]).await.unwrap();
    let old = world.repos.info(&alice).await.unwrap().unwrap().id;
    world.repos.delete(&alice).await.unwrap();
    assert_eq!(world.repos.info(&alice).await.unwrap(), None);
    assert!(matches!(world.write(&alice, vec![]).await, Err(RepoError::RepoNotFound(_))));
    assert!(matches!(world.repos.delete(&alice).await, Err(RepoError::RepoNotFound(_))));
    assert!(world.store.index(old, None, 10).await.unwrap().is_empty());
    let (_, key) = world.repo("alice").await;
    assert!(world.verify(&alice, &key).await.is_empty());
    assert!(world.repos.info(&alice).await.unwrap().unwrap().id > old);
    assert_eq!(world.verify(&bob, &bobs).await.len(), 1);
}

#[tokio::test]
async fn blobs_live_while_records_refer_to_them() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let blob = BlobRef { cid: cid_for_raw(b"layer"), mime_type: "image/png".into(), size: 5 };
    let record = |blob: &BlobRef| Ipld::Map([("picture".to_owned(), blob.to_ipld())].into());
    let write = |rkey: &str, blob: &BlobRef| {
        let p = path(rkey);
        vec![Write::Put {
            collection: p.collection(),
            rkey: p.rkey(),
            value: record(blob),
            expect: Expect::Anything,
        }]
    };
    assert!(
        matches!(world.write(&did, write("a", &blob)).await, Err(RepoError::BlobNotFound(c)) if c == blob.cid)
    );
    world.repos.put_blob(&did, &blob).await.unwrap();
    let row = world.repos.blob(&did, &blob.cid).await.unwrap().unwrap();
    assert_eq!((row.blob, row.referenced), (blob.clone(), false));
    assert!(world.repos.list_blobs(&did, None, None, 10).await.unwrap().is_empty());
    let wrong = BlobRef { mime_type: "text/plain".into(), ..blob.clone() };
    assert!(matches!(world.write(&did, write("a", &wrong)).await, Err(RepoError::BlobMimeType { .. })));
    let wrong_size = BlobRef { size: 6, ..blob.clone() };
    assert!(matches!(world.write(&did, write("a", &wrong_size)).await, Err(RepoError::BlobSize { .. })));

    let before = world.head(&did).await.rev;
    world.write(&did, write("a", &blob)).await.unwrap();
    assert_eq!(world.repos.list_blobs(&did, Some(before), None, 10).await.unwrap(), [blob.cid]);
    let after = world.head(&did).await.rev;
    assert!(world.repos.list_blobs(&did, Some(after), None, 10).await.unwrap().is_empty());
    // Referenced once, what it is is no longer compared.
    world.write(&did, write("b", &wrong)).await.unwrap();
    let later: Datetime = "2999-01-01T00:00:00Z".parse().unwrap();
    assert!(world.repos.forget_blobs(later.clone(), 10).await.unwrap().is_empty());
    world.write(&did, vec![delete("a")]).await.unwrap();
    assert!(world.repos.blob(&did, &blob.cid).await.unwrap().unwrap().referenced);
    world.write(&did, vec![put("b", "no picture")]).await.unwrap();
    assert!(world.repos.list_blobs(&did, None, None, 10).await.unwrap().is_empty());
    let early: Datetime = "2001-01-01T00:00:00Z".parse().unwrap();
    assert!(world.repos.forget_blobs(early, 10).await.unwrap().is_empty(), "too young");
    assert_eq!(world.repos.forget_blobs(later, 10).await.unwrap(), [(did.clone(), blob.cid)]);
    assert_eq!(world.repos.blob(&did, &blob.cid).await.unwrap(), None);
    assert!(matches!(world.write(&did, write("a", &blob)).await, Err(RepoError::BlobNotFound(_))));
}

/// Thousands of writes of every kind; a consumer follows the events; at the end everything agrees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_verify_whole_and_can_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::at(&dir.path().join("repos.sqlite"), Arc::default()).await;
    let mut keys = HashMap::new();
    let mut models: HashMap<Did, BTreeMap<String, String>> = HashMap::new();
    for name in ["alice", "bo"] {
        let (did, key) = world.repo(name).await;
        models.insert(did.clone(), BTreeMap::new());
        keys.insert(did, key);
    }
    let dids: Vec<Did> = keys.keys().cloned().collect();
    let mut seed = 1u64;
    let mut random = move |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % n
    };
    let mut follower = Follower::default();
    let mut done = 0;
    while done < 4000 {
        // Several requests at once, so that they share transactions.
        let mut waiting = Vec::new();
        for _ in 0..=random(20) {
            let did = &dids[random(dids.len())];
            let model = models.get_mut(did).unwrap();
            let mut writes = Vec::new();
            for _ in 0..=random(4) {
                let rkey = format!("k{}", random(700));
                let text = format!("{}", random(50));
                writes.push(match (model.contains_key(&rkey), random(3)) {
                    (false, _) => {
                        model.insert(rkey.clone(), text.clone());
                        create(&rkey, &text)
                    }
                    (true, 0) => {
                        model.remove(&rkey);
                        delete(&rkey)
                    }
                    (true, _) => {
                        model.insert(rkey.clone(), text.clone());
                        update(&rkey, &text)
                    }
                });
                done += 1;
            }
            waiting.push(world.repos.apply_writes(did, writes, Swap::Anything));
        }
        for applied in join_all(waiting).await {
            applied.unwrap();
        }
        if random(5) == 0 {
            follower.follow(&world.repos, &keys).await;
        }
    }
    follower.follow(&world.repos, &keys).await;
    assert!(follower.commits > 500);
    for (did, key) in &keys {
        let records = world.verify(did, key).await;
        let followed = &follower.repos[did];
        assert_eq!(followed.records, records);
        assert_eq!(followed.head, world.head(did).await);
        let texts: Vec<&String> = records.keys().collect();
        let expected: Vec<String> = models[did].keys().map(|k| path(k).to_string()).collect();
        assert_eq!(texts, expected.iter().collect::<Vec<_>>());
        for (rkey, text) in &models[did] {
            let record = world.repos.get_record(did, &path(rkey)).await.unwrap().unwrap();
            assert_eq!(record.to_json().unwrap()["text"], *text);
        }
    }
    // The same events again, from the store this time.
    world.store.close().await;
    let again = World::at(&dir.path().join("repos.sqlite"), world.keys.clone()).await;
    let mut second = Follower::default();
    second.follow(&again.repos, &keys).await;
    assert_eq!(second.cursor, follower.cursor);
    for did in &dids {
        assert_eq!(second.repos[did].head, follower.repos[did].head);
    }
}

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

#[tokio::test]
async fn of_two_writers_with_one_swap_exactly_one_wins() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    for round in 0..20 {
        let head = world.head(&did).await.cid;
        let a = world.repos.apply_writes(&did, vec![put("tag", &format!("a{round}"))], Swap::Commit(head));
        let b = world.repos.apply_writes(&did, vec![put("tag", &format!("b{round}"))], Swap::Commit(head));
        let (a, b) = tokio::join!(a, b);
        let won = usize::from(a.is_ok()) + usize::from(b.is_ok());
        assert_eq!(won, 1, "{a:?} {b:?}");
        for lost in [a, b].into_iter().filter_map(Result::err) {
            assert!(matches!(lost, RepoError::CommitSwap { actual } if actual != head));
        }
    }
    world.verify(&did, &key).await;
}

#[tokio::test]
async fn a_request_that_fails_harms_none_of_its_batch() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let before = *world.repos.subscribe().borrow();
    let waiting: Vec<_> = (0..50)
        .map(|n| {
            let writes = match n % 5 {
                0 => vec![create(&format!("k{n}"), "x"), delete("never")],
                1 => vec![update("never", "x")],
                _ => vec![create(&format!("k{n}"), "x")],
            };
            world.repos.apply_writes(&did, writes, Swap::Anything)
        })
        .collect();
    let outcomes = join_all(waiting).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), n % 5 > 1, "{n}: {outcome:?}");
    }
    assert_eq!(world.verify(&did, &key).await.len(), 30);
    // Each success is a commit and an event of its own, though they shared a transaction.
    assert_eq!(world.repos.events_after(before, 100).await.unwrap().len(), 30);
    let revs: std::collections::BTreeSet<Tid> =
        outcomes.iter().flatten().filter_map(|a| a.commit).map(|h| h.rev).collect();
    assert_eq!(revs.len(), 30);
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_nothing() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    for n in 0..20 {
        let write = world.repos.apply_writes(&did, vec![put(&format!("k{n}"), "x")], Swap::Anything);
        tokio::select! {
            biased;
            () = std::future::ready(()) => {}
            _ = write => {}
        }
    }
    world.write(&did, vec![put("last", "x")]).await.unwrap();
    assert!(world.verify(&did, &key).await.contains_key(path("last").as_str()));
}

#[tokio::test]
async fn revisions_grow_although_the_clock_stands_still_or_runs_back() {
    fn stopped() -> u64 {
        1_000_000
    }
    let keys = Arc::new(MemoryKeys::default());
    let did = did("alice");
    keys.insert(did.clone(), SigningKey::generate(Curve::K256).unwrap());
    let store = Arc::new(SqliteStore::in_memory().await.unwrap());
    let repos = Repos::open(store.clone(), keys.clone()).await.unwrap();
    let mut last = repos.create(&did, NewRepo::default()).await.unwrap().rev;
    drop(repos);
    let mut options = RepoOptions::default();
    options.now = stopped;
    let repos = Repos::open_with(store, keys, options).await.unwrap();
    for n in 0..10 {
        let applied =
            repos.apply_writes(&did, vec![put(&format!("k{n}"), "x")], Swap::Anything).await.unwrap();
        let rev = applied.commit.unwrap().rev;
        assert!(rev > last);
        last = rev;
    }
}

#[tokio::test]
async fn live_events_follow_the_stored_ones_without_a_gap() {
    let world = World::in_memory().await;
    let (did, key) = world.repo("alice").await;
    let (repos, keys) = (world.repos.clone(), HashMap::from([(did.clone(), key)]));
    let reader = tokio::spawn(async move {
        let mut follower = Follower::default();
        let mut newest = repos.subscribe();
        while follower.cursor < 4 + 100 {
            follower.follow(&repos, &keys).await;
            if follower.cursor < 4 + 100 {
                newest.wait_for(|seq| *seq > follower.cursor).await.unwrap();
            }
        }
        follower.commits
    });
    for n in 0..100 {
        world.write(&did, vec![put(&format!("k{n}"), "x")]).await.unwrap();
    }
    assert_eq!(reader.await.unwrap(), 101);
}

#[tokio::test]
async fn old_events_are_pruned_and_numbers_never_used_again() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    assert_eq!(world.repos.event_window().await.unwrap(), 1..=4);
    let early: Datetime = "2001-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(world.repos.prune_events(&early).await.unwrap(), 0);
    let later: Datetime = "2999-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(world.repos.prune_events(&later).await.unwrap(), 4);
    let window = world.repos.event_window().await.unwrap();
    assert!(window.is_empty());
    assert_eq!(*window.start(), 5);
    let identity = NewEvent::Identity { did: did.clone(), handle: Some("alice.test".parse().unwrap()) };
    assert_eq!(world.repos.append_event(identity).await.unwrap().seq, 5);
    assert_eq!(world.repos.event_window().await.unwrap(), 5..=5);
    assert_eq!(world.repos.events_after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_small_event_memory_falls_back_on_the_store() {
    let keys = Arc::new(MemoryKeys::default());
    let store = SqliteStore::in_memory().await.unwrap();
    let mut options = RepoOptions::default();
    options.event_cache = 2000;
    options.node_cache = 1;
    let repos = Repos::open_with(Arc::new(store.clone()), keys.clone(), options).await.unwrap();
    let world = World { repos, keys, store };
    let (did, key) = world.repo("alice").await;
    for n in 0..60 {
        world.write(&did, vec![put(&format!("k{n}"), "x"), put(&format!("j{n}"), "y")]).await.unwrap();
    }
    let mut follower = Follower::default();
    follower.follow(&world.repos, &HashMap::from([(did.clone(), key.clone())])).await;
    assert_eq!(follower.commits, 61);
    for n in 0..60 {
        world.write(&did, vec![delete(&format!("k{n}"))]).await.unwrap();
    }
    assert_eq!(world.verify(&did, &key).await.len(), 60);
}

/// Two processes on one database: the second finds the repo moved, looks again, and nothing is lost.
#[tokio::test]
async fn a_repo_moved_by_another_process_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let one = World::at(&file, Arc::default()).await;
    let (did, key) = one.repo("alice").await;
    let two = World::at(&file, one.keys.clone()).await;
    for n in 0..20 {
        one.write(&did, vec![create(&format!("one{n}"), "x")]).await.unwrap();
        two.write(&did, vec![create(&format!("two{n}"), "x")]).await.unwrap();
    }
    assert_eq!(one.verify(&did, &key).await.len(), 40);
    let mut follower = Follower::default();
    follower.follow(&one.repos, &HashMap::from([(did.clone(), key.clone())])).await;
    assert_eq!(follower.repos[&did].records.len(), 40);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    SqliteStore::open(&file).await.unwrap().close().await;
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(matches!(SqliteStore::open(&file).await, Err(StoreError::TooNew { found: 99, .. })));
    assert!(matches!(
        SqliteStore::open(&dir.path().join("no/such/folder")).await,
        Err(StoreError::Database(_))
    ));
}

#[tokio::test]
async fn a_damaged_block_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let world = World::at(&file, Arc::default()).await;
    let (did, _) = world.repo("alice").await;
    world.write(&did, vec![put("a", "x")]).await.unwrap();
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    for table in ["blocks", "records"] {
        let sql = format!("UPDATE {table} SET bytes = zeroblob(length(bytes))");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let corrupt = |e: RepoError| matches!(&e, RepoError::Store(e) if matches!(**e, StoreError::Corrupt(_)));
    assert!(corrupt(world.repos.get_record(&did, &path("a")).await.unwrap_err()));
    assert!(corrupt(world.repos.record_proof(&did, &path("zzz")).await.unwrap_err()));
    let export = world.repos.export(&did, None).await.unwrap().try_collect::<Vec<Bytes>>().await;
    assert!(corrupt(export.unwrap_err()));
    let cid: Cid = world.head(&did).await.cid;
    assert!(corrupt(world.repos.get_blocks(&did, &[cid]).await.unwrap_err()));
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8),
    Delete(u8),
    Batch(Vec<(u8, Option<u8>)>),
    Status(bool),
    Resign,
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop::option::weighted(0.7, 0..3u8);
    prop_oneof![
        6 => (0..40u8, 0..3u8).prop_map(|(k, v)| Op::Put(k, v)),
        3 => (0..40u8).prop_map(Op::Delete),
        3 => prop::collection::vec((0..40u8, value), 0..12).prop_map(Op::Batch),
        1 => any::<bool>().prop_map(Op::Status),
        1 => Just(Op::Resign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any requests, sent in groups that share transactions, leave what a map says, and events that can be undone.
    #[test]
    fn the_engine_is_a_map(groups in prop::collection::vec(prop::collection::vec(op(), 1..12), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let world = World::in_memory().await;
            let (did, key) = world.repo("alice").await;
            let mut model: BTreeMap<String, Option<u8>> = BTreeMap::new();
            let mut active = true;
            for group in groups {
                let mut waiting = Vec::new();
                for op in group {
                    let name = |k: u8| format!("k{k}");
                    let one = |k: u8, v: Option<u8>| match v {
                        Some(v) => put(&name(k), &v.to_string()),
                        None => delete(&name(k)),
                    };
                    let changes = match op {
                        Op::Put(k, v) => vec![(k, Some(v))],
                        Op::Delete(k) => vec![(k, None)],
                        Op::Batch(list) => list,
                        Op::Status(on) => {
                            let status = if on { RepoStatus::Active } else { RepoStatus::Deactivated };
                            active = on;
                            let repos = world.repos.clone();
                            let did = did.clone();
                            waiting.push(tokio::spawn(async move { repos.set_status(&did, status).await.is_ok() }));
                            assert!(waiting.pop().unwrap().await.unwrap());
                            continue;
                        }
                        Op::Resign => {
                            assert_eq!(world.repos.resign(&did).await.is_ok(), active);
                            continue;
                        }
                    };
                    let mut next = model.clone();
                    let mut fits = active;
                    for (k, v) in &changes {
                        match v {
                            Some(v) => drop(next.insert(name(*k), Some(*v))),
                            None => fits &= next.remove(&name(*k)).is_some(),
                        }
                    }
                    if fits {
                        model = next;
                    }
                    let writes = changes.iter().map(|(k, v)| one(*k, *v)).collect();
                    let (repos, did) = (world.repos.clone(), did.clone());
                    waiting.push(tokio::spawn(async move {
                        repos.apply_writes(&did, writes, Swap::Anything).await.is_ok() == fits
                    }));
                }
                for as_expected in waiting {
                    assert!(as_expected.await.unwrap());
                }
            }
            let records = world.verify(&did, &key).await;
            let expected: Vec<String> = model.keys().map(|k| path(k).to_string()).collect();
            assert!(records.keys().eq(expected.iter()));
            let mut follower = Follower::default();
            follower.follow(&world.repos, &HashMap::from([(did.clone(), key)])).await;
            assert_eq!(follower.repos[&did].records, records);
        });
    }
}

/// What is gone is deleted late and in bulk, but it is deleted, and nothing else is.
#[tokio::test]
async fn blocks_that_are_gone_are_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let world = World::at(&file, Arc::default()).await;
    let (alice, alices) = world.repo("alice").await;
    let (bob, bobs) = world.repo("bob").await;
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    let count = |table: &'static str| {
        let pool = pool.clone();
        async move {
            let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap()
        }
    };
    let mut cleared = 0;
    let mut waiting = 0;
    for n in 0..1500u32 {
        let did = if n % 3 == 0 { &bob } else { &alice };
        // Back and forth between two contents, so that nodes go and come back.
        world.write(did, vec![put(&format!("k{}", n % 50), &format!("{}", (n / 50) % 2))]).await.unwrap();
        if n % 100 == 0 {
            let now = count("dropped").await;
            cleared += i32::from(now < waiting);
            waiting = now;
            let mut live = 0;
            for (did, key) in [(&alice, &alices), (&bob, &bobs)] {
                world.verify(did, key).await;
                let car = world.export(did, None).await;
                live += 1 + nodes_of(&car).len();
            }
            assert_eq!(count("blocks").await - now, i64::try_from(live).unwrap());
        }
    }
    assert!(cleared >= 1, "nothing was cleared away");
}
