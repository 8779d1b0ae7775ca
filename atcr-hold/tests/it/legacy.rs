//! The crew of a hold of 2025, whose records are in the owner's repo: read from the owner's PDS, over HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, IdentityResolver, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_hold::LegacyCrew;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use url::Url;

use crate::world::{User, World, bytes};

/// The record of the hold in its owner's repo.
const HOLD: &str = "at://did:plc:alice/io.atcr.hold/one";
/// The record of another hold of the same owner.
const OTHER: &str = "at://did:plc:alice/io.atcr.hold/two";
/// Records that the PDS gives at once.
const PAGE: usize = 3;

/// The PDS of the owner, which lists records and does nothing else.
struct Pds {
    url: Url,
    down: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Pds {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn list(records: &HashMap<&str, Vec<Value>>, uri: &Uri) -> Response {
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    assert_eq!(query["repo"], "did:plc:alice");
    let all = records.get(query["collection"].as_str()).map_or(&[][..], Vec::as_slice);
    let start = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let end = all.len().min(start + PAGE);
    let cursor = (end < all.len()).then(|| end.to_string());
    Json(json!({"records": all[start..end], "cursor": cursor})).into_response()
}

impl Pds {
    async fn start(crew: Vec<Value>) -> Self {
        let listed = |collection: &str, rkey: String, value: Value| json!({"uri": format!("at://did:plc:alice/{collection}/{rkey}"), "cid": "bafy", "value": value});
        let hold = |endpoint: &str| {
            json!({"$type": "io.atcr.hold", "endpoint": endpoint, "owner": "did:plc:alice", "public": false,
                   "createdAt": "2025-06-01T00:00:00Z"})
        };
        let holds = vec![
            listed("io.atcr.hold", "one".into(), hold("http://localhost:5002")),
            listed("io.atcr.hold", "two".into(), hold("https://another.example")),
        ];
        let crew = crew.into_iter().enumerate();
        let crew = crew.map(|(n, value)| listed("io.atcr.hold.crew", n.to_string(), value)).collect();
        let records = Arc::new(HashMap::from([("io.atcr.hold", holds), ("io.atcr.hold.crew", crew)]));
        let down = Arc::new(AtomicBool::new(false));
        let answer = {
            let down = Arc::clone(&down);
            async move |uri: Uri| {
                if down.load(Ordering::SeqCst) {
                    return StatusCode::BAD_GATEWAY.into_response();
                }
                list(&records, &uri)
            }
        };
        let router = Router::new().route("/xrpc/com.atproto.repo.listRecords", get(answer));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { url, down, task }
    }

    /// A private hold of alice's that reads the old records. Who has a handle has it for certain.
    async fn hold(&self, handles: &[(&str, &str)]) -> World {
        let people = StaticResolver::default();
        let services = [("atproto_pds", "AtprotoPersonalDataServer", &self.url)];
        for (did, handle) in [("did:plc:alice", "alice.example.com")].iter().chain(handles) {
            let (did, handle) = (did.parse().unwrap(), handle.parse().unwrap());
            let key = SigningKey::generate(Curve::K256).unwrap().public_key();
            people.insert(DidDocument::new(did, Some(&handle), &key, &services));
        }
        let people = Arc::new(people);
        let identities = IdentityResolver::new(people.clone(), people);
        let egress = Egress::new(EgressPolicy::development()).unwrap();
        World::with(|config| config.legacy_crew = Some(LegacyCrew::new(identities, egress))).await
    }
}

fn record(hold: &str, mut rest: Value) -> Value {
    rest["$type"] = "io.atcr.hold.crew".into();
    rest["hold"] = hold.into();
    rest["addedAt"] = "2025-06-01T00:00:00Z".into();
    rest
}

/// What somebody gets who reads, and who pushes.
async fn tries(world: &World, who: &User) -> (u16, u16) {
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    let read = world.blob_as(who, &digest).await.status.as_u16();
    let push = world.post(who, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await.status.as_u16();
    (read, push)
}

#[tokio::test]
async fn records_of_2025_in_the_owners_repo_give_what_they_say_and_no_more() {
    let later = jiff::Timestamp::from_second(atcr_auth::Clock::system().unix() + 3600).unwrap();
    let member = |did: &str, role: &str| json!({"member": did, "role": role});
    let pds = Pds::start(vec![
        record(HOLD, member("did:plc:writer", "write")),
        record(HOLD, member("did:plc:reader", "read")),
        record(HOLD, member("did:plc:unheard", "bosun")),
        record(OTHER, member("did:plc:elsewhere", "write")),
        record(HOLD, json!({"memberPattern": "*.team.example", "role": "write"})),
        record(HOLD, json!({"member": "did:plc:was", "role": "write", "expiresAt": "2025-07-01T00:00:00Z"})),
        record(HOLD, json!({"member": "did:plc:broken", "role": "write", "expiresAt": "one day"})),
        record(HOLD, json!({"member": "did:plc:soon", "role": "write", "expiresAt": later.to_string()})),
        // The shape of 2026, which does not count in the owner's repo.
        json!({"$type": "io.atcr.hold.crew", "member": "did:plc:new", "role": "member",
               "permissions": ["blob:read", "blob:write"], "addedAt": "2026-01-01T00:00:00Z"}),
    ])
    .await;
    let handles = [
        ("did:plc:mate", "mate.team.example"),
        ("did:plc:outsider", "outsider.example"),
        ("did:plc:writer", "writer.example"),
    ];
    let world = pds.hold(&handles).await;
    for (did, read, push) in [
        ("did:plc:writer", 200, 200),
        ("did:plc:reader", 200, 403),
        ("did:plc:unheard", 403, 403),
        ("did:plc:elsewhere", 403, 403),
        ("did:plc:mate", 200, 200),
        ("did:plc:outsider", 403, 403),
        // Nobody vouches for a handle of theirs.
        ("did:plc:stranger", 403, 403),
        ("did:plc:was", 403, 403),
        ("did:plc:broken", 403, 403),
        ("did:plc:soon", 200, 200),
        ("did:plc:new", 403, 403),
    ] {
        assert_eq!(tries(&world, &world.user(did)).await, (read, push), "{did}");
    }
    // They give nothing but blobs.
    let input = json!({"repo": world.hold.did(), "collection": "com.example.note", "record": {"a": 1}});
    let writer = world.user("did:plc:writer");
    assert_eq!(world.post(&writer, "com.atproto.repo.createRecord", input).await.status, 403);
    // An end counts from the moment at which it comes.
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(tries(&world, &world.user("did:plc:soon")).await, (403, 403));
    assert_eq!(tries(&world, &world.user("did:plc:reader")).await, (200, 403));
}

#[tokio::test]
async fn what_the_owners_pds_does_not_say_gives_nothing() {
    let pds = Pds::start(vec![record(HOLD, json!({"member": "did:plc:writer", "role": "write"}))]).await;
    let world = pds.hold(&[]).await;
    let writer = world.user("did:plc:writer");
    pds.down.store(true, Ordering::SeqCst);
    assert_eq!(tries(&world, &writer).await, (403, 403));
    pds.down.store(false, Ordering::SeqCst);
    assert_eq!(tries(&world, &writer).await, (200, 200), "a failure is not remembered");
    // What the hold's own repo says of somebody prevails.
    let record = json!({
        "$type": "io.atcr.hold.crew", "member": writer.did, "role": "member", "permissions": ["blob:read"],
        "addedAt": "2026-01-01T00:00:00Z",
    });
    let input = json!({"repo": world.hold.did(), "collection": "io.atcr.hold.crew", "record": record});
    world.post(&world.alice, "com.atproto.repo.createRecord", input).await.ok();
    assert_eq!(tries(&world, &writer).await, (200, 403));
    // Without the setting the records are not looked at.
    let plain = World::private().await;
    assert_eq!(tries(&plain, &plain.user("did:plc:writer")).await, (403, 403));
}
