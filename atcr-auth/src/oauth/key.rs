use std::fmt;

use atcr_core::crypto::{Curve, KeyError, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::jwt::{encode, encode_bytes};

/// A P-256 key that signs JWTs (ES256): a DPoP key, or a client's. Its `Debug` form shows the thumbprint, its serialised
/// form is the secret.
#[derive(Clone)]
pub struct Es256Key {
    key: SigningKey,
    x: String,
    y: String,
}

impl Es256Key {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self::new(SigningKey::generate(Curve::P256)?))
    }

    /// The key whose scalar is these 32 bytes, big-endian.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::new(SigningKey::from_bytes(Curve::P256, bytes)?))
    }

    fn new(key: SigningKey) -> Self {
        // The compressed point has no y, so the uncompressed one is asked of p256.
        let point = p256::PublicKey::from_sec1_bytes(&key.public_key().to_sec1());
        let point = point.expect("a public key of this curve is a point of it");
        let point = p256::elliptic_curve::sec1::ToSec1Point::to_sec1_point(&point, false);
        let coordinates = &point.as_bytes()[1..];
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        Self { x: encode_bytes(x), y: encode_bytes(y), key }
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y })
    }

    /// The RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> String {
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        encode_bytes(&Sha256::digest(canonical))
    }

    /// A compact JWS.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> Result<String, serde_json::Error> {
        let signed = format!("{}.{}", encode(header)?, encode(claims)?);
        let signature = encode_bytes(&self.key.sign(signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }
}

impl PartialEq for Es256Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.x, &self.y) == (&other.x, &other.y)
    }
}

impl Eq for Es256Key {}

impl fmt::Debug for Es256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Es256Key({})", self.thumbprint())
    }
}

impl Serialize for Es256Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode_bytes(&self.key.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Es256Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}
