//! Who the hold is: a did:web from its public URL, and the key in its data directory.

mod did_web;
mod key_file;

pub(crate) use did_web::HoldIdentity;
pub(crate) use key_file::{secret, signing_key};
