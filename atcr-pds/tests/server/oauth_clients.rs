use serde_json::{Value, json};

use crate::oauth_world::{
    Client, Documents, ISSUER, Key, SCOPE, Tokens, WEB_CLIENT, WEB_REDIRECT, unsigned, web_metadata,
    world_with,
};
use crate::world::World;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn failed(what: &str) -> String {
    format!("Validation of \"client_assertion\" failed: {what}")
}

#[tokio::test]
async fn a_confidential_client_proves_who_it_is_with_each_request() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    let client = Client::confidential(&world, &documents);
    let tokens = client.sign_in().await;
    client.session(&tokens.access).await.ok();
    let tokens = Tokens::of(&client.refresh(&tokens.refresh).await);
    client.post("/oauth/revoke", &[("token", &tokens.refresh)]).await.ok();
    client.session(&tokens.access).await.fails(401, "invalid_token");
}

#[tokio::test]
async fn an_assertion_that_is_not_quite_right_is_refused() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    let client = Client::confidential(&world, &documents);
    let (key, _) = client.assertion_key.clone().unwrap();
    let header = json!({"alg": "ES256", "kid": "one"});
    let push = async |assertion: &str| {
        client.push(&[("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)]).await
    };
    let with = |claim: &str, value: Value| {
        let mut claims = client.assertion_claims();
        claims[claim] = value;
        key.sign(&header, &claims)
    };
    let now = client.now();
    let claims = client.assertion_claims();
    let none = format!("{}.", unsigned(&json!({"alg": "none", "kid": "one"}), &claims));
    let symmetric = {
        let signed = unsigned(&json!({"alg": "HS256", "kid": "one"}), &claims);
        let secret = jsonwebtoken::EncodingKey::from_secret(key.jwk()["x"].as_str().unwrap().as_bytes());
        let algorithm = jsonwebtoken::Algorithm::HS256;
        format!("{signed}.{}", jsonwebtoken::crypto::sign(signed.as_bytes(), &secret, algorithm).unwrap())
    };
    for (assertion, what) in [
        (with("aud", json!(format!("{ISSUER}/oauth/token"))), "unexpected \"aud\" claim value"),
        (with("aud", json!("https://other.example")), "unexpected \"aud\" claim value"),
        (with("iss", json!("https://x.example")), "unexpected \"iss\" claim value"),
        (with("sub", json!("https://x.example")), "unexpected \"sub\" claim value"),
        (with("iat", json!(now - 300)), "\"iat\" claim timestamp check failed (too far in the past)"),
        (with("iat", json!(now + 300)), "\"iat\" claim timestamp check failed (it should be in the past)"),
        (with("iat", Value::Null), "missing required \"iat\" claim"),
        (with("exp", json!(now)), "\"exp\" claim timestamp check failed"),
        (with("jti", Value::Null), "missing required \"jti\" claim"),
        (
            key.sign(&json!({"alg": "ES256", "kid": "nope"}), &claims),
            "no applicable key found in the JSON Web Key Set",
        ),
        (Key::new().sign(&header, &claims), "signature verification failed"),
        (none, "\"alg\" (Algorithm) Header Parameter value not allowed"),
        (symmetric, "\"alg\" (Algorithm) Header Parameter value not allowed"),
        ("garbage".into(), "Invalid Compact JWS"),
    ] {
        assert_eq!(push(&assertion).await.refused(400, "invalid_client"), failed(what));
    }
    assert_eq!(
        push(&key.sign(&json!({"alg": "ES256"}), &claims)).await.refused(400, "invalid_client"),
        "\"kid\" required in client_assertion"
    );
    let good = key.sign(&header, &client.assertion_claims());
    assert_eq!(push(&good).await.status.as_u16(), 201);
    assert_eq!(push(&good).await.refused(400, "invalid_grant"), "private_key_jwt jti reused");
    assert_eq!(
        client.push(&[("client_assertion", "")]).await.refused(400, "invalid_request"),
        "client authentication method \"private_key_jwt\" required a \"client_assertion\""
    );
    let reused = Client { key: key.clone(), ..Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE) };
    let reused = Client { assertion_key: Some((key, "one".into())), ..reused };
    reused.push(&[]).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn keys_are_fetched_from_their_address_and_again_when_they_rotate() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    let uri = "https://app.example.com/jwks.json";
    let mut metadata = web_metadata();
    metadata["token_endpoint_auth_method"] = json!("private_key_jwt");
    metadata["token_endpoint_auth_signing_alg"] = json!("ES256");
    metadata["jwks_uri"] = json!(uri);
    documents.publish(WEB_CLIENT, metadata);
    let publish = |kid: &str, key: &Key| {
        let mut jwk = key.jwk();
        jwk["kid"] = json!(kid);
        let rsa = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
        documents.publish(uri, json!({"keys": [rsa, jwk]}));
    };
    let mut client = Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE);
    let first = Key::new();
    publish("one", &first);
    client.assertion_key = Some((first, "one".into()));
    client.pushed(&[]).await;
    let second = Key::new();
    publish("two", &second);
    client.assertion_key = Some((second, "two".into()));
    client.push(&[]).await.refused(400, "invalid_client");
    world.advance(30);
    client.pushed(&[]).await;
}

