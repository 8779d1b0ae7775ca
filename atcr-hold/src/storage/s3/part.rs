use std::convert::Infallible;
use std::fs;
use std::io::{self, Write as _};
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
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::super::bucket::UploadName;
use super::super::{Measured, Part, PartBody, PartNumber, StorageError, StorageUpload};
use super::error::S3Failure;
use super::multipart::{bare, of_upload};
use super::{CONNECT, MAX_PART, S3Storage, part_number};

/// A part of at most this size is kept in memory, where it can be sent again when the storage fails.
const IN_MEMORY: usize = 256 * 1024;
/// Bytes that are read from a file at once.
const READ_PIECE: usize = 128 * 1024;
/// Pieces of a body on their way to the connection.
const PIECES: usize = 4;
/// How long the storage may take to answer once it has all bytes of a part.
const ANSWER: Duration = Duration::from_secs(60);
/// The least speed in bytes per second at which a part from a file is still being sent.
const SLOWEST: u64 = 256 * 1024;

/// What the names of the files of parts begin with.
const SPOOLED: &str = ".atcr-part-";
/// A file that nobody has written to for so long is nobody's.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// What came of a body until it ended or became too large for memory.
struct Beginning {
    pieces: Vec<Bytes>,
    size: usize,
    ended: bool,
}

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
            return Err(too_large(size));
        }
        let request = self.inner.client.upload_part().bucket(self.bucket()).key(self.full(&name.data()));
        let request = request.upload_id(id).part_number(part_number(number)?);
        let mut body = Measured::new(size, body);
        let begun = Beginning::of(&mut body).await?;
        let (sent, size) = match size {
            _ if begun.ended => {
                let size = begun.size as u64;
                let whole = ByteStream::from(joined(begun.pieces));
                (send(request.body(whole), size).await, size)
            }
            Some(size) => (pass_on(request, size, begun, &mut body).await?, size),
            None => {
                let (file, size) = self.spool(begun, &mut body).await?;
                let whole = ByteStream::read_from().path(file.path()).buffer_size(READ_PIECE).build().await;
                let whole = whole.map_err(|error| spooling(error.into()))?;
                (send(request.body(whole), size).await, size)
            }
        };
        let etag = sent.map_err(|failure| match failure.code() {
            "EntityTooLarge" => too_large(size),
            _ => of_upload(failure, upload, "sending a part"),
        })?;
        Ok(Part { number, size, etag })
    }

    /// Removes the files of parts that a process which was killed has left.
    pub(super) async fn sweep_spool(&self) {
        let folder = self.inner.config.spool_dir.clone();
        let swept = blocking(move || {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let ours = entry.file_name().to_string_lossy().starts_with(SPOOLED);
                let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
                if ours && age > ABANDONED {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            tracing::debug!(%error, "what is left in the spool stays");
        }
    }

    /// Gathers a body in a file, which goes when it is dropped.
    async fn spool(
        &self,
        begun: Beginning,
        body: &mut Measured<'_, '_>,
    ) -> Result<(NamedTempFile, u64), StorageError> {
        let folder = self.inner.config.spool_dir.clone();
        let mut size = begun.size as u64;
        let mut batch = begun.pieces;
        let mut file = blocking(move || tempfile::Builder::new().prefix(SPOOLED).tempfile_in(folder)).await?;
        loop {
            file = blocking(move || {
                batch.iter().try_for_each(|piece| file.write_all(piece))?;
                Ok(file)
            })
            .await?;
            let next = Beginning::of(body).await?;
            size += next.size as u64;
            if size > MAX_PART {
                return Err(too_large(size));
            }
            batch = next.pieces;
            if batch.is_empty() {
                return Ok((file, size));
            }
        }
    }
}

impl Beginning {
    async fn of(body: &mut Measured<'_, '_>) -> Result<Self, StorageError> {
        let mut begun = Self { pieces: Vec::new(), size: 0, ended: false };
        while begun.size < IN_MEMORY {
            let Some(piece) = body.next().await else {
                begun.ended = true;
                break;
            };
            let piece = piece.map_err(StorageError::Body)?;
            begun.size += piece.len();
            begun.pieces.push(piece);
        }
        Ok(begun)
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
    body: &mut Measured<'_, '_>,
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

async fn pour(body: &mut Measured<'_, '_>, sender: mpsc::Sender<Bytes>) -> Result<(), StorageError> {
    while let Some(piece) = body.next().await {
        if sender.send(piece.map_err(StorageError::Body)?).await.is_err() {
            // The request has come to its end; what it says counts.
            break;
        }
    }
    Ok(())
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        1 => pieces.remove(0),
        _ => pieces.concat().into(),
    }
}

fn too_large(size: u64) -> StorageError {
    StorageError::PartSize { size, limit: format!("one has at most {MAX_PART} bytes") }
}

fn spooling(error: io::Error) -> StorageError {
    StorageError::io("gathering a part in a file", error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).flatten().map_err(spooling)
}
