use atcr_core::crypto::{PublicKey, SigningKey};
use atcr_core::syntax::{Did, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;
use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborError, DAG_CBOR};

/// The version of the repo format.
const VERSION: u8 = 3;

/// What is wrong with a commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The block is not a commit in its one encoding.
    #[error("the block is not a commit: {0}")]
    Malformed(CborError),
    /// Not version 3.
    #[error("the commit has version {0}; only version 3 is read")]
    Version(u64),
    /// The signature was not made by the key of the account.
    #[error("the signature of the commit does not verify with the account's key")]
    Signature,
    /// The commit is another account's.
    #[error("the commit belongs to {found}, not to {expected}")]
    OtherRepo {
        /// Whose it should be.
        expected: Did,
        /// Whose it is.
        found: Did,
    },
}

/// A commit: a signed statement of an account that the tree `data` is its repo (specification, Repository,
/// "Commit Objects").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The account.
    pub did: Did,
    /// The root of the tree.
    pub data: Cid,
    /// The revision; grows with each commit.
    pub rev: Tid,
    /// The commit before, in repos that still say so; always `None` in what this crate signs.
    pub prev: Option<Cid>,
    /// 64-byte signature over the commit without it.
    pub sig: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    did: Did,
    version: u64,
    data: Cid,
    rev: Tid,
    prev: Option<Cid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sig: Option<serde_bytes::ByteBuf>,
}

impl Commit {
    /// Signs a commit.
    pub fn sign(did: &Did, data: Cid, rev: Tid, key: &SigningKey) -> Result<Self, CborError> {
        let mut commit = Self { did: did.clone(), data, rev, prev: None, sig: Bytes::new() };
        commit.sig = Bytes::copy_from_slice(&key.sign(&commit.unsigned()?));
        Ok(commit)
    }

    fn block(&self, sig: Option<&Bytes>) -> Result<Bytes, CborError> {
        cbor::encode(&Block {
            did: self.did.clone(),
            version: VERSION.into(),
            data: self.data,
            rev: self.rev,
            prev: self.prev,
            sig: sig.map(|sig| serde_bytes::ByteBuf::from(sig.to_vec())),
        })
    }

    /// The bytes that are signed.
    pub fn unsigned(&self) -> Result<Bytes, CborError> {
        self.block(None)
    }

    /// The commit as a block.
    pub fn encode(&self) -> Result<Bytes, CborError> {
        self.block(Some(&self.sig))
    }

    /// Reads a commit. Its signature is not checked: that takes [`Commit::verify`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CommitError> {
        let block: Block = cbor::from_slice(bytes).map_err(CommitError::Malformed)?;
        if block.version != u64::from(VERSION) {
            return Err(CommitError::Version(block.version));
        }
        let shape = |what: &str| CommitError::Malformed(CborError::Shape(what.into()));
        let sig = block.sig.ok_or_else(|| shape("sig is missing"))?;
        if block.data.codec() != DAG_CBOR {
            return Err(shape("data is not a link to a tree node"));
        }
        let sig = Bytes::from(sig.into_vec());
        let commit = Self { did: block.did, data: block.data, rev: block.rev, prev: block.prev, sig };
        // A decoder for types is lenient where a signature cannot be: `prev` may not be left out.
        if commit.encode().map_err(CommitError::Malformed)? != bytes {
            return Err(shape("a field is missing or written in another way"));
        }
        Ok(commit)
    }

    /// Checks whose commit it is, and the signature (low S required).
    pub fn verify(&self, did: &Did, key: &PublicKey) -> Result<(), CommitError> {
        if self.did != *did {
            return Err(CommitError::OtherRepo { expected: did.clone(), found: self.did.clone() });
        }
        let unsigned = self.unsigned().map_err(CommitError::Malformed)?;
        key.verify(&unsigned, &self.sig).map_err(|_| CommitError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use atcr_core::crypto::Curve;

    use super::*;
    use crate::cbor::{cid_for_cbor, cid_for_raw};

    fn did() -> Did {
        "did:web:hold.example.com".parse().unwrap()
    }

    #[test]
    fn a_signed_commit_reads_back_and_verifies_with_its_key_only() {
        for curve in [Curve::P256, Curve::K256] {
            let key = SigningKey::generate(curve).unwrap();
            let commit = Commit::sign(&did(), cid_for_cbor(b"x"), Tid::new(5, 1), &key).unwrap();
            let read = Commit::decode(&commit.encode().unwrap()).unwrap();
            assert_eq!(read, commit);
            read.verify(&did(), &key.public_key()).unwrap();
            let other = SigningKey::generate(curve).unwrap().public_key();
            assert_eq!(read.verify(&did(), &other), Err(CommitError::Signature));
            let mut changed = read.clone();
            changed.rev = Tid::new(6, 1);
            assert_eq!(changed.verify(&did(), &key.public_key()), Err(CommitError::Signature));
            let stranger = "did:web:other.example.com".parse().unwrap();
            assert!(matches!(read.verify(&stranger, &key.public_key()), Err(CommitError::OtherRepo { .. })));
        }
    }

    #[test]
    fn only_the_one_encoding_is_a_commit() {
        use ipld_core::ipld::Ipld;
        let key = SigningKey::generate(Curve::K256).unwrap();
        let commit = Commit::sign(&did(), cid_for_cbor(b"x"), Tid::new(5, 1), &key).unwrap();
        let Ipld::Map(good) = cbor::decode(&commit.encode().unwrap()).unwrap() else { panic!("a map") };
        let with = |key: &str, value: Option<Ipld>| {
            let mut map = good.clone();
            match value {
                Some(value) => map.insert(key.into(), value),
                None => map.remove(key),
            };
            Commit::decode(&cbor::encode(&Ipld::Map(map)).unwrap())
        };
        assert!(with("prev", Some(Ipld::Null)).is_ok());
        assert!(with("prev", None).is_err(), "prev is written even when it is null");
        assert!(with("sig", None).is_err());
        assert!(with("extra", Some(Ipld::Null)).is_err());
        assert_eq!(with("version", Some(Ipld::Integer(2))), Err(CommitError::Version(2)));
        assert!(with("data", Some(Ipld::Link(cid_for_raw(b"x")))).is_err());
        assert!(with("rev", Some(Ipld::String("yesterday".into()))).is_err());
    }
}
