use bytes::Bytes;
use ipld_core::ipld::Ipld;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json::check_value;
use super::{CborError, scan};

/// The canonical bytes of a value.
///
/// # Errors
/// [`CborError::Encode`] when the type has no DAG-CBOR form; the data model's own rules are not checked here.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CborError> {
    serde_ipld_dagcbor::to_vec(value).map(Bytes::from).map_err(|e| CborError::Encode(e.to_string()))
}

/// Reads one canonical value, which must be all of `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Ipld, CborError> {
    from_slice(bytes)
}

/// Reads a record: a map that follows the data model's rules for `$type` and blobs.
pub fn decode_record(bytes: &[u8]) -> Result<Ipld, CborError> {
    let value: Ipld = from_slice(bytes)?;
    if !matches!(value, Ipld::Map(_)) {
        return Err(CborError::Shape("a record is a map".into()));
    }
    check_value(&value).map_err(|e| CborError::Shape(e.to_string()))?;
    Ok(value)
}

/// Reads one canonical value of a type of one's own, which must be all of `bytes`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    let len = scan(bytes)?;
    if len != bytes.len() {
        return Err(CborError::Trailing { at: len });
    }
    serde_ipld_dagcbor::from_slice(bytes).map_err(|e| CborError::Shape(e.to_string()))
}

/// Cuts the first value off a concatenation: an event frame is two of them, header and body.
pub fn split_first(bytes: &[u8]) -> Result<(&[u8], &[u8]), CborError> {
    Ok(bytes.split_at(scan(bytes)?))
}
