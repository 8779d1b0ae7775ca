use std::sync::Arc;

use atcr_auth::pds_session::{MemorySessionStore, SessionStore, StoredSession};
use futures_util::future::join_all;

use crate::fake_pds::did;

fn session(did: &str, n: u32) -> StoredSession {
    StoredSession {
        did: did.parse().unwrap(),
        handle: None,
        pds: "https://pds.example".parse().unwrap(),
        access: format!("access-{n}"),
        refresh: format!("refresh-{n}"),
    }
}

/// What every store must do. The stores are views of one and the same set of sessions, as processes have them.
async fn contract(stores: &[Arc<dyn SessionStore>]) {
    let (first, last) = (stores.first().unwrap(), stores.last().unwrap());
    let alice = did("did:plc:alice");
    assert!(first.get(&alice).await.unwrap().is_none());
    first.put(&session("did:plc:alice", 1)).await.unwrap();
    let (read, version) = last.get(&alice).await.unwrap().unwrap();
    assert_eq!(read, session("did:plc:alice", 1));
    assert!(last.get(&did("did:plc:bob")).await.unwrap().is_none());

    // One lease, wherever it is asked for, until it runs out or is given back.
    let asked = (0..16).map(|n| stores[n % stores.len()].lease(&alice, version, 100, 160));
    let granted = join_all(asked).await.into_iter().filter(|r| *r.as_ref().unwrap()).count();
    assert_eq!(granted, 1);
    assert!(!last.lease(&alice, version, 159, 220).await.unwrap());
    assert!(last.lease(&alice, version, 160, 220).await.unwrap());
    last.release(&alice, version).await.unwrap();
    assert!(first.lease(&alice, version, 160, 220).await.unwrap());

    // Replacing ends the version and its lease.
    assert!(first.replace(&session("did:plc:alice", 2), version).await.unwrap());
    assert!(!last.replace(&session("did:plc:alice", 3), version).await.unwrap());
    assert!(!last.lease(&alice, version, 500, 560).await.unwrap());
    let (read, second) = last.get(&alice).await.unwrap().unwrap();
    assert_eq!(read, session("did:plc:alice", 2));
    assert_ne!(second, version);
    assert!(last.lease(&alice, second, 100, 160).await.unwrap());

    // So does signing in anew, and what was dropped and made anew is not what it was.
    first.put(&session("did:plc:alice", 4)).await.unwrap();
    last.remove(&alice, second).await.unwrap();
    let (read, third) = first.get(&alice).await.unwrap().unwrap();
    assert_eq!(read, session("did:plc:alice", 4));
    assert!(first.lease(&alice, third, 100, 160).await.unwrap());
    last.remove(&alice, third).await.unwrap();
    assert!(first.get(&alice).await.unwrap().is_none());
    first.put(&session("did:plc:alice", 5)).await.unwrap();
    assert!(!first.replace(&session("did:plc:alice", 6), third).await.unwrap());
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&[Arc::new(MemorySessionStore::default())]).await;
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::sync::Arc;

    use atcr_auth::SignIn as _;
    use atcr_auth::pds_session::{SealingKey, SessionStore, SqliteSessionStore};
    use atcr_auth::{PdsSessions as _, SessionError};

    use super::{contract, session};
    use crate::fake_pds::{FakePds, PASSWORD, did};

    async fn open(path: &std::path::Path, key: u8) -> Arc<dyn SessionStore> {
        Arc::new(SqliteSessionStore::open(path, SealingKey::new(&[key; 32])).await.unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn sqlite_keeps_the_contract_in_one_process_and_in_several() {
        let dir = tempfile::tempdir().unwrap();
        contract(&[open(&dir.path().join("one"), 1).await]).await;
        let shared = dir.path().join("several");
        contract(&[open(&shared, 1).await, open(&shared, 1).await, open(&shared, 1).await]).await;
    }

    #[tokio::test]
    async fn people_stay_signed_in_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions");
        let pds = FakePds::start().await;
        pds.sessions(open(&path, 1).await).sign_in("alice.test", PASSWORD).await.unwrap();
        let sessions = pds.sessions(open(&path, 1).await);
        pds.clock.advance(std::time::Duration::from_secs(7199));
        sessions.query(&did("did:plc:alice"), "x.y.z", &[]).await.unwrap();
        assert_eq!(pds.calls("com.atproto.server.createSession"), 1);
    }

    #[tokio::test]
    async fn no_token_stands_in_the_file_and_another_key_reads_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions");
        let store = open(&path, 1).await;
        store.put(&session("did:plc:alice", 7)).await.unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let file = entry.unwrap();
            let bytes = std::fs::read(file.path()).unwrap();
            for secret in [&b"refresh-7"[..], b"access-7"] {
                assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{:?}", file.path());
            }
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = file.metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0, "{:?} is private", file.path());
            }
        }
        let pds = FakePds::start().await;
        let sessions = pds.sessions(open(&path, 2).await);
        let error = sessions.query(&did("did:plc:alice"), "x.y.z", &[]).await.unwrap_err();
        assert!(matches!(error, SessionError::NoSession(_)), "{error}");
        sessions.sign_in("alice.test", PASSWORD).await.unwrap();
        sessions.query(&did("did:plc:alice"), "x.y.z", &[]).await.unwrap();
    }
}
