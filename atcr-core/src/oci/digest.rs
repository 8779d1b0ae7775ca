use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256, Sha512};

/// The digest algorithms that the image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every client and registry knows.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon of a digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of a value in bytes.
    pub fn value_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError {
                value: text.chars().take(160).collect(),
                reason: "the algorithm is not sha256 or sha512",
            }),
        }
    }
}

/// A text that is not a digest of a registered algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a digest: {reason}")]
pub struct DigestError {
    /// The text that was refused, cut to 160 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The digest of some content: an algorithm and its value, such as `sha256:e3b0…` (image specification, Digests).
///
/// Only sha256 and sha512 in lower-case hex can be held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    // A sha256 value fills the first half.
    value: [u8; 64],
}

impl Digest {
    /// The SHA-256 of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    /// The digest of `content` by `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The digest whose value is `bytes`; `None` when the length is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.value_len() {
            return None;
        }
        let mut value = [0; 64];
        value[..bytes.len()].copy_from_slice(bytes);
        Some(Self { algorithm, value })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value, 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.value[..self.algorithm.value_len()]
    }

    /// The value in lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let err = |reason| DigestError { value: text.chars().take(160).collect(), reason };
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| err("no colon after the algorithm"))?;
        let algorithm: Algorithm =
            algorithm.parse().map_err(|_| err("the algorithm is not sha256 or sha512"))?;
        if hex.len() != algorithm.value_len() * 2 {
            return Err(err("the value does not have the length of its algorithm (64 or 128 hex digits)"));
        }
        let mut value = [0; 64];
        HEXLOWER
            .decode_mut(hex.as_bytes(), &mut value[..algorithm.value_len()])
            .map_err(|_| err("the value is not lower-case hex"))?;
        Ok(Self { algorithm, value })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] over content that arrives in pieces.
///
/// The state between two pieces can be saved and resumed elsewhere ([`Hasher::to_state`]), which is how an upload
/// goes on at another replica.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher over no content yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            State::Sha256(h) => h.update(piece),
            State::Sha512(h) => h.update(piece),
        }
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(h) => Digest::from_bytes(Algorithm::Sha256, &h.finalize()),
            State::Sha512(h) => Digest::from_bytes(Algorithm::Sha512, &h.finalize()),
        }
        .expect("the output of a hash has the length of its algorithm")
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The state in a form that [`Hasher::from_state`] reads: some 106 bytes for sha256, 211 for sha512.
    ///
    /// It holds the last, incomplete block of the content (up to 127 bytes): treat it as part of the content.
    pub fn to_state(&self) -> Vec<u8> {
        use sha2::digest::common::hazmat::SerializableState;
        let (tag, state) = match &self.0 {
            State::Sha256(h) => (1, h.serialize().to_vec()),
            State::Sha512(h) => (2, h.serialize().to_vec()),
        };
        let mut out = Vec::with_capacity(1 + state.len());
        out.push(tag);
        out.extend_from_slice(&state);
        out
    }

    /// Resumes from [`Hasher::to_state`]; `None` when the bytes are not such a state.
    pub fn from_state(bytes: &[u8]) -> Option<Self> {
        use sha2::digest::common::hazmat::SerializableState;
        let (tag, state) = bytes.split_first()?;
        Some(Self(match tag {
            1 => State::Sha256(Sha256::deserialize(state.try_into().ok()?).ok()?),
            2 => State::Sha512(Sha512::deserialize(state.try_into().ok()?).ok()?),
            _ => return None,
        }))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn refuses_what_is_not_a_registered_digest() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::sha256(b""));
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:baddigeststring",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &upper,
            &EMPTY[..70],
            "sha512:e3b0",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_hash_resumed_from_its_state_equals_one_that_never_stopped(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), wide: bool,
        ) {
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let mut hasher = Hasher::new(algorithm);
            for piece in &pieces {
                hasher.update(piece);
                hasher = Hasher::from_state(&hasher.to_state()).unwrap();
            }
            let digest = hasher.finish();
            prop_assert_eq!(digest, Digest::of(algorithm, &pieces.concat()));
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
    }
}
