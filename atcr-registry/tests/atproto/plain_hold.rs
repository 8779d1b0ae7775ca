//! A hold that promises nothing, over storage as strict as S3: parts with their length announced, none but the last
//! below 5 MiB, completed in order by receipt; digests are not looked at; reads are redirected.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use atcr_core::did_resolver::{DidDocument, Service};
use atcr_core::syntax::Did;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::world::{listen, serve};

const MIN_PART: usize = 5 << 20;

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) uploads: HashMap<String, BTreeMap<u64, Bytes>>,
    pub(crate) blobs: HashMap<String, Bytes>,
    /// The manifests it was told of.
    pub(crate) notified: Vec<Value>,
    /// It gives the addresses of several parts in one call.
    pub(crate) batch: bool,
    /// How often it was asked for addresses.
    pub(crate) asked: usize,
    /// The parts that its storage refuses next, as when the address has expired.
    pub(crate) refused: Vec<u64>,
    /// Blobs that it shows to those alone who show a token.
    pub(crate) unverified: bool,
    /// What it says of a blob that turned out to be something else.
    pub(crate) quarantined: Option<String>,
}

#[derive(Clone)]
pub(crate) struct PlainHold {
    pub(crate) did: Did,
    url: String,
    pub(crate) stored: Arc<Mutex<Stored>>,
}

impl PlainHold {
    pub(crate) async fn start() -> Self {
        let (listener, url) = listen().await;
        let hold = Self {
            did: Did::web_from_url(&url).unwrap(),
            url: url.as_str().trim_end_matches('/').to_owned(),
            stored: Arc::default(),
        };
        let procedure = |name: &str| format!("/xrpc/io.atcr.hold.{name}");
        let router = Router::new()
            .route("/.well-known/did.json", get(document))
            .route(&procedure("initiateUpload"), post(initiate))
            .route(&procedure("getPartUploadUrl"), post(part_url))
            .route(&procedure("completeUpload"), post(complete))
            .route(&procedure("abortUpload"), post(abort))
            .route(&procedure("notifyManifest"), post(notify))
            .route("/xrpc/com.atproto.sync.getBlob", get(get_blob))
            .route("/bucket/{upload}/{part}", put(put_part))
            .route("/bucket/{digest}", get(object))
            .layer(DefaultBodyLimit::disable())
            .with_state(hold.clone());
        serve(listener, router);
        hold
    }
}

type Hold = State<PlainHold>;

fn refuse(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error, "message": error }))).into_response()
}

async fn document(State(hold): Hold) -> Json<DidDocument> {
    let service = Service {
        id: "#atcr_hold".to_owned(),
        kind: "AtcrHoldService".to_owned(),
        service_endpoint: hold.url.into(),
    };
    Json(DidDocument {
        context: Value::Null,
        id: hold.did,
        also_known_as: Vec::new(),
        verification_method: Vec::new(),
        service: vec![service],
    })
}

async fn initiate(State(hold): Hold, headers: HeaderMap, Json(input): Json<Value>) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).is_some_and(|v| v.as_bytes().starts_with(b"Bearer "));
    if !bearer || !input["digest"].is_string() {
        return refuse("InvalidDigest");
    }
    let mut stored = hold.stored.lock().unwrap();
    let id = format!("upload-{}", stored.uploads.len());
    stored.uploads.insert(id.clone(), BTreeMap::new());
    let capabilities = if stored.batch { json!(["parts:batch"]) } else { Value::Null };
    Json(json!({ "uploadId": id, "capabilities": capabilities })).into_response()
}

async fn part_url(State(hold): Hold, Json(input): Json<Value>) -> Response {
    let id = input["uploadId"].as_str().unwrap();
    let mut stored = hold.stored.lock().unwrap();
    stored.asked += 1;
    if !stored.uploads.contains_key(id) {
        return refuse("InvalidUploadId");
    }
    let first = input["partNumber"].as_u64().unwrap();
    let request = |number| {
        let url = format!("{}/bucket/{id}/{number}", hold.url);
        json!({ "url": url, "method": "PUT", "headers": { "X-Signed": "yes" } })
    };
    let mut answer = request(first);
    match input["count"].as_u64() {
        Some(count) if stored.batch => {
            answer["following"] = (first + 1..first + count).map(request).collect();
        }
        Some(_) => return refuse("InvalidRequest"),
        None => {}
    }
    Json(answer).into_response()
}

async fn put_part(
    State(hold): Hold,
    Path((id, part)): Path<(String, u64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !headers.contains_key("x-signed") || !headers.contains_key(header::CONTENT_LENGTH) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut stored = hold.stored.lock().unwrap();
    if let Some(at) = stored.refused.iter().position(|refused| *refused == part) {
        stored.refused.remove(at);
        let expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
        return (StatusCode::FORBIDDEN, expired).into_response();
    }
    stored.uploads.get_mut(&id).unwrap().insert(part, body);
    [(header::ETAG, format!("\"etag-{id}-{part}\""))].into_response()
}

async fn complete(State(hold): Hold, Json(input): Json<Value>) -> Response {
    let mut stored = hold.stored.lock().unwrap();
    let id = input["uploadId"].as_str().unwrap();
    let Some(parts) = stored.uploads.remove(id) else { return refuse("InvalidUploadId") };
    let named = input["parts"].as_array().unwrap();
    let receipts =
        named.iter().map(|part| (part["partNumber"].as_u64().unwrap(), part["etag"].as_str().unwrap()));
    let expected: Vec<_> = parts.keys().map(|n| (*n, format!("etag-{id}-{n}"))).collect();
    let given: Vec<_> = receipts.map(|(n, etag)| (n, etag.trim_matches('"').to_owned())).collect();
    let small = parts.values().rev().skip(1).any(|part| part.len() < MIN_PART);
    if given != expected || small {
        return refuse("MissingParts");
    }
    let content: Vec<u8> = parts.into_values().flatten().collect();
    let digest = input["digest"].as_str().unwrap().to_owned();
    stored.blobs.insert(digest.clone(), content.into());
    Json(json!({ "status": "completed", "digest": digest })).into_response()
}

async fn abort(State(hold): Hold, Json(input): Json<Value>) -> Response {
    hold.stored.lock().unwrap().uploads.remove(input["uploadId"].as_str().unwrap());
    Json(json!({ "status": "aborted" })).into_response()
}

async fn notify(State(hold): Hold, Json(input): Json<Value>) -> Json<Value> {
    hold.stored.lock().unwrap().notified.push(input);
    Json(json!({ "success": true, "operation": "push", "statsUpdated": true }))
}

/// A HEAD is answered by the same redirect.
async fn get_blob(
    State(hold): Hold,
    headers: HeaderMap,
    Query(params): Query<HashMap<String, String>>,
) -> Response {
    let digest = &params["cid"];
    let stored = hold.stored.lock().unwrap();
    let hidden = stored.unverified && !headers.contains_key(header::AUTHORIZATION);
    if hidden {
        return StatusCode::NOT_FOUND.into_response();
    }
    if !stored.blobs.contains_key(digest) {
        return refuse("BlobNotFound");
    }
    if let Some(why) = &stored.quarantined {
        let body = json!({ "error": "BlobQuarantined", "message": why });
        return (StatusCode::GONE, Json(body)).into_response();
    }
    Redirect::temporary(&format!("{}/bucket/{digest}", hold.url)).into_response()
}

async fn object(State(hold): Hold, Path(digest): Path<String>) -> Response {
    hold.stored.lock().unwrap().blobs[&digest].clone().into_response()
}
