use std::sync::Arc;

use atcr_auth::SignIn as _;
use atcr_auth::pds_session::{SealingKey, SessionStore, SqliteSessionStore, StoredSession};
use atcr_auth::{PdsSessions as _, SessionError};

use crate::fake_pds::{FakePds, PASSWORD, did};

fn session(did: &str, n: u32) -> StoredSession {
    StoredSession {
        did: did.parse().unwrap(),
        handle: None,
        pds: "https://pds.example".parse().unwrap(),
        access: format!("access-{n}"),
        refresh: format!("refresh-{n}"),
        oauth: None,
    }
}

async fn open(path: &std::path::Path, key: u8) -> Arc<dyn SessionStore> {
    Arc::new(SqliteSessionStore::open(path, SealingKey::new(&[key; 32])).await.unwrap())
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
