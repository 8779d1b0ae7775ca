//! The keys that records are written under.
//!
//! Other writers use other keys. A reader identifies a record by its fields, never by its key; a writer looks for an
//! existing record of the same thing first and takes one of these keys only for a new one.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::oci::{Digest, RepositoryName, Tag};
use crate::syntax::{Did, RecordKey};

fn key(text: String) -> RecordKey {
    RecordKey::try_from(text).expect("hex, base32, names and tags are within the alphabet of record keys")
}

/// The first 16 bytes of the SHA-256 of `text` in lower-case base32 without padding: 26 characters.
fn hashed(text: &str) -> RecordKey {
    let mut encoded = BASE32_NOPAD.encode(&Sha256::digest(text)[..16]);
    encoded.make_ascii_lowercase();
    key(encoded)
}

/// The key of a manifest: the hex of its digest without the algorithm, 64 characters for sha256, 128 for sha512.
/// The length tells the two apart.
pub fn manifest_rkey(digest: &Digest) -> RecordKey {
    key(digest.hex())
}

/// The key of a scan: that of the manifest that was scanned, so that a new scan replaces the old one.
pub fn scan_rkey(manifest: &Digest) -> RecordKey {
    manifest_rkey(manifest)
}

/// The key of a new tag: the repository with `~` for `/`, then `_`, then the tag.
///
/// It cannot be read back, since both parts may contain `_`: `a_b` + `c` and `a` + `b_c` share a key. A writer that
/// finds the key taken by another repository and tag must choose another key.
pub fn tag_rkey(repository: &RepositoryName, tag: &Tag) -> RecordKey {
    key(format!("{}_{tag}", repository.as_str().replace('/', "~")))
}

/// The key of a repository's page: its name with `~` for `/`, which a record key cannot hold.
///
/// A name never has a `~`, so this one can be read back.
pub fn page_rkey(repository: &RepositoryName) -> RecordKey {
    key(repository.as_str().replace('/', "~"))
}

/// The key of a star, from the repository that was starred: base32 of the first 16 bytes of
/// `sha256(owner + "/" + repository)`.
pub fn star_rkey(owner: &Did, repository: &RepositoryName) -> RecordKey {
    hashed(&format!("{owner}/{repository}"))
}

/// The key of a repository's counters: base32 of the first 16 bytes of `sha256(owner + "/" + repository)`, lower
/// case, no padding.
pub fn stats_rkey(owner: &Did, repository: &RepositoryName) -> RecordKey {
    hashed(&format!("{owner}/{repository}"))
}

/// The key of a crew member: base32 of the first 16 bytes of `sha256(member)`. A DID itself may be longer than a
/// record key and may have a `%`. Enrolling twice writes the same record.
pub fn crew_rkey(member: &Did) -> RecordKey {
    hashed(member.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_documented_ones() {
        let digest = Digest::sha256(b"");
        assert_eq!(manifest_rkey(&digest).as_str(), &digest.to_string()["sha256:".len()..]);
        assert_eq!(manifest_rkey(&Digest::of(crate::oci::Algorithm::Sha512, b"")).as_str().len(), 128);
        let repository: RepositoryName = "tools/my_app".parse().unwrap();
        assert_eq!(tag_rkey(&repository, &"v1_2".parse().unwrap()).as_str(), "tools~my_app_v1_2");
        assert_eq!(page_rkey(&repository).as_str(), "tools~my_app");
        // printf 'did:plc:alice/app' | sha256sum | head -c 32 | xxd -r -p | base32 | tr -d = | tr A-Z a-z
        let did: Did = "did:plc:alice".parse().unwrap();
        assert_eq!(stats_rkey(&did, &"app".parse().unwrap()).as_str(), STATS);
        assert_eq!(crew_rkey(&did).as_str(), CREW);
    }

    const STATS: &str = "eyxuxuurjoqjau6ewqueyzgw2e";
    const CREW: &str = "umcmlrjfbahl7j5webogymkqrq";

    #[test]
    fn the_longest_names_still_make_a_key() {
        let repository: RepositoryName = "a".repeat(255).parse().unwrap();
        assert_eq!(tag_rkey(&repository, &"t".repeat(128).parse().unwrap()).as_str().len(), 384);
        let did: Did = format!("did:web:{}%3A80", "a".repeat(2000)).parse().unwrap();
        assert_eq!(crew_rkey(&did).as_str().len(), 26);
    }
}
