//! Both readers agree, take no more memory than the file, and give only blocks that have their hash.
#![no_main]

use atcr_pds::cbor::cid_matches;
use atcr_pds::repo::car::{CarLimits, CarReader, read_slice};
use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = CarLimits { header: 1024, block: 64 * 1024, blocks: 1000 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let streamed = runtime.block_on(async {
        let mut reader = CarReader::open(bytes, limits).await?;
        let mut count = 0;
        while let Some((cid, block)) = reader.next().await? {
            assert!(cid_matches(&cid, &block));
            count += 1;
        }
        Ok::<_, atcr_pds::repo::car::CarError>(count)
    });
    match read_slice(Bytes::copy_from_slice(bytes), limits) {
        Ok(slice) => assert!(slice.blocks.len() <= streamed.unwrap()),
        Err(error) => assert_eq!(streamed.unwrap_err(), error),
    }
});
