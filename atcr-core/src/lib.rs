//! The ground that atcr stands on: names, digests and records as types that cannot be built wrong, the four traits
//! that everything else is written against, and the egress gate.
//!
//! atcr is an OCI container registry on the AT Protocol. This crate uses the network through [`egress::Egress`] only.
//!
//! ```
//! use atcr_core::oci::{Reference, RepositoryName};
//!
//! let name: RepositoryName = "alice.bsky.social/tools/app".parse()?;
//! let (owner, image) = name.owner().expect("it stands under a handle");
//! assert_eq!(owner.to_string(), "alice.bsky.social");
//! assert_eq!(image.as_str(), "tools/app");
//! assert!(matches!("1.2".parse()?, Reference::Tag(_)));
//! # Ok::<(), atcr_core::syntax::SyntaxError>(())
//! ```
//!
//! # The traits
//!
//! | trait | what it is | here in memory | here on a filesystem |
//! |---|---|---|---|
//! | [`ManifestStore`] | manifests, tags, referrers | [`manifest_store::MemoryManifestStore`] | [`manifest_store::FilesystemManifestStore`] |
//! | [`BlobStore`] | blobs and their uploads | [`blob_store::MemoryBlobStore`] | [`blob_store::FilesystemBlobStore`] |
//! | [`Authorizer`] | who is calling, and may they | [`authorizer::OpenAuthorizer`] | |
//! | [`DidResolver`] | DID → document | [`did_resolver::StaticResolver`] | |
//!
//! Each comes with a suite of checks for other implementations, in its module `contract` (feature `contract`).

mod access;
pub mod authorizer;
pub mod blob_store;
pub mod crypto;
pub mod did_resolver;
pub mod egress;
mod error;
#[cfg(unix)]
pub mod files;
pub mod lexicon;
pub mod manifest_store;
pub mod methods;
pub mod oci;
pub mod records;
pub mod syntax;
pub mod xrpc;

pub use access::{Access, Account, Principal, Proof};
pub use authorizer::Authorizer;
pub use blob_store::BlobStore;
pub use did_resolver::DidResolver;
pub use error::{Source, StoreError, with_causes};
pub use manifest_store::ManifestStore;

/// The target of the events (`tracing`) that say who did what: sign-ins, refreshed sessions, devices, written and deleted
/// manifests, crew. Each has a field `event`, and `did` where it is known who acted; none holds a secret. Where a
/// request came from is a field `address` of a span of this target.
pub const AUDIT: &str = "audit";
