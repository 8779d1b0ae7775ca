//! Random requests against a map as their model, followed by a consumer of the events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use atcr_core::syntax::Did;
use atcr_pds::Swap;
use atcr_pds::store::RepoStatus;
use futures_util::future::join_all;
use proptest::prelude::*;

use crate::world::{Follower, World, create, delete, path, put, update};

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
