use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use k256::ecdsa::signature::Verifier as _;

use super::{BadSignature, Curve};

/// The key by which signatures are verified.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(pub(super) Inner);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Inner {
    P256(p256::ecdsa::VerifyingKey),
    K256(k256::ecdsa::VerifyingKey),
}

/// A text or some bytes that are not a key of a supported curve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a did:key or a multibase key in base58btc.
    #[error("the key is not in multibase base58btc (it begins with 'z')")]
    Encoding,
    /// A multicodec other than p256-pub and secp256k1-pub.
    #[error("the key is of a kind that the AT Protocol does not use; it takes P-256 and secp256k1")]
    Kind,
    /// Not a point of the curve, or not a scalar of its order.
    #[error("the key is not a valid {curve:?} key")]
    Value {
        /// The curve it was read for.
        curve: Curve,
    },
    /// The system gave no randomness.
    #[error("no random numbers could be had from the system")]
    Random,
}

/// Multicodec varints of the two kinds of public key.
const P256_PUB: [u8; 2] = [0x80, 0x24];
const K256_PUB: [u8; 2] = [0xe7, 0x01];

impl PublicKey {
    /// Reads `did:key:z…`.
    pub fn from_did_key(text: &str) -> Result<Self, KeyError> {
        Self::from_multikey(text.strip_prefix("did:key:").ok_or(KeyError::Encoding)?)
    }

    /// Reads the `publicKeyMultibase` of a verification method of type `Multikey`.
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        let bytes = base58btc(text)?;
        let (codec, point) = bytes.split_at_checked(2).ok_or(KeyError::Encoding)?;
        if codec == P256_PUB {
            Self::from_sec1(Curve::P256, point)
        } else if codec == K256_PUB {
            Self::from_sec1(Curve::K256, point)
        } else {
            Err(KeyError::Kind)
        }
    }

    /// Reads the `publicKeyMultibase` of the older verification method types
    /// `EcdsaSecp256r1VerificationKey2019` and `EcdsaSecp256k1VerificationKey2019`: a point without multicodec.
    pub fn from_legacy_multibase(curve: Curve, text: &str) -> Result<Self, KeyError> {
        Self::from_sec1(curve, &base58btc(text)?)
    }

    /// Reads a point in SEC 1 encoding, compressed or not.
    pub fn from_sec1(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let bad = |_| KeyError::Value { curve };
        Ok(Self(match curve {
            Curve::P256 => Inner::P256(p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(bad)?),
            Curve::K256 => Inner::K256(k256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(bad)?),
        }))
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        match self.0 {
            Inner::P256(_) => Curve::P256,
            Inner::K256(_) => Curve::K256,
        }
    }

    /// The point in compressed SEC 1 encoding, 33 bytes.
    pub fn to_sec1(&self) -> Vec<u8> {
        match &self.0 {
            Inner::P256(key) => key.to_sec1_point(true).as_bytes().to_vec(),
            Inner::K256(key) => key.to_sec1_point(true).as_bytes().to_vec(),
        }
    }

    /// The key as a `Multikey`: `z…`.
    pub fn to_multikey(&self) -> String {
        let codec = match self.curve() {
            Curve::P256 => P256_PUB,
            Curve::K256 => K256_PUB,
        };
        let mut bytes = codec.to_vec();
        bytes.extend(self.to_sec1());
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// The key as `did:key:z…`.
    pub fn to_did_key(&self) -> String {
        format!("did:key:{}", self.to_multikey())
    }

    /// Checks a 64-byte compact signature over the SHA-256 of `message`. A high S is refused.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.check(message, signature, false)
    }

    /// As [`PublicKey::verify`], but takes a high S too: for JWTs, whose specification does not forbid it.
    pub fn verify_any_s(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.check(message, signature, true)
    }

    fn check(&self, message: &[u8], signature: &[u8], high_s: bool) -> Result<(), BadSignature> {
        match &self.0 {
            Inner::P256(key) => {
                let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| BadSignature)?;
                if !high_s && signature.normalize_s() != signature {
                    return Err(BadSignature);
                }
                // Three times as fast as the crate that made the key; it parses the point again for a hundredth of that.
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_sec1_point(false))
                    .verify(message, &signature.to_bytes())
                    .map_err(|_| BadSignature)
            }
            Inner::K256(key) => {
                let mut signature =
                    k256::ecdsa::Signature::from_slice(signature).map_err(|_| BadSignature)?;
                let normalised = signature.normalize_s();
                if normalised != signature {
                    if !high_s {
                        return Err(BadSignature);
                    }
                    signature = normalised;
                }
                key.verify(message, &signature).map_err(|_| BadSignature)
            }
        }
    }
}

pub(super) fn base58btc(text: &str) -> Result<Vec<u8>, KeyError> {
    // No key is near this long; the decoder is quadratic.
    if text.len() > 200 {
        return Err(KeyError::Encoding);
    }
    let text = text.strip_prefix('z').ok_or(KeyError::Encoding)?;
    bs58::decode(text).into_vec().map_err(|_| KeyError::Encoding)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_did_key())
    }
}
