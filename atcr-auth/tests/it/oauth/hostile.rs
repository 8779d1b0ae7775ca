use std::net::SocketAddr;
use std::time::{Duration, Instant};

use atcr_auth::SignIn as _;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use super::world::*;

/// What is done to the way back, given the issuer.
type Change = fn(&str, &str) -> String;

/// That the page refuses, with these words, and that nobody is signed in.
async fn refused(world: &World, registry: &Registry, visitor: &Visitor, answer: &Answer, words: &str) {
    assert!(answer.status.is_client_error() || answer.status == StatusCode::BAD_GATEWAY, "{}", answer.status);
    assert!(answer.text().contains(words), "{words:?} is not in {}", answer.text());
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_none());
    assert!(registry.sessions.signed_in(&world.alice).await.unwrap().is_none());
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn an_answer_of_another_server_is_refused() {
    let world = World::start().await;
    let registry = world.registry();
    let changes: [Change; 5] = [
        |path, issuer| {
            path.replace(&issuer.replace(':', "%3A").replace('/', "%2F"), "https%3A%2F%2Fevil.example")
        },
        |path, issuer| {
            path.replace(&format!("iss={}", issuer.replace(':', "%3A").replace('/', "%2F")), "x=y")
        },
        |path, issuer| format!("{path}&iss={issuer}"),
        |path, _| format!("{path}&iss=https%3A%2F%2Fevil.example"),
        |path, issuer| path.replace("iss=http", &format!("iss={issuer}%2F&was=http")),
    ];
    for change in changes {
        let mut visitor = registry.visitor();
        let url = registry.begin(&mut visitor, ALICE).await;
        let back = path_of(&world.approve(&url, ALICE, "allow").await);
        let changed = change(&back, &world.issuer);
        assert_ne!(changed, back);
        let answer = visitor.get(&changed).await;
        refused(&world, &registry, &visitor, &answer, "does not come from the server that was asked").await;
    }
    assert_eq!(world.wire.calls(TOKEN), 0, "no code went anywhere");
}

#[tokio::test]
async fn another_account_than_the_one_meant_is_refused_and_its_session_ended() {
    let world = World::start().await;
    let registry = world.registry();
    // Bob logs in at the PDS where alice was meant; servers do not hold people to the hint.
    let mut visitor = registry.visitor();
    let url = registry.begin(&mut visitor, ALICE).await;
    let back = world.approve(&url, BOB, "allow").await;
    let answer = visitor.get(&path_of(&back)).await;
    refused(&world, &registry, &visitor, &answer, "was meant; nothing was kept").await;
    assert!(registry.sessions.signed_in(&world.bob).await.unwrap().is_none());
    assert_eq!(world.wire.calls("/oauth/revoke"), 1);
    // A server that says anything.
    for subject in [json!("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), json!(""), Value::Null] {
        world.wire.change(TOKEN, move |answer| answer["sub"] = subject.clone());
        let mut visitor = registry.visitor();
        let answer = registry.sign_in(&world, &mut visitor, ALICE).await;
        refused(&world, &registry, &visitor, &answer, "was meant; nothing was kept").await;
    }
}

#[tokio::test]
async fn a_state_is_good_once_and_in_the_browser_that_began() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    let url = registry.begin(&mut visitor, ALICE).await;
    let back = path_of(&world.approve(&url, ALICE, "allow").await);
    // Somebody else's browser, with and without a sign-in of its own under way.
    let mut other = registry.visitor();
    registry.begin(&mut other, BOB).await;
    let answer = other.get(&back).await;
    refused(&world, &registry, &other, &answer, "begun in another browser").await;
    let answer = visitor.get(&back).await;
    refused(&world, &registry, &visitor, &answer, "is not known here").await;

    let url = registry.begin(&mut visitor, ALICE).await;
    let back = path_of(&world.approve(&url, ALICE, "allow").await);
    let answer = registry.visitor().get(&back).await;
    refused(&world, &registry, &visitor, &answer, "begun in another browser").await;

    let url = registry.begin(&mut visitor, ALICE).await;
    let back = path_of(&world.approve(&url, ALICE, "allow").await);
    assert_eq!(visitor.get(&back).await.location(), "/device");
    let replayed = visitor.get(&back).await;
    assert_eq!(replayed.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.wire.calls(TOKEN), 1, "a code is redeemed once, or its session would end");
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_some());
    for nonsense in ["", "?state=", "?state=x&code=y", "?code=y"] {
        let answer = visitor.get(&format!("/auth/oauth/callback{nonsense}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{nonsense}");
    }
}

