use http::StatusCode;
use serde_json::json;

use crate::oauth_world::{
    Browser, Client, Documents, ISSUER, LOOPBACK, SCOPE, WEB_CLIENT, WEB_REDIRECT, param, web_metadata,
    world_with,
};
use crate::world::{ALICE, PASSWORD, World};

const CONSENT: &str = "/oauth/authorize/consent";

#[tokio::test]
async fn a_denial_goes_back_to_the_client_and_ends_the_request() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    let path = client.authorize_path(&client.pushed(&[]).await);
    let page = browser.log_in(&path, ALICE, PASSWORD).await;
    let answer = browser.submit(&page, CONSENT, &[("decision", "deny")]).await;
    let back = answer.header("location").parse().unwrap();
    assert_eq!(param(&back, "error").as_deref(), Some("access_denied"));
    assert_eq!(param(&back, "iss").as_deref(), Some(ISSUER));
    assert_eq!(param(&back, "state").as_ref(), Some(&client.state));
    assert_eq!(browser.open(&path).await.status, StatusCode::BAD_REQUEST);
    // Also before anybody has logged in.
    let page = browser.open(&format!("{}&other=1", client.authorize_path(&client.pushed(&[]).await))).await;
    let answer = browser.submit(&page, CONSENT, &[("decision", "deny")]).await;
    assert!(answer.header("location").starts_with(LOOPBACK));
}

#[tokio::test]
async fn the_answer_is_brought_as_the_client_asked() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    let path = client.authorize_path(&client.pushed(&[("response_mode", "fragment")]).await);
    let back = browser.approve(&path, ALICE, PASSWORD).await;
    assert_eq!(back.query(), None);
    let fragment = back.fragment().unwrap();
    assert!(
        fragment.starts_with("iss=http%3A%2F%2Flocalhost%3A2583&state=") && fragment.contains("&code=cod-")
    );

    let path = client.authorize_path(&client.pushed(&[("response_mode", "form_post")]).await);
    let page = browser.open(&path).await;
    let form = browser.submit(&page, CONSENT, &[("decision", "allow")]).await;
    assert!(form.header("content-security-policy").contains("form-action 'self' http://127.0.0.1:8999;"));
    let fields = crate::oauth_world::fields(form.html(), LOOPBACK);
    assert_eq!(fields["iss"], ISSUER);
    assert_eq!(fields["state"], client.state);
    client.redeem(&fields["code"], &[]).await.ok();
}

#[tokio::test]
async fn a_loopback_client_is_sent_to_any_port_unless_it_named_one() {
    let world = World::new().await;
    let query = crate::oauth_world::encode(&[("redirect_uri", "http://127.0.0.1/cb"), ("scope", "atproto")]);
    let id = format!("http://localhost/?{query}");
    for port in [1, 40000] {
        let client = Client::new(&world, &id, &format!("http://127.0.0.1:{port}/cb"), "atproto");
        client.sign_in().await;
    }
    let client = Client::new(&world, "http://localhost", "http://[::1]:7000/", "atproto");
    client.sign_in().await;
    for bad in [
        "http://127.0.0.2:8999/callback",
        "http://127.1:8999/callback",
        "http://evil.example/callback",
        "http://user@127.0.0.1:8999/callback",
        "http://127.0.0.1:8999/callback#x",
        "https://127.0.0.1:8999/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
    ] {
        let client = Client::loopback(&world, SCOPE);
        client.push(&[("redirect_uri", bad)]).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_client_on_the_web_is_sent_where_it_registered_and_nowhere_else() {
    let documents = Documents::default();
    let mut metadata = web_metadata();
    metadata["redirect_uris"] = json!([WEB_REDIRECT, "https://app.example.com/other?x=1"]);
    documents.publish(WEB_CLIENT, metadata);
    let world = world_with(&documents).await;
    let client = Client::new(&world, WEB_CLIENT, "https://app.example.com/other?x=1", SCOPE);
    client.sign_in().await;
    for bad in [
        "https://app.example.com/callback/",
        "https://app.example.com/callback?x=1",
        "https://app.example.com:444/callback",
        "https://app.example.com@evil.example/callback",
        "https://app.example.com.evil.example/callback",
        "https://app.example.com/callback/../other?x=1",
        "http://app.example.com/callback",
        "",
    ] {
        client.push(&[("redirect_uri", bad)]).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn silent_sign_in_is_for_clients_that_are_known_and_were_agreed_to() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    let client = Client::confidential(&world, &documents);
    let browser = Browser::new(&world);
    let silent = async |changed: &[(&str, &str)]| {
        let answer = browser.open(&client.authorize_path(&client.pushed(changed).await)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{:?}", answer.body);
        let back = answer.header("location").parse().unwrap();
        param(&back, "error").unwrap_or_else(|| param(&back, "code").map(|_| "code".into()).unwrap())
    };
    assert_eq!(silent(&[("prompt", "none")]).await, "login_required");
    let small = [("scope", "atproto repo:io.atcr.manifest")];
    let page = browser.log_in(&client.authorize_path(&client.pushed(&small).await), ALICE, PASSWORD).await;
    assert_eq!(silent(&[("prompt", "none")]).await, "consent_required");
    browser.allow(&page).await;
    assert_eq!(silent(&[("prompt", "none")]).await, "consent_required");
    assert_eq!(silent(&[("prompt", "none"), small[0]]).await, "code");
    assert_eq!(silent(&[("login_hint", ALICE), small[0]]).await, "code");
    assert_eq!(silent(&[("prompt", "none"), ("login_hint", "bob.test"), small[0]]).await, "login_required");
    let page = browser.open(&client.authorize_path(&client.pushed(&[("login_hint", ALICE)]).await)).await;
    assert!(page.html().contains("Allow access to alice.test?"));
}
