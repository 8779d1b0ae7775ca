use std::fmt;
use std::str::FromStr;

use super::{Digest, Tag};
use crate::syntax::SyntaxError;

/// What names a manifest in a repository: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A tag, which can move.
    Tag(Tag),
    /// A digest, which cannot.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = SyntaxError;

    /// A text with a colon is read as a digest, any other as a tag.
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.contains(':') {
            text.parse()
                .map(Self::Digest)
                .map_err(|e: super::DigestError| SyntaxError::new("digest", text, e.reason))
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}
