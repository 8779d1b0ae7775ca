use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use atcr_auth::service_auth::{ServiceClaims, mint};
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, StaticResolver};
use atcr_core::oci::{Algorithm, Digest};
use atcr_core::syntax::Did;
use atcr_hold::storage::ObjectStorage;
use atcr_hold::{Hold, HoldConfig};
use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use url::Url;

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) did: Did,
    key: SigningKey,
}

/// A hold of alice's on a directory of its own, and accounts who can call it.
pub(crate) struct World {
    pub(crate) directory: Arc<TempDir>,
    pub(crate) clock: Clock,
    resolver: Arc<StaticResolver>,
    pub(crate) alice: User,
    pub(crate) bob: User,
    pub(crate) config: HoldConfig,
    pub(crate) hold: Hold,
    router: Router,
}

/// A hold that does not run.
pub(crate) struct Stopped {
    directory: Arc<TempDir>,
    clock: Clock,
    resolver: Arc<StaticResolver>,
    alice: User,
    bob: User,
    config: HoldConfig,
}

impl Stopped {
    /// The hold on another storage.
    pub(crate) async fn started_on(self, storage: Arc<dyn ObjectStorage>) -> World {
        let Self { directory, clock, resolver, alice, bob, mut config } = self;
        config.storage = Some(storage);
        let hold = Hold::open(config.clone(), resolver.clone()).await.unwrap();
        let router = hold.router();
        World { directory, clock, resolver, alice, bob, config, hold, router }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        self.json()
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) -> String {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{body}");
        let json = self.json();
        assert_eq!(json["error"], error, "{json}");
        json["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    /// A hold that only alice may use.
    pub(crate) async fn private() -> Self {
        Self::with(|_| {}).await
    }

    /// A hold that anyone may read.
    pub(crate) async fn public() -> Self {
        Self::with(|config| config.public = true).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HoldConfig)) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let resolver = Arc::new(StaticResolver::default());
        let (alice, bob) = (user(&resolver, "did:plc:alice"), user(&resolver, "did:plc:bob"));
        let public_url = "http://localhost:5002".parse().unwrap();
        let mut config = HoldConfig::new(public_url, directory.path().join("hold"), alice.did.clone());
        let clock = Clock::manual(Clock::system().unix());
        config.clock = clock.clone();
        change(&mut config);
        let hold = Hold::open(config.clone(), resolver.clone()).await.unwrap();
        let router = hold.router();
        Self { directory, clock, resolver, alice, bob, config, hold, router }
    }

    /// The hold after the end of its process.
    pub(crate) async fn reopened(self) -> Self {
        let Self { directory, clock, resolver, alice, bob, config, hold, router } = self;
        drop((hold, router));
        let hold = Hold::open(config.clone(), resolver.clone()).await.unwrap();
        let router = hold.router();
        Self { directory, clock, resolver, alice, bob, config, hold, router }
    }

    /// The end of its process.
    pub(crate) fn stopped(self) -> Stopped {
        let Self { directory, clock, resolver, alice, bob, config, .. } = self;
        Stopped { directory, clock, resolver, alice, bob, config }
    }

    /// Another process of the same hold. It goes before this one.
    pub(crate) async fn replica(&self) -> Self {
        let hold = self.open(self.config.clone()).await.unwrap();
        Self {
            directory: Arc::clone(&self.directory),
            clock: self.clock.clone(),
            resolver: self.resolver.clone(),
            alice: self.alice.clone(),
            bob: self.bob.clone(),
            config: self.config.clone(),
            router: hold.router(),
            hold,
        }
    }

    pub(crate) async fn open(&self, config: HoldConfig) -> Result<Hold, atcr_hold::HoldError> {
        Hold::open(config, self.resolver.clone()).await
    }

    /// The end of this process, while another one goes on.
    pub(crate) fn killed(self, other: Self) -> (Arc<TempDir>, Self) {
        (self.directory, other)
    }

    pub(crate) fn user(&self, did: &str) -> User {
        user(&self.resolver, did)
    }

    pub(crate) fn token(&self, user: &User, method: Option<&str>) -> String {
        self.token_for(user, self.hold.did().as_str(), method)
    }