#[tokio::test]
async fn a_document_that_breaks_a_rule_is_no_client() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    let refused = async |change: &dyn Fn(&mut Value)| {
        // Refused documents are not remembered, so one address does for all.
        let mut metadata = web_metadata();
        change(&mut metadata);
        documents.publish(WEB_CLIENT, metadata);
        let answer = Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE).push(&[]).await;
        assert_eq!(answer.status.as_u16(), 400, "{:?}", answer.body);
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    let changes: [(&str, Value); 18] = [
        ("client_id", json!("https://other.example.com/client.json")),
        ("client_id", Value::Null),
        ("dpop_bound_access_tokens", json!(false)),
        ("scope", json!("repo:*")),
        ("scope", Value::Null),
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(["http://app.example.com/callback"])),
        ("redirect_uris", json!(["http://127.0.0.1/callback"])),
        ("redirect_uris", json!(["https://localhost/callback"])),
        ("redirect_uris", json!(["com.example.app:/callback"])),
        ("redirect_uris", json!(["javascript:alert(1)"])),
        ("grant_types", json!(["implicit"])),
        ("response_types", json!(["token"])),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
        ("token_endpoint_auth_method", Value::Null),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("client_uri", json!("https://other.example.com")),
        ("application_type", json!("desktop")),
    ];
    for (name, value) in changes {
        let error = refused(&|metadata| metadata[name] = value.clone()).await;
        let expected = if name == "redirect_uris" && value != json!([]) {
            "invalid_redirect_uri"
        } else {
            "invalid_client_metadata"
        };
        assert_eq!(error, expected, "{name} {value}");
    }
    refused(&|metadata| *metadata = json!([])).await;
    documents.publish(WEB_CLIENT, web_metadata());
    Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE).pushed(&[]).await;
}

#[tokio::test]
async fn an_identifier_is_the_one_spelling_of_an_address_on_the_web() {
    let documents = Documents::default();
    let world = world_with(&documents).await;
    for id in [
        "https://app.example.com/",
        "https://app.example.com/dir/",
        "https://APP.example.com/client.json",
        "https://app.example.com:443/client.json",
        "https://app.example.com/a/../client.json",
        "https://user@app.example.com/client.json",
        "https://app.example.com/client.json#x",
        "https://127.0.0.1/client.json",
        "https://localhost/client.json",
        "https://app.test/client.json",
        "http://app.example.com/client.json",
        "http://localhost:3000/",
        "http://localhost/client.json",
        "http://localhost?scope=transition%3Ageneric",
        "http://localhost?scope=atproto&scope=atproto",
        "http://localhost?name=x",
        "http://localhost?redirect_uri=http%3A%2F%2Fevil.example%2F",
        "http://localhost?redirect_uri=http%3A%2F%2Flocalhost%2F",
        "http://localhost?x#y",
        "did:web:app.example.com",
    ] {
        let mut metadata = web_metadata();
        metadata["client_id"] = json!(id);
        documents.publish(id, metadata);
        Client::new(&world, id, WEB_REDIRECT, SCOPE).push(&[]).await.refused(400, "invalid_client_metadata");
    }
    let missing = Client::new(&world, WEB_CLIENT, WEB_REDIRECT, SCOPE).push(&[]).await;
    assert_eq!(
        missing.refused(400, "invalid_client_metadata"),
        format!("Unable to obtain client metadata for \"{WEB_CLIENT}\": {WEB_CLIENT} answered 404 Not Found")
    );
    let offline = World::new().await;
    Client::new(&offline, WEB_CLIENT, WEB_REDIRECT, SCOPE)
        .push(&[])
        .await
        .refused(400, "invalid_client_metadata");
}
