//! A hold: where the layers of container images are kept, by whoever wants to keep them.
//!
//! A hold has an identity of its own (did:web, or did:plc: see [`identity`]), a repo in which it says who owns it, who may use it and what it
//! keeps, and storage for blobs. Registries and other clients upload and fetch blobs over XRPC, in the name of
//! accounts of the AT Protocol, which prove themselves with service tokens of their PDS.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use atcr_core::did_resolver::StaticResolver;
//! use atcr_hold::{Hold, HoldConfig};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let owner = "did:plc:ewvi7nxzyoun6zhxrhs64oiz".parse()?;
//! let mut config = HoldConfig::new("https://hold.example.com".parse()?, "/var/lib/atcr-hold", owner);
//! config.public = true;
//!
//! // In production: a CachingResolver over a NetworkResolver.
//! let hold = Hold::open(config, Arc::new(StaticResolver::default())).await?;
//! assert_eq!(hold.did().as_str(), "did:web:hold.example.com");
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! tokio::select! {
//!     ended = axum::serve(listener, hold.router()) => ended?,
//!     () = hold.maintain() => {}
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed_hold.rs` puts a hold into a server that does other things too.
//!
//! # What it answers
//!
//! | method | who may |
//! |---|---|
//! | `io.atcr.hold.initiateUpload`, `getPartUploadUrl`, `uploadPart`, `completeUpload`, `notifyManifest` (push) | owner, crew with `blob:write` |
//! | `io.atcr.hold.abortUpload` | the uploader |
//! | `com.atproto.sync.getBlob` by digest, `notifyManifest` (pull) | on a public hold anyone (a pull: any account), else crew with `blob:read` |
//! | `io.atcr.hold.requestCrew` | anyone, where the hold allows all crew |
//! | `io.atcr.hold.getQuota`, `listTiers`, `getLayersForManifest` | anyone |
//! | `com.atproto.repo.*` that write | owner, crew with `crew:admin` |
//! | `com.atproto.sync.*`, `com.atproto.repo.*` that read, `/.well-known/*` | anyone |
//!
//! # What it promises
//!
//! - A blob is visible only once its bytes have been hashed and are durable. Whoever uploads bytes that are not what
//!   they said gets an error, and nobody ever gets the bytes.
//! - An upload needs no memory of the process: it goes on after a restart, part by part.
//! - Memory does not depend on the size of blobs.
//! - With [`FilesystemStorage`](storage::FilesystemStorage), parts that come in order are appended to one file and
//!   hashed on the way; completion is a sync and a rename, whatever the size.

mod access;
mod database;
mod error;
mod hold;
pub mod identity;
mod repo;
mod signed_url;
pub mod storage;
pub mod upkeep;
mod uploads;
mod xrpc;

pub use access::{LegacyCrew, Tier, Tiers, TiersError};
pub use error::HoldError;
pub use hold::{Hold, HoldConfig, export_repo};
pub use uploads::{Swept, Verification, Verify};
