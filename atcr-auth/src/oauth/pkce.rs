use sha2::{Digest as _, Sha256};

use super::OAuthError;
use crate::jwt::encode_bytes;

/// A verifier of 256 random bits (RFC 7636 section 4.1).
pub(super) fn verifier() -> Result<String, OAuthError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| OAuthError::Random)?;
    Ok(encode_bytes(&bytes))
}

/// The S256 challenge of a verifier.
pub(super) fn challenge(verifier: &str) -> String {
    encode_bytes(&Sha256::digest(verifier))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_challenge_is_that_of_the_specification() {
        // RFC 7636, appendix B.
        assert_eq!(
            super::challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
