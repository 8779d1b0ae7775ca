use atcr_core::crypto::{Curve, SigningKey};
use data_encoding::BASE64URL_NOPAD;
use http::{Method, header};
use serde_json::{Value, json};

use crate::oauth_world::{Client, Key, SCOPE, fresh, sha256, unsigned};
use crate::world::{Answer, World};

const SESSION: &str = "/xrpc/com.atproto.server.getSession";

/// A getSession with a proof of these claims.
async fn session_with(client: &Client<'_>, token: &str, change: impl FnOnce(&mut Value)) -> Answer {
    let mut claims = client.proof_claims("GET", SESSION, Some(token));
    change(&mut claims);
    let proof = client.proof(&claims);
    client.call_with(Method::GET, SESSION, token, Some(&proof), None).await
}

fn without(name: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| drop(claims.as_object_mut().unwrap().remove(name))
}

#[tokio::test]
async fn a_proof_is_for_one_request_and_one_token() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let token = client.sign_in().await.access;
    session_with(&client, &token, |_| ()).await.ok();
    session_with(&client, &token, |claims| {
        claims["htu"] = json!(format!("http://LOCALHOST:2583{SESSION}?x=1#y"));
    })
    .await
    .ok();
    let other = Client::loopback(&world, SCOPE).sign_in().await.access;
    for (claim, value, message) in [
        ("htu", json!("http://localhost:2583/xrpc/other"), "DPoP \"htu\" mismatch"),
        ("htu", json!(format!("https://localhost:2583{SESSION}")), "DPoP \"htu\" mismatch"),
        ("htu", json!(format!("http://localhost:2584{SESSION}")), "DPoP \"htu\" mismatch"),
        ("htu", json!("not a url"), "DPoP \"htu\" mismatch"),
        ("htm", json!("POST"), "DPoP \"htm\" mismatch"),
        ("htm", json!("get"), "DPoP \"htm\" mismatch"),
        ("ath", json!(sha256(&other)), "DPoP \"ath\" mismatch"),
        ("jti", json!(""), "DPoP \"jti\" missing"),
    ] {
        let answer = session_with(&client, &token, |claims| claims[claim] = value).await;
        assert_eq!(answer.fails(401, "invalid_dpop_proof"), message);
        assert!(answer.header("www-authenticate").starts_with("DPoP algs=\"ES256 "), "{message}");
    }
    for claim in ["htu", "htm", "ath", "jti", "iat"] {
        session_with(&client, &token, without(claim)).await.fails(401, "invalid_dpop_proof");
    }
    for shift in [-181, 181, i64::MAX - world.now(), i64::MIN] {
        let at = world.now().wrapping_add(shift);
        session_with(&client, &token, |claims| claims["iat"] = json!(at))
            .await
            .fails(401, "invalid_dpop_proof");
    }
}

#[tokio::test]
async fn a_replayed_proof_is_refused() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let token = client.sign_in().await.access;
    let id = fresh("jti");
    session_with(&client, &token, |claims| claims["jti"] = json!(id)).await.ok();
    let again = session_with(&client, &token, |claims| claims["jti"] = json!(id)).await;
    assert_eq!(again.fails(401, "invalid_dpop_proof"), "DPoP proof replayed");
    let proof = client.proof(&client.proof_claims("POST", "/oauth/revoke", None));
    client.post_with("/oauth/revoke", &[("token", "x")], Some(&proof)).await.ok();
    client
        .post_with("/oauth/revoke", &[("token", "x")], Some(&proof))
        .await
        .refused(401, "invalid_dpop_proof");
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_works_for_three_minutes_at_most() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let token = client.sign_in().await.access;
    let missing = session_with(&client, &token, without("nonce")).await;
    missing.fails(401, "use_dpop_nonce");
    assert!(missing.header("www-authenticate").contains("error=\"use_dpop_nonce\""));
    assert!(!missing.header("dpop-nonce").is_empty());
    session_with(&client, &token, |claims| claims["nonce"] = json!(fresh("nonce")))
        .await
        .fails(401, "use_dpop_nonce");
    world.advance(59);
    session_with(&client, &token, |_| ()).await.ok();
    world.advance(122);
    session_with(&client, &token, |_| ()).await.fails(401, "use_dpop_nonce");

    let fresh_client = Client::loopback(&world, SCOPE);
    let proof = fresh_client.proof(&fresh_client.proof_claims("POST", "/oauth/token", None));
    let answer = fresh_client.post_with("/oauth/token", &[], Some(&proof)).await;
    assert_eq!(answer.refused(400, "use_dpop_nonce"), "Authorization server requires nonce in DPoP proof");
    assert!(!answer.header("dpop-nonce").is_empty());
}

