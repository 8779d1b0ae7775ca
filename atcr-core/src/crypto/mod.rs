//! Signing keys and signatures of the AT Protocol (specification, Cryptography): P-256 and K-256 over SHA-256,
//! 64-byte compact signatures, low S required both ways.

mod public_key;
mod signing_key;

pub use public_key::{KeyError, PublicKey};
pub use signing_key::SigningKey;

/// The elliptic curve of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256; JWT algorithm ES256.
    P256,
    /// secp256k1; JWT algorithm ES256K.
    K256,
}

impl Curve {
    /// The name of the JWT signature algorithm of this curve.
    pub fn jwt_algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::K256 => "ES256K",
        }
    }
}

/// The signature was not made by this key over this message, or is not in the one form that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::Value;

    use super::*;

    #[test]
    fn published_signature_vectors() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/vectors/crypto/signature-fixtures.json")).unwrap();
        assert!(cases.len() >= 6);
        let b64 = base64::engine::general_purpose::STANDARD_NO_PAD;
        for case in cases {
            let text = |k: &str| case[k].as_str().unwrap();
            let key = PublicKey::from_did_key(text("publicKeyDid")).unwrap();
            let result = key.verify(
                &b64.decode(text("messageBase64")).unwrap(),
                &b64.decode(text("signatureBase64")).unwrap(),
            );
            assert_eq!(result.is_ok(), case["validSignature"].as_bool().unwrap(), "{}", text("comment"));
        }
    }

    #[test]
    fn published_did_key_vectors() {
        let read = |json: &str| serde_json::from_str::<Vec<Value>>(json).unwrap();
        for case in read(include_str!("../../tests/vectors/crypto/w3c_didkey_K256.json")) {
            let bytes = data_encoding::HEXLOWER
                .decode(case["privateKeyBytesHex"].as_str().unwrap().as_bytes())
                .unwrap();
            let key = SigningKey::from_bytes(Curve::K256, &bytes).unwrap();
            assert_eq!(key.public_key().to_did_key(), case["publicDidKey"].as_str().unwrap());
        }
        for case in read(include_str!("../../tests/vectors/crypto/w3c_didkey_P256.json")) {
            let bytes = bs58::decode(case["privateKeyBytesBase58"].as_str().unwrap()).into_vec().unwrap();
            let key = SigningKey::from_bytes(Curve::P256, &bytes).unwrap();
            assert_eq!(key.public_key().to_did_key(), case["publicDidKey"].as_str().unwrap());
        }
    }

    #[test]
    fn a_secret_key_is_read_from_the_text_that_other_tools_write() {
        // The scalar 1, as the multicodec and multibase registries have it.
        let mut one = [0; 32];
        one[31] = 1;
        for (curve, codec) in [(Curve::P256, [0x86, 0x26]), (Curve::K256, [0x81, 0x26])] {
            let text = format!("z{}", bs58::encode([&codec[..], &one].concat()).into_string());
            let key = SigningKey::from_multikey(&text).unwrap();
            assert_eq!((key.curve(), key.to_bytes(), key.to_multikey()), (curve, one, text));
        }
        let public = SigningKey::generate(Curve::K256).unwrap().public_key().to_multikey();
        assert_eq!(SigningKey::from_multikey(&public).unwrap_err(), KeyError::Kind);
        assert_eq!(SigningKey::from_multikey("z").unwrap_err(), KeyError::Encoding);
    }

    #[test]
    fn what_is_signed_verifies_with_low_s_and_nothing_else_does() {
        for curve in [Curve::P256, Curve::K256] {
            for n in 0..50u32 {
                let key = SigningKey::generate(curve).unwrap();
                let message = n.to_be_bytes();
                let signature = key.sign(&message);
                let public = PublicKey::from_did_key(&key.public_key().to_did_key()).unwrap();
                public.verify(&message, &signature).unwrap();
                assert_eq!(public.verify(b"other", &signature), Err(BadSignature));
                assert_eq!(public.verify(&message, &signature[..63]), Err(BadSignature));
            }
        }
    }
}