    pub(crate) fn token_for(&self, user: &User, audience: &str, method: Option<&str>) -> String {
        let claims = ServiceClaims {
            issuer: &user.did,
            audience,
            method,
            subject: None,
            lifetime: Duration::from_secs(60),
        };
        mint(&user.key, &claims, &self.clock).unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, user: &User, method: &str, input: Value) -> Answer {
        let token = self.token(user, Some(method));
        let request = Request::post(format!("/xrpc/{method}"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, "application/json")
            .body(input.to_string().into());
        self.send(request.unwrap()).await
    }

    pub(crate) async fn initiate(&self, user: &User) -> String {
        let output =
            self.post(user, "io.atcr.hold.initiateUpload", json!({"digest": "uploads/temp-1"})).await;
        output.ok()["uploadId"].as_str().unwrap().to_owned()
    }

    /// The path and query where a part goes.
    pub(crate) async fn part_url(&self, user: &User, upload: &str, number: u32) -> String {
        let input = json!({"uploadId": upload, "partNumber": number});
        let output = self.post(user, "io.atcr.hold.getPartUploadUrl", input).await.ok();
        assert_eq!(output["method"], "PUT");
        assert_eq!(output["headers"]["x-upload-id"], upload);
        local(output["url"].as_str().unwrap())
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(Request::put(path).body(body.into()).unwrap()).await
    }

    /// Sends a part and gives its ETag.
    pub(crate) async fn part(&self, user: &User, upload: &str, number: u32, content: &Bytes) -> String {
        let url = self.part_url(user, upload, number).await;
        let answer = self.put(&url, content.clone()).await;
        let etag = answer.ok()["etag"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("etag"), format!("\"{etag}\""));
        etag
    }

    pub(crate) async fn complete(&self, user: &User, upload: &str, digest: &Digest, parts: Value) -> Answer {
        let input = json!({"uploadId": upload, "digest": digest, "parts": parts});
        self.post(user, "io.atcr.hold.completeUpload", input).await
    }

    /// Uploads a blob as one part.
    pub(crate) async fn upload(&self, user: &User, content: &Bytes) -> Digest {
        let upload = self.initiate(user).await;
        self.part(user, &upload, 1, content).await;
        let digest = Digest::of(Algorithm::Sha256, content);
        self.complete(user, &upload, &digest, json!([])).await.ok();
        digest
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> String {
        format!("/xrpc/com.atproto.sync.getBlob?did={}&cid={digest}", encoded(self.hold.did()))
    }

    pub(crate) async fn blob_as(&self, user: &User, digest: &Digest) -> Answer {
        let token = self.token(user, Some("com.atproto.sync.getBlob"));
        let request = Request::get(self.blob_path(digest)).header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(Request::builder().method(Method::HEAD).uri(path).body(Body::empty()).unwrap()).await
    }

    /// The hold's own database, for looking into it and for damaging it.
    pub(crate) async fn database(&self) -> sqlx::SqlitePool {
        let url = format!("sqlite://{}", self.config.data_dir.join("hold.db").display());
        sqlx::SqlitePool::connect(&url).await.unwrap()
    }

    /// A hold on another storage.
    pub(crate) async fn on(storage: Arc<dyn ObjectStorage>) -> Self {
        Self::with(|config| {
            config.public = true;
            config.storage = Some(storage);
        })
        .await
    }
}

/// The part of a URL of the hold's that a request in this process takes.
pub(crate) fn local(url: &str) -> String {
    let url: Url = url.parse().unwrap();
    assert_eq!(url.origin().ascii_serialization(), "http://localhost:5002");
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

pub(crate) fn encoded(did: &Did) -> String {
    did.as_str().replace('%', "%25")
}

fn user(resolver: &StaticResolver, did: &str) -> User {
    let did: Did = did.parse().unwrap();
    let key = SigningKey::generate(Curve::K256).unwrap();
    let pds: Url = "https://pds.example".parse().unwrap();
    let services = [("atproto_pds", "AtprotoPersonalDataServer", &pds)];
    resolver.insert(DidDocument::new(did.clone(), None, &key.public_key(), &services));
    User { did, key }
}

/// Bytes that differ everywhere, for one seed or another.
pub(crate) fn bytes(seed: u32, length: usize) -> Bytes {
    let mut state = seed + 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(next).collect()
}
