use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::pds_session::{MemorySessionStore, StaticSignIn};
use atcr_auth::registry_token::VerifiedToken;
use atcr_auth::{
    AccountSessions, NamespacePolicy, PdsSessions as _, SignIn as _, TokenConfig, TokenEndpoint, TokenIssuer,
    TokenKeys, TokenVerifier,
};
use atcr_core::{Account, Principal, Proof};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tower::ServiceExt as _;
use url::form_urlencoded;

use crate::fake_pds::{FakePds, NOW, PASSWORD, did};

struct World {
    pds: FakePds,
    sessions: AccountSessions,
    verifier: TokenVerifier,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

async fn world() -> World {
    let pds = FakePds::start().await;
    let sessions = pds.sessions(Arc::new(MemorySessionStore::default()));
    let keys = Arc::new(TokenKeys::generate().unwrap());
    let config = TokenConfig::new("registry.example");
    let verifier = TokenVerifier::new(keys.clone(), config.clone(), pds.clock.clone());
    let policy = Arc::new(NamespacePolicy::new(pds.identities()));
    let issuer = TokenIssuer::new(keys, config, pds.clock.clone());
    let endpoint = TokenEndpoint::new(issuer, verifier.clone(), Arc::new(sessions.clone()), policy);
    let proxies = ["10.0.0.1".parse().unwrap()].into_iter().collect();
    let router = endpoint.with_trusted_proxies(proxies).router();
    World { pds, sessions, verifier, router }
}

impl World {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    async fn get(&self, credentials: Option<(&str, &str)>, query: &[(&str, &str)]) -> Answer {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let mut request = Request::get(format!("/auth/token?{query}"));
        if let Some((user, password)) = credentials {
            let basic = STANDARD.encode(format!("{user}:{password}"));
            request = request.header("authorization", format!("Basic {basic}"));
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, form: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request =
            Request::post("/auth/token").header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form)).unwrap()).await
    }

    async fn read(&self, answer: &Answer) -> (String, Arc<VerifiedToken>) {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let token = answer.body["token"].as_str().unwrap();
        let verified = self.verifier.verify(token).await.unwrap();
        let principal = match &verified.principal {
            Principal::Anonymous => "anonymous".to_owned(),
            Principal::Account(account) => account.did.to_string(),
        };
        (principal, verified)
    }
}

const ALICE: Option<(&str, &str)> = Some(("alice.test", PASSWORD));

