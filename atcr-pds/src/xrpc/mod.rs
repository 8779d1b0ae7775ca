//! The HTTP face of repos: `com.atproto.repo.*`, `com.atproto.sync.*` with the event stream, and what relays and
//! clients ask a server about itself (specifications XRPC, Sync, Event Stream).
//!
//! [`Server`] joins [`Repos`](crate::Repos) and [`Blobs`](crate::blobs::Blobs) with two things that only the program
//! around it knows: who is calling ([`XrpcAuth`]) and which names and documents belong to the accounts ([`Host`]). It
//! hands out a [`Router`](axum::Router); statuses, error names and limits are the reference server's.
//!
//! A service with a repo of its own, which others may follow and nobody but the program writes:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use atcr_core::crypto::{Curve, SigningKey};
//! use atcr_core::did_resolver::DidDocument;
//! use atcr_pds::blobs::{Blobs, DEFAULT_BLOB_LIMIT, MemoryBlobs};
//! use atcr_pds::xrpc::{ReadOnly, Server, StaticHost};
//! use atcr_pds::{MemoryKeys, NewRepo, Repos, SqliteStore};
//! use tower::ServiceExt as _;
//!
//! let url = "https://hold.example.com".parse()?;
//! let did: atcr_core::syntax::Did = "did:web:hold.example.com".parse()?;
//! let key = SigningKey::generate(Curve::K256)?;
//! let services = [("atproto_pds", "AtprotoPersonalDataServer", &url)];
//! let document = DidDocument::new(did.clone(), Some(&"hold.example.com".parse()?), &key.public_key(), &services);
//!
//! let keys = MemoryKeys::default();
//! keys.insert(did.clone(), key);
//! let repos = Repos::open(Arc::new(SqliteStore::in_memory().await?), Arc::new(keys)).await?;
//! repos.create(&did, NewRepo::default()).await?;
//!
//! let blobs = Blobs::new(Arc::new(MemoryBlobs::default()), DEFAULT_BLOB_LIMIT);
//! let host = StaticHost::new(&document, blobs.limit())?;
//! let router = Server::new(repos, blobs, Arc::new(host), Arc::new(ReadOnly)).router();
//!
//! let request = http::Request::get("/.well-known/did.json").body(axum::body::Body::empty())?;
//! assert_eq!(router.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```

mod auth;
mod blob;
mod cors;
mod error;
mod host;
mod input;
mod params;
mod read;
mod schema;
mod server;
mod subscribe;
mod sync;
mod write;

pub use auth::{Caller, ReadOnly, XrpcAuth, bearer_token};
pub use error::XrpcError;
pub use host::{Host, HostIdentity, ServerContact, ServerDescription, ServerLinks, StaticHost};
pub use input::{Input, MAX_INPUT_BYTES};
pub use params::Params;
pub use schema::{BuiltinSchemas, NoSchemas, RecordSchemas, Validity};
pub use server::{Server, complete, method, procedure, query};
pub use subscribe::SubscribeOptions;
