//! What every [`SessionStore`] must do, as a function that a test calls with an implementation.

use std::sync::Arc;

use atcr_core::syntax::Did;

use super::{SessionStore, StoredSession};

fn session(did: &Did, n: u32) -> StoredSession {
    StoredSession {
        did: did.clone(),
        handle: None,
        pds: "https://pds.example".parse().expect("a URL"),
        access: format!("access-{n}"),
        refresh: format!("refresh-{n}"),
        oauth: None,
    }
}

async fn current(store: &dyn SessionStore, did: &Did) -> (StoredSession, i64) {
    store.get(did).await.expect("reading works").expect("what was put is there")
}

/// Runs the suite. The stores are views of one and the same set of sessions, as several processes have them, and
/// hold none of `did` yet.
pub async fn check(stores: &[Arc<dyn SessionStore>], did: &Did) {
    let (Some(first), Some(last)) = (stores.first(), stores.last()) else { panic!("a store to check") };
    assert!(first.get(did).await.expect("reading works").is_none());
    first.put(&session(did, 1)).await.expect("writing works");
    let (read, version) = current(&**last, did).await;
    assert_eq!(read, session(did, 1));

    // One lease, wherever it is asked for, until it runs out or is given back.
    let mut asking = tokio::task::JoinSet::new();
    for store in stores.iter().cycle().take(16) {
        let (store, did) = (Arc::clone(store), did.clone());
        asking.spawn(async move { store.lease(&did, version, 100, 160).await });
    }
    let granted = asking.join_all().await.into_iter().filter(|r| *r.as_ref().expect("leasing works")).count();
    assert_eq!(granted, 1, "one of many gets the lease");
    let lease = async |store: &Arc<dyn SessionStore>, version, now, until| {
        store.lease(did, version, now, until).await.expect("leasing works")
    };
    assert!(!lease(last, version, 159, 220).await, "a lease lasts until its end");
    assert!(lease(last, version, 160, 220).await, "and no longer");
    last.release(did, version).await.expect("releasing works");
    assert!(lease(first, version, 160, 220).await, "a released lease is free");

    // Replacing ends the version and its lease.
    assert!(first.replace(&session(did, 2), version).await.expect("replacing works"));
    assert!(!last.replace(&session(did, 3), version).await.expect("replacing works"), "an old version");
    assert!(!lease(last, version, 500, 560).await, "an old version");
    let (read, second) = current(&**last, did).await;
    assert_eq!(read, session(did, 2));
    assert_ne!(second, version);
    assert!(lease(last, second, 100, 160).await, "a new version is free");

    // So does signing in anew; and what was dropped and made anew is not what it was.
    first.put(&session(did, 4)).await.expect("writing works");
    last.remove(did, second).await.expect("removing works");
    let (read, third) = current(&**first, did).await;
    assert_eq!(read, session(did, 4), "another version stays");
    assert!(lease(first, third, 100, 160).await, "a new session is free");
    last.remove(did, third).await.expect("removing works");
    assert!(first.get(did).await.expect("reading works").is_none());
    first.put(&session(did, 5)).await.expect("writing works");
    assert!(!first.replace(&session(did, 6), third).await.expect("replacing works"), "an old version");
    assert_eq!(current(&**last, did).await.0, session(did, 5));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pds_session::MemorySessionStore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn memory_keeps_the_contract() {
        check(&[Arc::new(MemorySessionStore::default())], &"did:plc:alice".parse().unwrap()).await;
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn sqlite_keeps_the_contract_in_one_process_and_in_several() {
        use crate::pds_session::{SealingKey, SqliteSessionStore};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions");
        let open = async || -> Arc<dyn SessionStore> {
            let store = SqliteSessionStore::open(&path, SealingKey::new(&[1; 32])).await.unwrap();
            Arc::new(store) as Arc<dyn SessionStore>
        };
        check(&[open().await], &"did:plc:alice".parse().unwrap()).await;
        check(&[open().await, open().await, open().await], &"did:plc:bob".parse().unwrap()).await;
    }
}
