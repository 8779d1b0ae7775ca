//! An embeddable AT Protocol personal data server.
//!
//! A repo is a signed key/value map: records under `collection/rkey` in a Merkle search tree, whose root is named by
//! a commit that the account's key signs. This crate keeps any number of them in one store, lets them be written,
//! proves what they hold, and tells the network about every change.
//!
//! - [`cbor`]: the data model, DAG-CBOR and its JSON form, strictly canonical
//! - [`repo`]: the tree, commits, CAR files, and [`Repos`], which joins them over a store
//! - [`store`]: where repos are kept; SQLite is the one that is built in
//! - [`blobs`]: the files that records refer to
//! - [`xrpc`]: all of it as an axum router, the event stream included
//! - [`crawlers`]: relays that are asked to follow
//! - [`plc`]: did:plc operations, logs and documents
//! - `accounts` (feature): a development server with accounts and a PLC directory of its own
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use atcr_core::crypto::{Curve, SigningKey};
//! use atcr_core::syntax::Did;
//! use atcr_pds::{Expect, Write, MemoryKeys, NewRepo, Repos, SqliteStore, Swap};
//! use serde_json::json;
//!
//! let did: Did = "did:web:hold.example.com".parse()?;
//! let keys = MemoryKeys::default();
//! keys.insert(did.clone(), SigningKey::generate(Curve::K256)?);
//!
//! let repos = Repos::open(Arc::new(SqliteStore::in_memory().await?), Arc::new(keys)).await?;
//! repos.create(&did, NewRepo::default()).await?;
//!
//! let write = Write::Put {
//!     collection: "com.example.note".parse()?,
//!     rkey: "first".parse()?,
//!     value: atcr_pds::cbor::json::from_json(&json!({ "text": "hello" }))?,
//!     expect: Expect::Anything,
//! };
//! let applied = repos.apply_writes(&did, vec![write], Swap::Anything).await?;
//! println!("commit {:?}", applied.commit);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "accounts")]
pub mod accounts;
pub mod blobs;
pub mod cbor;
mod clock;
pub mod crawlers;
pub mod plc;
pub mod repo;
#[cfg(feature = "accounts")]
mod sqlite;
pub mod store;
pub mod xrpc;

pub use clock::Clock;
pub use crawlers::Crawlers;

pub use repo::{
    Applied, Expect, KeyStore, MemoryKeys, NewRepo, RepoError, Repos, Swap, Write, WriteAction, WriteResult,
};
pub use store::{RepoStore, SqliteStore, StoreError};