#[tokio::test]
async fn metadata_that_lead_elsewhere_are_refused_by_name() {
    let world = World::start().await;
    let json = |value: Value| {
        Lie::Json(Box::new(move |answer| {
            for (name, value) in value.as_object().unwrap() {
                answer[name] = value.clone();
            }
        }))
    };
    let private = "not a public one";
    let redirect = |to: &str| Lie::Instead(StatusCode::FOUND, headers(&[("location", to)]), Vec::new());
    let table = [
        // The second hop into private ranges, in several notations.
        (RESOURCE, json(json!({ "authorization_servers": ["https://10.0.0.1"] })), private),
        (RESOURCE, json(json!({ "authorization_servers": ["https://169.254.169.254"] })), private),
        (RESOURCE, json(json!({ "authorization_servers": ["https://[fd00::1]"] })), private),
        (RESOURCE, json(json!({ "authorization_servers": ["https://[::ffff:a00:1]"] })), private),
        (RESOURCE, json(json!({ "authorization_servers": ["https://0x0a000001"] })), "more than scheme"),
        (RESOURCE, json(json!({ "authorization_servers": ["http://pds.example"] })), "not an https URL"),
        (RESOURCE, json(json!({ "authorization_servers": [] })), "exactly one"),
        (RESOURCE, json(json!({ "resource": "https://evil.example" })), "it is about"),
        (RESOURCE, redirect("http://10.0.0.1/"), "answered 302"),
        (RESOURCE, redirect("/elsewhere"), "answered 302"),
        (RESOURCE, Lie::Instead(StatusCode::NOT_FOUND, HeaderMap::new(), Vec::new()), "app password"),
        (
            RESOURCE,
            Lie::Instead(StatusCode::OK, HeaderMap::new(), vec![b' '; 65 * 1024]),
            "more than 65536 bytes",
        ),
        (RESOURCE, Lie::Instead(StatusCode::OK, HeaderMap::new(), b"<html>".to_vec()), "cannot be read"),
        (SERVER, json(json!({ "issuer": "https://evil.example" })), "its issuer is"),
        (SERVER, json(json!({ "issuer": "http://localhost:1" })), "its issuer is"),
        (SERVER, json(json!({ "authorization_endpoint": "https://192.168.0.1/" })), private),
        (SERVER, json(json!({ "authorization_endpoint": "javascript:alert(1)" })), "not an https URL"),
        (SERVER, json(json!({ "pushed_authorization_request_endpoint": "https://10.0.0.1/par" })), private),
        (SERVER, json(json!({ "code_challenge_methods_supported": ["plain"] })), "PKCE with S256"),
        (
            SERVER,
            json(json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] })),
            "takes no clients",
        ),
        (SERVER, redirect("https://10.0.0.1/"), "answered 302"),
        (SERVER, Lie::Instead(StatusCode::OK, HeaderMap::new(), vec![b'['; 64 * 1024]), "cannot be read"),
        (
            SERVER,
            Lie::Instead(StatusCode::OK, HeaderMap::new(), vec![b' '; 1 << 20]),
            "more than 65536 bytes",
        ),
    ];
    for (n, (path, lie, words)) in table.into_iter().enumerate() {
        // A registry that has not seen the truth.
        let registry = world.registry();
        world.wire.lie(path, lie);
        let mut visitor = registry.visitor();
        let answer = visitor.get(&format!("/auth/oauth/login?handle={ALICE}")).await;
        println!("{n}: {}", answer.status);
        refused(&world, &registry, &visitor, &answer, words).await;
        world.wire.honest();
    }
    assert_eq!(world.wire.calls("/elsewhere"), 0, "redirects of metadata are not followed");
    // An endpoint for codes in a private range: the code goes nowhere.
    let registry = world.registry();
    world.wire.lie(SERVER, json(json!({ "token_endpoint": "https://10.0.0.1/token" })));
    let mut visitor = registry.visitor();
    let answer = registry.sign_in(&world, &mut visitor, ALICE).await;
    refused(&world, &registry, &visitor, &answer, private).await;
}

