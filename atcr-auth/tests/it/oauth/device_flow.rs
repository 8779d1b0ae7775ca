use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::device_flow::{DeviceStore, MemoryDeviceStore};
use atcr_auth::{
    Clock, DeviceFlow, DeviceSignIn, NamespacePolicy, SignIn as _, SignInError, TokenConfig, TokenEndpoint,
    TokenIssuer, TokenKeys, TokenVerifier,
};
use atcr_core::egress::Egress;
use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use super::world::*;

/// A registry with the device flow, and its token endpoint.
struct Devices {
    world: World,
    registry: Registry,
    clock: Clock,
    store: Arc<dyn DeviceStore>,
    sign_in: Arc<DeviceSignIn>,
}

impl Devices {
    async fn start() -> Self {
        let world = World::start().await;
        let mut registry = world.registry();
        let clock = Clock::manual(1_800_000_000);
        let store: Arc<dyn DeviceStore> = Arc::new(MemoryDeviceStore::default());
        let flow = DeviceFlow::new(&registry.base, store.clone(), registry.browsers.clone(), clock.clone());
        let flow = flow.with_trusted_proxies(["10.0.0.0/8".parse().unwrap()].into_iter().collect());
        let login = registry.base.join("/auth/oauth/login").unwrap();
        let sessions = Arc::new(registry.sessions.clone());
        let sign_in = Arc::new(DeviceSignIn::new(store.clone(), sessions, login, clock.clone()));
        let (keys, config) = (Arc::new(TokenKeys::generate().unwrap()), TokenConfig::new("registry.example"));
        let policy = NamespacePolicy::new(world.identities(&Egress::new(world.policy.clone()).unwrap()));
        let tokens = TokenEndpoint::new(
            TokenIssuer::new(keys.clone(), config.clone(), Clock::system()),
            TokenVerifier::new(keys, config, Clock::system()),
            sign_in.clone(),
            Arc::new(policy),
        );
        registry.router = registry.router.merge(flow.router()).merge(tokens.router());
        Self { world, registry, clock, store, sign_in }
    }

    async fn visitor(&self, handle: &str) -> Visitor {
        let mut visitor = self.registry.visitor();
        let answer = self.registry.sign_in(&self.world, &mut visitor, handle).await;
        assert_eq!(answer.location(), "/device");
        visitor
    }

    async fn send(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let answer = self.registry.visitor().send(request.body(Body::from(body.to_string())).unwrap()).await;
        (answer.status, serde_json::from_str(answer.text()).unwrap())
    }

    async fn code(&self, name: &str) -> Value {
        let (status, code) = self.send("/auth/device/code", json!({ "device_name": name })).await;
        assert_eq!(status, StatusCode::OK, "{code}");
        code
    }

    /// What a device is told: its secret, or the error.
    async fn poll(&self, code: &Value) -> Result<Value, String> {
        self.clock.advance(Duration::from_secs(2));
        let (status, body) =
            self.send("/auth/device/token", json!({ "device_code": code["device_code"] })).await;
        match body["error"].as_str() {
            Some(error) => {
                assert_eq!(status, StatusCode::BAD_REQUEST);
                Err(error.to_owned())
            }
            None => Ok(body),
        }
    }

    async fn decide(&self, visitor: &mut Visitor, code: &Value, decision: &str) -> Answer {
        let page = visitor.get(&path_of(&text(code, "verification_uri_complete").parse().unwrap())).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        visitor.submit(&page, "/device", &[("decision", decision)]).await
    }

    async fn device(&self, handle: &str, name: &str) -> String {
        let code = self.code(name).await;
        let mut visitor = self.visitor(handle).await;
        self.decide(&mut visitor, &code, "allow").await;
        text(&self.poll(&code).await.unwrap(), "device_secret").to_owned()
    }

    async fn token(&self, user: &str, password: &str) -> (StatusCode, Value) {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let path = format!("/auth/token?service=x&offline_token=true&scope=repository:{ALICE}/app:pull,push");
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Basic {basic}"));
        let answer = self.registry.visitor().send(request.body(Body::empty()).unwrap()).await;
        (answer.status, serde_json::from_str(answer.text()).unwrap())
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}"))
}

