use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use atcr_auth::Clock;
use atcr_auth::service_auth::{
    LxmPolicy, Replay, ServiceAuthConfig, ServiceAuthError, ServiceAuthVerifier, ServiceClaims, mint,
};
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, DidResolver, ResolveError, StaticResolver};
use atcr_core::syntax::Did;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::fake_pds::{NOW, did};

const METHOD: &str = "io.atcr.hold.initiateUpload";

/// Counts look-ups; `refresh` sees the documents as they are, `resolve` those of a stale cache where there is one.
#[derive(Debug, Default)]
struct Counting {
    now: StaticResolver,
    stale: StaticResolver,
    down: AtomicBool,
    resolved: AtomicUsize,
    refreshed: AtomicUsize,
}

#[async_trait]
impl DidResolver for Counting {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.resolved.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(ResolveError::Unavailable {
                subject: did.to_string(),
                source: Arc::new("down".into()),
            });
        }
        match self.stale.resolve(did).await {
            Err(_) => self.now.resolve(did).await,
            found => found,
        }
    }

    async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
        self.now.resolve(did).await
    }
}

struct World {
    clock: Clock,
    key: SigningKey,
    resolver: Arc<Counting>,
    verifier: ServiceAuthVerifier,
}

fn document(key: &SigningKey) -> DidDocument {
    DidDocument::new(did("did:plc:alice"), None, &key.public_key(), &[])
}

fn hold() -> ServiceAuthConfig {
    ServiceAuthConfig::hold(did("did:web:hold.example"))
}

fn world_with(curve: Curve, config: ServiceAuthConfig) -> World {
    let clock = Clock::manual(NOW);
    let key = SigningKey::generate(curve).unwrap();
    let resolver = Arc::new(Counting::default());
    resolver.now.insert(document(&key));
    let verifier = ServiceAuthVerifier::new(config, resolver.clone(), clock.clone());
    World { clock, key, resolver, verifier }
}

fn world() -> World {
    world_with(Curve::K256, hold())
}

impl World {
    fn token(&self) -> String {
        self.forge(|_, _| ())
    }

    /// A token of Alice's key, with what the test has changed.
    fn forge(&self, change: impl Fn(&mut Value, &mut Value)) -> String {
        let mut header = json!({ "typ": "JWT", "alg": self.key.curve().jwt_algorithm() });
        let mut claims = json!({
            "iss": "did:plc:alice", "aud": "did:web:hold.example", "iat": NOW, "exp": NOW + 60,
            "lxm": METHOD, "jti": "0123456789abcdef0123456789abcdef",
        });
        change(&mut header, &mut claims);
        self.sign(&header.to_string(), &claims.to_string())
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes())))
    }

    fn lookups(&self) -> (usize, usize) {
        (self.resolver.resolved.load(Ordering::SeqCst), self.resolver.refreshed.load(Ordering::SeqCst))
    }
}

/// What a test does to header and claims.
type Change = fn(&mut Value, &mut Value);

fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().remove(name);
}

#[tokio::test]
async fn what_is_minted_verifies_for_both_curves() {
    for curve in [Curve::P256, Curve::K256] {
        let world = world_with(curve, hold());
        let claims = ServiceClaims {
            issuer: &did("did:plc:alice"),
            audience: "did:web:hold.example#atcr_hold",
            method: Some(METHOD),
            subject: Some(&did("did:plc:bob")),
            lifetime: Duration::from_secs(60),
        };
        let token = mint(&world.key, &claims, &world.clock).unwrap();
        let verified = world.verifier.verify(&token, METHOD).await.unwrap();
        assert_eq!(verified.issuer, did("did:plc:alice"));
        assert_eq!(verified.subject, Some(did("did:plc:bob")));
        assert_eq!((verified.method.as_deref(), verified.expires_at), (Some(METHOD), NOW + 60));
        assert_ne!(mint(&world.key, &claims, &world.clock).unwrap(), token, "each has a jti of its own");
    }
}

