//! Values as SQLite keeps them, and back.

use std::fmt::Write as _;

use atcr_core::syntax::{Datetime, Did, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;
use sqlx::AssertSqlSafe;

use crate::cbor::{check_cid, cid_matches};
use crate::store::StoreError;

pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

pub(super) fn cid(bytes: &[u8]) -> Result<Cid, StoreError> {
    let cid = Cid::try_from(bytes).map_err(|_| corrupt("a column does not hold a CID"))?;
    check_cid(&cid)?;
    Ok(cid)
}

/// A block whose bytes have the hash of its CID.
pub(super) fn block(column: &[u8], bytes: Vec<u8>) -> Result<(Cid, Bytes), StoreError> {
    let cid = cid(column)?;
    if !cid_matches(&cid, &bytes) {
        return Err(corrupt(format!("the bytes of block {cid} do not have its hash")));
    }
    Ok((cid, bytes.into()))
}

pub(super) fn cid_bytes(cid: &Cid) -> Vec<u8> {
    let mut out = Vec::with_capacity(cid.encoded_len());
    cid.write_bytes(&mut out).expect("a vector takes all bytes");
    out
}

/// The first eight bytes of a hash, by which blocks are found. Others may share them, so the CID is compared as well.
pub(super) fn key(cid: &Cid) -> i64 {
    let first = cid.hash().digest().first_chunk().copied().unwrap_or_default();
    i64::from_be_bytes(first)
}

pub(super) fn did(text: &str) -> Result<Did, StoreError> {
    text.parse().map_err(|e| corrupt(format!("a column does not hold a DID: {e}")))
}

/// A TID is 63 bits.
pub(super) fn from_tid(tid: Tid) -> i64 {
    i64::try_from((tid.micros() << 10) | u64::from(tid.clock())).unwrap_or(i64::MAX)
}

pub(super) fn tid(column: i64) -> Result<Tid, StoreError> {
    let value = u64::try_from(column).map_err(|_| corrupt("a revision is negative"))?;
    Ok(Tid::new(value >> 10, u16::try_from(value & 0x3ff).unwrap_or_default()))
}

pub(super) fn millis(time: &Datetime) -> i64 {
    time.timestamp().as_millisecond()
}

pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Sizes in which lists are sent, so that there are few different statements to prepare.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// Cuts a list into pieces of [`SIZES`].
pub(super) fn pieces<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= items.len())?;
        let (piece, rest) = items.split_at(size);
        items = rest;
        Some(piece)
    })
}

/// `head (?, ?), (?, ?)… tail` for `rows` rows of `columns` parameters.
pub(super) fn values(head: &str, rows: usize, columns: usize, tail: &str) -> AssertSqlSafe<String> {
    let row = format!("({}?)", "?, ".repeat(columns - 1));
    let mut sql = format!("{head} {row}");
    for _ in 1..rows {
        let _ = write!(sql, ", {row}");
    }
    sql.push(' ');
    sql.push_str(tail);
    AssertSqlSafe(sql)
}

/// `head (?, ?, …) tail` for a list of `len` parameters.
pub(super) fn list(head: &str, len: usize, tail: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{head} ({}?) {tail}", "?, ".repeat(len - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_list_once_and_in_order() {
        for len in [0, 1, 7, 8, 9, 63, 64, 100, 255, 256, 1000] {
            let items: Vec<usize> = (0..len).collect();
            let all: Vec<usize> = pieces(&items).flat_map(<[usize]>::to_vec).collect();
            assert_eq!(all, items);
            assert!(pieces(&items).all(|p| SIZES.contains(&p.len())));
        }
    }

    #[test]
    fn revisions_keep_their_order() {
        for (micros, clock) in [(0, 0), (1, 1023), (1_795_210_000_000_000, 5), ((1 << 53) - 1, 1023)] {
            let rev = Tid::new(micros, clock);
            assert_eq!(tid(from_tid(rev)).unwrap(), rev);
        }
        assert!(tid(-1).is_err());
    }
}
