//! A PDS with the session methods of the reference, for one account after another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use atcr_auth::Clock;
use atcr_auth::pds_session::{AccountSessions, SessionStore};
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, IdentityResolver, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::Url;

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const PASSWORD: &str = "abcd-efgh-ijkl-mnop";

pub(crate) struct FakePds {
    pub(crate) url: Url,
    pub(crate) clock: Clock,
    pub(crate) resolver: Arc<StaticResolver>,
    pub(crate) state: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) inner: Mutex<Inner>,
    clock: Clock,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) calls: BTreeMap<String, usize>,
    accounts: HashMap<String, SigningKey>,
    /// Refresh token → account; redeemed ones are taken out.
    refresh: HashMap<String, String>,
    access: HashMap<String, String>,
    serial: usize,
    /// What the next calls of a method answer instead, in order.
    pub(crate) scripted: HashMap<String, Vec<(StatusCode, Value)>>,
    /// The account that createSession answers with, whoever asked.
    pub(crate) impostor: Option<String>,
    /// How long refreshSession takes.
    pub(crate) refresh_takes: Duration,
    /// Redemptions of tokens that had been redeemed before.
    pub(crate) double_redemptions: usize,
    pub(crate) redeemed: Vec<String>,
    /// Bodies that came with methods that take none.
    pub(crate) unwanted_bodies: usize,
    pub(crate) header: Option<(&'static str, String)>,
}

impl FakePds {
    pub(crate) async fn start() -> Self {
        let clock = Clock::manual(NOW);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::new(Shared { inner: Mutex::default(), clock: clock.clone() });
        let router = Router::new().route("/xrpc/{method}", any(answer)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let pds = Self { url, clock, resolver: Arc::default(), state };
        pds.add("did:plc:alice", "alice.test");
        pds.add("did:plc:bob", "bob.test");
        pds
    }

    pub(crate) fn add(&self, did: &str, handle: &str) {
        let key = SigningKey::generate(Curve::K256).unwrap();
        self.resolver.insert(DidDocument::new(
            did.parse().unwrap(),
            Some(&handle.parse().unwrap()),
            &key.public_key(),
            &[("atproto_pds", "AtprotoPersonalDataServer", &self.url)],
        ));
        self.lock().accounts.insert(did.to_owned(), key);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.inner.lock().unwrap()
    }

    pub(crate) fn calls(&self, method: &str) -> usize {
        self.lock().calls.get(method).copied().unwrap_or_default()
    }

    pub(crate) fn total_calls(&self) -> usize {
        self.lock().calls.values().sum()
    }

    /// What the next call of a method answers.
    pub(crate) fn script(&self, method: &str, status: u16, error: &str) {
        let body = json!({ "error": error, "message": "as the test wants it" });
        let status = StatusCode::from_u16(status).unwrap();
        self.lock().scripted.entry(method.to_owned()).or_default().push((status, body));
    }

    /// Forgets every session, as a PDS does when an app password is revoked.
    pub(crate) fn revoke_everything(&self) {
        let mut inner = self.lock();
        inner.refresh.clear();
        inner.access.clear();
    }

    /// Access tokens are refused before their time, as after a change of the PDS's key.
    pub(crate) fn refuse_access_tokens(&self) {
        self.lock().access.clear();
    }

    pub(crate) fn identities(&self) -> IdentityResolver {
        IdentityResolver::new(self.resolver.clone(), self.resolver.clone())
    }

    pub(crate) fn sessions(&self, store: Arc<dyn SessionStore>) -> AccountSessions {
        let egress = Egress::new(EgressPolicy::development()).unwrap();
        AccountSessions::new(self.identities(), egress, store, self.clock.clone()).unwrap()
    }
}

pub(crate) fn did(text: &str) -> Did {
    text.parse().unwrap()
}

fn refusal(status: u16, error: &str) -> (StatusCode, Value) {
    (StatusCode::from_u16(status).unwrap(), json!({ "error": error, "message": "no" }))
}

impl Inner {
    fn session(&mut self, did: &str, now: i64) -> Value {
        self.serial += 1;
        let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": now + 7200, "n": self.serial }).to_string());
        let (access, refresh) = (format!("e30.{claims}.AA"), format!("refresh-{}", self.serial));
        self.access.insert(access.clone(), did.to_owned());
        self.refresh.insert(refresh.clone(), did.to_owned());
        json!({ "did": did, "handle": "x.test", "accessJwt": access, "refreshJwt": refresh, "active": true })
    }

    fn call(
        &mut self,
        method: &str,
        bearer: &str,
        params: &HashMap<String, String>,
        body: &[u8],
        clock: &Clock,
    ) -> (StatusCode, Value) {
        let now = clock.unix();
        match method {
            "com.atproto.server.createSession" => {
                let input: Value = serde_json::from_slice(body).unwrap();
                let did = input["identifier"].as_str().unwrap().to_owned();
                if !self.accounts.contains_key(&did) || input["password"] != PASSWORD {
                    return refusal(401, "AuthenticationRequired");
                }
                let did = self.impostor.clone().unwrap_or(did);
                (StatusCode::OK, self.session(&did, now))
            }
            "com.atproto.server.refreshSession" => {
                self.unwanted_bodies += usize::from(!body.is_empty());
                let Some(did) = self.refresh.remove(bearer) else {
                    self.double_redemptions += usize::from(self.redeemed.iter().any(|t| t == bearer));
                    return refusal(400, "ExpiredToken");
                };
                self.redeemed.push(bearer.to_owned());
                (StatusCode::OK, self.session(&did, now))
            }
            "com.atproto.server.deleteSession" => {
                self.unwanted_bodies += usize::from(!body.is_empty());
                let known = self.refresh.remove(bearer).is_some();
                if known { (StatusCode::OK, Value::Null) } else { refusal(400, "ExpiredToken") }
            }
            _ => {
                let Some(did) = self.access.get(bearer).cloned() else { return refusal(400, "ExpiredToken") };
                if method != "com.atproto.server.getServiceAuth" {
                    let length = body.len();
                    return (StatusCode::OK, json!({ "did": did, "params": params, "length": length }));
                }
                let claims = atcr_auth::service_auth::ServiceClaims {
                    issuer: &did.parse().unwrap(),
                    audience: &params["aud"],
                    method: params.get("lxm").map(String::as_str),
                    subject: None,
                    lifetime: params.get("exp").map_or(Duration::from_secs(60), |exp| {
                        Duration::from_secs(u64::try_from(exp.parse::<i64>().unwrap() - now).unwrap())
                    }),
                };
                let token = atcr_auth::service_auth::mint(&self.accounts[&did], &claims, clock).unwrap();
                (StatusCode::OK, json!({ "token": token }))
            }
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    Query(params): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bearer = headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    let takes = {
        let mut inner = shared.inner.lock().unwrap();
        *inner.calls.entry(method.clone()).or_default() += 1;
        if method.ends_with("refreshSession") { inner.refresh_takes } else { Duration::ZERO }
    };
    tokio::time::sleep(takes).await;
    let mut inner = shared.inner.lock().unwrap();
    let scripted = inner.scripted.get_mut(&method).filter(|list| !list.is_empty()).map(|list| list.remove(0));
    let (status, value) = match scripted {
        Some(answer) => answer,
        None => inner.call(&method, bearer.unwrap_or_default(), &params, &body, &shared.clock),
    };
    let mut response =
        if value.is_null() { status.into_response() } else { (status, axum::Json(value)).into_response() };
    if let Some((name, value)) = &inner.header {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}
