//! The sequence of events.

use std::collections::HashMap;
use std::sync::Arc;

use atcr_core::syntax::Datetime;
use atcr_pds::repo::{NewEvent, RepoOptions};
use atcr_pds::{MemoryKeys, Repos, SqliteStore};

use crate::world::{Follower, World, delete, put};

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
