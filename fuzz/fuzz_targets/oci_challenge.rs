//! Challenge headers: the name of the service, the path and the `Authorization` header are anybody's, and every 401 has
//! one challenge that a client reads back as it was meant. The lines of an input are service, method, path, header.
#![no_main]

use std::sync::{Arc, LazyLock};

use atcr_auth::repository_policy::NamespacePolicy;
use atcr_auth::{Clock, TokenAuthorizer, TokenConfig, TokenKeys, TokenVerifier};
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::did_resolver::{IdentityResolver, StaticResolver};
use atcr_core::manifest_store::MemoryManifestStore;
use atcr_core::oci::RepositoryName;
use atcr_registry::Registry;
use axum::body::Body;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, StatusCode};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

static WORLD: LazyLock<(Runtime, Arc<TokenKeys>)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    (runtime.expect("a runtime"), Arc::new(TokenKeys::generate().expect("a key")))
});

/// The parameters of a Bearer challenge, each a quoted string (RFC 9110 §11.6.1, RFC 6750 §3).
fn parameters(challenge: &str) -> Vec<(&str, &str)> {
    let mut rest = challenge.strip_prefix("Bearer ").expect("the scheme");
    let mut parameters = Vec::new();
    loop {
        let (name, value) = rest.split_once("=\"").expect("a parameter");
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{challenge}");
        let (value, after) = value.split_once('"').expect("a closing quote");
        assert!(!value.contains('\\'), "{challenge}");
        parameters.push((name, value));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => {
                assert_eq!(after, "", "{challenge}");
                return parameters;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(lines.next().unwrap_or_default());
    let (Ok(service), Ok(method), Ok(path)) = (text(), text(), text()) else { return };
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = lines.next().and_then(|value| HeaderValue::from_bytes(value).ok()) {
        request = request.header(AUTHORIZATION, value);
    }
    let Ok(request) = request.body(Body::empty()) else { return };

    let (runtime, keys) = &*WORLD;
    let verifier = TokenVerifier::new(Arc::clone(keys), TokenConfig::new(service), Clock::system());
    let nobody = Arc::new(StaticResolver::default());
    let policy = Arc::new(NamespacePolicy::new(IdentityResolver::new(nobody.clone(), nobody)));
    let base = "https://registry.example".parse().expect("a URL");
    let authorizer = TokenAuthorizer::new(verifier, policy, &base);
    let registry = Registry::builder()
        .manifests(Arc::new(MemoryManifestStore::default()))
        .blobs(Arc::new(MemoryBlobStore::default()))
        .authorizer(Arc::new(authorizer))
        .build()
        .expect("a registry");

    let response = runtime.block_on(registry.handle(request));
    assert!(!response.status().is_success() || response.headers().get(WWW_AUTHENTICATE).is_none());
    if response.status() != StatusCode::UNAUTHORIZED {
        return;
    }
    let challenges: Vec<_> = response.headers().get_all(WWW_AUTHENTICATE).iter().collect();
    let [challenge] = challenges[..] else { panic!("{} challenges", challenges.len()) };
    let parameters = parameters(challenge.to_str().expect("a challenge in ASCII"));
    let all = |wanted| parameters.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| *value);
    assert_eq!(all("realm").collect::<Vec<_>>(), ["https://registry.example/auth/token"]);
    assert_eq!(all("service").count(), 1);
    assert!(all("scope").count() <= 1);
    if let Some(scope) = all("scope").next().filter(|scope| *scope != "registry:catalog:*") {
        let (name, actions) =
            scope.strip_prefix("repository:").and_then(|s| s.rsplit_once(':')).expect("a scope");
        name.parse::<RepositoryName>().expect("a name");
        assert!(["pull", "pull,push", "delete", "pull,delete"].contains(&actions), "{actions}");
    }
});
