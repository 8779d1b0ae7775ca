use http::{Method, StatusCode};
use serde_json::json;

use crate::oauth_world::{
    Browser, Client, Documents, ISSUER, SCOPE, WEB_CLIENT, WEB_REDIRECT, encode, fields, param, web_metadata,
    world_with,
};
use crate::world::{ALICE, BOB, PASSWORD, World};

const SIGN_IN: &str = "/oauth/authorize/sign-in";
const CONSENT: &str = "/oauth/authorize/consent";
const ACCOUNT: &str = "/oauth/authorize/account";

#[tokio::test]
async fn a_page_stands_in_no_frame_loads_nothing_and_names_who_asks() {
    let documents = Documents::default();
    documents.publish(WEB_CLIENT, web_metadata());
    let world = world_with(&documents).await;
    let client = Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE);
    let browser = Browser::new(&world);
    let path = client.authorize_path(&client.pushed(&[("login_hint", ALICE)]).await);
    let page = browser.open(&path).await;
    assert_eq!(
        page.header("content-security-policy"),
        "default-src 'none'; style-src 'self'; form-action 'self' https://app.example.com; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("access-control-allow-origin"), "");
    let cookie = page.header("set-cookie");
    assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("Secure"), "{cookie}");
    assert!(!page.html().contains("<script"));
    assert!(page.html().contains("value=\"alice.test\""));
    let page = browser.log_in(&path, ALICE, PASSWORD).await;
    for text in [
        "Example app",
        "app.example.com",
        "alice.test",
        "Know who you are",
        "Create, change and delete records of io.atcr.manifest",
        "Upload files of any type",
    ] {
        assert!(page.html().contains(text), "{text}");
    }
    assert_eq!(
        world.raw(Method::GET, "/oauth/style.css", &[]).await.header("content-type"),
        "text/css; charset=utf-8"
    );
}

#[tokio::test]
async fn a_hostile_name_is_inert() {
    let documents = Documents::default();
    let mut metadata = web_metadata();
    metadata["client_name"] =
        json!(format!("<script>alert(1)</script>\"'><img src=x>\u{202e}\n{}", "long ".repeat(1000)));
    documents.publish(WEB_CLIENT, metadata);
    let world = world_with(&documents).await;
    let client = Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE);
    let browser = Browser::new(&world);
    let hint = "a\"><script>alert(1)</script>.test";
    client.push(&[("login_hint", hint)]).await.refused(400, "invalid_request");
    let state = "\"><script>alert(1)</script>";
    let path =
        client.authorize_path(&client.pushed(&[("state", state), ("response_mode", "form_post")]).await);
    let page = browser.open(&path).await;
    let wrong =
        browser.submit(&page, SIGN_IN, &[("username", "<script>"), ("password", "\"><script>")]).await;
    let consent = browser.log_in(&path, ALICE, PASSWORD).await;
    let back = browser.submit(&consent, CONSENT, &[("decision", "allow")]).await;
    let problem = browser.open("/oauth/authorize?client_id=%3Cscript%3E&request_uri=%3Cscript%3E").await;
    for page in [&page, &wrong, &consent, &back, &problem] {
        let html = page.html();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(!html.contains('\u{202e}'));
        assert!(html.len() < 4000, "{}", html.len());
    }
}

#[tokio::test]
async fn a_form_is_taken_only_from_an_own_page_in_the_same_browser() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    let page = browser.log_in(&client.authorize_path(&client.pushed(&[]).await), ALICE, PASSWORD).await;
    let fields = fields(page.html(), CONSENT);
    let cookie = browser.cookie();
    let send = async |change: &[(&str, &str)], headers: &[(&str, Option<&str>)]| {
        let mut pairs: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.push(("decision", "allow"));
        pairs.retain(|(name, _)| change.iter().all(|(other, _)| other != name));
        pairs.extend(change);
        world.form(CONSENT, &encode(&pairs), headers).await
    };
    let same = [("cookie", Some(cookie.as_str())), ("origin", Some(ISSUER))];
    let other_path = client.authorize_path(&client.pushed(&[]).await);
    let other = Browser::new(&world);
    let other_page = other.open(&other_path).await;
    let other_token = crate::oauth_world::fields(other_page.html(), SIGN_IN)["csrf"].clone();
    let other_cookie = other.cookie();
    for (change, headers, status) in [
        (vec![("csrf", "")], same.to_vec(), 403),
        (vec![("csrf", "AAAA")], same.to_vec(), 403),
        (vec![("csrf", other_token.as_str())], same.to_vec(), 403),
        (vec![], vec![("cookie", Some(cookie.as_str())), ("origin", Some("https://evil.example"))], 403),
        (vec![], vec![("cookie", Some(cookie.as_str())), ("origin", Some("null"))], 403),
        (vec![], vec![("cookie", Some(cookie.as_str())), ("sec-fetch-site", Some("cross-site"))], 403),
        (vec![], vec![("cookie", Some(other_cookie.as_str())), ("origin", Some(ISSUER))], 403),
        (vec![], vec![("origin", Some(ISSUER))], 400),
        (vec![("decision", "maybe")], same.to_vec(), 400),
    ] {
        let answer = send(&change, &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{change:?} {headers:?}");
        assert_eq!(answer.header("location"), "");
    }
    // For an account that nobody logged in to, the page is shown again.
    let answer = send(&[("did", world.bob.did.as_str())], &same).await;
    assert!(answer.header("location").starts_with("/oauth/authorize?"));
    assert!(send(&[], &same).await.header("location").contains("code="));
}

