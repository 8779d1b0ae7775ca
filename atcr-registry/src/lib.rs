//! The OCI Distribution API over three traits, as a library: given any [`ManifestStore`], [`BlobStore`] and
//! [`Authorizer`] it is a complete container registry, as an axum [`Router`](axum::Router) or a tower service.
//!
//! It keeps no state of its own: an upload goes on at any replica that has the same stores and the same
//! [`SessionKey`], and after any restart.
//!
//! # A registry inside a test
//!
//! ```
//! use atcr_registry::Registry;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), std::io::Error> {
//! let registry = Registry::memory().spawn().await?;
//! println!("push to {}/app:latest", registry.addr());
//! // It stops when `registry` is dropped.
//! # Ok(())
//! # }
//! ```
//!
//! # Over your own stores
//!
//! ```
//! use std::sync::Arc;
//!
//! use atcr_core::authorizer::OpenAuthorizer;
//! use atcr_core::blob_store::MemoryBlobStore;
//! use atcr_core::manifest_store::MemoryManifestStore;
//! use atcr_registry::Registry;
//!
//! let registry = Registry::builder()
//!     .manifests(Arc::new(MemoryManifestStore::new()))
//!     .blobs(Arc::new(MemoryBlobStore::new()))
//!     .authorizer(Arc::new(OpenAuthorizer::default()))
//!     .build()?;
//! let app: axum::Router = axum::Router::new().merge(registry.router());
//! # let _ = app;
//! # Ok::<(), atcr_registry::BuildError>(())
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `atproto` | yes | the module `atproto`: manifests as records in PDSs, blobs in holds |
//! | `index` | no | the modules `index`, `ingest` and `hold_health`: what the network's repos hold, in SQLite or PostgreSQL |
//! | `web` | no | the modules `web`, the pages and the same as JSON, and `webhooks` |
//!
//! [`ManifestStore`]: atcr_core::ManifestStore
//! [`BlobStore`]: atcr_core::BlobStore
//! [`Authorizer`]: atcr_core::Authorizer

#[cfg(feature = "atproto")]
pub mod atproto;
#[cfg(feature = "index")]
pub mod hold_health;
#[cfg(feature = "index")]
pub mod index;
#[cfg(feature = "index")]
pub mod ingest;
mod limits;
mod oci;
mod registry;
mod running;
mod server;
#[cfg(feature = "web")]
pub mod web;
#[cfg(feature = "web")]
pub mod webhooks;

pub use limits::{Limits, Sparse};
pub use oci::session::SessionKey;
pub use registry::{BuildError, Registry, RegistryBuilder};
pub use running::RunningRegistry;
pub use server::{ConnectionLimits, serve};
