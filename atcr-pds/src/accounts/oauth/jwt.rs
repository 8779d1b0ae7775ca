//! Signed tokens of clients (RFC 7515, RFC 7519): DPoP proofs and client assertions.

use std::fmt;

use atcr_core::crypto::{Curve, PublicKey};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest as _, Sha256};

/// The signature algorithms that are taken: those of the AT Protocol's two curves.
pub(super) const ALGORITHMS: [&str; 2] = ["ES256", "ES256K"];
/// The longest token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtError {
    #[error("Invalid Compact JWS")]
    Malformed,
    #[error("\"alg\" (Algorithm) Header Parameter value not allowed")]
    Algorithm,
    #[error("\"crit\" (Critical) Header Parameter is not supported")]
    Critical,
    #[error("the key is not a public key of P-256 or secp256k1")]
    Key,
    #[error("signature verification failed")]
    Signature,
}

/// A public key on one of the two curves (RFC 7517, RFC 8812).
#[derive(Clone, Deserialize)]
#[serde(try_from = "Members")]
pub(super) struct Jwk {
    pub(super) kid: Option<String>,
    curve: Curve,
    point: [u8; 64],
    key: PublicKey,
}

#[derive(Deserialize)]
struct Members {
    kty: String,
    crv: String,
    x: String,
    y: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    d: Option<IgnoredAny>,
}

impl TryFrom<Members> for Jwk {
    type Error = JwtError;

    fn try_from(members: Members) -> Result<Self, JwtError> {
        let curve = match members.crv.as_str() {
            "P-256" => Curve::P256,
            "secp256k1" => Curve::K256,
            _ => return Err(JwtError::Key),
        };
        let fits = members.kty == "EC"
            && members.d.is_none()
            && members.alg.is_none_or(|alg| alg == curve.jwt_algorithm())
            && members.usage.is_none_or(|usage| usage == "sig");
        if !fits {
            return Err(JwtError::Key);
        }
        let mut point = [0; 64];
        for (text, half) in [&members.x, &members.y].into_iter().zip(point.chunks_exact_mut(32)) {
            let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| JwtError::Key)?;
            if bytes.len() != half.len() {
                return Err(JwtError::Key);
            }
            half.copy_from_slice(&bytes);
        }
        let mut sec1 = vec![4];
        sec1.extend(point);
        let key = PublicKey::from_sec1(curve, &sec1).map_err(|_| JwtError::Key)?;
        Ok(Self { kid: members.kid, curve, point, key })
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk").field("kid", &self.kid).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Jwk {
    pub(super) fn algorithm(&self) -> &'static str {
        self.curve.jwt_algorithm()
    }

    /// The SHA-256 thumbprint (RFC 7638).
    pub(super) fn thumbprint(&self) -> String {
        let crv = match self.curve {
            Curve::P256 => "P-256",
            Curve::K256 => "secp256k1",
        };
        let (x, y) = self.point.split_at(32);
        let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
        hash(&format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#))
    }
}

/// SHA-256 in base64url: of verifiers, tokens and secrets that are kept.
pub(super) fn hash(text: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(text))
}

/// The header of a token; nothing in it is believed before the signature was checked.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) jwk: Option<Jwk>,
    crit: Option<IgnoredAny>,
}

/// A token that was split, not verified.
#[derive(Debug)]
pub(super) struct Jwt<'a> {
    pub(super) header: Header,
    payload: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    pub(super) fn split(token: &'a str) -> Result<Self, JwtError> {
        const MALFORMED: JwtError = JwtError::Malformed;
        if token.len() > MAX_TOKEN {
            return Err(MALFORMED);
        }
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| MALFORMED);
        let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
        if !ALGORITHMS.contains(&header.alg.as_str()) {
            return Err(JwtError::Algorithm);
        }
        if header.crit.is_some() {
            return Err(JwtError::Critical);
        }
        Ok(Self { header, payload: decode(payload)?, signed, signature: decode(signature)? })
    }

    /// The claims, if `key` signed them.
    pub(super) fn verify<T: DeserializeOwned>(&self, key: &Jwk) -> Result<T, JwtError> {
        if self.header.alg != key.algorithm() {
            return Err(JwtError::Algorithm);
        }
        key.key.verify_any_s(self.signed.as_bytes(), &self.signature).map_err(|_| JwtError::Signature)?;
        serde_json::from_slice(&self.payload).map_err(|_| JwtError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        // A key of RFC 9449 section 6.1 and its thumbprint there.
        let jwk: Jwk = serde_json::from_str(
            r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                "y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#,
        )
        .unwrap();
        assert_eq!(jwk.thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn only_public_keys_of_the_two_curves_are_taken() {
        let x = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs";
        let y = "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA";
        for bad in [
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","d":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}AA","y":"{y}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","alg":"ES256K"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","use":"enc"}}"#),
            format!(r#"{{"kty":"oct","k":"{x}"}}"#),
        ] {
            assert!(serde_json::from_str::<Jwk>(&bad).is_err(), "{bad}");
        }
    }
}
