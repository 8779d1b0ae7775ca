use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use sha2::{Digest as _, Sha256};

use super::CborError;

/// Multicodec of DAG-CBOR: the codec of records, tree nodes and commits.
pub const DAG_CBOR: u64 = 0x71;
/// Multicodec of raw bytes: the codec of blobs.
pub const RAW: u64 = 0x55;
const SHA2_256: u64 = 0x12;

fn cid_for(codec: u64, bytes: &[u8]) -> Cid {
    let digest = Sha256::digest(bytes);
    let hash = Multihash::wrap(SHA2_256, digest.as_slice()).expect("32 bytes fit a 64-byte multihash");
    Cid::new_v1(codec, hash)
}

/// The CID of a block of DAG-CBOR.
pub fn cid_for_cbor(bytes: &[u8]) -> Cid {
    cid_for(DAG_CBOR, bytes)
}

/// The CID of a blob.
pub fn cid_for_raw(bytes: &[u8]) -> Cid {
    cid_for(RAW, bytes)
}

/// The CID of a block of DAG-CBOR whose SHA-256 is known.
pub fn cid_for_cbor_digest(sha256: [u8; 32]) -> Cid {
    let hash = Multihash::wrap(SHA2_256, &sha256).expect("32 bytes fit a 64-byte multihash");
    Cid::new_v1(DAG_CBOR, hash)
}

/// The CID of a blob whose SHA-256 was computed while it was streamed.
pub fn cid_for_raw_digest(sha256: [u8; 32]) -> Cid {
    let hash = Multihash::wrap(SHA2_256, &sha256).expect("32 bytes fit a 64-byte multihash");
    Cid::new_v1(RAW, hash)
}

/// Whether `cid` is the CID of these bytes; false for a CID that the AT Protocol does not use.
pub fn cid_matches(cid: &Cid, bytes: &[u8]) -> bool {
    check_cid(cid).is_ok() && cid.hash().digest() == Sha256::digest(bytes).as_slice()
}

/// Refuses every CID but those the AT Protocol uses: version 1, codec dag-cbor or raw, SHA-256.
pub fn check_cid(cid: &Cid) -> Result<(), CborError> {
    let known = matches!(cid.codec(), DAG_CBOR | RAW)
        && cid.version() == ipld_core::cid::Version::V1
        && cid.hash().code() == SHA2_256
        && cid.hash().size() == 32;
    if known { Ok(()) } else { Err(CborError::Cid) }
}

/// Reads a CID from its text, which must be in base32 (`b…`) and pass [`check_cid`].
pub fn parse_cid(text: &str) -> Result<Cid, CborError> {
    // 36 bytes in base32 with its prefix; longer text is not decoded at all.
    if text.len() != 59 || !text.starts_with('b') {
        return Err(CborError::Cid);
    }
    let cid = Cid::try_from(text).map_err(|_| CborError::Cid)?;
    check_cid(&cid)?;
    // Upper case and loose padding bits read as the same CID; only one text is its name.
    if cid.to_string() != text {
        return Err(CborError::Cid);
    }
    Ok(cid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_protocols_cids_are_read() {
        let good = cid_for_raw(b"x");
        assert_eq!(parse_cid(&good.to_string()), Ok(good));
        let v0 = Cid::new_v0(*cid_for_cbor(b"x").hash()).unwrap();
        let sha1 = Cid::new_v1(DAG_CBOR, Multihash::wrap(0x11, &[0; 20]).unwrap());
        let dag_pb = Cid::new_v1(0x70, *good.hash());
        for cid in [v0, sha1, dag_pb] {
            assert_eq!(check_cid(&cid), Err(CborError::Cid));
            assert_eq!(parse_cid(&cid.to_string()), Err(CborError::Cid));
        }
        assert_eq!(parse_cid(&good.to_string().to_uppercase()), Err(CborError::Cid));
        assert!(cid_matches(&good, b"x") && !cid_matches(&good, b"y"));
    }
}
