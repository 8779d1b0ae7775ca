use atcr_core::did_resolver::DidDocument;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::world::{Answer, World};

impl World {
    async fn service_auth(&self, query: &str) -> Answer {
        self.get_as(&self.alice.access, &format!("com.atproto.server.getServiceAuth?{query}")).await
    }
}

fn read(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap());
    let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (json(), json())
}

#[tokio::test]
async fn the_token_verifies_with_the_key_of_the_did_document() {
    let world = World::new().await;
    let answer = world.service_auth("aud=did:web:hold.example.com&lxm=io.atcr.hold.uploadBlob").await.ok();
    let token = answer["token"].as_str().unwrap();
    let (header, claims) = read(token);
    assert_eq!(header, json!({"typ": "JWT", "alg": "ES256K"}));
    assert_eq!(claims["iss"], json!(world.alice.did));
    assert_eq!(claims["aud"], "did:web:hold.example.com");
    assert_eq!(claims["lxm"], "io.atcr.hold.uploadBlob");
    assert_eq!(claims["iat"], world.now());
    assert_eq!(claims["exp"], world.now() + 60);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    let described = world.get("com.atproto.repo.describeRepo?repo=alice.test").await.ok();
    let document: DidDocument = serde_json::from_value(described["didDoc"].clone()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    document.signing_key().unwrap().verify(signed.as_bytes(), &signature).unwrap();
    let again = world.service_auth("aud=did:web:hold.example.com&lxm=io.atcr.hold.uploadBlob").await.ok();
    assert_ne!(read(again["token"].as_str().unwrap()).1["jti"], claims["jti"]);
}

#[tokio::test]
async fn audience_and_expiry_follow_the_reference() {
    let world = World::new().await;
    let now = world.now();
    let good = [
        ("aud=did:web:hold.example.com".to_owned(), 60),
        (format!("aud=did:web:hold.example.com&exp={}", now + 50), 50),
        (format!("aud=did:web:hold.example.com&lxm=io.atcr.x&exp={}", now + 3500), 3500),
        ("aud=did:web:localhost%253A8080&lxm=io.atcr.hold".to_owned(), 60),
    ];
    for (query, lifetime) in good {
        let claims = read(world.service_auth(&query).await.ok()["token"].as_str().unwrap()).1;
        assert_eq!(claims["exp"], now + lifetime, "{query}");
    }
    let fragment = world.service_auth("aud=did:web:hold.example.com%23atcr_hold&lxm=io.atcr.hold").await.ok();
    assert_eq!(read(fragment["token"].as_str().unwrap()).1["aud"], "did:web:hold.example.com#atcr_hold");
    let method = "aud=did:web:hold.example.com&lxm=io.atcr.hold";
    for (query, message) in [
        (
            format!("aud=did:web:hold.example.com&exp={}", now + 300),
            "cannot request a method-less token with an expiration more than a minute in the future",
        ),
        (
            format!("{method}&exp={}", now + 3700),
            "cannot request a token with an expiration more than an hour in the future",
        ),
        (format!("{method}&exp={}", now - 10), "expiration is in past"),
    ] {
        assert_eq!(world.service_auth(&query).await.fails(400, "BadExpiration"), message);
    }
    for query in
        ["aud=https://hold.example.com&lxm=io.atcr.hold", "aud=did:web:172.28.0.3%253A8080&lxm=io.atcr.hold"]
    {
        assert_eq!(
            world.service_auth(query).await.fails(400, "InvalidRequest"),
            "aud must be a valid atproto DID or did#serviceId reference"
        );
    }
    assert_eq!(
        world.service_auth("lxm=io.atcr.hold").await.fails(400, "InvalidRequest"),
        "Invalid com.atproto.server.getServiceAuth params: Missing required key \"aud\""
    );
    world.service_auth("aud=did:web:hold.example.com&lxm=bad").await.fails(400, "InvalidRequest");
    world
        .get("com.atproto.server.getServiceAuth?aud=did:web:hold.example.com")
        .await
        .fails(401, "AuthMissing");
}

#[tokio::test]
async fn an_app_password_gets_no_token_for_the_account_itself() {
    let world = World::new().await;
    let made = world
        .post_as(&world.alice.access, "com.atproto.server.createAppPassword", &json!({"name": "x"}))
        .await
        .ok();
    let session = world.pds.create_session("alice.test", made["password"].as_str().unwrap()).await.unwrap();
    let ask = async |lxm: &str| {
        let path = format!("com.atproto.server.getServiceAuth?aud=did:web:hold.example.com&lxm={lxm}");
        world.get_as(&session.access_jwt, &path).await
    };
    ask("io.atcr.hold.uploadBlob").await.ok();
    ask("com.atproto.server.createAppPassword").await.fails(400, "InvalidRequest");
    ask("com.atproto.identity.signPlcOperation").await.fails(400, "InvalidRequest");
}
