//! The HTTP face of repos: `com.atproto.repo.*`, `com.atproto.sync.*` with the event stream, and what relays and
//! clients ask a server about itself (specifications XRPC, Sync, Event Stream).
//!
//! [`Server`] joins [`Repos`](crate::Repos) and [`Blobs`](crate::blobs::Blobs) with two things that only the program
//! around it knows: who is calling ([`XrpcAuth`]) and which names and documents belong to the accounts ([`Host`]). It
//! hands out a [`Router`](axum::Router); statuses, error names and limits are the reference server's.

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
pub use host::{Host, HostIdentity, ServerContact, ServerDescription, ServerLinks};
pub use input::{Input, MAX_INPUT_BYTES};
pub use params::Params;
pub use schema::{NoSchemas, RecordSchemas, Validity};
pub use server::{Server, complete, method, procedure, query};
pub use subscribe::SubscribeOptions;
