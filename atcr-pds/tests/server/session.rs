use std::sync::Arc;
use std::time::Duration;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_pds::Clock;
use atcr_pds::accounts::{Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use data_encoding::BASE64URL_NOPAD;
use http::Method;
use serde_json::{Value, json};

use crate::world::{ALICE, Answer, PASSWORD, World};

const CREATE: &str = "com.atproto.server.createSession";
const REFRESH: &str = "com.atproto.server.refreshSession";
const GET: &str = "com.atproto.server.getSession";

impl World {
    async fn log_in(&self, identifier: &str, password: &str) -> Answer {
        self.post(CREATE, &json!({"identifier": identifier, "password": password})).await
    }
}

fn part(token: &str, n: usize) -> Value {
    let bytes = BASE64URL_NOPAD.decode(token.split('.').nth(n).unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn handle_did_and_address_log_in_and_anything_else_does_not() {
    let world = World::new().await;
    for identifier in [ALICE, "Alice.Test", "@alice.test", world.alice.did.as_str(), "ALICE@example.test"] {
        let session = world.log_in(identifier, PASSWORD).await.ok();
        assert_eq!(session["did"], json!(world.alice.did));
        assert_eq!(session["handle"], ALICE);
        assert_eq!(session["email"], "alice@example.test");
        assert_eq!((&session["active"], &session["emailConfirmed"]), (&json!(true), &json!(false)));
    }
    let long = "x".repeat(10_000);
    for (identifier, password) in [
        (ALICE, "wrong"),
        (ALICE, ""),
        ("nobody.test", PASSWORD),
        ("", ""),
        ("%", PASSWORD),
        (ALICE, long.as_str()),
    ] {
        let message = world.log_in(identifier, password).await.fails(401, "AuthenticationRequired");
        assert_eq!(message, "Invalid identifier or password");
    }
    world.post(CREATE, &json!({"identifier": ALICE})).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn tokens_have_the_reference_servers_form() {
    let world = World::new().await;
    let access = &world.alice.access;
    assert_eq!(part(access, 0), json!({"typ": "at+jwt", "alg": "HS256"}));
    let now = world.now();
    assert_eq!(
        part(access, 1),
        json!({"scope": "com.atproto.access", "aud": "did:web:localhost%3A2583", "sub": world.alice.did,
            "iat": now, "exp": now + 7200})
    );
    let refresh = &world.alice.refresh;
    assert_eq!(part(refresh, 0)["typ"], "refresh+jwt");
    assert_eq!(part(refresh, 1)["scope"], "com.atproto.refresh");
    assert_eq!(part(refresh, 1)["exp"], now + 90 * 86400);
    assert!(part(refresh, 1)["jti"].is_string());
}

#[tokio::test]
async fn an_access_token_ends_after_two_hours() {
    let world = World::new().await;
    world.advance(7199);
    world.get_as(&world.alice.access, GET).await.ok();
    world.advance(1);
    world.get_as(&world.alice.access, GET).await.fails(400, "ExpiredToken");
    let fresh = world.poke(&world.alice.refresh, REFRESH).await.ok();
    let session = world.get_as(fresh["accessJwt"].as_str().unwrap(), GET).await.ok();
    assert_eq!(session["did"], json!(world.alice.did));
    world.advance(91 * 86400);
    world.poke(fresh["refreshJwt"].as_str().unwrap(), REFRESH).await.fails(400, "ExpiredToken");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_second_use_ends_the_session() {
    let world = World::new().await;
    let second =
        world.poke(&world.alice.refresh, REFRESH).await.ok()["refreshJwt"].as_str().unwrap().to_owned();
    let third = world.poke(&second, REFRESH).await.ok()["refreshJwt"].as_str().unwrap().to_owned();
    let other = world.log_in(ALICE, PASSWORD).await.ok()["refreshJwt"].as_str().unwrap().to_owned();
    world.poke(&second, REFRESH).await.fails(400, "ExpiredToken");
    world.poke(&third, REFRESH).await.fails(400, "ExpiredToken");
    world.poke(&other, REFRESH).await.ok();
}

#[tokio::test]
async fn within_the_grace_a_lost_answer_is_given_again() {
    let world = World::with(|config| config.refresh_grace = Duration::from_secs(60)).await;
    let jti = |answer: &Value| part(answer["refreshJwt"].as_str().unwrap(), 1)["jti"].clone();
    let first = world.poke(&world.alice.refresh, REFRESH).await.ok();
    let again = world.poke(&world.alice.refresh, REFRESH).await.ok();
    assert_eq!(jti(&first), jti(&again));
    world.advance(60);
    world.poke(&world.alice.refresh, REFRESH).await.fails(400, "ExpiredToken");
    world.poke(first["refreshJwt"].as_str().unwrap(), REFRESH).await.fails(400, "ExpiredToken");
}

#[tokio::test]
async fn of_many_refreshes_at_once_one_wins() {
    let world = World::new().await;
    let tries = (0..8).map(|_| world.pds.refresh_session(&world.alice.refresh));
    let won = futures_util::future::join_all(tries).await.into_iter().flatten().count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn an_ended_session_is_not_refreshed() {
    let world = World::new().await;
    world.poke(&world.alice.access, "com.atproto.server.deleteSession").await.fails(400, "InvalidToken");
    world.poke(&world.alice.refresh, "com.atproto.server.deleteSession").await.ok();
    world.poke(&world.alice.refresh, REFRESH).await.fails(400, "ExpiredToken");
    world.poke(&world.alice.refresh, "com.atproto.server.deleteSession").await.ok();
}

/// A token of this server with a changed header or claims and the old signature.
fn forged(token: &str, n: usize, key: &str, value: Value) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut json = part(token, n);
    json[key] = value;
    parts[n] = BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    parts.join(".")
}

#[tokio::test]
async fn no_other_token_opens_a_session() {
    let world = World::new().await;
    let access = world.alice.access.as_str();
    let key = SigningKey::generate(Curve::P256).unwrap();
    let signed = access.rsplit_once('.').unwrap().0;
    let none = {
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"at+jwt","alg":"none"}"#);
        format!("{header}.{}.", access.split('.').nth(1).unwrap())
    };
    let elsewhere = {
        let plc = Directory::open(None, Clock::system()).await.unwrap();
        let url = "http://localhost:2583".parse().unwrap();
        let config = PdsConfig::new(url, Arc::new(plc));
        let pds = Pds::open(config).await.unwrap();
        pds.create_account(&ALICE.parse().unwrap(), PASSWORD, "alice@example.test").await.unwrap();
        pds.create_session(ALICE, PASSWORD).await.unwrap().access_jwt
    };
    let service =
        world.pds.service_token(&world.alice.did, "did:web:localhost%3A2583", None, None).await.unwrap();
    let tokens = [
        ("garbage".to_owned(), "not a token"),
        ("a.b.c".to_owned(), "not a token"),
        (world.alice.refresh.clone(), "a refresh token"),
        (forged(access, 1, "sub", json!(world.bob.did)), "another account"),
        (forged(access, 1, "exp", json!(world.now() + 1_000_000)), "a longer life"),
        (forged(access, 0, "alg", json!("HS384")), "another algorithm"),
        (none, "no signature"),
        (format!("{signed}.{}", BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes()))), "another key"),
        (elsewhere, "another server of that name"),
        (service, "a service token"),
    ];
    for (token, what) in &tokens {
        let answer = world.get_as(token, GET).await;
        assert!(!answer.fails(400, "InvalidToken").is_empty(), "{what}");
    }
    world.poke(access, REFRESH).await.fails(400, "InvalidToken");
    let basic = world.raw(Method::GET, &format!("/xrpc/{GET}"), &[("authorization", "Basic YTpi")]).await;
    basic.fails(400, "InvalidToken");
    world.get(GET).await.fails(401, "AuthMissing");
}

#[tokio::test]
async fn an_app_password_opens_a_lesser_session_until_it_is_revoked() {
    let world = World::new().await;
    let manage = async |method: &str, input: &Value| {
        world.post_as(&world.alice.access, &format!("com.atproto.server.{method}"), input).await
    };
    let made = manage("createAppPassword", &json!({"name": "docker"})).await.ok();
    let password = made["password"].as_str().unwrap();
    assert_eq!(password.len(), 19);
    assert_eq!(made["privileged"], false);
    manage("createAppPassword", &json!({"name": "docker"})).await.fails(400, "InvalidRequest");
    let session = world.log_in(ALICE, password).await.ok();
    assert!(session.get("email").is_none());
    let access = session["accessJwt"].as_str().unwrap();
    assert_eq!(part(access, 1)["scope"], "com.atproto.appPass");
    let record = json!({"repo": world.alice.did, "collection": "com.example.tag", "rkey": "x", "record": {}});
    world.post_as(access, "com.atproto.repo.putRecord", &record).await.ok();
    for (method, input) in [
        ("com.atproto.server.createAppPassword", json!({"name": "another"})),
        ("com.atproto.server.deactivateAccount", json!({})),
        ("com.atproto.identity.updateHandle", json!({"handle": "stolen.test"})),
    ] {
        world.post_as(access, method, &input).await.fails(400, "InvalidToken");
    }
    let refreshed = world.poke(session["refreshJwt"].as_str().unwrap(), REFRESH).await.ok();
    assert_eq!(part(refreshed["accessJwt"].as_str().unwrap(), 1)["scope"], "com.atproto.appPass");
    world.log_in("bob.test", password).await.fails(401, "AuthenticationRequired");

    let listed = world.get_as(&world.alice.access, "com.atproto.server.listAppPasswords").await.ok();
    assert_eq!(listed["passwords"][0]["name"], "docker");
    assert!(listed["passwords"][0].get("password").is_none());
    manage("revokeAppPassword", &json!({"name": "docker"})).await.ok();
    world.log_in(ALICE, password).await.fails(401, "AuthenticationRequired");
    world.poke(refreshed["refreshJwt"].as_str().unwrap(), REFRESH).await.fails(400, "ExpiredToken");

    let privileged = manage("createAppPassword", &json!({"name": "chat", "privileged": true})).await.ok();
    let session = world.log_in(ALICE, privileged["password"].as_str().unwrap()).await.ok();
    assert_eq!(part(session["accessJwt"].as_str().unwrap(), 1)["scope"], "com.atproto.appPassPrivileged");
}

#[tokio::test]
async fn accounts_are_made_over_the_wire() {
    let world = World::new().await;
    let create = async |handle: &str, email: &str, password: &str| {
        let input = json!({"handle": handle, "email": email, "password": password});
        world.post("com.atproto.server.createAccount", &input).await
    };
    let made = create("carol.test", "carol@example.test", "pw").await.ok();
    assert_eq!(made["handle"], "carol.test");
    world.get_as(made["accessJwt"].as_str().unwrap(), GET).await.ok();
    create("carol.test", "other@example.test", "pw").await.fails(400, "HandleNotAvailable");
    create("carla.test", "Carol@example.test", "pw").await.fails(400, "InvalidRequest");
    create("carla.test", "no address", "pw").await.fails(400, "InvalidRequest");
    create("ca.test", "ca@example.test", "pw").await.fails(400, "InvalidHandle");
    create("a.b.test", "ca@example.test", "pw").await.fails(400, "InvalidHandle");
    create("admin.test", "ca@example.test", "pw").await.fails(400, "HandleNotAvailable");
    create("carla.example.com", "ca@example.test", "pw").await.fails(400, "UnsupportedDomain");
    create("carla.test", "ca@example.test", &"x".repeat(257)).await.fails(400, "InvalidPassword");
    let input = json!({"handle": "carla.test", "email": "ca@example.test"});
    world.post("com.atproto.server.createAccount", &input).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn an_account_without_its_repo_gets_one_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(|config| config.data_dir = Some(dir.path().to_owned())).await;
    let did = world.alice.did.clone();
    drop(world);
    // As a crash leaves it between the account and its repo.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("repos.sqlite") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let world = World::with(|config| config.data_dir = Some(dir.path().to_owned())).await;
    assert_eq!(world.alice.did, did);
    world.put("com.example.tag", "x", json!({})).await.ok();
}

#[tokio::test]
async fn of_many_who_want_one_handle_one_gets_it() {
    let world = World::new().await;
    let handle = "carol.test".parse().unwrap();
    let emails: Vec<String> = (0..6).map(|n| format!("carol{n}@example.test")).collect();
    let tries = emails.iter().map(|email| world.pds.create_account(&handle, "pw", email));
    let made = futures_util::future::join_all(tries).await.into_iter().flatten().count();
    assert_eq!(made, 1);
    let listed = world.get("com.atproto.sync.listRepos").await.ok();
    assert_eq!(listed["repos"].as_array().unwrap().len(), 3);
}
