use std::sync::Arc;
use std::time::Duration;

use atcr_auth::registry_token::{RepositoryAccess, TokenError};
use atcr_auth::{
    Clock, NamespacePolicy, TokenAuthorizer, TokenConfig, TokenIssuer, TokenKeys, TokenVerifier,
};
use atcr_core::authorizer::{Action, Authorizer, Credentials, Rejection, Resource, contract};
use atcr_core::did_resolver::{DidDocument, HandleResolver, IdentityResolver, ResolveError, StaticResolver};
use atcr_core::oci::RepositoryName;
use atcr_core::syntax::{Did, Handle};
use atcr_core::{Account, Principal, Proof};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::fake_pds::NOW;

struct World {
    clock: Clock,
    keys: Arc<TokenKeys>,
    issuer: TokenIssuer,
    verifier: TokenVerifier,
    registry: TokenAuthorizer,
}

fn world() -> World {
    let clock = Clock::manual(NOW);
    let keys = Arc::new(TokenKeys::generate().unwrap());
    let config = TokenConfig::new("registry.example");
    let verifier = TokenVerifier::new(keys.clone(), config.clone(), clock.clone());
    let key = atcr_core::crypto::SigningKey::generate(atcr_core::crypto::Curve::P256).unwrap().public_key();
    let pds = "https://pds.example".parse().unwrap();
    let document = |did: &str, handle: &str| {
        DidDocument::new(
            did.parse().unwrap(),
            Some(&handle.parse().unwrap()),
            &key,
            &[("atproto_pds", "AtprotoPersonalDataServer", &pds)],
        )
    };
    let known = Arc::new(StaticResolver::new([
        document("did:plc:alice", "alice.test"),
        document("did:plc:bob", "bob.test"),
    ]));
    let policy = Arc::new(NamespacePolicy::new(IdentityResolver::new(known, Arc::new(Handles))));
    let base = "https://registry.example/".parse().unwrap();
    World {
        registry: TokenAuthorizer::new(verifier.clone(), policy, &base),
        issuer: TokenIssuer::new(keys.clone(), config, clock.clone()),
        clock,
        keys,
        verifier,
    }
}

/// `*.down` cannot be looked up.
#[derive(Debug)]
struct Handles;

#[async_trait::async_trait]
impl HandleResolver for Handles {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        match handle.as_str() {
            "alice.test" => Ok("did:plc:alice".parse().unwrap()),
            "bob.test" => Ok("did:plc:bob".parse().unwrap()),
            "any.down" => Err(ResolveError::Unavailable {
                subject: handle.to_string(),
                source: Arc::new("the DNS is down".into()),
            }),
            _ => Err(ResolveError::NotFound(handle.to_string())),
        }
    }
}

