use http::StatusCode;

use crate::oauth_world::{Browser, Client, Documents, LOOPBACK, SCOPE, web_metadata, world_with};
use crate::oauth_world::{WEB_CLIENT, WEB_REDIRECT};
use crate::world::{ALICE, PASSWORD, World};

#[tokio::test]
async fn what_a_request_may_not_be_is_refused_in_the_reference_servers_words() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let long = "x".repeat(5000);
    for (changed, error, description) in [
        (
            ("code_challenge_method", "plain"),
            "invalid_request",
            "atproto requires use of \"S256\" code_challenge_method",
        ),
        (("code_challenge", ""), "invalid_request", "Use of PKCE is required"),
        (("code_challenge", "short"), "invalid_request", "the code_challenge is not a SHA-256 in base64url"),
        (
            ("redirect_uri", "http://127.0.0.1:1234/callback"),
            "invalid_request",
            "Invalid redirect_uri http://127.0.0.1:1234/callback",
        ),
        (
            ("redirect_uri", "http://127.0.0.1:8999/other"),
            "invalid_request",
            "Invalid redirect_uri http://127.0.0.1:8999/other",
        ),
        (
            ("redirect_uri", "http://localhost:8999/callback"),
            "invalid_request",
            "Invalid authorization request: Use of \"localhost\" hostname is not allowed (RFC 8252), use a loopback \
             IP such as \"127.0.0.1\" instead at body.redirect_uri",
        ),
        (
            ("scope", "atproto repo:io.other.x"),
            "invalid_scope",
            "Scope \"repo:io.other.x\" is not declared in the client metadata",
        ),
        (("scope", "blob:*/*"), "invalid_scope", "The \"atproto\" scope is required"),
        (("response_type", "token"), "unsupported_response_type", "Unsupported response_type \"token\""),
        (("prompt", "none"), "invalid_request", "Public clients are not allowed to use silent-sign-on"),
        (("login_hint", "nobody"), "invalid_request", "Invalid login_hint \"nobody\""),
        (
            ("response_mode", "web_message"),
            "invalid_request",
            "Invalid authorization request: Invalid value at body.response_mode",
        ),
        (
            ("state", long.as_str()),
            "invalid_request",
            "Invalid authorization request: the state is longer than 4,096 bytes at body.state",
        ),
        (("request", "a.b.c"), "invalid_request", "Unsupported \"request\" parameter"),
        (("nonce", "x"), "invalid_request", "Unsupported \"nonce\" parameter"),
        (("dpop_jkt", "x"), "invalid_token", "Invalid DPoP key binding"),
    ] {
        let answer = client.push(&[changed]).await;
        let status = if error == "invalid_token" { 401 } else { 400 };
        assert_eq!(answer.refused(status, error), description, "{changed:?}");
    }
    for (scope, error, description) in [
        ("", "invalid_request", "Invalid authorization request: Invalid OAuth scope at body.scope"),
        ("openid atproto", "invalid_scope", "OpenID Connect is not compatible with atproto"),
        (
            "atproto include:io.nosuch.permSet",
            "invalid_scope",
            "Could not resolve Lexicon for NSID (io.nosuch.permSet)",
        ),
    ] {
        let client = Client {
            scope: scope.into(),
            ..Client::loopback(&world, if scope.is_empty() { "atproto" } else { scope })
        };
        let answer = if scope.is_empty() {
            let pairs = "client_id=http%3A%2F%2Flocalhost&response_type=code&scope=";
            world.form("/oauth/par", pairs, &[]).await
        } else {
            client.push(&[]).await
        };
        assert_eq!(answer.refused(400, error), description, "{scope}");
    }
    world.form("/oauth/par", "response_type=code", &[]).await.refused(400, "invalid_client");
    world.form("/oauth/par", "scope=a&scope=b", &[]).await.refused(400, "invalid_request");
    world.form("/oauth/par", &"x".repeat(70_000), &[]).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_request_is_used_once_and_by_the_browser_that_opened_it() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let path = client.authorize_path(&client.pushed(&[]).await);
    let browser = Browser::new(&world);
    let page = browser.log_in(&path, ALICE, PASSWORD).await;
    let stranger = Browser::new(&world).open(&path).await;
    assert_eq!(stranger.status, StatusCode::BAD_REQUEST);
    assert!(stranger.html().contains("another device"));
    browser.allow(&page).await;
    let again = browser.open(&path).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.html().contains("already authorized"));
    let twice = browser.submit(&page, "/oauth/authorize/consent", &[("decision", "allow")]).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_request_of_another_client_is_not_shown() {
    let documents = Documents::default();
    documents.publish(WEB_CLIENT, web_metadata());
    let world = world_with(&documents).await;
    let client = Client::loopback(&world, SCOPE);
    let uri = client.pushed(&[]).await;
    let other = Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE);
    let page = Browser::new(&world).open(&other.authorize_path(&uri)).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.html().contains("another client"));
    let back = Browser::new(&world).approve(&client.authorize_path(&uri), ALICE, PASSWORD).await;
    assert!(back.as_str().starts_with(LOOPBACK));
}

#[tokio::test]
async fn a_request_that_nobody_looks_at_expires() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let uri = client.pushed(&[]).await;
    world.advance(300);
    assert_eq!(Browser::new(&world).open(&client.authorize_path(&uri)).await.status, StatusCode::BAD_REQUEST);

    client.learn_nonce().await;
    let path = client.authorize_path(&client.pushed(&[]).await);
    let browser = Browser::new(&world);
    for _ in 0..12 {
        assert_eq!(browser.open(&path).await.status, StatusCode::OK);
        world.advance(299);
    }
    world.advance(100);
    assert_eq!(browser.open(&path).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_a_pushed_request_there_is_no_page() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    for path in [
        "/oauth/authorize".to_owned(),
        "/oauth/authorize?client_id=http%3A%2F%2Flocalhost".to_owned(),
        client.authorize_path("urn:ietf:params:oauth:request_uri:req-00000000000000000000000000000000"),
        format!(
            "/oauth/authorize?{}",
            crate::oauth_world::encode(&[
                ("client_id", client.id.as_str()),
                ("response_type", "code"),
                ("redirect_uri", "https://evil.example/"),
                ("scope", SCOPE),
            ])
        ),
    ] {
        let answer = browser.open(&path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.header("location"), "");
        assert!(!answer.html().contains("evil.example"));
    }
}
