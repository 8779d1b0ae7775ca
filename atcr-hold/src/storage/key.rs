use std::fmt;

use atcr_core::oci::Digest;

/// The name of an object in a storage: path segments of `A-Z a-z 0-9 . _ -` with `/` between them, at most 512 bytes.
/// No segment is empty or begins with a dot, so that a key is a safe relative path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Box<str>);

/// A text that is not an [`ObjectKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an object key")]
pub struct KeyError(String);

impl ObjectKey {
    /// Where a blob stands in the layout of CNCF distribution, which upstream's buckets have too:
    /// `docker/registry/v2/blobs/sha256/ab/<hex>/data`.
    pub fn of_blob(digest: &Digest) -> Self {
        let hex = digest.hex();
        Self(format!("docker/registry/v2/blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2]).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let segment = |s: &str| {
            !s.is_empty()
                && !s.starts_with('.')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if text.len() <= 512 && text.split('/').all(segment) {
            Ok(Self(text.into()))
        } else {
            Err(KeyError(text.chars().take(128).collect()))
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_its_storage() {
        for bad in ["", "/etc/passwd", "a//b", "a/../b", "..", ".hidden", "a/.b", "a b", "a\\b", "a/"] {
            assert!(ObjectKey::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let blob = ObjectKey::of_blob(&Digest::sha256(b""));
        assert_eq!(
            blob.as_str(),
            "docker/registry/v2/blobs/sha256/e3/\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/data"
        );
        assert_eq!(ObjectKey::try_from(blob.to_string()).unwrap(), blob);
    }
}