fn alice() -> Principal {
    Principal::Account(Account {
        did: "did:plc:alice".parse().unwrap(),
        handle: Some("alice.test".parse().unwrap()),
        proof: Proof::AppPassword,
    })
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn access(repository: &str, actions: &[Action]) -> RepositoryAccess {
    RepositoryAccess { name: name(repository), actions: actions.to_vec() }
}

fn parts(token: &str) -> (Value, Value) {
    let part = |n: usize| {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
    };
    (part(0), part(1))
}

#[tokio::test]
async fn keeps_the_contract_of_an_authorizer() {
    let world = world();
    let both = [Action::Pull, Action::Push];
    let bearer = |token: &str| Credentials::Bearer(token.to_owned());
    let good = world.issuer.issue(&alice(), &[access("alice.test/app", &both)]).unwrap().token;
    let foreign = TokenIssuer::new(
        Arc::new(TokenKeys::generate().unwrap()),
        TokenConfig::new("registry.example"),
        world.clock.clone(),
    );
    let Principal::Account(account) = alice() else { unreachable!() };
    let bad = [
        Credentials::Unreadable,
        Credentials::Basic { username: "alice.test".to_owned(), password: "secret".to_owned() },
        bearer(""),
        bearer("a.b.c"),
        bearer(&good[..good.len() - 2]),
        bearer(&foreign.issue(&alice(), &[access("alice.test/app", &both)]).unwrap().token),
        bearer(&world.issuer.issue_refresh(&account).unwrap().token),
    ];
    contract::check(&world.registry, &name("alice.test/app"), &name("bob.test/app"), &bearer(&good), &bad)
        .await;
}

#[tokio::test]
async fn a_token_says_what_clients_and_other_services_expect() {
    let world = world();
    let issued =
        world.issuer.issue(&alice(), &[access("alice.test/app", &[Action::Pull, Action::Push])]).unwrap();
    let (header, claims) = parts(&issued.token);
    assert_eq!(header, json!({ "alg": "ES256", "typ": "JWT", "kid": world.keys.key_id() }));
    let jti = claims["jti"].as_str().unwrap();
    assert!(jti.len() >= 22);
    assert_eq!(
        claims,
        json!({
            "iss": "registry.example", "aud": ["registry.example"], "sub": "did:plc:alice",
            "exp": NOW + 300, "nbf": NOW, "iat": NOW, "jti": jti,
            "access": [{ "type": "repository", "name": "alice.test/app", "actions": ["pull", "push"] }],
            "auth_method": "app_password", "handle": "alice.test",
        })
    );
    let (_, anonymous) = parts(&world.issuer.issue(&Principal::Anonymous, &[]).unwrap().token);
    assert_eq!((&anonymous["sub"], &anonymous["access"]), (&json!(""), &json!([])));
    assert_eq!((issued.issued_at, issued.expires_in), (NOW, Duration::from_secs(300)));
}

#[tokio::test]
async fn a_life_shorter_than_clients_assume_is_made_a_minute() {
    let world = world();
    let mut config = TokenConfig::new("registry.example");
    config.lifetime = Duration::from_secs(1);
    let issued = TokenIssuer::new(world.keys, config, world.clock).issue(&alice(), &[]).unwrap();
    assert_eq!(issued.expires_in, Duration::from_secs(60));
}

#[tokio::test]
async fn gives_the_principal_back_and_anonymous_as_such() {
    let world = world();
    for principal in [alice(), Principal::Anonymous] {
        let token = world.issuer.issue(&principal, &[access("bob.test/app", &[Action::Pull])]).unwrap().token;
        let app = name("bob.test/app");
        let resource = Resource::Repository(&app, Action::Pull);
        for _ in 0..2 {
            let credentials = Credentials::Bearer(token.clone());
            assert_eq!(world.registry.authorize(&credentials, &resource).await.unwrap(), principal);
        }
    }
}

#[tokio::test]
async fn a_remembered_token_still_expires() {
    let world = world();
    let token = world.issuer.issue(&alice(), &[]).unwrap().token;
    world.verifier.verify(&token).await.unwrap();
    world.clock.advance(Duration::from_secs(309));
    world.verifier.verify(&token).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let error = world.verifier.verify(&token).await.unwrap_err();
    assert_eq!(error, TokenError::Expired { seconds: 10 });
    let fresh = TokenVerifier::new(world.keys, TokenConfig::new("registry.example"), world.clock);
    assert_eq!(fresh.verify(&token).await.unwrap_err(), error);
}

/// What a test does to header and claims.
type Change = fn(&mut Value, &mut Value);

/// A token of this registry's key whose header and claims the test has changed.
fn forge(world: &World, change: impl Fn(&mut Value, &mut Value)) -> String {
    let token = world.issuer.issue(&alice(), &[access("alice.test/app", &[Action::Pull])]).unwrap().token;
    let (mut header, mut claims) = parts(&token);
    change(&mut header, &mut claims);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let key = p256::ecdsa::SigningKey::from(
        <p256::SecretKey as p256::pkcs8::DecodePrivateKey>::from_pkcs8_pem(&world.keys.to_pem().unwrap())
            .unwrap(),
    );
    let signature: p256::ecdsa::Signature = p256::ecdsa::signature::Signer::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

#[tokio::test]
async fn refuses_every_hostile_token_by_name() {
    let world = world();
    let cases: [(&str, Change, TokenError); 20] = [
        ("alg none", |h, _| h["alg"] = "none".into(), TokenError::Malformed),
        ("alg HS256", |h, _| h["alg"] = "HS256".into(), TokenError::BadSignature),
        ("alg ES384", |h, _| h["alg"] = "ES384".into(), TokenError::BadSignature),
        ("no kid", |h, _| drop(h.as_object_mut().unwrap().remove("kid")), TokenError::UnknownKey),
        ("other kid", |h, _| h["kid"] = "x".into(), TokenError::UnknownKey),
        ("critical extension", |h, _| h["crit"] = json!(["b64"]), TokenError::Malformed),
        ("refresh type", |h, _| h["typ"] = "atcr-refresh+jwt".into(), TokenError::WrongType),
        ("no type", |h, _| drop(h.as_object_mut().unwrap().remove("typ")), TokenError::WrongType),
        ("other issuer", |_, c| c["iss"] = "evil.example".into(), TokenError::WrongIssuer),
        ("no issuer", |_, c| drop(c.as_object_mut().unwrap().remove("iss")), TokenError::Malformed),
        ("other audience", |_, c| c["aud"] = json!(["other.example"]), TokenError::WrongAudience),
        ("no audience", |_, c| c["aud"] = json!([]), TokenError::WrongAudience),
        ("no exp", |_, c| drop(c.as_object_mut().unwrap().remove("exp")), TokenError::Malformed),
        ("text for exp", |_, c| c["exp"] = "9999999999".into(), TokenError::Malformed),
        ("expired", |_, c| c["exp"] = json!(NOW - 10), TokenError::Expired { seconds: 10 }),
        ("not yet", |_, c| c["nbf"] = json!(NOW + 11), TokenError::NotYetValid { seconds: 11 }),
        ("no iat", |_, c| drop(c.as_object_mut().unwrap().remove("iat")), TokenError::Malformed),
        ("iat ahead", |_, c| c["iat"] = json!(NOW + 11), TokenError::NotYetValid { seconds: 11 }),
        ("not a DID", |_, c| c["sub"] = "alice".into(), TokenError::Malformed),
        ("no proof", |_, c| drop(c.as_object_mut().unwrap().remove("auth_method")), TokenError::Malformed),
    ];
    world.verifier.verify(&forge(&world, |_, _| ())).await.unwrap();
    for (what, change, expected) in cases {
        let error = world.verifier.verify(&forge(&world, change)).await.unwrap_err();
        assert_eq!(error, expected, "{what}");
    }
    let long = format!("{}.{}.AA", "A".repeat(8192), "A".repeat(100));
    assert_eq!(world.verifier.verify(&long).await.unwrap_err(), TokenError::Malformed);

    // Every changed byte of a good token is noticed.
    let good = forge(&world, |_, _| ());
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(world.verifier.verify(&String::from_utf8(bytes).unwrap()).await.is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn a_token_for_one_repository_or_action_is_good_for_no_other() {
    let world = world();
    let token =
        world.issuer.issue(&alice(), &[access("alice.test/app", &[Action::Pull, Action::Push])]).unwrap();
    let token = world.verifier.verify(&token.token).await.unwrap();
    assert!(token.allows(&name("alice.test/app"), Action::Push));
    assert!(!token.allows(&name("alice.test/app"), Action::Delete), "push brings no delete");
    for other in ["alice.test/apps", "alice.test/app/x", "alice.test/ap", "bob.test/app"] {
        assert!(!token.allows(&name(other), Action::Pull), "{other}");
    }
    let token = forge(&world, |_, c| c["access"][0]["type"] = "registry".into());
    assert!(world.verifier.verify(&token).await.unwrap().access.is_empty());
    let token = forge(&world, |_, c| c["access"][0]["actions"] = json!(["*", "PULL"]));
    assert!(!world.verifier.verify(&token).await.unwrap().allows(&name("alice.test/app"), Action::Pull));
}

async fn ask(world: &World, token: &str, repository: &str, action: Action) -> Result<Principal, Rejection> {
    let credentials = Credentials::Bearer(token.to_owned());
    world.registry.authorize(&credentials, &Resource::Repository(&name(repository), action)).await
}

#[tokio::test]
async fn challenges_for_a_right_that_could_be_had_and_denies_one_that_could_not() {
    let world = world();
    let token = |principal| {
        world.issuer.issue(principal, &[access("alice.test/app", &[Action::Pull])]).unwrap().token
    };
    let (signed_in, anonymous) = (token(&alice()), token(&Principal::Anonymous));

    // Her own repository, by each of its names: a better token is to be had.
    for own in ["alice.test/app", "did-plc-alice/app", "did:plc:alice/app"] {
        for (action, scope) in [(Action::Push, "pull,push"), (Action::Delete, "delete")] {
            let rejection = ask(&world, &signed_in, own, action).await.unwrap_err();
            let Rejection::Challenge { www_authenticate, .. } = rejection else {
                panic!("{own}: {rejection:?}")
            };
            assert_eq!(
                www_authenticate,
                format!(
                    "Bearer realm=\"https://registry.example/auth/token\",service=\"registry.example\",\
                     scope=\"repository:{own}:{scope}\",error=\"insufficient_scope\""
                )
            );
        }
    }
    let pull = ask(&world, &signed_in, "bob.test/app", Action::Pull).await;
    assert!(matches!(pull, Err(Rejection::Challenge { .. })), "{pull:?}");
    let push = ask(&world, &anonymous, "alice.test/app", Action::Push).await;
    assert!(
        matches!(&push, Err(Rejection::Challenge { message, .. }) if message.contains("docker login")),
        "{push:?}"
    );

    // Somebody else's, nobody's, and what no account is named like: denied, with the reason.
    for (other, reason) in [
        ("bob.test/app", "belongs to bob.test"),
        ("did-plc-bob/app", "belongs to did:plc:bob"),
        ("ghost.test/app", "there is no account ghost.test"),
        ("library/app", "does not begin with"),
        ("app", "does not begin with"),
    ] {
        for action in [Action::Push, Action::Delete] {
            let rejection = ask(&world, &signed_in, other, action).await.unwrap_err();
            let Rejection::Denied(message) = rejection else { panic!("{other}: {rejection:?}") };
            assert!(message.contains(reason) && message.contains("alice.test/"), "{message}");
        }
    }
    let down = ask(&world, &signed_in, "any.down/app", Action::Push).await;
    assert!(matches!(down, Err(Rejection::Unavailable { .. })), "{down:?}");
}

#[tokio::test]
async fn pulls_without_a_token_are_challenged_unless_they_are_let_in() {
    let world = world();
    let app = name("alice.test/app");
    let rejection =
        world.registry.authorize(&Credentials::None, &Resource::Repository(&app, Action::Pull)).await;
    let Err(Rejection::Challenge { www_authenticate, .. }) = rejection else { panic!("{rejection:?}") };
    assert!(www_authenticate.ends_with(r#"scope="repository:alice.test/app:pull""#), "{www_authenticate}");
    let rejection = world.registry.authorize(&Credentials::None, &Resource::Api).await;
    let Err(Rejection::Challenge { www_authenticate, .. }) = rejection else { panic!("{rejection:?}") };
    assert!(!www_authenticate.contains("scope") && !www_authenticate.contains("error"), "{www_authenticate}");

    let open = world.registry.clone().with_anonymous_pulls(true);
    let pull = open.authorize(&Credentials::None, &Resource::Repository(&app, Action::Pull)).await;
    assert_eq!(pull.unwrap(), Principal::Anonymous);
    for resource in [Resource::Api, Resource::Repository(&app, Action::Push)] {
        let rejection = open.authorize(&Credentials::None, &resource).await;
        assert!(matches!(rejection, Err(Rejection::Challenge { .. })), "{rejection:?}");
    }
    let bad = Credentials::Bearer("expired".to_owned());
    let rejection = open.authorize(&bad, &Resource::Repository(&app, Action::Pull)).await;
    let Err(Rejection::Challenge { www_authenticate, .. }) = rejection else { panic!("{rejection:?}") };
    assert!(www_authenticate.ends_with(r#"error="invalid_token""#), "{www_authenticate}");
}

#[tokio::test]
async fn keys_rotate_without_refusing_a_token() {
    let world = world();
    let config = TokenConfig::new("registry.example");
    let token = world.issuer.issue(&alice(), &[]).unwrap().token;
    let next = Arc::new(TokenKeys::generate().unwrap().with_previous(&world.keys));
    let verifier = TokenVerifier::new(next.clone(), config.clone(), world.clock.clone());
    verifier.verify(&token).await.unwrap();
    let newer =
        TokenIssuer::new(next.clone(), config.clone(), world.clock.clone()).issue(&alice(), &[]).unwrap();
    verifier.verify(&newer.token).await.unwrap();
    assert_eq!(world.verifier.verify(&newer.token).await.unwrap_err(), TokenError::UnknownKey);
    let ids: Vec<Value> =
        next.jwks()["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(ids, [json!(next.key_id()), json!(world.keys.key_id())]);
    assert!(!next.jwks().to_string().contains("\"d\""));
    // A key read back from its file is the same key.
    let again = TokenKeys::from_pem(&next.to_pem().unwrap()).unwrap();
    assert_eq!(again.key_id(), next.key_id());
    assert!(TokenKeys::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
    assert!(!format!("{next:?}").contains("SigningKey"));
}
