//! Writes, and what they come to.

use std::collections::HashMap;
use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::Tid;
use atcr_pds::cbor::{self, cid_for_cbor};
use atcr_pds::repo::{MAX_RECORD_BYTES, RepoOptions, WriteAction};
use atcr_pds::{Expect, MemoryKeys, NewRepo, RepoError, Repos, SqliteStore, Swap, Write};
use futures_util::future::join_all;
use ipld_core::ipld::Ipld;

use crate::world::{Follower, World, create, delete, did, note, path, put, update};

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
