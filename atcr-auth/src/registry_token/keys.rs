use std::fmt;

use jsonwebtoken::{DecodingKey, EncodingKey};
use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::jwt::encode_bytes;

/// The P-256 keys of a token service: one that signs, and former ones whose tokens still verify.
///
/// To rotate without an outage: give every replica the new key with the old one as
/// [`TokenKeys::with_previous`], and leave the old one out once its last refresh token has expired. Replicas that do
/// not have the new key yet refuse its tokens, so let them all know it as a previous one first.
#[derive(Clone)]
pub struct TokenKeys {
    secret: SigningKey,
    signing: EncodingKey,
    /// The current key first.
    verifying: Vec<VerifyingKey>,
}

#[derive(Clone)]
struct VerifyingKey {
    id: String,
    x: String,
    y: String,
    key: DecodingKey,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// Not a P-256 private key.
    #[error("this is not a P-256 private key in PKCS#8 ({0})")]
    Invalid(String),
    /// The system gave no randomness.
    #[error("no random numbers could be had from the system")]
    Random,
}

impl TokenKeys {
    /// A new key.
    pub fn generate() -> Result<Self, TokenKeyError> {
        let key = atcr_core::crypto::SigningKey::generate(atcr_core::crypto::Curve::P256);
        Self::from_bytes(&key.map_err(|_| TokenKeyError::Random)?.to_bytes())
    }

    /// The key whose scalar is these 32 bytes, big-endian.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenKeyError> {
        Self::from_secret(SigningKey::from_slice(bytes).map_err(invalid)?)
    }

    /// Reads a private key in PKCS#8 PEM (`BEGIN PRIVATE KEY`).
    pub fn from_pem(pem: &str) -> Result<Self, TokenKeyError> {
        Self::from_secret(SigningKey::from_pkcs8_pem(pem).map_err(invalid)?)
    }

    /// The current private key in PKCS#8 PEM: the secret itself.
    pub fn to_pem(&self) -> Result<String, TokenKeyError> {
        Ok(self.secret.to_pkcs8_pem(LineEnding::LF).map_err(invalid)?.to_string())
    }

    /// Takes tokens of these keys too, without signing by them.
    #[must_use]
    pub fn with_previous(mut self, previous: &Self) -> Self {
        for key in &previous.verifying {
            if self.find(&key.id).is_none() {
                self.verifying.push(key.clone());
            }
        }
        self
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), the current one first.
    pub fn jwks(&self) -> Value {
        let keys = self.verifying.iter().map(|key| {
            json!({
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
                "kid": key.id, "x": key.x, "y": key.y,
            })
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    /// The identifier of the current key: its RFC 7638 thumbprint.
    pub fn key_id(&self) -> &str {
        self.verifying.first().map_or("", |key| &key.id)
    }

    pub(super) fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    pub(super) fn find(&self, id: &str) -> Option<&DecodingKey> {
        self.verifying.iter().find(|key| key.id == id).map(|key| &key.key)
    }

    fn from_secret(secret: SigningKey) -> Result<Self, TokenKeyError> {
        let point = secret.verifying_key().to_sec1_point(false);
        let (Some(x), Some(y)) = (point.x(), point.y()) else {
            return Err(TokenKeyError::Invalid("it has no coordinates".to_owned()));
        };
        let (x, y) = (encode_bytes(x), encode_bytes(y));
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = encode_bytes(&Sha256::digest(canonical));
        let key = DecodingKey::from_ec_components(&x, &y).map_err(invalid)?;
        let signing = EncodingKey::from_ec_der(secret.to_pkcs8_der().map_err(invalid)?.as_bytes());
        Ok(Self { secret, signing, verifying: vec![VerifyingKey { id, x, y, key }] })
    }
}

fn invalid(error: impl fmt::Display) -> TokenKeyError {
    TokenKeyError::Invalid(error.to_string())
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.verifying.iter().map(|key| &key.id).collect();
        f.debug_struct("TokenKeys").field("key_ids", &ids).finish_non_exhaustive()
    }
}
