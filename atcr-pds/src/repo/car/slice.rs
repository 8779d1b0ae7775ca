use std::collections::HashMap;

use bytes::Bytes;
use ipld_core::cid::Cid;

use super::read::{parse_header, parse_section};
use super::{CarError, CarLimits};

/// A small CAR file, read whole: a proof, or the blocks of an event.
#[derive(Debug, Clone)]
pub struct CarSlice {
    /// The roots: of a proof or an event, its commit. The answer to `getBlocks` has none.
    pub roots: Vec<Cid>,
    /// The blocks, each checked against its CID. They share the memory of the file.
    pub blocks: HashMap<Cid, Bytes>,
}

impl CarSlice {
    /// A block that is needed.
    ///
    /// # Errors
    /// [`CarError::Missing`] when the file does not have it.
    pub fn block(&self, cid: &Cid) -> Result<&Bytes, CarError> {
        self.blocks.get(cid).ok_or(CarError::Missing(*cid))
    }
}

/// Reads a CAR file that is in memory.
pub fn read_slice(mut file: Bytes, limits: CarLimits) -> Result<CarSlice, CarError> {
    let header = part(&mut file, limits.header)?.ok_or(CarError::Truncated)?;
    let roots = parse_header(&header)?;
    let mut blocks = HashMap::new();
    let mut read = 0;
    while let Some(section) = part(&mut file, limits.block + 36)? {
        read += 1;
        if read > limits.blocks {
            return Err(CarError::TooManyBlocks(limits.blocks));
        }
        let (cid, bytes) = parse_section(section)?;
        blocks.insert(cid, bytes);
    }
    Ok(CarSlice { roots, blocks })
}

fn part(file: &mut Bytes, limit: u64) -> Result<Option<Bytes>, CarError> {
    if file.is_empty() {
        return Ok(None);
    }
    let (size, rest) = unsigned_varint::decode::u64(file).map_err(|e| match e {
        unsigned_varint::decode::Error::Insufficient => CarError::Truncated,
        _ => CarError::Length,
    })?;
    if size > limit {
        return Err(CarError::TooLarge { size, limit });
    }
    let begin = file.len() - rest.len();
    match usize::try_from(size) {
        Ok(size) if size <= rest.len() => {
            let mut section = file.split_to(begin + size);
            Ok(Some(section.split_off(begin)))
        }
        _ => Err(CarError::Truncated),
    }
}
