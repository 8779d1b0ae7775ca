//! A registry beside the routes of another axum program, with limits of its own.
//!
//! `cargo run --example embed`, then `skopeo copy --dest-tls-verify=false oci:image docker://127.0.0.1:5000/app`

use std::sync::Arc;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::manifest_store::MemoryManifestStore;
use atcr_registry::{ConnectionLimits, Limits, Registry, serve};
use axum::routing::get;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::builder()
        .manifests(Arc::new(MemoryManifestStore::new()))
        .blobs(Arc::new(MemoryBlobStore::new()))
        .authorizer(Arc::new(OpenAuthorizer::default()))
        .limits(Limits { manifest_size: 8 << 20, ..Limits::default() })
        .warning("this registry forgets everything when it stops")
        .build()?;
    let app = axum::Router::new().route("/healthz", get(|| async { "ok" })).merge(registry.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
    println!("push to {}", listener.local_addr()?);
    serve(listener, app, ConnectionLimits::default(), std::future::pending()).await;
    Ok(())
}
