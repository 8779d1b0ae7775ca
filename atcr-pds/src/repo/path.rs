use std::fmt;
use std::str::FromStr;

use atcr_core::syntax::{AtUri, Did, Nsid, RecordKey, SyntaxError};

/// The place of a record in its repo: `collection/rkey` (specification, Repository, "Repo Data Structure").
///
/// The collection is a normalised NSID: its authority is in lower case. Two paths compare as their texts do, which is
/// the order of the tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPath {
    text: Box<str>,
    slash: usize,
}

impl RecordPath {
    /// The path of `rkey` in `collection`.
    ///
    /// # Errors
    /// When the authority of the collection has upper-case letters.
    pub fn new(collection: &Nsid, rkey: &RecordKey) -> Result<Self, SyntaxError> {
        Self::checked(collection, rkey)
    }

    fn checked(collection: &Nsid, rkey: &RecordKey) -> Result<Self, SyntaxError> {
        let slash = collection.as_str().len();
        let text: Box<str> = format!("{collection}/{rkey}").into();
        let authority = collection.as_str().rsplit_once('.').map_or("", |(authority, _)| authority);
        if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(SyntaxError {
                format: "record path",
                value: text.chars().take(128).collect(),
                reason: "the authority of the collection has upper-case letters",
            });
        }
        Ok(Self { text, slash })
    }

    /// The whole path: the key in the tree.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The collection.
    pub fn collection(&self) -> Nsid {
        self.text[..self.slash].parse().expect("the path was made from an NSID")
    }

    /// The record key.
    pub fn rkey(&self) -> RecordKey {
        self.text[self.slash + 1..].parse().expect("the path was made from a record key")
    }

    /// The collection as text.
    pub fn collection_str(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The URI of the record in the repo of `did`.
    pub fn to_uri(&self, did: &Did) -> AtUri {
        AtUri::record(did.clone(), &self.collection(), &self.rkey())
    }
}

impl FromStr for RecordPath {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (collection, rkey) = text.split_once('/').ok_or_else(|| SyntaxError {
            format: "record path",
            value: text.chars().take(128).collect(),
            reason: "it is not a collection and a record key with '/' between them",
        })?;
        Self::checked(&collection.parse()?, &rkey.parse()?)
    }
}

impl fmt::Display for RecordPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RecordPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}
