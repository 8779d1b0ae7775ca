use std::fmt;

use k256::ecdsa::signature::Signer as _;

use super::public_key::Inner as Public;
use super::{Curve, KeyError, PublicKey};

/// Multicodec varints of the two kinds of secret key: p256-priv and secp256k1-priv.
const P256_PRIV: [u8; 2] = [0x86, 0x26];
const K256_PRIV: [u8; 2] = [0x81, 0x26];

/// A private key. Its `Debug` form shows the public key only.
#[derive(Clone)]
pub struct SigningKey(Inner);

#[derive(Clone)]
enum Inner {
    P256(p256::ecdsa::SigningKey),
    K256(k256::ecdsa::SigningKey),
}

impl SigningKey {
    /// A new key from the system's random numbers.
    pub fn generate(curve: Curve) -> Result<Self, KeyError> {
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
            // About one draw in 2^32 (P-256) or fewer is not a scalar of the curve's order.
            if let Ok(key) = Self::from_bytes(curve, &bytes) {
                return Ok(key);
            }
        }
    }

    /// The key whose scalar is these 32 bytes, big-endian.
    pub fn from_bytes(curve: Curve, bytes: &[u8]) -> Result<Self, KeyError> {
        let bad = |_| KeyError::Value { curve };
        Ok(Self(match curve {
            Curve::P256 => Inner::P256(p256::ecdsa::SigningKey::from_slice(bytes).map_err(bad)?),
            Curve::K256 => Inner::K256(k256::ecdsa::SigningKey::from_slice(bytes).map_err(bad)?),
        }))
    }

    /// The scalar, 32 bytes, big-endian: the secret itself.
    pub fn to_bytes(&self) -> [u8; 32] {
        match &self.0 {
            Inner::P256(key) => key.to_bytes().into(),
            Inner::K256(key) => key.to_bytes().into(),
        }
    }

    /// Reads a secret key as multibase text: `z…`, base58btc of its multicodec and its scalar.
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        let bytes = super::public_key::base58btc(text)?;
        let (codec, scalar) = bytes.split_at_checked(2).ok_or(KeyError::Encoding)?;
        if codec == P256_PRIV {
            Self::from_bytes(Curve::P256, scalar)
        } else if codec == K256_PRIV {
            Self::from_bytes(Curve::K256, scalar)
        } else {
            Err(KeyError::Kind)
        }
    }

    /// The secret key as multibase text, which other tools of the network read too: the secret itself.
    pub fn to_multikey(&self) -> String {
        let codec = match self.curve() {
            Curve::P256 => P256_PRIV,
            Curve::K256 => K256_PRIV,
        };
        let mut bytes = codec.to_vec();
        bytes.extend(self.to_bytes());
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        match self.0 {
            Inner::P256(_) => Curve::P256,
            Inner::K256(_) => Curve::K256,
        }
    }

    /// The key that verifies what this one signs.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Inner::P256(key) => Public::P256(*key.verifying_key()),
            Inner::K256(key) => Public::K256(*key.verifying_key()),
        })
    }

    /// Signs the SHA-256 of `message` (RFC 6979, deterministic): 64 bytes r‖s with a low S.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.0 {
            Inner::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().into()
            }
            Inner::K256(key) => {
                let signature: k256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().into()
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public_key())
    }
}
