//! The AT Protocol's data model (specification, Data Model) and its two encodings.
//!
//! A value is an [`Ipld`](ipld_core::ipld::Ipld) without floats. Its bytes are DAG-CBOR in the one canonical form;
//! anything else is an error, because a content-addressed store must not know two encodings of one value. Its
//! [`json`] form writes links as `{"$link": …}` and bytes as `{"$bytes": …}`.

mod blob;
mod cid;
mod decode;
pub(crate) mod emit;
mod error;
pub mod json;
mod scan;

pub use blob::{BlobRef, blob_refs};
pub use cid::{
    DAG_CBOR, RAW, check_cid, cid_for_cbor, cid_for_cbor_digest, cid_for_raw, cid_for_raw_digest,
    cid_matches, parse_cid,
};
pub use decode::{decode, decode_record, encode, from_slice, split_first};
pub use error::{CborError, DataError};
pub use scan::{MAX_DEPTH, scan};
