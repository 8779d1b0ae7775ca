//! The three values of the data model that JSON has no type for: links, blobs and bytes (specification, Data Model,
//! "JSON Representation").

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use bytes::Bytes;
use cid::Cid;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Standard alphabet, padding optional, loose bits at the end ignored, as the published vectors want it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A text that is not a CID of the AT Protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a CID of the AT Protocol (version 1, base32, codec dag-cbor or raw, SHA-256)")]
pub struct CidError(String);

/// Reads a CID of the AT Protocol: version 1 in base32, codec dag-cbor or raw, SHA-256.
pub fn parse_cid(text: &str) -> Result<Cid, CidError> {
    let refuse = || CidError(text.chars().take(64).collect());
    // 36 bytes in base32 with its prefix; other lengths are not decoded at all.
    if text.len() != 59 || !text.starts_with('b') {
        return Err(refuse());
    }
    let cid = Cid::try_from(text).map_err(|_| refuse())?;
    let known = cid.version() == cid::Version::V1
        && matches!(cid.codec(), 0x55 | 0x71)
        && cid.hash().code() == 0x12
        && cid.hash().size() == 32;
    // Upper case and loose bits at the end read as the same CID; only one text is its name.
    if known && cid.to_string() == text { Ok(cid) } else { Err(refuse()) }
}

/// A link to a block: `{"$link": "bafy…"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CidLink(pub Cid);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkWire<T> {
    #[serde(rename = "$link")]
    link: T,
}

impl Serialize for CidLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        LinkWire { link: self.0.to_string() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CidLink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let LinkWire::<String> { link } = LinkWire::deserialize(deserializer)?;
        parse_cid(&link).map(Self).map_err(D::Error::custom)
    }
}

/// Bytes inside a record: `{"$bytes": "…"}`, base64 with or without padding; written without.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BytesField(pub Bytes);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BytesWire<T> {
    #[serde(rename = "$bytes")]
    bytes: T,
}

impl BytesField {
    /// Reads base64 as the data model writes it; `None` when it is not.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        BASE64.decode(text).ok().map(|bytes| Self(bytes.into()))
    }
}

impl std::fmt::Debug for BytesField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BytesField({} bytes)", self.0.len())
    }
}

impl Serialize for BytesField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BytesWire { bytes: STANDARD_NO_PAD.encode(&self.0) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BytesField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let BytesWire::<String> { bytes } = BytesWire::deserialize(deserializer)?;
        Self::decode(&bytes).ok_or_else(|| D::Error::custom("$bytes is not base64"))
    }
}

/// A reference to a blob of the repo's owner:
/// `{"$type": "blob", "ref": {"$link": "bafk…"}, "mimeType": "image/png", "size": 1234}`.
///
/// The form of the first days of the protocol, `{"cid", "mimeType"}`, is read too and written back as it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobRef {
    /// The CID of the bytes, codec raw.
    pub cid: Cid,
    /// The media type.
    pub mime_type: String,
    /// The length in bytes; `None` in the old form, which does not say.
    pub size: Option<u64>,
}

impl BlobRef {
    /// A reference in today's form.
    pub fn new(cid: Cid, mime_type: impl Into<String>, size: u64) -> Self {
        Self { cid, mime_type: mime_type.into(), size: Some(size) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BlobWire {
    #[serde(rename_all = "camelCase")]
    Blob {
        #[serde(rename = "$type")]
        kind: BlobType,
        r#ref: CidLink,
        mime_type: String,
        size: u64,
    },
    #[serde(rename_all = "camelCase")]
    Legacy { cid: String, mime_type: String },
}

#[derive(Serialize, Deserialize)]
enum BlobType {
    #[serde(rename = "blob")]
    Blob,
}

impl Serialize for BlobRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mime_type = self.mime_type.clone();
        match self.size {
            Some(size) => BlobWire::Blob { kind: BlobType::Blob, r#ref: CidLink(self.cid), mime_type, size },
            None => BlobWire::Legacy { cid: self.cid.to_string(), mime_type },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BlobRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BlobWire::deserialize(deserializer)? {
            BlobWire::Blob { r#ref, mime_type, size, .. } => {
                Ok(Self { cid: r#ref.0, mime_type, size: Some(size) })
            }
            BlobWire::Legacy { cid, mime_type } => {
                Ok(Self { cid: parse_cid(&cid).map_err(D::Error::custom)?, mime_type, size: None })
            }
        }
    }
}
