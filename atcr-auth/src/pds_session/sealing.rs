use std::fmt;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

/// The 32-byte key under which secrets are kept at rest (XChaCha20-Poly1305, a random nonce for each).
#[derive(Clone)]
pub struct SealingKey(XChaCha20Poly1305);

/// The format of what is sealed.
const VERSION: u8 = 1;
const NONCE: usize = 24;

/// What could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The system gave no randomness.
    #[error("no random numbers could be had from the system")]
    Random,
    /// Longer than the cipher takes.
    #[error("there is too much to encrypt")]
    TooLong,
    /// Sealed under another key, for another owner, or changed since.
    #[error("what is stored does not open with the configured key")]
    DoesNotOpen,
}

impl SealingKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(bytes.into()))
    }

    /// Encrypts bytes so that they open for the same `owner` only.
    pub fn seal(&self, owner: &str, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let payload = Payload { msg: bytes, aad: owner.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::TooLong)?;
        let mut out = vec![VERSION];
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Decrypts what [`SealingKey::seal`] gave for this owner.
    pub fn open(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(SealError::DoesNotOpen)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(SealError::DoesNotOpen)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::DoesNotOpen)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_same_key_and_owner_only_and_when_nothing_was_changed() {
        let key = SealingKey::new(&[7; 32]);
        let sealed = key.seal("alice", b"secret").unwrap();
        assert_eq!(key.open("alice", &sealed).unwrap(), b"secret");
        assert_eq!(key.open("bob", &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(SealingKey::new(&[8; 32]).open("alice", &sealed), Err(SealError::DoesNotOpen));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open("alice", &changed), Err(SealError::DoesNotOpen), "byte {at}");
        }
        assert_eq!(key.open("alice", &sealed[..20]), Err(SealError::DoesNotOpen));
        assert_ne!(key.seal("alice", b"secret").unwrap(), sealed);
    }
}