#[tokio::test]
async fn a_device_is_approved_pushes_and_is_revoked() {
    let devices = Devices::start().await;
    let code = devices.code("laptop <b>").await;
    assert_eq!(text(&code, "verification_uri"), format!("{REGISTRY}/device"));
    assert_eq!((&code["expires_in"], &code["interval"]), (&json!(600), &json!(2)));
    assert_eq!(devices.poll(&code).await.unwrap_err(), "authorization_pending");

    // Who is not signed in signs in and comes back to the code.
    let path = path_of(&text(&code, "verification_uri_complete").parse().unwrap());
    let sent = devices.registry.visitor().get(&path).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER);
    assert!(
        sent.location().starts_with("/auth/oauth/login?return_to=%2Fdevice%3Fuser_code%3D"),
        "{}",
        sent.location()
    );

    let mut alice = devices.visitor(ALICE).await;
    let page = alice.get(&path).await;
    for shown in ["laptop &#60;b&#62;", text(&code, "user_code"), ALICE, "an unknown address"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    for rule in ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    let done = alice.submit(&page, "/device", &[("decision", "allow")]).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());

    let granted = devices.poll(&code).await.unwrap();
    assert_eq!((text(&granted, "handle"), text(&granted, "did")), (ALICE, devices.world.alice.as_str()));
    assert_eq!(devices.poll(&code).await.unwrap_err(), "expired_token", "it is given once");
    let secret = text(&granted, "device_secret");

    // A DID has colons, which a user name of Basic cannot have (RFC 7617).
    let by_did = devices.sign_in.sign_in(devices.world.alice.as_str(), secret).await.unwrap();
    assert_eq!(by_did.did, devices.world.alice);
    for user in [ALICE, "@Alice.test", "<token>"] {
        let (status, body) = devices.token(user, secret).await;
        assert_eq!(status, StatusCode::OK, "{user}: {body}");
        assert_eq!(body["scope"], format!("repository:{ALICE}/app:pull,push"));
        assert!(body.get("refresh_token").is_none(), "it would outlive the device");
    }
    let form = [("grant_type", "refresh_token"), ("service", "x"), ("refresh_token", secret)];
    let answer = devices.registry.visitor().post("/auth/token", &form, None).await;
    assert_eq!(answer.status, StatusCode::OK, "as an identity token: {}", answer.text());
    let (status, _) = devices.token(BOB, secret).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "under another name");

    let list = alice.get("/auth/devices").await;
    assert!(list.text().contains("laptop &#60;b&#62;"), "{}", list.text());
    let answer = alice.submit(&list, "/auth/devices/revoke", &[]).await;
    assert_eq!(answer.location(), "/auth/devices");
    let (status, body) = devices.token(ALICE, secret).await;
    assert_eq!(
        (status, &body["errors"][0]["detail"]["reason"]),
        (StatusCode::UNAUTHORIZED, &json!("unknown_device"))
    );
}