#[tokio::test]
async fn tokens_that_are_not_what_they_must_be_are_refused() {
    let world = World::start().await;
    let registry = world.registry();
    for (name, value, words) in [
        ("token_type", json!("Bearer"), "not bound to a key"),
        ("access_token", json!(""), "its access token is not one"),
        ("access_token", json!("a\r\nx-evil: 1"), "its access token is not one"),
        ("access_token", json!(7), "not the JSON"),
        ("refresh_token", Value::Null, "no refresh token"),
        ("scope", json!("repo:*"), "lacks atproto"),
        ("scope", Value::Null, "lacks atproto"),
    ] {
        world.wire.change(TOKEN, move |answer| answer[name] = value.clone());
        let mut visitor = registry.visitor();
        let answer = registry.sign_in(&world, &mut visitor, ALICE).await;
        refused(&world, &registry, &visitor, &answer, words).await;
    }
    // A server that gives no nonces.
    let registry = world.registry();
    world.wire.honest();
    world.wire.lie(
        PAR,
        Lie::Instead(StatusCode::CREATED, HeaderMap::new(), br#"{"request_uri":"urn:x"}"#.to_vec()),
    );
    let mut visitor = registry.visitor();
    let answer = visitor.get(&format!("/auth/oauth/login?handle={ALICE}")).await;
    refused(&world, &registry, &visitor, &answer, "no nonces").await;
    world.wire.lie(PAR, Lie::Without("dpop-nonce"));
    let answer = visitor.get(&format!("/auth/oauth/login?handle={ALICE}")).await;
    refused(&world, &registry, &visitor, &answer, "use_dpop_nonce").await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_in_time() {
    let mut world = World::start().await;
    world.policy.total_timeout = Duration::from_millis(300);
    for path in [RESOURCE, SERVER, PAR] {
        let registry = world.registry();
        world.wire.lie(path, Lie::Never);
        let mut visitor = registry.visitor();
        let begun = Instant::now();
        let answer = visitor.get(&format!("/auth/oauth/login?handle={ALICE}")).await;
        refused(&world, &registry, &visitor, &answer, "did not answer in time").await;
        assert!(begun.elapsed() < Duration::from_secs(20), "it hangs");
        world.wire.honest();
    }
}

#[tokio::test]
async fn a_nonce_is_tried_once_more_and_no_oftener() {
    let world = World::start().await;
    let registry = world.registry();
    registry.sign_in(&world, &mut registry.visitor(), ALICE).await;
    let method = "/xrpc/com.atproto.server.getSession";
    let get = || {
        atcr_auth::PdsSessions::query(&registry.sessions, &world.alice, "com.atproto.server.getSession", &[])
    };
    let stale = || {
        let body = br#"{"error":"use_dpop_nonce","message":"Resource server requires nonce in DPoP proof"}"#;
        Lie::Instead(StatusCode::UNAUTHORIZED, headers(&[("dpop-nonce", "another")]), body.to_vec())
    };
    world.wire.lie_once(method, stale());
    // The nonce is made up, so the PDS asks for its own: the second answer is final.
    let error = get().await.unwrap_err();
    assert_eq!(error.xrpc().unwrap().name(), Some("use_dpop_nonce"), "{error}");
    assert_eq!(world.wire.calls(method), 2);
    get().await.unwrap();
    assert_eq!(world.wire.calls(method), 3, "what the refusal taught is used");
    world.wire.lie(method, stale());
    get().await.unwrap_err();
    assert!(world.wire.calls(method) <= 5);
    assert_eq!(world.wire.calls(TOKEN), 1, "a refused proof is no reason to refresh");
}

#[tokio::test]
async fn nobody_is_sent_to_another_site_after_signing_in() {
    let world = World::start().await;
    let registry = world.registry();
    for evil in [
        "//evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "https://evil.example",
        "%5C%5Cevil.example",
        "/..//evil.example",
        "javascript:alert(1)",
    ] {
        let mut visitor = registry.visitor();
        let answer = visitor.get(&format!("/auth/oauth/login?handle={ALICE}&return_to={evil}")).await;
        let back = world.approve(&answer.location().parse().unwrap(), ALICE, "allow").await;
        assert_eq!(visitor.get(&path_of(&back)).await.location(), "/auth/account", "{evil}");
    }
}

#[tokio::test]
async fn nobody_is_signed_out_by_another_site() {
    let world = World::start().await;
    let registry = world.registry();
    let mut visitor = registry.visitor();
    registry.sign_in(&world, &mut visitor, ALICE).await;
    let token = registry.browsers.signed_in(&visitor.headers()).await.unwrap().unwrap().form_token();
    assert_eq!(visitor.get("/auth/logout").await.status, StatusCode::METHOD_NOT_ALLOWED);
    for (fields, origin) in [
        (vec![], None),
        (vec![("csrf", "")], Some(REGISTRY)),
        (vec![("csrf", "AAAA")], Some(REGISTRY)),
        (vec![("csrf", token.as_str())], Some("https://evil.example")),
        (vec![("csrf", token.as_str())], Some("null")),
    ] {
        let answer = visitor.clone().post("/auth/logout", &fields, origin).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{fields:?}");
        assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_some());
    }
    // In this browser only: the session at the PDS stays.
    let fields = [("csrf", token.as_str()), ("here", "on")];
    let mut elsewhere = registry.visitor();
    registry.sign_in(&world, &mut elsewhere, ALICE).await;
    assert_eq!(visitor.post("/auth/logout", &fields, Some(REGISTRY)).await.status, StatusCode::OK);
    assert!(registry.browsers.signed_in(&visitor.headers()).await.unwrap().is_none());
    assert!(registry.browsers.signed_in(&elsewhere.headers()).await.unwrap().is_some());
    assert!(registry.sessions.signed_in(&world.alice).await.unwrap().is_some());
}

#[tokio::test]
async fn an_address_that_begins_sign_ins_without_end_waits_and_no_other_does() {
    let world = World::start().await;
    let registry = world.registry();
    let begin = async |address: &str| {
        let mut request =
            Request::get(format!("/auth/oauth/login?handle={ALICE}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address.parse().unwrap(), 1)));
        registry.visitor().send(request).await
    };
    for _ in 0..100 {
        assert_eq!(begin("2001:db8::1").await.status, StatusCode::SEE_OTHER);
    }
    let asked = world.wire.calls(PAR);
    // The same household.
    let refused = begin("2001:db8::2").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(world.wire.calls(PAR), asked, "no server is asked for it");
    assert_eq!(begin("203.0.113.1").await.status, StatusCode::SEE_OTHER);
    // To look at the form costs nothing, and a proxy that is not named is everybody.
    assert_eq!(registry.visitor().get("/auth/oauth/login").await.status, StatusCode::OK);
    assert_eq!(begin("10.0.0.1").await.status, StatusCode::SEE_OTHER);
}
