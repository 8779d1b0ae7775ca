//! The JSON form of the data model (specification, Data Model, "JSON Representation").

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use ipld_core::ipld::Ipld;
use serde_json::{Map, Value};

use super::{BlobRef, DataError, MAX_DEPTH, parse_cid};

/// The largest integer of the data model, 2^53 - 1: what every JSON reader holds exactly.
pub const MAX_INTEGER: i128 = (1 << 53) - 1;

/// Standard alphabet, padding optional, loose bits at the end ignored: the published vectors call `{"$bytes": "123"}`
/// valid. The bytes that come of it have one encoding all the same.
const BYTES: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Reads a value from JSON.
///
/// A number with a fraction is refused; `123.0` is the integer 123. `{"$link"}` and `{"$bytes"}` stand alone in
/// their object. Integers stay within ±(2^53 - 1) and nesting within [`MAX_DEPTH`]. `$type`, where it is present, is
/// a non-empty string, and an object with `$type: "blob"` is a whole blob reference.
pub fn from_json(json: &Value) -> Result<Ipld, DataError> {
    let value = convert(json, 1)?;
    check_value(&value)?;
    Ok(value)
}

/// Reads a record from JSON: as [`from_json`], and it must be an object.
pub fn record_from_json(json: &Value) -> Result<Ipld, DataError> {
    if !json.is_object() {
        return Err(DataError::new("a record is an object"));
    }
    from_json(json)
}

fn convert(json: &Value, depth: usize) -> Result<Ipld, DataError> {
    if depth > MAX_DEPTH + 1 {
        return Err(DataError::new("nested too deep"));
    }
    Ok(match json {
        Value::Null => Ipld::Null,
        Value::Bool(b) => Ipld::Bool(*b),
        Value::Number(n) => Ipld::Integer(integer(n)?),
        Value::String(s) => Ipld::String(s.clone()),
        Value::Array(list) => Ipld::List(
            list.iter()
                .enumerate()
                .map(|(i, item)| convert(item, depth + 1).map_err(|e| e.under(i)))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => {
            if let Some(link) = map.get("$link") {
                let text =
                    only(map, link).ok_or(DataError::new("$link is one string, alone in its object"))?;
                Ipld::Link(parse_cid(text).map_err(|_| DataError::new("$link is not a CID of the protocol"))?)
            } else if let Some(bytes) = map.get("$bytes") {
                let text =
                    only(map, bytes).ok_or(DataError::new("$bytes is one string, alone in its object"))?;
                Ipld::Bytes(BYTES.decode(text).map_err(|_| DataError::new("$bytes is not base64"))?)
            } else {
                Ipld::Map(
                    map.iter()
                        .map(|(key, item)| {
                            Ok((key.clone(), convert(item, depth + 1).map_err(|e| e.under(key))?))
                        })
                        .collect::<Result<_, DataError>>()?,
                )
            }
        }
    })
}

fn only<'a>(map: &Map<String, Value>, value: &'a Value) -> Option<&'a str> {
    if map.len() == 1 { value.as_str() } else { None }
}

fn integer(number: &serde_json::Number) -> Result<i128, DataError> {
    let whole = if let Some(n) = number.as_i64() {
        Some(i128::from(n))
    } else if let Some(n) = number.as_u64() {
        Some(i128::from(n))
    } else {
        // The cast is exact: only whole numbers of at most 53 bits get that far.
        #[allow(clippy::cast_possible_truncation)]
        number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0).map(|f| f as i128)
    };
    match whole {
        Some(n) if n.abs() <= MAX_INTEGER => Ok(n),
        Some(_) => Err(DataError::new("an integer outside ±(2^53 - 1)")),
        None => Err(DataError::new("a number that is not an integer")),
    }
}

/// Writes a value as JSON. Bytes are written without padding.
///
/// The value is one that [`from_json`], [`decode`](super::decode) or [`check_value`] let through; what JSON cannot
/// hold (a float that is not a number) becomes null.
pub fn to_json(value: &Ipld) -> Value {
    match value {
        Ipld::Null => Value::Null,
        Ipld::Bool(b) => Value::Bool(*b),
        Ipld::Integer(n) => i64::try_from(*n).map_or(Value::Null, Value::from),
        Ipld::Float(f) => Value::from(*f),
        Ipld::String(s) => Value::String(s.clone()),
        Ipld::Bytes(bytes) => single("$bytes", STANDARD_NO_PAD.encode(bytes)),
        Ipld::List(list) => Value::Array(list.iter().map(to_json).collect()),
        Ipld::Map(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), to_json(v))).collect()),
        Ipld::Link(cid) => single("$link", cid.to_string()),
    }
}

fn single(key: &str, text: String) -> Value {
    Value::Object([(key.to_owned(), Value::String(text))].into_iter().collect())
}

/// Checks a value, however it was made, against the data model: no floats, integers within ±(2^53 - 1), nesting
/// within [`MAX_DEPTH`], CIDs of the protocol, and the rules for `$type`, blobs, and reserved keys.
pub fn check_value(value: &Ipld) -> Result<(), DataError> {
    check(value, 1)
}

fn check(value: &Ipld, depth: usize) -> Result<(), DataError> {
    let bad = |what| Err(DataError::new(what));
    match value {
        Ipld::Float(_) => bad("floats are not part of the data model"),
        Ipld::Integer(n) if n.abs() > MAX_INTEGER => bad("an integer outside ±(2^53 - 1)"),
        Ipld::Link(cid) if super::check_cid(cid).is_err() => bad("a link that is not a CID of the protocol"),
        Ipld::List(_) | Ipld::Map(_) if depth > MAX_DEPTH => bad("nested too deep"),
        Ipld::List(list) => {
            list.iter().enumerate().try_for_each(|(i, item)| check(item, depth + 1).map_err(|e| e.under(i)))
        }
        Ipld::Map(map) => {
            if map.contains_key("$link") || map.contains_key("$bytes") {
                return bad("$link and $bytes are reserved for the JSON form");
            }
            match map.get("$type") {
                None => {}
                Some(Ipld::String(name)) if name == "blob" && BlobRef::from_ipld(value).is_none() => {
                    return bad("a blob needs ref (a raw CID), mimeType and size");
                }
                Some(Ipld::String(name)) if !name.is_empty() => {}
                Some(_) => return bad("$type is a non-empty string"),
            }
            map.iter().try_for_each(|(key, item)| check(item, depth + 1).map_err(|e| e.under(key)))
        }
        _ => Ok(()),
    }
}
