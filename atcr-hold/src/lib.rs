//! A hold: blob storage with an identity, an embedded PDS and crew-based access.

mod access;
mod database;
mod error;
mod hold;
mod identity;
mod repo;
mod signed_url;
pub mod storage;
mod uploads;
mod xrpc;

pub use error::HoldError;
pub use hold::{Hold, HoldConfig};
pub use uploads::Swept;
