//! What the conformance run starts: a registry in memory or, with `--directory`, on the filesystem; for everybody or,
//! with `--token`, for whoever signs in as `user` with the password `password`.
//!
//! `cargo run --example conformance_registry -- --port 5000 [--directory DIRECTORY] [--token] [--sparse]`

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use atcr_auth::pds_session::StaticSignIn;
use atcr_auth::repository_policy::PolicyError;
use atcr_auth::{
    Clock, RepositoryPolicy, TokenAuthorizer, TokenConfig, TokenEndpoint, TokenIssuer, TokenKeys,
    TokenVerifier,
};
use atcr_core::authorizer::{Action, OpenAuthorizer};
use atcr_core::blob_store::{FilesystemBlobStore, MemoryBlobStore};
use atcr_core::manifest_store::{FilesystemManifestStore, MemoryManifestStore};
use atcr_core::oci::RepositoryName;
use atcr_core::{Account, Principal, Proof};
use atcr_registry::{Registry, Sparse};

/// Everybody pulls, every account may do everything.
#[derive(Debug)]
struct Accounts;

#[async_trait]
impl RepositoryPolicy for Accounts {
    async fn actions(
        &self,
        principal: &Principal,
        _: &RepositoryName,
        asked: &[Action],
    ) -> Result<Vec<Action>, PolicyError> {
        let all = principal.did().is_some();
        Ok(asked.iter().copied().filter(|action| all || *action == Action::Pull).collect())
    }
}

/// The authorizer, and the token endpoint that it sends clients to.
fn tokens(port: u16) -> Result<(TokenAuthorizer, TokenEndpoint), Box<dyn std::error::Error>> {
    let (keys, config) = (Arc::new(TokenKeys::generate()?), TokenConfig::new("conformance"));
    let verifier = TokenVerifier::new(Arc::clone(&keys), config.clone(), Clock::system());
    let issuer = TokenIssuer::new(keys, config, Clock::system());
    let account = Account { did: "did:web:user.example".parse()?, handle: None, proof: Proof::Trusted };
    let users = StaticSignIn::default().with("user", "password", account);
    let base = format!("http://127.0.0.1:{port}").parse()?;
    let authorizer = TokenAuthorizer::new(verifier.clone(), Arc::new(Accounts), &base);
    Ok((authorizer, TokenEndpoint::new(issuer, verifier, Arc::new(users), Arc::new(Accounts))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut port, mut directory, mut token, mut images) = (5000_u16, None, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => port = arguments.next().ok_or("--port needs a number")?.parse()?,
            "--directory" => directory = Some(arguments.next().ok_or("--directory needs a path")?),
            "--token" => token = true,
            "--sparse" => images = true,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let builder = Registry::builder().sparse(Sparse { images, indexes: true });
    let builder = match directory {
        Some(directory) => builder
            .manifests(Arc::new(FilesystemManifestStore::open(&directory).await?))
            .blobs(Arc::new(FilesystemBlobStore::open(&directory).await?.with_discovery())),
        None => builder
            .manifests(Arc::new(MemoryManifestStore::new()))
            .blobs(Arc::new(MemoryBlobStore::with_discovery())),
    };
    let app = if token {
        let (authorizer, endpoint) = tokens(port)?;
        builder.authorizer(Arc::new(authorizer)).build()?.router().merge(endpoint.router())
    } else {
        builder.authorizer(Arc::new(OpenAuthorizer::default())).build()?.router()
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
