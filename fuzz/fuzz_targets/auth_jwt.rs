//! Tokens that nobody has signed: as registry tokens, refresh tokens and service tokens. None is taken.
#![no_main]

use std::sync::{Arc, LazyLock};

use atcr_auth::service_auth::ServiceAuthConfig;
use atcr_auth::{Clock, ServiceAuthVerifier, TokenConfig, TokenKeys, TokenVerifier};
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, StaticResolver};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

static WORLD: LazyLock<(Runtime, TokenVerifier, ServiceAuthVerifier)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let keys = Arc::new(TokenKeys::generate().expect("a key"));
    let clock = Clock::manual(1_800_000_000);
    let registry = TokenVerifier::new(keys, TokenConfig::new("registry.example"), clock.clone());
    let key = SigningKey::generate(Curve::K256).expect("a key").public_key();
    let pds = "https://pds.example".parse().expect("a URL");
    let services = [("atproto_pds", "AtprotoPersonalDataServer", &pds)];
    let alice = DidDocument::new("did:plc:alice".parse().expect("a DID"), None, &key, &services);
    let hold = ServiceAuthConfig::hold("did:web:hold.example".parse().expect("a DID"));
    let services = ServiceAuthVerifier::new(hold, Arc::new(StaticResolver::new([alice])), clock);
    (runtime.expect("a runtime"), registry, services)
});

fuzz_target!(|data: &[u8]| {
    let Ok(token) = std::str::from_utf8(data) else { return };
    let (runtime, registry, services) = &*WORLD;
    assert!(registry.verify_refresh(token).is_err());
    runtime.block_on(async {
        assert!(registry.verify(token).await.is_err());
        assert!(services.verify(token, "io.atcr.hold.initiateUpload").await.is_err());
    });
});