#[tokio::test]
async fn accepts_what_pdss_and_appviews_send() {
    let world = world();
    let cases: [(&str, Change); 10] = [
        ("as the reference makes it", |_, _| ()),
        ("with the fragment of the service", |_, c| c["aud"] = "did:web:hold.example#atcr_hold".into()),
        ("without a method", |_, c| remove(c, "lxm")),
        ("without a jti", |_, c| remove(c, "jti")),
        ("without iat", |_, c| remove(c, "iat")),
        ("without typ", |h, _| remove(h, "typ")),
        ("with a key id", |h, _| h["kid"] = "#atproto".into()),
        ("with a full key id", |h, _| h["kid"] = "did:plc:alice#atproto".into()),
        ("an hour with a method", |_, c| c["exp"] = json!(NOW + 3600)),
        ("a clock half a minute ahead", |_, c| c["iat"] = json!(NOW + 30)),
    ];
    for (what, change) in cases {
        world.verifier.verify(&world.forge(change), METHOD).await.expect(what);
    }
}

#[tokio::test]
async fn refuses_every_hostile_token_by_name_without_looking_anybody_up() {
    let world = world();
    let cases: [(&str, Change, &str); 33] = [
        ("alg none", |h, _| h["alg"] = "none".into(), "BadJwt"),
        ("alg HS256", |h, _| h["alg"] = "HS256".into(), "BadJwt"),
        ("no alg", |h, _| remove(h, "alg"), "BadJwt"),
        ("critical extension", |h, _| h["crit"] = json!(["exp"]), "BadJwt"),
        ("another key of the document", |h, _| h["kid"] = "#atproto_label".into(), "BadJwt"),
        ("a key id without fragment", |h, _| h["kid"] = "atproto".into(), "BadJwt"),
        ("access token", |h, _| h["typ"] = "at+jwt".into(), "BadJwtType"),
        ("refresh token", |h, _| h["typ"] = "refresh+jwt".into(), "BadJwtType"),
        ("DPoP proof", |h, _| h["typ"] = "dpop+jwt".into(), "BadJwtType"),
        ("access token in capitals", |h, _| h["typ"] = "AT+JWT".into(), "BadJwtType"),
        ("expired", |_, c| c["exp"] = json!(NOW - 30), "JwtExpired"),
        ("expired long ago", |_, c| c["exp"] = json!(i64::MIN), "JwtExpired"),
        ("no exp", |_, c| remove(c, "exp"), "BadJwt"),
        ("fractional exp", |_, c| c["exp"] = json!(1.8e9 + 0.5), "BadJwt"),
        ("text for exp", |_, c| c["exp"] = json!((NOW + 60).to_string()), "BadJwt"),
        ("valid for ever", |_, c| c["exp"] = json!(i64::MAX), "BadJwt"),
        ("more than an hour", |_, c| c["exp"] = json!(NOW + 3631), "BadJwt"),
        (
            "more than five minutes for every method",
            |_, c| {
                remove(c, "lxm");
                c["exp"] = json!(NOW + 331);
            },
            "BadJwt",
        ),
        ("made in the future", |_, c| c["iat"] = json!(NOW + 31), "BadJwt"),
        ("not yet valid", |_, c| c["nbf"] = json!(NOW + 31), "BadJwt"),
        ("another service", |_, c| c["aud"] = "did:web:other.example".into(), "BadJwtAudience"),
        (
            "a service whose name begins the same",
            |_, c| c["aud"] = "did:web:hold.example.evil".into(),
            "BadJwtAudience",
        ),
        (
            "another part of the service",
            |_, c| c["aud"] = "did:web:hold.example#atproto_pds".into(),
            "BadJwtAudience",
        ),
        ("an empty fragment", |_, c| c["aud"] = "did:web:hold.example#".into(), "BadJwtAudience"),
        ("the URL of the service", |_, c| c["aud"] = "https://hold.example".into(), "BadJwtAudience"),
        ("several services", |_, c| c["aud"] = json!(["did:web:hold.example"]), "BadJwt"),
        ("no audience", |_, c| remove(c, "aud"), "BadJwt"),
        ("another method", |_, c| c["lxm"] = "io.atcr.hold.completeUpload".into(), "BadJwtLexiconMethod"),
        ("every method", |_, c| c["lxm"] = "*".into(), "BadJwtLexiconMethod"),
        ("the empty method", |_, c| c["lxm"] = "".into(), "BadJwtLexiconMethod"),
        ("a service of the account", |_, c| c["iss"] = "did:plc:alice#atproto_labeler".into(), "BadJwtIss"),
        ("a handle", |_, c| c["iss"] = "alice.test".into(), "BadJwtIss"),
        ("no issuer", |_, c| remove(c, "iss"), "BadJwt"),
    ];
    for (what, change, name) in cases {
        let error = world.verifier.verify(&world.forge(change), METHOD).await.unwrap_err();
        assert_eq!(error.name(), name, "{what}: {error}");
        assert!(!error.is_transient(), "{what}");
    }
    let twice = format!(
        r#"{{"iss":"did:plc:alice","iss":"did:plc:bob","aud":"did:web:hold.example","exp":{},"lxm":"{METHOD}"}}"#,
        NOW + 60
    );
    let good = world.token();
    let [header, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for (what, token) in [
        ("a claim twice", world.sign(r#"{"typ":"JWT","alg":"ES256K"}"#, &twice)),
        ("nothing", String::new()),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{header}.{claims}.{signature}.{signature}")),
        ("padding", format!("{header}.{claims}.{signature}==")),
        ("white space", format!("{good} ")),
        ("too long", format!("{header}.{claims}.{}", "A".repeat(10_000))),
    ] {
        let error = world.verifier.verify(&token, METHOD).await.unwrap_err();
        assert_eq!(error.name(), "BadJwt", "{what}: {error}");
    }
    assert_eq!(world.lookups(), (0, 0));
}

#[tokio::test]
async fn refuses_signatures_of_other_keys_algorithms_and_contents() {
    let world = world();
    let stranger = world_with(Curve::K256, hold());
    let p256 = world_with(Curve::P256, hold());
    let good = world.token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[40] ^= 1;
    let other_claims = world.forge(|_, c| c["exp"] = json!(NOW + 61));
    let (other_signed, _) = other_claims.rsplit_once('.').unwrap();
    for (what, token) in [
        ("another key", stranger.token()),
        ("another curve", p256.token()),
        ("the other algorithm's name", world.forge(|h, _| h["alg"] = "ES256".into())),
        ("no signature", format!("{signed}.")),
        ("zeros", format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
        ("a changed signature", format!("{signed}.{}", URL_SAFE_NO_PAD.encode(flipped))),
        ("a signature of other claims", format!("{other_signed}.{signature}")),
    ] {
        let error = world.verifier.verify(&token, METHOD).await.unwrap_err();
        assert_eq!(error.name(), "BadJwtSignature", "{what}: {error}");
    }
    world.verifier.verify(&good, METHOD).await.unwrap();
    // Bad signatures made one forced look-up, not one each.
    assert_eq!(world.lookups().1, 1);
}

#[tokio::test]
async fn accepts_a_high_s_as_the_reference_does() {
    let world = world();
    let good = world.token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let low = k256::ecdsa::Signature::from_slice(&bytes).unwrap();
    let high = k256::ecdsa::Signature::from_scalars(low.r().to_bytes(), (-low.s()).to_bytes()).unwrap();
    assert_ne!(high, low);
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(high.to_bytes()));
    world.verifier.verify(&token, METHOD).await.unwrap();
}

#[tokio::test]
async fn a_rotated_key_is_found_with_one_forced_look_up() {
    let world = world();
    world.resolver.stale.insert(document(&SigningKey::generate(Curve::P256).unwrap()));
    world.verifier.verify(&world.token(), METHOD).await.unwrap();
    assert_eq!(world.lookups(), (1, 1));
}

#[tokio::test]
async fn an_unknown_issuer_is_refused_and_an_unreachable_directory_is_not_its_fault() {
    let world = world();
    let token = world.forge(|_, c| c["iss"] = "did:plc:ghost".into());
    assert_eq!(world.verifier.verify(&token, METHOD).await.unwrap_err().name(), "BadJwtIss");
    world.resolver.down.store(true, Ordering::SeqCst);
    let error = world.verifier.verify(&world.token(), METHOD).await.unwrap_err();
    assert!(error.is_transient() && matches!(error, ServiceAuthError::IssuerUnavailable(_)), "{error}");
}

#[tokio::test]
async fn a_method_may_be_required() {
    let mut config = hold();
    config.lxm = LxmPolicy::Required;
    let world = world_with(Curve::K256, config);
    let error = world.verifier.verify(&world.forge(|_, c| remove(c, "lxm")), METHOD).await.unwrap_err();
    assert_eq!(error.name(), "BadJwtLexiconMethod");
    world.verifier.verify(&world.token(), METHOD).await.unwrap();
}

#[tokio::test]
async fn a_token_may_be_used_again_only_where_the_policy_says_so() {
    let lenient = world();
    for _ in 0..3 {
        lenient.verifier.verify(&lenient.token(), METHOD).await.unwrap();
    }
    // What has been used before cannot be used where once is the rule, and the other way round it can.
    let error = lenient.verifier.verify_once(&lenient.token(), METHOD).await.unwrap_err();
    assert_eq!(error.name(), "JwtReplayed");
    let fresh = lenient.forge(|_, c| c["jti"] = "another".into());
    lenient.verifier.verify_once(&fresh, METHOD).await.unwrap();
    assert_eq!(lenient.verifier.verify_once(&fresh, METHOD).await.unwrap_err().name(), "JwtReplayed");

    let mut config = hold();
    config.replay = Replay::Refuse;
    let strict = world_with(Curve::K256, config);
    let token = strict.token();
    let calls = (0..16).map(|_| strict.verifier.verify(&token, METHOD));
    let accepted = futures_util::future::join_all(calls).await.into_iter().flatten().count();
    assert_eq!(accepted, 1, "one of many at the same time");
    // A forged token with the same jti does not use it up, and one without a jti is not taken.
    let stranger = world_with(Curve::K256, hold());
    let forged = stranger.forge(|_, c| c["jti"] = "next".into());
    assert_eq!(strict.verifier.verify(&forged, METHOD).await.unwrap_err().name(), "BadJwtSignature");
    strict.verifier.verify(&strict.forge(|_, c| c["jti"] = "next".into()), METHOD).await.unwrap();
    let error = strict.verifier.verify(&strict.forge(|_, c| remove(c, "jti")), METHOD).await.unwrap_err();
    assert_eq!(error.name(), "BadJwt");
}

#[tokio::test]
async fn the_clock_decides_and_the_error_names_the_difference() {
    let world = world();
    let token = world.token();
    world.clock.advance(Duration::from_secs(89));
    world.verifier.verify(&token, METHOD).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let error = world.verifier.verify(&token, METHOD).await.unwrap_err();
    assert!(matches!(error, ServiceAuthError::JwtExpired { seconds: 30 }), "{error}");
    assert!(error.to_string().contains("30 s") && error.to_string().contains("clock"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_verifier_fall_over(text in ".{0,300}", header in ".{0,80}", claims in ".{0,120}") {
        let world = world();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert!(world.verifier.verify(&text, METHOD).await.is_err());
            assert!(world.verifier.verify(&world.sign(&header, &claims), METHOD).await.is_err());
        });
    }
}
