//! CAR files: both readers agree, and none believes what it is told.

use std::pin::Pin;
use std::task::{Context, Poll};

use atcr_pds::cbor::{cid_for_cbor, cid_for_raw};
use atcr_pds::repo::car::{self, CarError, CarLimits, CarReader, read_slice};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ipld_core::cid::Cid;
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

const LIMITS: CarLimits = CarLimits { header: 200, block: 1000, blocks: 50 };

async fn read_stream(file: &[u8]) -> Result<(Vec<Cid>, Vec<(Cid, Bytes)>), CarError> {
    let mut reader = CarReader::open(file, LIMITS).await?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.next().await? {
        blocks.push(block);
    }
    Ok((reader.roots().to_vec(), blocks))
}

/// Reads with both readers; they must agree.
async fn read(file: &[u8]) -> Result<Vec<(Cid, Bytes)>, CarError> {
    let streamed = read_stream(file).await;
    let sliced = read_slice(Bytes::copy_from_slice(file), LIMITS);
    match (streamed, sliced) {
        (Ok((roots, blocks)), Ok(slice)) => {
            assert_eq!(roots, slice.roots);
            assert!(blocks.iter().all(|(cid, bytes)| slice.blocks.get(cid) == Some(bytes)));
            Ok(blocks)
        }
        (Err(a), Err(b)) => {
            assert_eq!(a, b);
            Err(a)
        }
        (a, b) => panic!("{a:?} but {b:?}"),
    }
}

fn block(n: u8, size: usize) -> (Cid, Bytes) {
    let bytes = Bytes::from(vec![n; size]);
    (if n.is_multiple_of(2) { cid_for_cbor(&bytes) } else { cid_for_raw(&bytes) }, bytes)
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap());
    out
}

#[tokio::test]
async fn what_is_written_is_read() {
    let blocks: Vec<(Cid, Bytes)> = (0..20).map(|n| block(n, usize::from(n) * 50)).collect();
    let file = car::encode(&[blocks[0].0], blocks.iter().map(|(c, b)| (c, b)));
    assert_eq!(read(&file).await.unwrap(), blocks);
    let chunks: Vec<Bytes> =
        car::stream(blocks[0].0, stream::iter(blocks.clone().into_iter().map(Ok::<_, CarError>)))
            .try_collect()
            .await
            .unwrap();
    assert_eq!(chunks.concat(), file);
}

#[tokio::test]
async fn a_large_file_comes_in_chunks() {
    let blocks: Vec<(Cid, Bytes)> = (0..200).map(|n| block(n, 1000)).collect();
    let mut chunks =
        Box::pin(car::stream(blocks[0].0, stream::iter(blocks.into_iter().map(Ok::<_, CarError>))));
    let mut sizes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        sizes.push(chunk.unwrap().len());
    }
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().all(|s| *s < 64 * 1024 + 1100));
}

#[tokio::test]
async fn bad_files_are_told_apart() {
    let (cid, bytes) = block(1, 10);
    let head = car::header(&[cid]);
    let with = |tail: &[u8]| [head.as_ref(), tail].concat();
    let mut good = BytesMut::new();
    car::section(&mut good, &cid, &bytes);
    assert_eq!(read(&with(&good)).await.unwrap().len(), 1);

    for cut in 1..good.len() {
        assert_eq!(read(&with(&good[..cut])).await, Err(CarError::Truncated), "cut at {cut}");
    }
    for cut in 0..head.len() {
        assert_eq!(read(&head[..cut]).await, Err(CarError::Truncated), "header cut at {cut}");
    }
    let mut wrong = good.to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(read(&with(&wrong)).await, Err(CarError::Hash(cid)));
    assert_eq!(read(&with(&[0])).await, Err(CarError::Cid), "an empty section");
    assert_eq!(read(&with(&[3, 1, 2, 3])).await, Err(CarError::Cid));
    assert_eq!(read(&with(&[0x80, 0x00])).await, Err(CarError::Length), "a length that is not minimal");
    assert_eq!(read(&with(&[0xff; 12])).await, Err(CarError::Length), "an endless length");
    // A dag-pb block, as another system would write.
    let mut foreign = varint(36);
    foreign.extend(Cid::new_v1(0x70, *cid.hash()).to_bytes());
    assert_eq!(read(&with(&foreign)).await, Err(CarError::Cid));
}

#[tokio::test]
async fn a_length_is_refused_before_anything_is_read_for_it() {
    let (cid, _) = block(1, 10);
    let head = car::header(&[cid]);
    for size in [1037, 4 << 30, u64::MAX] {
        let file = [head.as_ref(), &varint(size)].concat();
        assert_eq!(read(&file).await, Err(CarError::TooLarge { size, limit: 1036 }));
        let file = varint(size);
        assert_eq!(read(&file).await, Err(CarError::TooLarge { size, limit: 200 }));
    }
    let many: Vec<(Cid, Bytes)> = (0..51).map(|n| block(n, 1)).collect();
    let file = car::encode(&[cid], many.iter().map(|(c, b)| (c, b)));
    assert_eq!(read(&file).await, Err(CarError::TooManyBlocks(50)));
}

#[tokio::test]
async fn headers_that_are_none() {
    let put = |bytes: &[u8]| [varint(bytes.len() as u64), bytes.to_vec()].concat();
    let root = cid_for_cbor(b"x");
    let good = &car::header(&[root])[1..];
    let mut version = good.to_vec();
    *version.last_mut().unwrap() = 2;
    for header in [&[0xa0][..], b"\xff", &version, &[good, &[0]].concat(), &[0x81; 150]] {
        assert!(matches!(read(&put(header)).await, Err(CarError::Header(_))), "{header:?}");
    }
}

/// Gives one byte at a time.
struct Drip<'a>(&'a [u8]);

impl AsyncRead for Drip<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some((first, rest)) = self.0.split_first() {
            buf.put_slice(&[*first]);
            self.0 = rest;
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn the_pieces_in_which_a_file_comes_do_not_matter() {
    let blocks: Vec<(Cid, Bytes)> = (0..10).map(|n| block(n, 300)).collect();
    let file = car::encode(&[blocks[0].0], blocks.iter().map(|(c, b)| (c, b)));
    let mut reader = CarReader::open(Drip(&file), LIMITS).await.unwrap();
    for expected in &blocks {
        assert_eq!(reader.next().await.unwrap().as_ref(), Some(expected));
    }
    assert_eq!(reader.next().await.unwrap(), None);
}

proptest! {
    #[test]
    fn both_readers_agree_on_any_damage(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let blocks: Vec<(Cid, Bytes)> = (0..4).map(|n| block(n, 20)).collect();
        let mut file = car::encode(&[blocks[0].0], blocks.iter().map(|(c, b)| (c, b))).to_vec();
        let at = at.index(file.len());
        file[at] = byte;
        file.truncate(1 + cut.index(file.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let Ok(found) = runtime.block_on(read(&file)) {
            for block in found {
                prop_assert!(blocks.contains(&block));
            }
        }
    }
}
