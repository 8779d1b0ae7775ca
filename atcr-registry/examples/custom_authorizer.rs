//! A registry with an access rule of its own: everybody pulls, and who knows the password pushes.
//!
//! `cargo run --example custom_authorizer`

use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::authorizer::{Action, Authorizer, Credentials, Rejection, Resource};
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::manifest_store::MemoryManifestStore;
use atcr_core::{Account, Principal, Proof};
use atcr_registry::Registry;
use axum::body::Body;
use http::Request;

/// One user, who may do everything; everybody else may pull.
struct OneUser {
    account: Account,
    password: String,
}

impl std::fmt::Debug for OneUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneUser").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl Authorizer for OneUser {
    async fn authorize(
        &self,
        credentials: &Credentials,
        resource: &Resource<'_>,
    ) -> Result<Principal, Rejection> {
        let challenge = |message: &str| Rejection::Challenge {
            www_authenticate: "Basic realm=\"example\"".to_owned(),
            message: message.to_owned(),
        };
        match credentials {
            Credentials::Basic { password, .. } if *password == self.password => {
                Ok(Principal::Account(self.account.clone()))
            }
            Credentials::None => match resource {
                Resource::Repository(_, Action::Pull) => Ok(Principal::Anonymous),
                // Without a challenge here clients never send their credentials.
                _ => Err(challenge("sign in to push")),
            },
            // Wrong credentials are not the same as none: the person should learn of it.
            _ => Err(challenge("the password is wrong")),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let account = Account { did: "did:web:example.com".parse()?, handle: None, proof: Proof::Trusted };
    let registry = Registry::builder()
        .manifests(Arc::new(MemoryManifestStore::new()))
        .blobs(Arc::new(MemoryBlobStore::new()))
        .authorizer(Arc::new(OneUser { account, password: "correct horse".to_owned() }))
        .build()?;
    // A registry is also a service without any socket.
    for authorization in [None, Some("Basic bWU6d3Jvbmc="), Some("Basic bWU6Y29ycmVjdCBob3JzZQ==")] {
        let mut request = Request::post("/v2/app/blobs/uploads/");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = registry.handle(request.body(Body::empty())?).await;
        println!("push with {authorization:?}: {}", answer.status());
    }
    Ok(())
}
