use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::Did;
use atcr_pds::Clock;
use atcr_pds::accounts::{AccountError, Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use atcr_pds::plc::{LogEntry, Operation, PlcDirectory, PlcError};
use http::{Method, StatusCode};
use serde_json::json;

use crate::world::{ALICE, World};

#[tokio::test]
async fn a_handle_resolves_by_method_and_by_host() {
    let world = World::new().await;
    let did = json!({"did": world.alice.did});
    assert_eq!(world.get("com.atproto.identity.resolveHandle?handle=alice.test").await.ok(), did);
    assert_eq!(world.get("com.atproto.identity.resolveHandle?handle=Alice.TEST").await.ok(), did);
    let unknown = world.get("com.atproto.identity.resolveHandle?handle=nobody.test").await;
    assert_eq!(unknown.fails(400, "HandleNotFound"), "Unable to resolve handle");
    world.get("com.atproto.identity.resolveHandle?handle=no").await.fails(400, "InvalidRequest");
    for host in ["alice.test", "alice.test:2583", "ALICE.test"] {
        let found = world.raw(Method::GET, "/.well-known/atproto-did", &[("host", host)]).await;
        assert_eq!(found.body, world.alice.did.as_str());
        assert_eq!(found.header("content-type"), "text/plain; charset=utf-8");
    }
    for host in ["nobody.test", "localhost:2583", ""] {
        let missing = world.raw(Method::GET, "/.well-known/atproto-did", &[("host", host)]).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND, "{host}");
    }
    let own = world.raw(Method::GET, "/.well-known/did.json", &[]).await;
    assert_eq!(own.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_new_account_has_a_document_that_points_here() {
    let world = World::new().await;
    let document =
        world.get(&format!("com.atproto.repo.describeRepo?repo={ALICE}")).await.ok()["didDoc"].clone();
    let document: DidDocument = serde_json::from_value(document).unwrap();
    assert_eq!(document.id, world.alice.did);
    assert_eq!(document.pds().unwrap().as_str(), "http://localhost:2583/");
    assert_eq!(document.claimed_handle().unwrap().as_str(), ALICE);
    document.signing_key().unwrap();
}

#[tokio::test]
async fn a_handle_changes_in_the_directory_and_here() {
    let world = World::new().await;
    let change = async |handle: &str| {
        let input = json!({"handle": handle});
        world.post_as(&world.alice.access, "com.atproto.identity.updateHandle", &input).await
    };
    change("alicia.test").await.ok();
    let described = world.get(&format!("com.atproto.repo.describeRepo?repo={}", world.alice.did)).await.ok();
    assert_eq!(described["handle"], "alicia.test");
    assert_eq!(described["didDoc"]["alsoKnownAs"], json!(["at://alicia.test"]));
    assert_eq!(described["handleIsCorrect"], true);
    world.get("com.atproto.identity.resolveHandle?handle=alice.test").await.fails(400, "HandleNotFound");
    change("bob.test").await.fails(400, "HandleNotAvailable");
    change("al.test").await.fails(400, "InvalidHandle");
    change("alice.example.com").await.fails(400, "UnsupportedDomain");
    let log = world.plc.audit_log(&world.alice.did).await.unwrap();
    atcr_pds::plc::validate_log(&world.alice.did, &log).unwrap();
    assert_eq!(log.len(), 2);
}

#[tokio::test]
async fn documents_follow_the_server_to_another_url() {
    let dir = tempfile::tempdir().unwrap();
    let plc = Directory::open(None, Clock::system()).await.unwrap();
    let open = async |url: &str| {
        let mut config = PdsConfig::new(url.parse().unwrap(), Arc::new(plc.clone()));
        config.data_dir = Some(dir.path().to_owned());
        Pds::open(config).await.unwrap()
    };
    let first = open("http://localhost:1000").await;
    let did = first.create_account(&ALICE.parse().unwrap(), "pw", "alice@example.test").await.unwrap();
    drop(first);
    for (url, operations) in
        [("http://localhost:1000", 1), ("http://localhost:2000", 2), ("http://localhost:2000", 2)]
    {
        drop(open(url).await);
        let log = plc.audit_log(&did).await.unwrap();
        assert_eq!(log.len(), operations, "{url}");
        let state = atcr_pds::plc::validate_log(&did, &log).unwrap().unwrap();
        assert_eq!(state.services["atproto_pds"].endpoint, url);
    }
}

#[tokio::test]
async fn an_account_that_is_off_is_not_served_and_takes_no_writes() {
    let world = World::new().await;
    let did = world.alice.did.clone();
    let off = json!({});
    world.put("com.example.tag", "x", json!({})).await.ok();
    world.post_as(&world.alice.access, "com.atproto.server.deactivateAccount", &off).await.ok();
    for method in ["getRepo", "getLatestCommit", "listBlobs"] {
        let message =
            world.get(&format!("com.atproto.sync.{method}?did={did}")).await.fails(400, "RepoDeactivated");
        assert_eq!(message, format!("Repo has been deactivated: {did}"));
    }
    let status = world.get(&format!("com.atproto.sync.getRepoStatus?did={did}")).await.ok();
    assert_eq!(status, json!({"did": did, "active": false, "status": "deactivated"}));
    let path = format!("com.atproto.repo.getRecord?repo={did}&collection=com.example.tag&rkey=x");
    assert_eq!(world.get(&path).await.fails(400, "InvalidRequest"), "Could not locate record");
    world.put("com.example.tag", "y", json!({})).await.fails(400, "InvalidRequest");
    let session = world.get_as(&world.alice.access, "com.atproto.server.getSession").await.ok();
    assert_eq!((&session["active"], &session["status"]), (&json!(false), &json!("deactivated")));
    let listed = world.get("com.atproto.sync.listRepos").await.ok();
    let repo = listed["repos"].as_array().unwrap().iter().find(|repo| repo["did"] == json!(did)).unwrap();
    assert_eq!((&repo["active"], &repo["status"]), (&json!(false), &json!("deactivated")));
    world.poke(&world.alice.access, "com.atproto.server.activateAccount").await.ok();
    world.get(&path).await.ok();
    world.put("com.example.tag", "y", json!({})).await.ok();
}

/// A directory that can be unreachable.
struct Unreliable {
    directory: Directory,
    down: AtomicBool,
}

impl Unreliable {
    fn check(&self) -> Result<(), PlcError> {
        if self.down.load(Ordering::Relaxed) { Err(PlcError::Unavailable("down".into())) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl PlcDirectory for Unreliable {
    async fn submit(&self, did: &Did, operation: &Operation) -> Result<(), PlcError> {
        self.check()?;
        self.directory.submit(did, operation).await
    }

    async fn audit_log(&self, did: &Did) -> Result<Vec<LogEntry>, PlcError> {
        self.check()?;
        self.directory.audit_log(did).await
    }

    async fn last(&self, did: &Did) -> Result<Operation, PlcError> {
        self.check()?;
        self.directory.last(did).await
    }

    async fn document(&self, did: &Did) -> Result<serde_json::Value, PlcError> {
        self.check()?;
        self.directory.document(did).await
    }
}

#[tokio::test]
async fn while_the_directory_is_down_no_account_is_made_or_renamed() {
    let directory = Directory::open(None, Clock::system()).await.unwrap();
    let plc = Arc::new(Unreliable { directory, down: AtomicBool::new(true) });
    let pds = Pds::open(PdsConfig::new("http://localhost:2583".parse().unwrap(), plc.clone())).await.unwrap();
    let (alice, alicia) = (ALICE.parse().unwrap(), "alicia.test".parse().unwrap());
    assert!(matches!(pds.create_account(&alice, "pw", "a@example.test").await, Err(AccountError::Plc(_))));
    assert_eq!(pds.resolve_handle(&alice).await.unwrap(), None);
    plc.down.store(false, Ordering::Relaxed);
    let did = pds.create_account(&alice, "pw", "a@example.test").await.unwrap();
    plc.down.store(true, Ordering::Relaxed);
    assert!(matches!(pds.update_handle(&did, &alicia).await, Err(AccountError::Plc(_))));
    assert_eq!(pds.resolve_handle(&alice).await.unwrap(), Some(did.clone()));
    assert_eq!(pds.resolve_handle(&alicia).await.unwrap(), None);
    plc.down.store(false, Ordering::Relaxed);
    pds.update_handle(&did, &alicia).await.unwrap();
    assert_eq!(pds.resolve_handle(&alicia).await.unwrap(), Some(did));
}