#[tokio::test]
async fn a_frame_or_a_script_gets_no_page() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let path = client.authorize_path(&client.pushed(&[]).await);
    for headers in [
        [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
    ] {
        assert_eq!(world.raw(Method::GET, &path, &headers).await.status, StatusCode::FORBIDDEN);
    }
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let answer = world.raw(Method::OPTIONS, SIGN_IN, &preflight).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_slowed_down() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    let path = client.authorize_path(&client.pushed(&[]).await);
    // A right password is not held against anybody.
    assert_eq!(browser.log_in(&path, ALICE, PASSWORD).await.status, StatusCode::OK);
    let path = format!("{path}&other=1");
    for (name, password) in [(ALICE, "wrong"), ("nobody.test", PASSWORD), ("", ""), (ALICE, "")] {
        let page = browser.open(&path).await;
        let answer = browser.submit(&page, SIGN_IN, &[("username", name), ("password", password)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.html().contains("Invalid identifier or password"));
        assert_eq!(answer.header("location"), "");
    }
    let page = browser.open(&path).await;
    let wrong = [("username", "Alice.Test "), ("password", "wrong")];
    for _ in 0..8 {
        assert_eq!(browser.submit(&page, SIGN_IN, &wrong).await.status, StatusCode::BAD_REQUEST);
    }
    let right = [("username", ALICE), ("password", PASSWORD)];
    let answer = browser.submit(&page, SIGN_IN, &right).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.html().contains("try again in five minutes"));
    let other = browser.submit(&page, SIGN_IN, &[("username", BOB), ("password", PASSWORD)]).await;
    assert_eq!(other.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_app_password_does_not_log_in() {
    let world = World::new().await;
    let method = "com.atproto.server.createAppPassword";
    let made =
        world.post_as(&world.alice.access, method, &json!({"name": "x", "privileged": true})).await.ok();
    let client = Client::loopback(&world, SCOPE);
    let path = client.authorize_path(&client.pushed(&[]).await);
    let page = Browser::new(&world).log_in(&path, ALICE, made["password"].as_str().unwrap()).await;
    assert!(page.html().contains("Invalid identifier or password"));
}

#[tokio::test]
async fn a_browser_that_knows_the_account_is_asked_for_consent_only() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    let path = async |changed: &[(&str, &str)]| client.authorize_path(&client.pushed(changed).await);
    let before = browser.open(&path(&[]).await).await.header("set-cookie").to_owned();
    let page = browser.log_in(&path(&[]).await, ALICE, PASSWORD).await;
    // The name of before is worth nothing, should somebody have planted it.
    assert!(!before.contains(&browser.cookie()));
    browser.allow(&page).await;

    let page = browser.open(&path(&[]).await).await;
    assert!(page.html().contains("Allow access to alice.test?"));
    assert!(param(&browser.allow(&page).await, "code").is_some());
    for changed in [("login_hint", BOB), ("prompt", "login"), ("prompt", "select_account")] {
        let page = browser.open(&path(&[changed]).await).await;
        assert!(page.html().contains("type=\"password\""), "{changed:?}");
        assert_eq!(page.html().contains("Continue as alice.test"), changed.1 != "login", "{changed:?}");
    }

    // Another account beside it, and the choice between the two.
    let page = browser.open(&format!("{}&other=1", path(&[]).await)).await;
    let answer = browser
        .submit(&page, SIGN_IN, &[("username", BOB), ("password", PASSWORD), ("remember", "on")])
        .await;
    let page = browser.open(answer.header("location")).await;
    assert!(page.html().contains("Allow access to bob.test?"));
    let page = browser.open(&path(&[]).await).await;
    assert!(page.html().contains("Continue as alice.test") && page.html().contains("Continue as bob.test"));
    let answer = browser.submit(&page, ACCOUNT, &[("did", world.alice.did.as_str())]).await;
    let page = browser.open(answer.header("location")).await;
    assert!(page.html().contains("Allow access to alice.test?"));
    let page = browser.open(&path(&[]).await).await;
    let carol = browser.submit(&page, ACCOUNT, &[("did", "did:plc:ewvi7nxzyoun6zhxrhs64oiz")]).await;
    assert_eq!(carol.status, StatusCode::BAD_REQUEST);

    world.advance(8 * 86400);
    client.learn_nonce().await;
    assert!(browser.open(&path(&[]).await).await.html().contains("type=\"password\""));
}

#[tokio::test]
async fn an_account_that_was_not_to_be_remembered_is_not() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let browser = Browser::new(&world);
    let page = browser.open(&client.authorize_path(&client.pushed(&[]).await)).await;
    let answer = browser.submit(&page, SIGN_IN, &[("username", ALICE), ("password", PASSWORD)]).await;
    assert!(!answer.header("set-cookie").contains("Max-Age"));
    let page = browser.open(answer.header("location")).await;
    browser.allow(&page).await;
    let page = browser.open(&client.authorize_path(&client.pushed(&[]).await)).await;
    assert!(page.html().contains("type=\"password\""));
}
