//! A registry that keeps everything in a directory and in which everybody may do everything. It is killed like any
//! process: what it acknowledged is there when it starts again, and uploads go on.
//!
//! `cargo run --release --example filesystem_registry -- 127.0.0.1:5000 /var/lib/registry`

use std::path::Path;
use std::sync::Arc;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::FilesystemBlobStore;
use atcr_core::manifest_store::FilesystemManifestStore;
use atcr_registry::{ConnectionLimits, Registry, SessionKey, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, directory] = arguments.as_slice() else {
        return Err("usage: filesystem_registry ADDRESS DIRECTORY".into());
    };
    let registry = Registry::builder()
        .manifests(Arc::new(FilesystemManifestStore::open(directory).await?))
        // Everybody may read everything, so a blob may be mounted from wherever it is.
        .blobs(Arc::new(FilesystemBlobStore::open(directory).await?.with_discovery()))
        .authorizer(Arc::new(OpenAuthorizer::default()))
        .session_key(SessionKey::open(&Path::new(directory).join("session.key"))?)
        .build()?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("push to {}", listener.local_addr()?);
    serve(listener, registry.router(), ConnectionLimits::default(), std::future::pending()).await;
    Ok(())
}
