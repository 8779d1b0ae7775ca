//! Where a blob comes from, and where it goes to, when holds are down or have moved.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atcr_auth::PdsSessions;
use atcr_auth::pds_session::SessionError;
use atcr_core::blob_store::{BeginUpload, BlobContent, BlobStore as _};
use atcr_core::did_resolver::{DidDocument, IdentityResolver, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::oci::Digest;
use atcr_core::records::ManifestRecord;
use atcr_core::syntax::Did;
use atcr_core::{Access, Account, Principal, Proof, StoreError};
use atcr_registry::atproto::{BlobDelivery, HoldBlobStore, Network};
use atcr_registry::index::{Collection, Cursor, Event, Index, RepoCommit, Since};
use atcr_registry::ingest::{Ingest, IngestOptions, Source};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::records::{at, blob, did, manifest, rev, written};
use crate::streams::serve;

/// What happens at a hold.
#[derive(Clone, Default)]
struct Hold(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    blobs: Vec<Digest>,
    down: bool,
    /// Blobs that were asked for, and uploads that were begun.
    asked: usize,
    begun: usize,
}

impl Hold {
    fn asked(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

async fn get_blob(State(hold): State<Hold>, Query(params): Query<HashMap<String, String>>) -> Response {
    let mut state = hold.0.lock().unwrap();
    state.asked += 1;
    if state.down {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    if !state.blobs.iter().any(|blob| blob.to_string() == params["cid"]) {
        let body = json!({ "error": "BlobNotFound", "message": "it is not here" });
        return (StatusCode::NOT_FOUND, Json(body)).into_response();
    }
    Redirect::temporary("/bucket").into_response()
}

async fn initiate(State(hold): State<Hold>) -> Json<Value> {
    hold.0.lock().unwrap().begun += 1;
    Json(json!({ "uploadId": "one" }))
}

/// The sessions of somebody who may do everything.
#[derive(Debug)]
struct Sessions;

#[async_trait]
impl PdsSessions for Sessions {
    async fn query(&self, did: &Did, _: &str, _: &[(&str, &str)]) -> Result<Value, SessionError> {
        Err(SessionError::NoSession(did.clone()))
    }

    async fn procedure(&self, did: &Did, _: &str, _: Value) -> Result<Value, SessionError> {
        Err(SessionError::NoSession(did.clone()))
    }

    async fn upload(&self, did: &Did, _: &str, _: &str, _: Bytes) -> Result<Value, SessionError> {
        Err(SessionError::NoSession(did.clone()))
    }

    async fn service_token(&self, _: &Did, _: &Did, _: &str) -> Result<String, SessionError> {
        Ok("token".to_owned())
    }
}

fn hold_did(n: usize) -> Did {
    format!("did:plc:hold{n}").parse().unwrap()
}

/// Alice, whose PDS is down, four holds, and a registry that knows all of it by its index.
struct World {
    index: Index,
    blobs: HoldBlobStore,
    holds: [Hold; 4],
    running: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl World {
    /// The registry's own hold is the first one.
    async fn new() -> Self {
        let document = |did: Did, id: &str, url: &str| -> DidDocument {
            let service =
                json!({ "id": id, "type": "Service", "serviceEndpoint": url.trim_end_matches('/') });
            serde_json::from_value(json!({ "id": did, "service": [service] })).unwrap()
        };
        // Nobody listens on port 1.
        let resolver = StaticResolver::new([document(did(0), "#atproto_pds", "http://localhost:1")]);
        let holds: [Hold; 4] = Default::default();
        for (n, hold) in holds.iter().enumerate() {
            let router = Router::new()
                .route("/xrpc/com.atproto.sync.getBlob", get(get_blob))
                .route("/xrpc/io.atcr.hold.initiateUpload", post(initiate))
                .route("/bucket", get(|| async { "content" }))
                .with_state(hold.clone());
            resolver.insert(document(hold_did(n), "#atcr_hold", serve(router).await.as_str()));
        }
        let resolver = Arc::new(resolver);
        let identities = IdentityResolver::new(Arc::clone(&resolver) as Arc<_>, resolver);
        let egress = Egress::new(EgressPolicy::development()).unwrap();
        let index = Index::open("sqlite::memory:").await.unwrap();
        // A stream that was seen at work a moment ago.
        let mut options = IngestOptions::default();
        options.sources = vec![Source::Relay("http://localhost:1".parse().unwrap())];
        options.freshness = Duration::from_secs(3600);
        let name = "relay http://localhost:1".to_owned();
        index.apply(&[], Some(&Cursor { source: name.clone(), seq: 1 })).await.unwrap();
        index.source_is_alive(&name).await.unwrap();
        let ingest = Ingest::new(index.clone(), egress.clone(), identities.clone(), options);
        let running = tokio::spawn(ingest.clone().run());
        while !ingest.freshness().covers(None) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let network = Network {
            egress,
            identities,
            sessions: Arc::new(Sessions),
            default_hold: hold_did(0),
            delivery: BlobDelivery::Redirect,
            public_url: "https://registry.example".parse().unwrap(),
        };
        let (_, blobs) = network.indexed_stores(&index, &ingest);
        Self { index, blobs, holds, running }
    }

    async fn write(&self, who: Did, n: usize, records: &[(Collection, &str, Value)]) {
        let ops = records
            .iter()
            .map(|(collection, rkey, value)| written(*collection, rkey.parse().unwrap(), value))
            .collect();
        let is_first = self.index.account(&who).await.unwrap().is_none();
        let since = if is_first { Since::Nothing } else { Since::Unknown };
        let commit = RepoCommit { did: who, rev: rev(n), since, data: None, ops };
        self.index.apply(&[Event::Commit(commit)], None).await.unwrap();
    }

    /// Alice's manifest of this number is at this hold, as its record says.
    async fn pushed(&self, n: usize, hold: usize) {
        let manifest = manifest(n);
        let content = manifest.content().unwrap();
        let (name, at) = ("app".parse().unwrap(), at(n).parse().unwrap());
        let record =
            ManifestRecord::from_manifest(name, &manifest, &content, Some(hold_did(hold)), at).unwrap();
        let record = (Collection::Manifest, &*manifest.digest.hex(), serde_json::to_value(record).unwrap());
        self.write(did(0), n + 1, &[record]).await;
    }

    /// A hold says that it keeps a blob for Alice.
    async fn says(&self, hold: usize, blob: &Digest) {
        let record = json!({
            "$type": "io.atcr.hold.layer", "digest": blob, "size": 7, "mediaType": "layer", "userDid": did(0),
            "createdAt": at(1),
        });
        self.write(hold_did(hold), 1, &[(Collection::Layer, "layer", record)]).await;
    }

    async fn moves(&self, hold: usize, to: usize) {
        let record = json!({
            "$type": "io.atcr.hold.captain", "owner": did(1), "public": false, "allowAllCrew": true,
            "enableBlueskyPosts": false, "deployedAt": at(1), "successor": hold_did(to),
        });
        self.write(hold_did(hold), 1, &[(Collection::Captain, "self", record)]).await;
    }

    fn keeps(&self, hold: usize, blob: &Digest) {
        self.holds[hold].0.lock().unwrap().blobs.push(*blob);
    }

    fn is_down(&self, hold: usize) {
        self.holds[hold].0.lock().unwrap().down = true;
    }

    fn asked(&self) -> Vec<usize> {
        self.holds.iter().map(Hold::asked).collect()
    }

    fn begun(&self) -> Vec<usize> {
        self.holds.iter().map(|hold| hold.0.lock().unwrap().begun).collect()
    }

    async fn pull(&self, blob: &Digest) -> Result<(), StoreError> {
        let access = Access::anonymous(format!("{}/app", did(0).to_hyphenated()).parse().unwrap());
        let content = self.blobs.open(&access, blob, None).await?;
        assert!(matches!(&content, BlobContent::Redirect(url) if url.path() == "/bucket"), "{content:?}");
        self.blobs.stat(&access, blob).await.map(drop)
    }

    async fn push(&self) {
        let account = Account { did: did(0), handle: None, proof: Proof::OAuth };
        let name = format!("{}/app", did(0).to_hyphenated()).parse().unwrap();
        let access = Access::new(Principal::Account(account), name);
        self.blobs.begin(&access, BeginUpload::default()).await.unwrap();
    }
}

/// The manifests 1 and 2 share a blob, and each names another hold.
#[tokio::test]
async fn a_blob_whose_hold_is_down_comes_from_another_that_has_it() {
    let world = World::new().await;
    let shared = blob(2);
    world.pushed(1, 1).await;
    world.pushed(2, 2).await;
    world.keeps(1, &shared);
    world.keeps(2, &shared);
    world.pull(&shared).await.unwrap();
    assert_eq!(world.asked(), [0, 0, 2, 0], "the newest is asked first");
    world.is_down(2);
    world.pull(&shared).await.unwrap();
    assert_eq!(world.asked(), [0, 2, 1, 0], "once, and then not before the others");
    world.is_down(1);
    assert!(matches!(world.pull(&shared).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_hold_that_says_it_has_the_blob_is_asked_if_its_owner_has_used_it_and_no_strangers() {
    let world = World::new().await;
    let wanted = blob(1);
    world.pushed(1, 1).await;
    world.is_down(1);
    // Of these, Alice has used the first one alone, for another image.
    world.pushed(4, 2).await;
    for hold in [2, 3] {
        world.says(hold, &wanted).await;
        world.keeps(hold, &wanted);
    }
    world.pull(&wanted).await.unwrap();
    let asked = world.asked();
    assert_eq!((asked[2], asked[3]), (2, 0), "{asked:?}");
}

#[tokio::test]
async fn a_hold_that_has_moved_is_followed_by_pulls_and_pushes() {
    let world = World::new().await;
    world.pushed(1, 1).await;
    for (hold, to) in [(0, 1), (1, 2), (2, 3)] {
        world.moves(hold, to).await;
    }
    world.keeps(3, &blob(1));
    world.pull(&blob(1)).await.unwrap();
    assert_eq!(world.asked(), [0, 0, 0, 2], "where it went in the end");
    world.push().await;
    assert_eq!(world.begun(), [0, 0, 0, 1]);
    // What stayed behind is found there.
    world.keeps(1, &blob(2));
    world.pull(&blob(2)).await.unwrap();
}

#[tokio::test]
async fn holds_that_move_in_a_circle_are_each_asked_once() {
    for circle in [&[(0, 1), (1, 0)][..], &[(0, 0)], &[(0, 1), (1, 2), (2, 3), (3, 1)]] {
        let world = World::new().await;
        world.pushed(1, 1).await;
        for (hold, to) in circle {
            world.moves(*hold, *to).await;
        }
        let access = Access::anonymous(format!("{}/app", did(0).to_hyphenated()).parse().unwrap());
        // Nobody has it, and the PDS that could tell of more holds is down.
        assert!(world.blobs.stat(&access, &blob(1)).await.is_err());
        assert!(world.asked().iter().all(|asked| *asked <= 1));
        world.keeps(1, &blob(1));
        world.pull(&blob(1)).await.unwrap();
        world.push().await;
        assert_eq!(world.begun().iter().sum::<usize>(), 1);
    }
}
