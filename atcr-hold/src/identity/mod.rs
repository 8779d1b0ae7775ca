//! Who the hold is: a did:web from its public URL, or a did:plc in a directory, and the keys in its data directory.

mod account;
mod address;
mod announce;
mod durable;
mod error;
mod key_file;
mod method;
mod plc;
mod report;

pub use error::IdentityError;
pub use key_file::key as read_key;
pub use method::{IdentityMethod, PlcIdentity};
pub use plc::Difference;
pub use report::{IdentityReport, PlcReport, UpdateOptions, inspect, submit, update};

pub(crate) use account::HoldIdentity;
pub(crate) use address::Address;
pub(crate) use announce::{announce, key_was_replaced};
pub(crate) use key_file::{secret, signing_key};
pub(crate) use plc::PlcAccount;