#[tokio::test]
async fn a_device_revokes_itself_and_no_other() {
    let devices = Devices::start().await;
    let (one, two) = (devices.device(ALICE, "one").await, devices.device(ALICE, "two").await);
    for nonsense in ["", "password", "atcr_device_AAAA"] {
        let (status, _) = devices.send("/auth/device/revoke", json!({ "device_secret": nonsense })).await;
        assert_eq!(status, StatusCode::OK, "as in RFC 7009");
    }
    for _ in 0..2 {
        let (status, _) = devices.send("/auth/device/revoke", json!({ "device_secret": one })).await;
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(devices.token(ALICE, &one).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(devices.token(ALICE, &two).await.0, StatusCode::OK);
}

#[tokio::test]
async fn denied_late_hasty_and_invented_codes_get_nothing() {
    let devices = Devices::start().await;
    let mut alice = devices.visitor(ALICE).await;
    let code = devices.code("x").await;
    devices.poll(&code).await.unwrap_err();
    let (_, hasty) = devices.send("/auth/device/token", json!({ "device_code": code["device_code"] })).await;
    assert_eq!(hasty["error"], "slow_down");

    // Whatever is not a yes is a no, and a decision stands.
    devices.decide(&mut alice, &code, "").await;
    let page = alice.get("/auth/account").await;
    let csrf =
        page.text().split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let again = [("csrf", csrf.as_str()), ("user_code", text(&code, "user_code")), ("decision", "allow")];
    assert_eq!(alice.post("/device", &again, Some(REGISTRY)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(devices.poll(&code).await.unwrap_err(), "access_denied");
    assert_eq!(devices.poll(&code).await.unwrap_err(), "expired_token");

    let late = devices.code("x").await;
    devices.decide(&mut alice, &late, "allow").await;
    devices.clock.advance(Duration::from_secs(600));
    assert_eq!(devices.poll(&late).await.unwrap_err(), "expired_token");
    let page = alice.get(&path_of(&text(&late, "verification_uri_complete").parse().unwrap())).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);

    for (body, error) in [
        (json!({}), "invalid_request"),
        (json!({ "device_code": 7 }), "invalid_request"),
        (json!({ "device_code": "" }), "expired_token"),
        (json!({ "device_code": text(&late, "user_code") }), "expired_token"),
        (json!({ "device_code": "A".repeat(43) }), "expired_token"),
    ] {
        let (status, answer) = devices.send("/auth/device/token", body.clone()).await;
        assert_eq!((status, answer["error"].as_str()), (StatusCode::BAD_REQUEST, Some(error)), "{body}");
    }
}

#[tokio::test]
async fn nobody_approves_or_revokes_by_another_sites_form_or_for_somebody_else() {
    let devices = Devices::start().await;
    let secret = devices.device(ALICE, "alice's").await;
    let code = devices.code("attacker's").await;
    let mut alice = devices.visitor(ALICE).await;
    let mut bob = devices.visitor(BOB).await;
    let user_code = text(&code, "user_code");
    let csrf_of = |page: &Answer| {
        page.text().split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let (mine, bobs) = (csrf_of(&alice.get("/auth/account").await), csrf_of(&bob.get("/auth/account").await));
    for (csrf, origin) in [
        (mine.as_str(), Some("https://evil.example")),
        (mine.as_str(), Some("null")),
        (bobs.as_str(), Some(REGISTRY)),
        ("", Some(REGISTRY)),
    ] {
        let form = [("csrf", csrf), ("user_code", user_code), ("decision", "allow")];
        assert_eq!(alice.post("/device", &form, origin).await.status, StatusCode::FORBIDDEN, "{origin:?}");
        let form = [("csrf", csrf), ("id", "x")];
        assert_eq!(alice.post("/auth/devices/revoke", &form, origin).await.status, StatusCode::FORBIDDEN);
    }
    // A link alone decides nothing.
    alice.get(&format!("/device?user_code={user_code}&decision=allow")).await;
    assert_eq!(devices.poll(&code).await.unwrap_err(), "authorization_pending");

    let id = devices.store.devices(&devices.world.alice).await.unwrap()[0].id.clone();
    bob.post("/auth/devices/revoke", &[("csrf", &bobs), ("id", id.as_str())], Some(REGISTRY)).await;
    assert_eq!(devices.token(ALICE, &secret).await.0, StatusCode::OK, "bob revokes his own only");
    assert!(!bob.get("/auth/devices").await.text().contains("alice's"));
}

#[tokio::test]
async fn a_device_is_good_while_its_account_has_a_session() {
    let devices = Devices::start().await;
    let secret = devices.device(ALICE, "laptop").await;
    devices.registry.sessions.sign_out(&devices.world.alice).await.unwrap();
    let error = devices.sign_in.sign_in(ALICE, &secret).await.unwrap_err();
    assert!(matches!(error, SignInError::SessionEnded { .. }), "{error}");
    let (status, body) = devices.token(ALICE, &secret).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let login = format!("{REGISTRY}/auth/oauth/login");
    assert_eq!(body["errors"][0]["detail"], json!({ "reason": "session_ended", "login_url": login }));
    devices.visitor(ALICE).await;
    assert_eq!(devices.token(ALICE, &secret).await.0, StatusCode::OK, "once signed in again");
}

#[tokio::test]
async fn those_who_ask_without_end_are_stopped() {
    let devices = Devices::start().await;
    for _ in 0..100 {
        devices.code("x").await;
    }
    let (status, body) = devices.send("/auth/device/code", json!({})).await;
    assert_eq!((status, &body["error"]), (StatusCode::TOO_MANY_REQUESTS, &json!("temporarily_unavailable")));
    devices.clock.advance(Duration::from_secs(600));
    devices.code("x").await;
}

#[tokio::test]
async fn whoever_guesses_at_codes_waits_and_nobody_else_does() {
    let devices = Devices::start().await;
    let (mut alice, mut bob) = (devices.visitor(ALICE).await, devices.visitor(BOB).await);
    let page = alice.get("/auth/account").await;
    let csrf =
        page.text().split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for n in 0..5 {
        assert_eq!(alice.get("/device?user_code=BCDF-BCDF").await.status, StatusCode::NOT_FOUND, "{n}");
        let form = [("csrf", csrf.as_str()), ("user_code", "BCDF-BCDF"), ("decision", "allow")];
        assert_eq!(alice.post("/device", &form, Some(REGISTRY)).await.status, StatusCode::NOT_FOUND, "{n}");
    }
    // From now on the right one is not taken either: who guesses must not learn it.
    let code = devices.code("bob's").await;
    let right = path_of(&text(&code, "verification_uri_complete").parse().unwrap());
    let form = [("csrf", csrf.as_str()), ("user_code", text(&code, "user_code")), ("decision", "allow")];
    assert_eq!(alice.get(&right).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(alice.post("/device", &form, Some(REGISTRY)).await.status, StatusCode::TOO_MANY_REQUESTS);
    devices.decide(&mut bob, &code, "allow").await;
    assert_eq!(text(&devices.poll(&code).await.unwrap(), "handle"), BOB);

    devices.clock.advance(Duration::from_secs(300));
    let code = devices.code("alice's").await;
    for _ in 0..20 {
        // A right code is looked at as often as one likes.
        let right = path_of(&text(&code, "verification_uri_complete").parse().unwrap());
        assert_eq!(alice.get(&right).await.status, StatusCode::OK);
    }
    devices.decide(&mut alice, &code, "allow").await;
    assert_eq!(text(&devices.poll(&code).await.unwrap(), "handle"), ALICE);
}

#[tokio::test]
async fn an_account_has_a_hundred_devices_and_no_more() {
    let devices = Devices::start().await;
    let mut alice = devices.visitor(ALICE).await;
    for n in 0..100 {
        let code = devices.code(&format!("device {n}")).await;
        devices.decide(&mut alice, &code, "allow").await;
        devices.poll(&code).await.unwrap();
    }
    let code = devices.code("one too many").await;
    let answer = devices.decide(&mut alice, &code, "allow").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.text().contains("Revoke those"), "{}", answer.text());
    assert_eq!(devices.poll(&code).await.unwrap_err(), "authorization_pending");
    let oldest = devices.store.devices(&devices.world.alice).await.unwrap().pop().unwrap();
    assert!(devices.store.revoke(&devices.world.alice, &oldest.id).await.unwrap());
    devices.decide(&mut alice, &code, "allow").await;
    devices.poll(&code).await.unwrap();
}

#[tokio::test]
async fn a_device_asks_from_where_a_trusted_proxy_says_and_no_other() {
    let devices = Devices::start().await;
    let mut alice = devices.visitor(ALICE).await;
    for (peer, shown) in
        [("10.1.2.3", "198.51.100.7"), ("192.168.1.1", "192.168.1.1"), ("8.8.8.8", "8.8.8.8")]
    {
        let mut request = Request::post("/auth/device/code")
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-forwarded-for", "1.1.1.1, 198.51.100.7")
            .body(Body::from("{}"))
            .unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let answer = devices.registry.visitor().send(request).await;
        let code: Value = serde_json::from_str(answer.text()).unwrap();
        let link = path_of(&text(&code, "verification_uri_complete").parse().unwrap());
        let page = alice.get(&link).await;
        assert!(page.text().contains(&format!("<dd>{shown}</dd>")), "{peer}: {}", page.text());
    }
}
