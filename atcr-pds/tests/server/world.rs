use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use atcr_core::syntax::Did;
use atcr_pds::Clock;
use atcr_pds::accounts::{Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const ALICE: &str = "alice.test";
pub(crate) const BOB: &str = "bob.test";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const MANIFEST: &str = "com.example.manifest";

/// A PDS with its PLC directory, two accounts and a clock that the test moves.
pub(crate) struct World {
    pub(crate) pds: Pds,
    pub(crate) plc: Directory,
    pub(crate) router: Router,
    seconds: Arc<AtomicI64>,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
}

/// An account with an open session.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) did: Did,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    /// The JSON of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// That it failed with this status and error name; gives the message.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, error: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        let json = self.json();
        assert_eq!(json["error"], error, "{json}");
        json["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut PdsConfig)) -> Self {
        let seconds = Arc::new(AtomicI64::new(jiff::Timestamp::now().as_second()));
        let clock = {
            let seconds = seconds.clone();
            Clock::from_fn(move || jiff::Timestamp::from_second(seconds.load(Ordering::Relaxed)).unwrap())
        };
        let plc = Directory::open(None, clock.clone()).await.unwrap();
        let mut config = PdsConfig::new("http://localhost:2583".parse().unwrap(), Arc::new(plc.clone()));
        config.clock = clock;
        change(&mut config);
        let pds = Pds::open(config).await.unwrap();
        let router = pds.router();
        let mut people = Vec::new();
        for (handle, email) in [(ALICE, "alice@example.test"), (BOB, "bob@example.test")] {
            let did = pds.ensure_account(&handle.parse().unwrap(), PASSWORD, email).await.unwrap();
            let session = pds.create_session(handle, PASSWORD).await.unwrap();
            people.push(Person { did, access: session.access_jwt, refresh: session.refresh_jwt });
        }
        let bob = people.pop().unwrap();
        let alice = people.pop().unwrap();
        Self { pds, plc, router, seconds, alice, bob }
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> i64 {
        self.seconds.load(Ordering::Relaxed)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A query by nobody.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(format!("/xrpc/{path}")).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get_as(&self, token: &str, path: &str) -> Answer {
        let request = Request::get(format!("/xrpc/{path}")).header(header::AUTHORIZATION, bearer(token));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A procedure with a JSON body.
    pub(crate) async fn post_as(&self, token: &str, method: &str, input: &Value) -> Answer {
        let request = Request::post(format!("/xrpc/{method}"))
            .header(header::AUTHORIZATION, bearer(token))
            .header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(input.to_string())).unwrap()).await
    }

    pub(crate) async fn post(&self, method: &str, input: &Value) -> Answer {
        let request =
            Request::post(format!("/xrpc/{method}")).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(input.to_string())).unwrap()).await
    }

    /// A procedure without a body.
    pub(crate) async fn poke(&self, token: &str, method: &str) -> Answer {
        let request = Request::post(format!("/xrpc/{method}")).header(header::AUTHORIZATION, bearer(token));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn upload(&self, token: &str, mime: &str, bytes: impl Into<Bytes>) -> Answer {
        let request = Request::post("/xrpc/com.atproto.repo.uploadBlob")
            .header(header::AUTHORIZATION, bearer(token))
            .header(header::CONTENT_TYPE, mime);
        self.send(request.body(Body::from(bytes.into())).unwrap()).await
    }

    /// putRecord into alice's repo.
    pub(crate) async fn put(&self, collection: &str, rkey: &str, record: Value) -> Answer {
        let input = json!({"repo": self.alice.did, "collection": collection, "rkey": rkey, "record": record});
        self.post_as(&self.alice.access, "com.atproto.repo.putRecord", &input).await
    }

    pub(crate) async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
