//! A hold inside a server that has pages of its own: `cargo run -p atcr-hold --example embed_hold [data directory]`.
//!
//! The hold is its host's identity, so it owns `/xrpc/*` and `/.well-known/*` there; everything else is free.

use std::error::Error;
use std::sync::Arc;

use atcr_core::did_resolver::{CacheLimits, CachingResolver, NetworkResolver, PlcResolver, WebResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use atcr_hold::{Hold, HoldConfig};
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data_dir =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("atcr-hold"), Into::into);
    let owner: Did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz".parse()?;

    let egress = Egress::new(EgressPolicy::default())?;
    let plc = PlcResolver::new(egress.clone(), "https://plc.directory".parse()?);
    let resolver = NetworkResolver::new(plc, WebResolver::new(egress));
    let resolver = Arc::new(CachingResolver::new(resolver, CacheLimits::default()));

    let listener = TcpListener::bind(("127.0.0.1", 5002)).await?;
    let mut config = HoldConfig::new("http://localhost:5002".parse()?, data_dir, owner);
    config.public = true;
    let hold = Hold::open(config, resolver).await?;

    let pages = Router::new().route("/", get(|| async { "This server has a hold in it." }));
    let app = pages.fallback_service(hold.router());

    println!("{} at {}", hold.did(), hold.public_url());
    tokio::select! {
        ended = axum::serve(listener, app) => ended?,
        () = hold.maintain() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