#[tokio::test]
async fn a_login_without_scope_is_a_check_of_the_password() {
    let world = world().await;
    let answer = world
        .get(ALICE, &[("account", "alice.test"), ("client_id", "docker"), ("service", "registry.example")])
        .await;
    let (principal, token) = world.read(&answer).await;
    assert_eq!((principal.as_str(), token.access.len()), ("did:plc:alice", 0));
    assert_eq!(answer.body["token"], answer.body["access_token"]);
    assert_eq!(answer.body["expires_in"], 300);
    assert_eq!(answer.body["issued_at"], "2027-01-15T08:00:00.000Z");
    assert!(answer.body.get("refresh_token").is_none());
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn grants_the_intersection_of_what_is_asked_and_allowed() {
    let world = world().await;
    for (scopes, granted) in [
        (&["repository:alice.test/app:push,pull"][..], "repository:alice.test/app:pull,push"),
        (&["repository:alice.test/app:*"], "repository:alice.test/app:pull,push,delete"),
        (&["repository:did-plc-alice/app:pull,push"], "repository:did-plc-alice/app:pull,push"),
        (&["repository:did:plc:alice/app:push"], "repository:did:plc:alice/app:push"),
        (&["repository:bob.test/app:pull,push"], "repository:bob.test/app:pull"),
        (&["repository:did-plc-bob/app:*"], "repository:did-plc-bob/app:pull"),
        (&["repository:bob.test/app:push"], ""),
        (&["repository:ghost.test/app:pull,push"], "repository:ghost.test/app:pull"),
        (&["repository:app:pull,push,delete"], "repository:app:pull"),
        (
            &["repository:bob.test/a:pull repository:alice.test/b:pull,push"],
            "repository:bob.test/a:pull repository:alice.test/b:pull,push",
        ),
        (
            &["repository:alice.test/a:pull", "repository:alice.test/a:push", "registry:catalog:*"],
            "repository:alice.test/a:pull,push",
        ),
    ] {
        let query: Vec<_> = scopes.iter().map(|scope| ("scope", *scope)).collect();
        let answer = world.get(ALICE, &query).await;
        let (_, token) = world.read(&answer).await;
        assert_eq!(answer.body["scope"], granted, "{scopes:?}");
        assert_eq!(token.access.len(), granted.split_whitespace().count());
    }
    assert_eq!(world.pds.total_calls(), 1, "one sign-in served them all");
}

#[tokio::test]
async fn anonymous_callers_may_pull_and_nothing_else() {
    let world = world().await;
    let scope = [("scope", "repository:alice.test/app:pull,push,delete")];
    for credentials in [None, Some(("", ""))] {
        let answer = world.get(credentials, &scope).await;
        let (principal, _) = world.read(&answer).await;
        assert_eq!(principal, "anonymous");
        assert_eq!(answer.body["scope"], "repository:alice.test/app:pull");
    }
    // And no refresh token, whatever is asked.
    let answer = world.get(None, &[("offline_token", "true")]).await;
    assert!(answer.body.get("refresh_token").is_none());
    assert_eq!(world.pds.total_calls(), 0);
}

#[tokio::test]
async fn a_password_grant_by_form_is_as_good_as_basic() {
    let world = world().await;
    let answer = world
        .post(&[
            ("grant_type", "password"),
            ("username", "alice.test"),
            ("password", PASSWORD),
            ("client_id", "containerd-client"),
            ("service", "registry.example"),
            ("scope", "repository:bob.test/a:pull repository:alice.test/b:pull,push"),
        ])
        .await;
    let (principal, _) = world.read(&answer).await;
    assert_eq!(principal, "did:plc:alice");
    assert_eq!(answer.body["scope"], "repository:bob.test/a:pull repository:alice.test/b:pull,push");
}

#[tokio::test]
async fn a_refresh_token_is_good_while_the_session_lasts_and_for_nothing_else() {
    let world = world().await;
    let answer = world.get(ALICE, &[("offline_token", "true")]).await;
    let refresh = answer.body["refresh_token"].as_str().unwrap().to_owned();
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("service", "registry.example"),
        ("scope", "repository:alice.test/app:pull,push"),
    ];
    let (principal, _) = world.read(&world.post(&form).await).await;
    assert_eq!(principal, "did:plc:alice");
    assert_eq!(world.pds.total_calls(), 1);
    // Clients whose helper marks it as an identity token may send it with Basic.
    let (principal, _) = world.read(&world.get(Some(("<token>", &refresh)), &[]).await).await;
    assert_eq!(principal, "did:plc:alice");
    // It opens no door of the registry, and a registry token refreshes nothing.
    assert!(world.verifier.verify(&refresh).await.is_err());
    let token = answer.body["token"].as_str().unwrap();
    let refused = world.post(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);

    world.sessions.sign_out(&did("did:plc:alice")).await.unwrap();
    let refused = world.post(&form).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.body["errors"][0]["message"].as_str().unwrap().contains("docker login"));
    world.sessions.sign_in("alice.test", PASSWORD).await.unwrap();
    world.read(&world.post(&form).await).await;
    world.pds.clock.advance(Duration::from_secs(30 * 24 * 3600 + 10));
    assert_eq!(world.post(&form).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_that_its_pds_has_ended_takes_the_refresh_token_with_it() {
    let world = world().await;
    let answer = world
        .post(&[
            ("grant_type", "password"),
            ("username", "alice.test"),
            ("password", PASSWORD),
            ("access_type", "offline"),
        ])
        .await;
    let refresh = answer.body["refresh_token"].as_str().unwrap();
    world.pds.revoke_everything();
    assert!(world.sessions.query(&did("did:plc:alice"), "x.y.z", &[]).await.is_err());
    let refused = world.post(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn each_failure_has_its_status_and_says_what_to_do() {
    let world = world().await;
    let error = |answer: &Answer| {
        let error = &answer.body["errors"][0];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", answer.body);
        assert!(!answer.body.to_string().contains(PASSWORD));
        (
            answer.status.as_u16(),
            error["code"].as_str().unwrap().to_owned(),
            error["detail"]["reason"].clone(),
        )
    };
    let wrong = world.get(Some(("alice.test", "wrong")), &[]).await;
    assert_eq!(error(&wrong), (401, "UNAUTHORIZED".into(), "wrong_password".into()));
    assert!(wrong.headers["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let unknown = world.get(Some(("ghost.test", PASSWORD)), &[]).await;
    assert_eq!(error(&unknown), (401, "UNAUTHORIZED".into(), "unknown_identity".into()));
    let email = world.get(Some(("alice@mail.example", PASSWORD)), &[]).await;
    assert_eq!(error(&email), (401, "UNAUTHORIZED".into(), "invalid_identifier".into()));

    let create = "com.atproto.server.createSession";
    world.pds.script(create, 503, "");
    let down = world.get(ALICE, &[]).await;
    assert_eq!(error(&down), (503, "UNAVAILABLE".into(), "pds_unavailable".into()));
    world.pds.script(create, 429, "RateLimitExceeded");
    world.pds.lock().header = Some(("ratelimit-reset", (NOW + 77).to_string()));
    let limited = world.get(ALICE, &[]).await;
    assert_eq!(error(&limited), (429, "TOOMANYREQUESTS".into(), "pds_rate_limited".into()));
    assert_eq!(limited.headers["retry-after"], "77");
    for n in 0..10 {
        world.get(Some(("bob.test", &format!("wrong-{n}"))), &[]).await;
    }
    let many = world.get(Some(("bob.test", PASSWORD)), &[]).await;
    assert_eq!(error(&many), (429, "TOOMANYREQUESTS".into(), "too_many_attempts".into()));
    assert_eq!(many.headers["retry-after"], "300");

    for form in [
        &[("grant_type", "client_credentials")][..],
        &[("scope", "repository:a/b:pull")],
        &[("grant_type", "password"), ("username", "alice.test")],
        &[("grant_type", "refresh_token")],
    ] {
        assert_eq!(world.post(form).await.status, StatusCode::BAD_REQUEST, "{form:?}");
    }
    let scopes: Vec<String> = (0..20).map(|n| format!("repository:alice.test/r{n}:pull")).collect();
    assert_eq!(world.get(None, &[("scope", &scopes.join(" "))]).await.status, StatusCode::BAD_REQUEST);
    for header in ["Bearer abc", "Basic !!!", "Digest x"] {
        let request =
            Request::get("/auth/token").header("authorization", header).body(Body::empty()).unwrap();
        assert_eq!(world.send(request).await.status, StatusCode::UNAUTHORIZED, "{header}");
    }
    let huge = Request::post("/auth/token").body(Body::from(vec![b'a'; 100_000])).unwrap();
    assert_eq!(world.send(huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_address_that_guesses_waits_whatever_accounts_it_guesses_at() {
    let world = world().await;
    let router = world.router.clone();
    let login = async |peer: &str, forwarded: &str, user: &str, password: &str| {
        let peer: SocketAddr = peer.parse().unwrap();
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let request = Request::get("/auth/token")
            .header("authorization", format!("Basic {basic}"))
            .header("x-forwarded-for", forwarded)
            .extension(ConnectInfo(peer));
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    for n in 0..100 {
        // What a stranger says about where it comes from is not believed.
        let forwarded = format!("198.51.100.{n}");
        let answer = login("203.0.113.9:1", &forwarded, &format!("ghost{n}.test"), "x").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = login("203.0.113.9:2", "", "alice.test", PASSWORD).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "300");
    // The proxy is believed; others, and whoever needs no password, are served.
    let proxied = login("10.0.0.1:1", "203.0.113.9", "alice.test", PASSWORD).await;
    assert_eq!(proxied.status(), StatusCode::TOO_MANY_REQUESTS);
    let other = login("10.0.0.1:1", "203.0.113.10", "alice.test", PASSWORD).await;
    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(login("203.0.113.9:1", "", "", "").await.status(), StatusCode::OK, "anonymous");
    world.pds.clock.advance(Duration::from_secs(300));
    let later = login("203.0.113.9:1", "", "alice.test", PASSWORD).await;
    assert_eq!(later.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_largest_token_that_is_issued_is_accepted() {
    let world = world().await;
    let long = "a".repeat(230);
    let scopes: Vec<String> = (0..16).map(|n| format!("repository:alice.test/{long}{n}:*")).collect();
    let (_, token) = world.read(&world.get(ALICE, &[("scope", &scopes.join(" "))]).await).await;
    assert_eq!(token.access.len(), 16);
}

#[tokio::test]
async fn publishes_its_keys() {
    let world = world().await;
    let answer = world.send(Request::get("/auth/jwks").body(Body::empty()).unwrap()).await;
    let key = &answer.body["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&"EC".into(), &"P-256".into(), &"ES256".into()));
    assert!(key.get("d").is_none() && key["kid"].is_string());
}

#[tokio::test]
async fn accounts_known_by_heart_need_no_pds() {
    let account = Account {
        did: did("did:plc:carol"),
        handle: Some("carol.test".parse().unwrap()),
        proof: Proof::Trusted,
    };
    let known = StaticSignIn::default().with("carol.test", "secret", account.clone());
    assert_eq!(known.sign_in("carol.test", "secret").await.unwrap(), account);
    assert!(known.sign_in("carol.test", "other").await.is_err());
    assert!(known.sign_in("other.test", "secret").await.is_err());
    assert_eq!(known.signed_in(&account.did).await.unwrap(), Some(account));
    assert!(!format!("{known:?}").contains("secret"));
}
