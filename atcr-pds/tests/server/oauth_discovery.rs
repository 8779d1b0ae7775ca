use http::Method;
use serde_json::{Value, json};

use crate::oauth_world::{Client, ISSUER, SCOPE};
use crate::world::World;

#[tokio::test]
async fn a_client_finds_every_endpoint_from_the_pds() {
    let world = World::new().await;
    let get = async |path: &str| {
        let answer = world.raw(Method::GET, path, &[]).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        answer.ok()
    };
    let resource = get("/.well-known/oauth-protected-resource").await;
    assert_eq!(resource["resource"], ISSUER);
    assert_eq!(resource["authorization_servers"], json!([ISSUER]));
    assert_eq!(resource["bearer_methods_supported"], json!(["header"]));
    let server = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(server["issuer"], ISSUER);
    for (name, path) in [
        ("authorization_endpoint", "/oauth/authorize"),
        ("token_endpoint", "/oauth/token"),
        ("revocation_endpoint", "/oauth/revoke"),
        ("pushed_authorization_request_endpoint", "/oauth/par"),
        ("jwks_uri", "/oauth/jwks"),
    ] {
        assert_eq!(server[name], format!("{ISSUER}{path}"));
    }
    for name in [
        "require_pushed_authorization_requests",
        "authorization_response_iss_parameter_supported",
        "client_id_metadata_document_supported",
    ] {
        assert_eq!(server[name], true, "{name}");
    }
    let listed = |name: &str, value: &str| {
        assert!(server[name].as_array().unwrap().contains(&value.into()), "{name} {value}");
    };
    listed("code_challenge_methods_supported", "S256");
    listed("dpop_signing_alg_values_supported", "ES256");
    listed("token_endpoint_auth_signing_alg_values_supported", "ES256");
    listed("token_endpoint_auth_methods_supported", "none");
    listed("token_endpoint_auth_methods_supported", "private_key_jwt");
    listed("scopes_supported", "transition:generic");
    assert_eq!(get("/oauth/jwks").await, json!({"keys": []}));
}

#[tokio::test]
async fn the_whole_sign_in_ends_with_tokens_of_the_reference_servers_form() {
    let world = World::new().await;
    let scope = format!("{SCOPE} repo:com.example.note");
    let client = Client::loopback(&world, &scope);
    let tokens = client.sign_in().await;
    let answer = &tokens.answer;
    assert_eq!(answer["token_type"], "DPoP");
    assert_eq!(answer["scope"], scope);
    assert_eq!(answer["expires_in"], 3600);
    assert_eq!(answer["sub"], json!(world.alice.did));
    assert!(tokens.refresh.starts_with("ref-"));
    let part = |n: usize| -> Value {
        let bytes =
            data_encoding::BASE64URL_NOPAD.decode(tokens.access.split('.').nth(n).unwrap().as_bytes());
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"typ": "at+jwt", "alg": "HS256"}));
    let claims = part(1);
    assert!(claims["jti"].as_str().unwrap().starts_with("tok-"));
    assert_eq!(claims["sub"], json!(world.alice.did));
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], "did:web:localhost%3A2583");
    assert_eq!(claims["client_id"], client.id);
    assert_eq!(claims["cnf"], json!({"jkt": client.key.thumbprint()}));
    assert_eq!(claims["exp"], world.now() + 3600);

    let answer = client.session(&tokens.access).await;
    assert!(!answer.header("dpop-nonce").is_empty());
    assert_eq!(answer.header("access-control-expose-headers"), "DPoP-Nonce, WWW-Authenticate");
    let session = answer.ok();
    assert_eq!(session["did"], json!(world.alice.did));
    assert_eq!(session["handle"], "alice.test");
    assert!(session.get("email").is_none() && session.get("emailConfirmed").is_none());
    let record =
        json!({"repo": world.alice.did, "collection": "com.example.note", "rkey": "x", "record": {}});
    client.call(&tokens.access, "com.atproto.repo.putRecord", &record).await.ok();
    let foreign = json!({"repo": world.bob.did, "collection": "com.example.note", "rkey": "x", "record": {}});
    client
        .call(&tokens.access, "com.atproto.repo.putRecord", &foreign)
        .await
        .fails(401, "AuthenticationRequired");
}

#[tokio::test]
async fn a_token_ends_after_an_hour_and_a_public_session_after_two_weeks() {
    let world = World::new().await;
    let client = Client::loopback(&world, SCOPE);
    let mut tokens = client.sign_in().await;
    world.advance(3600);
    client.learn_nonce().await;
    client.session(&tokens.access).await.fails(401, "invalid_token");
    tokens = crate::oauth_world::Tokens::of(&client.refresh(&tokens.refresh).await);
    client.session(&tokens.access).await.ok();
    world.advance(14 * 86400 - 3600);
    client.learn_nonce().await;
    client.refresh(&tokens.refresh).await.refused(400, "invalid_grant");
}
