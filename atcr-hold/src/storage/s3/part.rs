use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;

use super::super::bucket::UploadName;
use super::super::spool::{self, Beginning, too_large};
use super::super::{Measured, Part, PartBody, PartNumber, StorageError, StorageUpload};
use super::error::S3Failure;
use super::multipart::of_upload;
use super::{CONNECT, MAX_PART, S3Storage, part_number};
use crate::storage::bare;

/// Bytes that are read from a file at once.
const READ_PIECE: usize = 128 * 1024;
/// Pieces of a body on their way to the connection.
const PIECES: usize = 4;
/// How long the storage may take to answer once it has all bytes of a part.
const ANSWER: Duration = Duration::from_secs(60);
/// The least speed in bytes per second at which a part from a file is still being sent.
const SLOWEST: u64 = 256 * 1024;

impl S3Storage {
    /// S3 wants to know the size of a part first. Small ones are kept in memory, of large ones it was said, or they are
    /// gathered in a file.
    pub(super) async fn send_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError> {
        let (name, id) = UploadName::of_upload(upload)?;
        if let Some(size) = size.filter(|size| *size > MAX_PART) {
            return Err(too_large(size, MAX_PART));
        }
        let request = self.inner.client.upload_part().bucket(self.bucket()).key(self.full(&name.data()));
        let request = request.upload_id(id).part_number(part_number(number)?);
        let mut body = Measured::new(size, body);
        let begun = Beginning::of(&mut body).await?;
        let (sent, size) = match size {
            _ if begun.ended => {
                let size = begun.size as u64;
                let whole = ByteStream::from(begun.joined());
                (send(request.body(whole), size).await, size)
            }
            Some(size) => (pass_on(request, size, begun, &mut body).await?, size),
            None => {
                let (file, size) =
                    spool::gather(&self.inner.config.spool_dir, begun, &mut body, MAX_PART).await?;
                let whole = ByteStream::read_from().path(file.path()).buffer_size(READ_PIECE).build().await;
                let whole = whole.map_err(|error| spool::failed(error.into()))?;
                (send(request.body(whole), size).await, size)
            }
        };
        let etag = sent.map_err(|failure| match failure.code() {
            "EntityTooLarge" => too_large(size, MAX_PART),
            _ => of_upload(failure, upload, "sending a part"),
        })?;
        Ok(Part { number, size, etag })
    }
}

/// Sends bytes that are at hand, again if need be, and gives their ETag.
async fn send(request: UploadPartFluentBuilder, size: u64) -> Result<String, S3Failure> {
    let limit = ANSWER + Duration::from_secs(size / SLOWEST);
    let sent = request.customize().config_override(S3Storage::patient(limit)).send().await?;
    Ok(bare(sent.e_tag().unwrap_or_default()).to_owned())
}

/// Sends bytes as they come.
///
/// How long that may take is up to their sender. A storage that takes none of them any more is noticed by the stalled
/// stream protection of the SDK, one that does not answer by the clock.
async fn pass_on(
    request: UploadPartFluentBuilder,
    size: u64,
    begun: Beginning,
    body: &mut Measured<&mut PartBody<'_>>,
) -> Result<Result<String, S3Failure>, StorageError> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let rest = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let frames = stream::iter(begun.pieces).chain(rest).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let request = request.content_length(i64::try_from(size).unwrap_or(i64::MAX));
    let request = request.body(ByteStream::new(SdkBody::from_body_1_x(StreamBody::new(frames))));
    let unlimited = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .disable_read_timeout()
        .disable_operation_attempt_timeout()
        .disable_operation_timeout();
    let overrides = Builder::new().timeout_config(unlimited.build());
    let mut sending = pin!(request.customize().config_override(overrides).send());
    let sent = tokio::select! {
        biased;
        sent = &mut sending => sent,
        poured = pour(body, sender) => {
            // Of a body that is cut off the storage keeps nothing: the connection ends before the part does.
            poured?;
            let Ok(sent) = tokio::time::timeout(ANSWER, sending).await else {
                let silence = "the storage has all bytes of a part and does not answer";
                return Ok(Err(S3Failure::Unreached(silence.to_owned())));
            };
            sent
        }
    };
    Ok(sent.map(|sent| bare(sent.e_tag().unwrap_or_default()).to_owned()).map_err(S3Failure::from))
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
