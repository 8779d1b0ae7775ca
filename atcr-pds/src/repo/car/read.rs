use bytes::Bytes;
use ipld_core::cid::Cid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

use super::CarError;
use crate::cbor::{self, check_cid, cid_matches};

/// The bytes of a CID of the protocol.
const CID_LEN: usize = 36;

/// What a reader takes.
#[derive(Debug, Clone, Copy)]
pub struct CarLimits {
    /// The longest header, in bytes. Default: 4 KiB.
    pub header: u64,
    /// The largest block, in bytes. Default: 2 MiB.
    pub block: u64,
    /// The most blocks. Default: 20 million.
    pub blocks: u64,
}

impl Default for CarLimits {
    fn default() -> Self {
        Self { header: 4 * 1024, block: 2 * 1024 * 1024, blocks: 20_000_000 }
    }
}

/// Reads a CAR file block by block. Every block has been checked against its CID.
#[derive(Debug)]
pub struct CarReader<R> {
    input: BufReader<R>,
    limits: CarLimits,
    roots: Vec<Cid>,
    read: u64,
}

#[derive(Deserialize)]
struct Header {
    roots: Vec<Cid>,
    version: u64,
}

/// Reads a header without its length.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Vec<Cid>, CarError> {
    let header: Header = cbor::from_slice(bytes).map_err(|e| CarError::Header(e.to_string()))?;
    if header.version != 1 {
        return Err(CarError::Header(format!("version {}", header.version)));
    }
    Ok(header.roots)
}

/// Reads a section without its length.
pub(super) fn parse_section(mut section: Bytes) -> Result<(Cid, Bytes), CarError> {
    if section.len() < CID_LEN {
        return Err(CarError::Cid);
    }
    let cid = Cid::try_from(&section[..CID_LEN]).map_err(|_| CarError::Cid)?;
    check_cid(&cid).map_err(|_| CarError::Cid)?;
    let bytes = section.split_off(CID_LEN);
    if !cid_matches(&cid, &bytes) {
        return Err(CarError::Hash(cid));
    }
    Ok((cid, bytes))
}

fn io(error: &std::io::Error) -> CarError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => CarError::Truncated,
        _ => CarError::Io(error.to_string()),
    }
}

impl<R: AsyncRead + Unpin> CarReader<R> {
    /// Reads the header.
    pub async fn open(input: R, limits: CarLimits) -> Result<Self, CarError> {
        let mut reader = Self { input: BufReader::new(input), limits, roots: Vec::new(), read: 0 };
        let header = reader.part(limits.header).await?.ok_or(CarError::Truncated)?;
        reader.roots = parse_header(&header)?;
        Ok(reader)
    }

    /// The roots: of a repo or a proof, its commit. The answer to `getBlocks` has none.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// The next block; `None` at the end of the file.
    pub async fn next(&mut self) -> Result<Option<(Cid, Bytes)>, CarError> {
        let Some(section) = self.part(self.limits.block + CID_LEN as u64).await? else { return Ok(None) };
        self.read += 1;
        if self.read > self.limits.blocks {
            return Err(CarError::TooManyBlocks(self.limits.blocks));
        }
        parse_section(section).map(Some)
    }

    /// A length and as many bytes.
    async fn part(&mut self, limit: u64) -> Result<Option<Bytes>, CarError> {
        let Some(size) = self.length().await? else { return Ok(None) };
        if size > limit {
            return Err(CarError::TooLarge { size, limit });
        }
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(size).read_to_end(&mut bytes).await.map_err(|e| io(&e))?;
        if read as u64 == size { Ok(Some(bytes.into())) } else { Err(CarError::Truncated) }
    }

    async fn length(&mut self) -> Result<Option<u64>, CarError> {
        let mut buffer = [0u8; 10];
        for len in 0..buffer.len() {
            let read = self.input.read(&mut buffer[len..=len]).await.map_err(|e| io(&e))?;
            match (read, len) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(CarError::Truncated),
                _ => {}
            }
            if buffer[len] & 0x80 == 0 {
                let (value, _) =
                    unsigned_varint::decode::u64(&buffer[..=len]).map_err(|_| CarError::Length)?;
                return Ok(Some(value));
            }
        }
        Err(CarError::Length)
    }
}
