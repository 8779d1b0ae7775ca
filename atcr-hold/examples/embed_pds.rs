//! The PDS of a hold in a service that is there already: `cargo run -p atcr-hold --example embed_pds [data directory]`.
//!
//! The service has an account of its own (a did:web), whose records it writes itself; everybody can read them, and
//! follow them as they are written. No blob storage is in it: that is what `examples/embed_hold.rs` shows.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::{Did, TidClock};
use atcr_pds::blobs::{Blobs, DEFAULT_BLOB_LIMIT, DirectoryBlobs};
use atcr_pds::xrpc::{ReadOnly, Server, StaticHost};
use atcr_pds::{Expect, MemoryKeys, NewRepo, Repos, SqliteStore, Swap, Write, cbor};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use url::Url;

/// What the service does besides: it counts the visits in its repo.
#[derive(Clone)]
struct Service {
    did: Did,
    repos: Repos,
    rkeys: Arc<TidClock>,
}

async fn visit(State(service): State<Service>) -> Result<String, String> {
    let failed = |error: &dyn Error| error.to_string();
    let value = cbor::json::from_json(&json!({ "$type": "com.example.visit" })).map_err(|e| failed(&e))?;
    let collection = "com.example.visit".parse().map_err(|e| failed(&e))?;
    let rkey = service.rkeys.now().to_string().parse().map_err(|e| failed(&e))?;
    let write = Write::Put { collection, rkey, value, expect: Expect::Absent };
    let applied = service.repos.apply_writes(&service.did, vec![write], Swap::Anything);
    let applied = applied.await.map_err(|e| failed(&e))?;
    Ok(format!("{:?}\n", applied.commit.map(|head| head.rev)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("atcr-embed-pds"), Into::into);
    tokio::fs::create_dir_all(&directory).await?;
    let url: Url = "http://localhost:5004".parse()?;
    let did = Did::web_from_url(&url).ok_or("the URL has a host")?;
    // A service that is to be itself again after a restart keeps its key in a file.
    let key = SigningKey::generate(Curve::K256)?;
    let services = [("atproto_pds", "AtprotoPersonalDataServer", &url)];
    let document = DidDocument::new(did.clone(), None, &key.public_key(), &services);

    let keys = MemoryKeys::default();
    keys.insert(did.clone(), key);
    let repos =
        Repos::open(Arc::new(SqliteStore::open(&directory.join("repo.db")).await?), Arc::new(keys)).await?;
    if repos.info(&did).await?.is_none() {
        repos.create(&did, NewRepo::default()).await?;
    }
    let files =
        Blobs::new(Arc::new(DirectoryBlobs::open(directory.join("files")).await?), DEFAULT_BLOB_LIMIT);
    let host = StaticHost::new(&document, DEFAULT_BLOB_LIMIT)?;
    let pds = Server::new(repos.clone(), files, Arc::new(host), Arc::new(ReadOnly)).router();

    let own = Router::new()
        .route("/", get(|| async { "This server has a repo in it." }))
        .route("/visit", post(visit))
        .with_state(Service { did: did.clone(), repos, rkeys: Arc::new(TidClock::after(None, 0)) });
    let listener = TcpListener::bind(("127.0.0.1", 5004)).await?;
    println!("{did} at {url}");
    tokio::select! {
        ended = axum::serve(listener, own.fallback_service(pds)) => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
