//! DAG-CBOR written piece by piece, for the two shapes that are written most: tree nodes and commit events. The caller
//! brings the keys of a map in their canonical order.

use ipld_core::cid::Cid;

pub(crate) const NULL: u8 = 0xf6;
pub(crate) const FALSE: u8 = 0xf4;

/// The head of an item: its major type and its argument in the shortest form.
pub(crate) fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    match value {
        0..24 => out.push(major + h),
        24..0x100 => out.extend_from_slice(&[major + 24, h]),
        0x100..0x1_0000 => out.extend_from_slice(&[major + 25, g, h]),
        0x1_0000..0x1_0000_0000 => out.extend_from_slice(&[major + 26, e, f, g, h]),
        _ => out.extend_from_slice(&[major + 27, a, b, c, d, e, f, g, h]),
    }
}

pub(crate) fn map(out: &mut Vec<u8>, len: usize) {
    head(out, 5, len as u64);
}

pub(crate) fn list(out: &mut Vec<u8>, len: usize) {
    head(out, 4, len as u64);
}

pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, 2, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A link to a block of the DAG-CBOR codec with this SHA-256: tag 42, 37 bytes, a zero, then the CID.
pub(crate) fn link(out: &mut Vec<u8>, sha256: &[u8; 32]) {
    out.extend_from_slice(&[0xd8, 42, 0x58, 37, 0, 1, 0x71, 0x12, 32]);
    out.extend_from_slice(sha256);
}

/// A link to any block of the protocol.
pub(crate) fn cid(out: &mut Vec<u8>, cid: &Cid) {
    out.extend_from_slice(&[0xd8, 42, 0x58, 37, 0]);
    cid.write_bytes(&mut *out).expect("a vector takes all bytes");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipld_core::ipld::Ipld;

    use super::*;
    use crate::cbor::{cid_for_cbor, cid_for_raw, decode};

    #[test]
    fn every_piece_reads_back() {
        let (block, blob) = (cid_for_cbor(b"x"), cid_for_raw(b"x"));
        let sizes = [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, i64::MAX as u64];
        let mut out = Vec::new();
        map(&mut out, 4);
        text(&mut out, "a");
        list(&mut out, sizes.len());
        for n in sizes {
            head(&mut out, 0, n);
        }
        text(&mut out, "b");
        bytes(&mut out, &[7; 300]);
        text(&mut out, "cc");
        list(&mut out, 3);
        link(&mut out, block.hash().digest().try_into().unwrap());
        cid(&mut out, &block);
        cid(&mut out, &blob);
        text(&mut out, "dd");
        list(&mut out, 2);
        out.extend([NULL, FALSE]);
        let expected: BTreeMap<String, Ipld> = [
            ("a".to_owned(), Ipld::List(sizes.iter().map(|n| Ipld::Integer((*n).into())).collect())),
            ("b".to_owned(), Ipld::Bytes(vec![7; 300])),
            ("cc".to_owned(), Ipld::List(vec![Ipld::Link(block), Ipld::Link(block), Ipld::Link(blob)])),
            ("dd".to_owned(), Ipld::List(vec![Ipld::Null, Ipld::Bool(false)])),
        ]
        .into();
        assert_eq!(decode(&out), Ok(Ipld::Map(expected)));
    }
}
