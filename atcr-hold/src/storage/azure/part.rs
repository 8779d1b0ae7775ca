use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method};
use reqwest::{Body, Response};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use url::Url;

use super::super::spool::{self, Beginning, too_large};
use super::super::{Measured, Part, PartBody, PartNumber, SignedRequest, StorageError, StorageUpload};
use super::client::AzureFailure;
use super::sas::Right;
use super::upload::{BlockId, Kind, Upload};
use super::{AzureStorage, MAX_PART};

/// Bytes that are read from a file at once.
const READ_PIECE: usize = 128 * 1024;
/// Pieces of a body on their way to the connection.
const PIECES: usize = 4;
/// How long the storage may take to answer once it has all bytes of a part.
const ANSWER: Duration = Duration::from_secs(60);
/// The least speed in bytes per second at which a part from a file is still being sent.
const SLOWEST: u64 = 256 * 1024;

impl AzureStorage {
    /// The URL of a block, without what a request of the hold's adds.
    fn block_url(mut url: Url, id: &BlockId) -> Url {
        url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &id.encoded());
        url
    }

    pub(super) fn sign_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        life: Duration,
    ) -> Result<Option<SignedRequest>, StorageError> {
        let upload = Upload::of(upload)?;
        if upload.kind == Kind::Direct {
            // Begun when nobody was to be given URLs.
            return Ok(None);
        }
        let id = BlockId::new(number, false)?;
        // The operation is put before the signature, which is of none of it.
        let url = self.url(&upload.blocks(), Right::Write, life, Duration::ZERO);
        let mut signed = url.clone();
        signed.query_pairs_mut().clear().append_pair("comp", "block").append_pair("blockid", &id.encoded());
        signed.query_pairs_mut().extend_pairs(url.query_pairs());
        let etag = Some(id.into_etag());
        Ok(Some(SignedRequest { method: Method::PUT, url: signed, headers: HeaderMap::new(), etag }))
    }

    /// Azure wants to know the size of a part first. Small ones are kept in memory, of large ones it was said, or they
    /// are gathered in a file.
    pub(super) async fn send_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError> {
        let of = Upload::of(upload)?;
        if let Some(size) = size.filter(|size| *size > MAX_PART) {
            return Err(too_large(size, MAX_PART));
        }
        let mut body = Measured::new(size, body);
        let begun = Beginning::of(&mut body).await?;
        let empty = begun.ended && begun.size == 0;
        let id = BlockId::new(number, empty)?;
        let url = Self::block_url(self.own_url(&of.blocks(), Right::Write), &id);
        let (sent, size) = match size {
            _ if begun.ended => {
                let size = begun.size as u64;
                let whole = if empty { Bytes::from_static(b"0") } else { begun.joined() };
                (self.send(Method::PUT, &url, &HeaderMap::new(), whole).await, size)
            }
            Some(size) => (self.pass_on(&url, size, begun, &mut body).await?, size),
            None => {
                let folder = &self.inner.config.spool_dir;
                let (file, size) = spool::gather(folder, begun, &mut body, MAX_PART).await?;
                let whole = tokio::fs::File::open(file.path()).await.map_err(spool::failed)?;
                let whole = Body::wrap_stream(ReaderStream::with_capacity(whole, READ_PIECE));
                let limit = ANSWER + Duration::from_secs(size / SLOWEST);
                let sent = tokio::time::timeout(limit, self.pour(&url, size, whole)).await;
                (sent.unwrap_or_else(|_| Err(silence())), size)
            }
        };
        sent.map_err(|failure| failure.doing("sending a part"))?;
        // A block is taken whatever became of the upload meanwhile; then it goes by itself.
        if !self.is_open(&of).await? {
            return Err(StorageError::UploadUnknown(upload.clone()));
        }
        Ok(Part { number, size, etag: id.into_etag() })
    }

    /// Sends bytes as they come. How long that may take is up to their sender.
    async fn pass_on(
        &self,
        url: &Url,
        size: u64,
        begun: Beginning,
        body: &mut Measured<&mut PartBody<'_>>,
    ) -> Result<Result<Response, AzureFailure>, StorageError> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
        let rest = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let pieces = stream::iter(begun.pieces).chain(rest).map(Ok::<_, Infallible>);
        let mut sending = pin!(self.pour(url, size, Body::wrap_stream(pieces)));
        tokio::select! {
            biased;
            sent = &mut sending => Ok(sent),
            poured = pour(body, sender) => {
                // Of a body that is cut off the storage keeps nothing: the connection ends before the part does.
                poured?;
                Ok(tokio::time::timeout(ANSWER, sending).await.unwrap_or_else(|_| Err(silence())))
            }
        }
    }
}

fn silence() -> AzureFailure {
    AzureFailure::Unreached("the storage has all bytes of a part and does not answer".to_owned())
}

async fn pour(
    body: &mut Measured<&mut PartBody<'_>>,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), StorageError> {
    while let Some(piece) = body.next().await {
        if sender.send(piece.map_err(StorageError::Body)?).await.is_err() {
            // The request has come to its end; what it says counts.
            break;
        }
    }
    Ok(())
}
