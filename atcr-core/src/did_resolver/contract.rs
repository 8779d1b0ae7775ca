//! What every [`DidResolver`] must do, as functions that a test calls with an implementation.

use super::{DidResolver, ResolveError};
use crate::syntax::Did;

/// Runs the whole suite: `known` exists at the resolver, `unknown` (of a method it resolves) does not.
pub async fn check(resolver: &dyn DidResolver, known: &Did, unknown: &Did) {
    let document = resolver.resolve(known).await.expect("a known DID resolves");
    assert_eq!(&document.id, known, "the document is that of the DID");
    let again = resolver.refresh(known).await.expect("a known DID can be asked for anew");
    assert_eq!(again.id, document.id);
    let missing = resolver.resolve(unknown).await.expect_err("an unknown DID does not resolve");
    assert!(matches!(missing, ResolveError::NotFound(_)), "unknown is NotFound, not {missing:?}");
    let other: Did = "did:nosuchmethod:abc".parse().expect("a DID of an unknown method");
    let refused = resolver.resolve(&other).await.expect_err("an unknown method does not resolve");
    assert!(
        matches!(refused, ResolveError::NotFound(_) | ResolveError::UnsupportedMethod(_)),
        "an unknown method is refused as such, not as {refused:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::super::{
        CacheLimits, CachingResolver, DidDocument, NetworkResolver, PlcResolver, StaticResolver, WebResolver,
    };
    use super::*;
    use crate::crypto::{Curve, SigningKey};
    use crate::egress::{Egress, EgressPolicy};
    use axum::Router;
    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::routing::get;

    fn document(did: &Did) -> DidDocument {
        let key = SigningKey::generate(Curve::P256).unwrap().public_key();
        let pds = "https://pds.example".parse().unwrap();
        DidDocument::new(did.clone(), None, &key, &[("atproto_pds", "AtprotoPersonalDataServer", &pds)])
    }

    #[tokio::test]
    async fn static_and_caching_resolvers() {
        let (known, unknown) = ("did:plc:known".parse().unwrap(), "did:plc:unknown".parse().unwrap());
        check(&StaticResolver::new([document(&known)]), &known, &unknown).await;
        let caching = CachingResolver::new(StaticResolver::new([document(&known)]), CacheLimits::default());
        check(&caching, &known, &unknown).await;
    }

    #[tokio::test]
    async fn network_resolvers_of_both_methods() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plc: Did = "did:plc:known".parse().unwrap();
        let web: Did = format!("did:web:localhost%3A{port}").parse().unwrap();
        let (plc_json, web_json) = (
            serde_json::to_string(&document(&plc)).unwrap(),
            serde_json::to_string(&document(&web)).unwrap(),
        );
        let directory = move |Path(did): Path<String>| {
            let json = plc_json.clone();
            // `did:plc:liar` is answered with somebody else's document.
            async move {
                if did == "did:plc:known" || did == "did:plc:liar" {
                    Ok(json)
                } else {
                    Err(StatusCode::NOT_FOUND)
                }
            }
        };
        let router = Router::new()
            .route("/.well-known/did.json", get(move || async move { web_json }))
            .route("/{did}", get(directory));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let egress = Egress::new(EgressPolicy::development()).unwrap();
        let directory = format!("http://127.0.0.1:{port}").parse().unwrap();
        let resolver =
            NetworkResolver::new(PlcResolver::new(egress.clone(), directory), WebResolver::new(egress));
        check(&resolver, &plc, &"did:plc:unknown".parse().unwrap()).await;
        resolver.resolve(&web).await.unwrap();
        let lie = resolver.resolve(&"did:plc:liar".parse().unwrap()).await;
        assert!(matches!(lie, Err(ResolveError::Invalid { .. })), "{lie:?}");
        let closed = resolver.resolve(&"did:web:localhost%3A1".parse().unwrap()).await;
        assert!(matches!(closed, Err(ResolveError::Unavailable { .. })), "{closed:?}");
    }
}