#[tokio::test]
async fn no_other_token_is_a_proof() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let token = client.sign_in().await.access;
    let claims = || client.proof_claims("GET", SESSION, Some(&token));
    let jwk = client.key.jwk();
    let other = Key::new();
    let header = |alg: &str, typ: &str| json!({"typ": typ, "alg": alg, "jwk": jwk});
    let mut private = header("ES256", "dpop+jwt");
    private["jwk"]["d"] = jwk["x"].clone();
    let mut critical = header("ES256", "dpop+jwt");
    critical["crit"] = json!(["exp"]);
    let symmetric = |secret: &[u8]| {
        let signed = unsigned(&header("HS256", "dpop+jwt"), &claims());
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let algorithm = jsonwebtoken::Algorithm::HS256;
        format!("{signed}.{}", jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap())
    };
    let service = SigningKey::generate(Curve::P256).unwrap();
    let wrong_key = unsigned(&header("ES256", "dpop+jwt"), &claims());
    let proofs = [
        ("garbage".into(), "not a token"),
        ("a.b.c".into(), "not a token"),
        (format!("{}.", unsigned(&header("none", "dpop+jwt"), &claims())), "no signature"),
        (symmetric(jwk["x"].as_str().unwrap().as_bytes()), "the public key as a secret"),
        (client.key.sign(&header("ES256K", "dpop+jwt"), &claims()), "the algorithm of another curve"),
        (client.key.sign(&header("ES256", "JWT"), &claims()), "another type"),
        (client.key.sign(&json!({"typ": "dpop+jwt", "alg": "ES256"}), &claims()), "no key"),
        (client.key.sign(&private, &claims()), "a private key"),
        (client.key.sign(&critical, &claims()), "an extension that is not known"),
        (other.sign(&header("ES256", "dpop+jwt"), &claims()), "signed by another key"),
        (
            format!("{wrong_key}.{}", BASE64URL_NOPAD.encode(&service.sign(wrong_key.as_bytes()))),
            "signed by another key",
        ),
        ("x".repeat(20_000), "much too long"),
    ];
    for (proof, what) in &proofs {
        let answer = client.call_with(Method::GET, SESSION, &token, Some(proof), None).await;
        assert!(!answer.fails(401, "invalid_dpop_proof").is_empty(), "{what}");
    }
    let answer = client.call_with(Method::GET, SESSION, &token, None, None).await;
    assert_eq!(answer.fails(401, "invalid_dpop_proof"), "DPoP proof required");
    let two = format!("{0}, {0}", client.proof(&claims()));
    client.call_with(Method::GET, SESSION, &token, Some(&two), None).await.fails(401, "invalid_dpop_proof");
}

#[tokio::test]
async fn no_other_token_is_an_access_token() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let tokens = client.sign_in().await;
    let parts: Vec<&str> = tokens.access.split('.').collect();
    let mut claims: Value =
        serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
    claims["sub"] = json!(world.bob.did);
    let none = unsigned(&json!({"typ": "at+jwt", "alg": "none"}), &claims);
    let stolen = unsigned(&json!({"typ": "at+jwt", "alg": "HS256"}), &claims);
    for (token, what) in [
        (format!("{none}."), "no signature"),
        (format!("{stolen}.{}", parts[2]), "another account"),
        (client.key.sign(&json!({"typ": "at+jwt", "alg": "ES256"}), &claims), "signed by the client"),
        (world.alice.access.clone(), "a token of a password session"),
        (tokens.refresh.clone(), "a refresh token"),
        ("garbage".into(), "garbage"),
    ] {
        let answer = client.session(&token).await;
        assert_eq!(answer.fails(401, "invalid_token"), "Invalid token", "{what}");
    }
    let bearer = [(header::AUTHORIZATION.as_str(), format!("Bearer {}", tokens.access))];
    let answer = world.raw(Method::GET, SESSION, &[(bearer[0].0, &bearer[0].1)]).await;
    answer.fails(400, "InvalidToken");
}
