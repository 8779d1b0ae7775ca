//! What a token costs, in CPU time of one core: to verify one, with its key at hand, and to give one to a known device.
//!
//! `cargo bench -p atcr-auth --bench auth`
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use atcr_auth::device_flow::{DeviceStore, UserCode};
use atcr_auth::pds_session::{SealingKey, SessionStore, SqliteSessionStore, StoredSession};
use atcr_auth::registry_token::RepositoryAccess;
use atcr_auth::service_auth::{ServiceAuthConfig, ServiceClaims, mint};
use atcr_auth::{
    AccountSessions, Browsers, Clock, DeviceFlow, DeviceSignIn, NamespacePolicy, ServiceAuthVerifier,
    TokenConfig, TokenEndpoint, TokenIssuer, TokenKeys, TokenVerifier,
};
use atcr_core::authorizer::Action;
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, IdentityResolver, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use atcr_core::{Account, Principal, Proof};
use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const ALICE: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const HANDLE: &str = "alice.example.com";
const TOKENS: u32 = 5_000;
/// How often a token is used that was seen before: once costs less than the kernel's clock of CPU time tells.
const AGAIN: u32 = 200;
const REQUESTS: u32 = 3_000;

fn alice() -> Did {
    ALICE.parse().unwrap()
}

/// The CPU time of this process so far. Everything runs in one thread, but for the store's own.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
}

/// Says what each of `n` took.
async fn figure(name: &str, n: u32, work: impl AsyncFnOnce()) {
    let (clock, before) = (Instant::now(), cpu());
    work().await;
    let (clock, used) = (clock.elapsed() / n, cpu().saturating_sub(before) / n);
    let rate = 1.0 / used.as_secs_f64();
    println!("{name}: {used:.1?} of CPU each, {rate:.0}/s on one core ({clock:.1?} by the clock)");
}

fn access() -> RepositoryAccess {
    RepositoryAccess {
        name: format!("{HANDLE}/app").parse().unwrap(),
        actions: vec![Action::Pull, Action::Push],
    }
}

fn documents(key: &SigningKey) -> Arc<StaticResolver> {
    let pds = "https://pds.example.com".parse().unwrap();
    let handle = HANDLE.parse().unwrap();
    let services = [("atproto_pds", "AtprotoPersonalDataServer", &pds)];
    Arc::new(StaticResolver::new([DidDocument::new(alice(), Some(&handle), &key.public_key(), &services)]))
}

async fn registry_tokens() {
    let keys = Arc::new(TokenKeys::generate().unwrap());
    let config = TokenConfig::new("registry.example.com");
    let issuer = TokenIssuer::new(keys.clone(), config.clone(), Clock::system());
    let verifier = TokenVerifier::new(keys, config, Clock::system());
    let account = Account { did: alice(), handle: Some(HANDLE.parse().unwrap()), proof: Proof::OAuth };
    let principal = Principal::Account(account);
    let tokens: Vec<_> = (0..TOKENS).map(|_| issuer.issue(&principal, &[access()]).unwrap().token).collect();
    figure("a registry token, seen for the first time (ES256)", TOKENS, async || {
        for token in &tokens {
            verifier.verify(token).await.unwrap();
        }
    })
    .await;
    figure("a registry token, seen before", AGAIN * TOKENS, async || {
        for _ in 0..AGAIN {
            for token in &tokens {
                verifier.verify(token).await.unwrap();
            }
        }
    })
    .await;
}

async fn service_tokens(curve: Curve, name: &str) {
    let key = SigningKey::generate(curve).unwrap();
    let hold: Did = "did:web:hold.example.com".parse().unwrap();
    let config = ServiceAuthConfig::hold(hold.clone());
    let verifier = ServiceAuthVerifier::new(config, documents(&key), Clock::system());
    let (method, issuer) = ("io.atcr.hold.initiateUpload", alice());
    let claims = ServiceClaims {
        issuer: &issuer,
        audience: hold.as_str(),
        method: Some(method),
        subject: None,
        lifetime: Duration::from_secs(60),
    };
    let tokens: Vec<_> = (0..TOKENS).map(|_| mint(&key, &claims, &Clock::system()).unwrap()).collect();
    figure(&format!("a service token ({name})"), TOKENS, async || {
        for token in &tokens {
            verifier.verify(token, method).await.unwrap();
        }
    })
    .await;
}

async fn send(router: &Router, path: &str, body: Value) -> Value {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let answer = router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap()
}

/// `/auth/token` for a device, over sessions in an SQLite file, as an AppView has them.
async fn known_device() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.sqlite");
    let store = Arc::new(SqliteSessionStore::open(&path, SealingKey::new(&[1; 32])).await.unwrap());
    let pds = "https://pds.example.com".parse().unwrap();
    let (access_jwt, refresh_jwt) = ("a".repeat(400), "r".repeat(400));
    let handle = Some(HANDLE.parse().unwrap());
    store
        .put(&StoredSession::with_password(alice(), handle.clone(), pds, access_jwt, refresh_jwt))
        .await
        .unwrap();

    let key = SigningKey::generate(Curve::K256).unwrap();
    let documents = documents(&key);
    let identities = IdentityResolver::new(documents.clone(), documents);
    let egress = Egress::new(EgressPolicy::default()).unwrap();
    let sessions = AccountSessions::new(identities.clone(), egress, store.clone(), Clock::system()).unwrap();
    let base = "https://registry.example.com".parse().unwrap();
    let browsers = Browsers::new(&base, store.clone(), store.clone(), Clock::system());
    let devices = DeviceFlow::new(&base, store.clone(), browsers, Clock::system()).router();
    let sign_in = DeviceSignIn::new(store.clone(), Arc::new(sessions), base, Clock::system());
    let keys = Arc::new(TokenKeys::generate().unwrap());
    let config = TokenConfig::new("registry.example.com");
    let issuer = TokenIssuer::new(keys.clone(), config.clone(), Clock::system());
    let verifier = TokenVerifier::new(keys, config, Clock::system());
    let policy = Arc::new(NamespacePolicy::new(identities));
    let tokens = TokenEndpoint::new(issuer, verifier, Arc::new(sign_in), policy).router();

    let code = send(&devices, "/auth/device/code", json!({ "device_name": "bench" })).await;
    let user_code = UserCode::parse(code["user_code"].as_str().unwrap()).unwrap();
    let now = jiff::Timestamp::now().as_second();
    assert!(store.decide(&user_code, Some((&alice(), handle.as_ref())), now).await.unwrap());
    let granted = send(&devices, "/auth/device/token", json!({ "device_code": code["device_code"] })).await;
    let secret = granted["device_secret"].as_str().unwrap();
    let basic = format!("Basic {}", STANDARD.encode(format!("{HANDLE}:{secret}")));
    let path = format!("/auth/token?service=registry.example.com&scope=repository:{HANDLE}/app:pull,push");
    figure("/auth/token for a known device", REQUESTS, async || {
        for _ in 0..REQUESTS {
            let request = Request::get(&path).header(header::AUTHORIZATION, &basic);
            let request = request.body(Body::empty()).unwrap();
            let answer = tokens.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
    })
    .await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        registry_tokens().await;
        service_tokens(Curve::K256, "ES256K").await;
        service_tokens(Curve::P256, "ES256").await;
        known_device().await;
    });
}
