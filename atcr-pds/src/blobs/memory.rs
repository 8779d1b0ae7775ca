use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use atcr_core::syntax::Did;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _};
use ipld_core::cid::Cid;

use super::{BlobContent, BlobError, BlobSink, BlobStorage};

type Kept = Arc<Mutex<HashMap<(Did, Cid), Bytes>>>;

/// Blobs in memory: for tests, and for servers whose repos are in memory too.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Kept);

struct Sink {
    kept: Kept,
    bytes: BytesMut,
}

#[async_trait]
impl BlobStorage for MemoryBlobs {
    async fn begin(&self) -> Result<Box<dyn BlobSink>, BlobError> {
        Ok(Box::new(Sink { kept: self.0.clone(), bytes: BytesMut::new() }))
    }

    async fn open(&self, did: &Did, cid: &Cid) -> Result<Option<BlobContent>, BlobError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.get(&(did.clone(), *cid)).cloned().map(|bytes| BlobContent {
            size: bytes.len() as u64,
            bytes: futures_util::stream::once(async { Ok(bytes) }).boxed(),
        }))
    }

    async fn list(&self, did: &Did) -> Result<BoxStream<'static, Result<Cid, BlobError>>, BlobError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cids: Vec<_> = kept.keys().filter(|(owner, _)| owner == did).map(|(_, cid)| Ok(*cid)).collect();
        Ok(futures_util::stream::iter(cids).boxed())
    }

    async fn delete(&self, did: &Did, cid: &Cid) -> Result<(), BlobError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(did.clone(), *cid));
        Ok(())
    }
}

#[async_trait]
impl BlobSink for Sink {
    async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    async fn finish(self: Box<Self>, did: &Did, cid: &Cid) -> Result<(), BlobError> {
        let Self { kept, bytes } = *self;
        kept.lock().unwrap_or_else(PoisonError::into_inner).insert((did.clone(), *cid), bytes.freeze());
        Ok(())
    }
}
