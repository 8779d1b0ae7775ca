use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream::try_unfold};
use ipld_core::cid::Cid;
use serde::Serialize;

use crate::cbor;

/// Chunks of a stream are at least this large, but for the last.
const CHUNK: usize = 64 * 1024;
/// What a section takes besides its block: a CID and a length.
const SECTION: usize = 36 + 5;

#[derive(Serialize)]
struct Header<'a> {
    roots: &'a [Cid],
    version: u8,
}

/// The header of a CAR file, its length included.
pub fn header(roots: &[Cid]) -> Bytes {
    let header = cbor::encode(&Header { roots, version: 1 }).expect("CIDs and a number have a DAG-CBOR form");
    let mut out = BytesMut::with_capacity(header.len() + 4);
    put_len(&mut out, header.len());
    out.put_slice(&header);
    out.freeze()
}

/// Appends one block.
pub fn section(out: &mut BytesMut, cid: &Cid, bytes: &[u8]) {
    out.reserve(SECTION + bytes.len());
    put_len(out, cid.encoded_len() + bytes.len());
    cid.write_bytes(out.writer()).expect("a buffer takes all bytes");
    out.put_slice(bytes);
}

fn put_len(out: &mut BytesMut, len: usize) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    out.put_slice(unsigned_varint::encode::usize(len, &mut buffer));
}

/// A whole file in memory, for proofs and events.
pub fn encode<'b, B>(roots: &[Cid], blocks: B) -> Bytes
where
    B: IntoIterator<Item = (&'b Cid, &'b Bytes), IntoIter: Clone>,
{
    let blocks = blocks.into_iter();
    let header = header(roots);
    let size: usize = blocks.clone().map(|(_, bytes)| SECTION + bytes.len()).sum();
    let mut out = BytesMut::with_capacity(header.len() + size);
    out.put_slice(&header);
    for (cid, bytes) in blocks {
        section(&mut out, cid, bytes);
    }
    out.freeze()
}

/// A file as a stream, from a stream of blocks. At most one block more than 64 KiB is held at a time.
pub fn stream<E>(
    root: Cid,
    blocks: impl Stream<Item = Result<(Cid, Bytes), E>> + Send + Unpin,
) -> impl Stream<Item = Result<Bytes, E>> + Send
where
    E: Send,
{
    let begin = BytesMut::from(header(&[root]).as_ref());
    try_unfold((begin, blocks, false), |(mut out, mut blocks, mut ended)| async move {
        while !ended && out.len() < CHUNK {
            match blocks.next().await {
                Some(Ok((cid, bytes))) => section(&mut out, &cid, &bytes),
                Some(Err(e)) => return Err(e),
                None => ended = true,
            }
        }
        if out.is_empty() {
            return Ok(None);
        }
        Ok(Some((out.split().freeze(), (out, blocks, ended))))
    })
}
