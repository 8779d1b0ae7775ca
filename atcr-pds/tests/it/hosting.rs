//! Repos are made, given another key, switched off and removed.

use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_pds::cbor;
use atcr_pds::repo::EventKind;
use atcr_pds::store::RepoStatus;
use atcr_pds::{NewRepo, RepoError, RepoStore as _};
use ipld_core::ipld::Ipld;

use crate::world::{World, put};

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
