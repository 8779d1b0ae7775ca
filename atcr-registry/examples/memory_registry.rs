//! A registry in memory in which everybody may do everything, on a port of the loopback address; what the
//! conformance run and the client tests start. It ends when it is killed.
//!
//! `cargo run --example memory_registry -- --port 5000 [--sparse]`

use std::net::Ipv4Addr;
use std::sync::Arc;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::manifest_store::MemoryManifestStore;
use atcr_registry::{Registry, Sparse};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut port, mut sparse) = (5000_u16, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => port = arguments.next().ok_or("--port needs a number")?.parse()?,
            "--sparse" => sparse = true,
            other => return Err(format!("unknown argument {other}; there are --port N and --sparse").into()),
        }
    }
    let registry = Registry::builder()
        .manifests(Arc::new(MemoryManifestStore::new()))
        .blobs(Arc::new(MemoryBlobStore::with_discovery()))
        .authorizer(Arc::new(OpenAuthorizer::default()))
        .sparse(Sparse { images: sparse, indexes: true })
        .build()?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, registry.router()).await?;
    Ok(())
}
