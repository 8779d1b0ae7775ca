use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::hold_client::{HoldClient, hold_error};
use super::hold_upload::{HoldKind, HoldUpload};
use atcr_core::blob_store::ByteStream;
use atcr_core::egress::EgressError;
use atcr_core::methods::{
    GetPartUploadUrl, GetPartUploadUrlInput, GetPartUploadUrlOutput, PartUploadRequest,
};
use atcr_core::oci::Hasher;
use atcr_core::syntax::Did;
use atcr_core::xrpc::{XrpcClient, XrpcError};
use atcr_core::{Source, StoreError};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// Parts in flight to the storage while the next one fills.
const PARALLEL_PARTS: usize = 2;

/// No storage takes more parts in one upload.
const MAX_PARTS: u32 = 10_000;

/// A part that is not the last one has at least this many bytes (S3).
const MIN_PART: usize = 5 * 1024 * 1024;

/// A request of the client that brings bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// How many bytes the upload had before.
    pub(super) offset: u64,
    /// More is likely to follow.
    pub(super) chunk: bool,
}

/// Sends one step's body to the hold, and says how many bytes it had.
pub(super) async fn send(
    holds: &HoldClient,
    caller: &Did,
    upload: &mut HoldUpload,
    step: Step,
    body: ByteStream,
) -> Result<u64, StoreError> {
    match upload.kind {
        HoldKind::Streaming => stream_part(holds, caller, upload, body).await,
        HoldKind::Parts(size) => send_parts(holds, caller, upload, size, step, body).await,
    }
}

/// The whole body as one part, passed on as it comes.
async fn stream_part(
    holds: &HoldClient,
    caller: &Did,
    upload: &mut HoldUpload,
    mut body: ByteStream,
) -> Result<u64, StoreError> {
    // A part without bytes is none: the closing PUT of most clients has no body.
    let first = loop {
        match body.next().await {
            None => return Ok(0),
            Some(piece) => {
                let piece = piece.map_err(StoreError::BodyInterrupted)?;
                if !piece.is_empty() {
                    break piece;
                }
            }
        }
    };
    let counter = Arc::new(Counter::default());
    let seen = Arc::clone(&counter);
    let pieces =
        stream::once(std::future::ready(Ok(first))).chain(body).inspect(move |piece| seen.see(piece));
    let number = upload.parts + 1;
    let addresses = Addresses::new(holds, caller, upload, None);
    let target = addresses.of(number, None).await?;
    let body = reqwest::Body::wrap_stream(pieces);
    let result = addresses.put(&target, None, body).await.map_err(|failure| failure.into_error(&upload.hold));
    if counter.interrupted() {
        return Err(StoreError::BodyInterrupted("the client went away".into()));
    }
    result?;
    upload.parts = number;
    Ok(counter.bytes())
}

/// Counts what passes, and remembers whether it ended early.
#[derive(Debug, Default)]
struct Counter(Mutex<(u64, bool)>);

impl Counter {
    fn see(&self, piece: &Result<Bytes, Source>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match piece {
            Ok(bytes) => state.0 += bytes.len() as u64,
            Err(_) => state.1 = true,
        }
    }

    fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn interrupted(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// The body in parts of one size, several in flight. The last one is shorter; where more is likely to follow and it is
/// too short for a part that is not the last, the hold keeps it, and what follows is added there.
async fn send_parts(
    holds: &HoldClient,
    caller: &Did,
    upload: &mut HoldUpload,
    size: u32,
    step: Step,
    body: ByteStream,
) -> Result<u64, StoreError> {
    let size = usize::try_from(size).unwrap_or(MIN_PART).max(MIN_PART);
    let hasher = Arc::new(Mutex::new(upload.hasher()?));
    let hashing = Arc::clone(&hasher);
    let body = body.inspect_ok(move |piece| {
        if let Some(hasher) = hashing.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Hasher::update(hasher, piece);
        }
    });
    let first = upload.parts + 1;
    let (ended, session) = (upload.ended, &*upload);
    let tail = usize::try_from(session.tail).ok().filter(|tail| *tail < size).unwrap_or_default();
    // Parts that are certain to be whole, where the size of the blob is known.
    let full = session.size.map(|all| {
        let left = all.saturating_sub(step.offset.saturating_sub(tail as u64));
        u32::try_from(left / size as u64).unwrap_or(MAX_PARTS).saturating_add(session.parts)
    });
    let addresses = &Addresses::new(holds, caller, session, full);
    let sent: Vec<Sent> = cut(body, size - tail, size)
        .enumerate()
        .map(|(at, bytes)| async move {
            let bytes = bytes?;
            if ended {
                return Err(StoreError::Unsupported(
                    "this hold takes a blob in chunks of at least 5 MiB only; use a larger chunk size"
                        .to_owned(),
                ));
            }
            let number = u32::try_from(at).unwrap_or(MAX_PARTS).saturating_add(first);
            if number > MAX_PARTS {
                return Err(StoreError::TooLarge { limit: u64::from(MAX_PARTS) * size as u64 });
            }
            let offset = if at == 0 { tail } else { 0 };
            let (bytes_sent, length) = (bytes.len(), offset + bytes.len());
            let short = if offset == 0 { step.chunk && length < MIN_PART } else { length < size };
            let kept = session.tails && short;
            let piece = Piece { number, offset: offset as u64, more: kept, bytes };
            let etag = addresses.send(piece).await?;
            Ok(Sent { bytes: bytes_sent, length, etag: (!kept).then_some(etag) })
        })
        .buffered(PARALLEL_PARTS)
        .try_collect()
        .await?;
    let Some(last) = sent.last() else { return Ok(0) };
    upload.tail = if last.etag.is_none() { last.length as u64 } else { 0 };
    upload.ended = ended || (last.etag.is_some() && last.length < MIN_PART);
    let bytes = sent.iter().map(|sent| sent.bytes as u64).sum();
    upload.etags.extend(sent.into_iter().filter_map(|sent| sent.etag));
    upload.parts = u32::try_from(upload.etags.len()).map_err(StoreError::internal)?;
    upload.keep_hasher(hasher.lock().unwrap_or_else(PoisonError::into_inner).as_ref());
    Ok(bytes)
}

/// A piece that is where it belongs.
struct Sent {
    bytes: usize,
    /// How many bytes the part has with it.
    length: usize,
    /// The receipt of the part; `None` while the hold keeps it for more.
    etag: Option<String>,
}

/// Makes what the hold keeps the last part.
pub(super) async fn end_tail(
    holds: &HoldClient,
    caller: &Did,
    upload: &mut HoldUpload,
) -> Result<(), StoreError> {
    if upload.tail == 0 {
        return Ok(());
    }
    let number = upload.parts + 1;
    let piece = Piece { number, offset: upload.tail, more: false, bytes: Bytes::new() };
    let sent = Addresses::new(holds, caller, upload, None).send(piece).await;
    let etag = match sent {
        Ok(etag) => etag,
        // The upload is being completed, or was: the hold knows its last part. If it does not, that is said there.
        Err(StoreError::UploadUnknown) => String::new(),
        Err(error) => return Err(error),
    };
    upload.etags.push(etag);
    (upload.parts, upload.tail) = (number, 0);
    Ok(())
}

/// Cuts a body into pieces of exactly `size` bytes, but for the first one, of `first` bytes, and the last one, which is
/// shorter; no bytes give no piece.
fn cut(
    body: impl stream::Stream<Item = Result<Bytes, Source>> + Send + Unpin,
    first: usize,
    size: usize,
) -> impl stream::Stream<Item = Result<Bytes, StoreError>> + Send {
    stream::try_unfold((body, BytesMut::new(), first), move |(mut body, mut buffer, wanted)| async move {
        while buffer.len() < wanted {
            match body.try_next().await.map_err(StoreError::BodyInterrupted)? {
                Some(piece) => buffer.extend_from_slice(&piece),
                None => break,
            }
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let part = buffer.split_to(buffer.len().min(wanted)).freeze();
        Ok(Some((part, (body, buffer, size))))
    })
}

/// Bytes of a part.
#[derive(Debug, Clone)]
struct Piece {
    number: u32,
    /// How many of the part the hold keeps already.
    offset: u64,
    /// The hold keeps them too.
    more: bool,
    bytes: Bytes,
}

/// Asks the hold where parts go, for several at once where it can, and sends them there.
struct Addresses<'a> {
    holds: &'a HoldClient,
    caller: &'a Did,
    upload: &'a HoldUpload,
    /// The last part that is certain to be whole, where the size of the blob is known.
    full: Option<u32>,
    /// Given and not yet used.
    known: tokio::sync::Mutex<BTreeMap<u32, PartUploadRequest>>,
}

/// Parts whose addresses are asked for at once: their addresses live for minutes.
const AT_ONCE: NonZeroU32 = NonZeroU32::new(8).expect("it is not zero");

/// How often a part that is at hand is sent before the upload has failed.
const ATTEMPTS: u32 = 4;

/// The pause before a part is sent again; it doubles each time.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a part was not taken.
enum PartFailure {
    /// Nothing came back, or something that is none of the protocol.
    Error(StoreError),
    /// The storage refused it.
    Refused(StatusCode, XrpcError),
}

impl PartFailure {
    /// Whether a new address, or another try, may help. Storages answer 400 or 403 to an address whose time is over.
    fn may_pass(&self) -> bool {
        match self {
            Self::Error(error) => matches!(error, StoreError::Unavailable { .. }),
            Self::Refused(status, error) => {
                let named = |name: &str| error.name() == Some(name);
                let expired = matches!(status.as_u16(), 400 | 401 | 403) && !named("QuotaExceeded");
                expired || matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
        }
    }

    fn into_error(self, hold: &Did) -> StoreError {
        match self {
            Self::Error(error) => error,
            Self::Refused(_, error) => hold_error(hold, error),
        }
    }
}

impl<'a> Addresses<'a> {
    fn new(holds: &'a HoldClient, caller: &'a Did, upload: &'a HoldUpload, full: Option<u32>) -> Self {
        Self { holds, caller, upload, full, known: tokio::sync::Mutex::default() }
    }

    /// Where a part goes.
    async fn of(&self, number: u32, size: Option<u64>) -> Result<PartUploadRequest, StoreError> {
        // Held while the hold is asked: the parts that follow wait for the same answer.
        let mut known = self.known.lock().await;
        if let Some(request) = known.remove(&number) {
            return Ok(request);
        }
        let several = self.upload.batch && self.upload.kind != HoldKind::Streaming;
        let (count, size) = match self.full {
            _ if !several => (None, size),
            // How many parts there will be is not known.
            None => (Some(AT_ONCE), None),
            Some(full) => {
                let whole = NonZeroU32::new((full + 1).saturating_sub(number));
                (whole.map(|whole| whole.min(AT_ONCE)), size)
            }
        };
        let answer = self.ask(number, size, count, None).await?;
        for (number, request) in (number + 1..).zip(answer.following).take(AT_ONCE.get() as usize) {
            known.insert(number, request);
        }
        let GetPartUploadUrlOutput { url, method, headers, etag, .. } = answer;
        Ok(PartUploadRequest { url, method, headers, etag })
    }

    /// Where a piece goes that is less than a part.
    async fn of_piece(&self, piece: &Piece) -> Result<PartUploadRequest, StoreError> {
        let size = piece.offset + piece.bytes.len() as u64;
        let answer = self.ask(piece.number, Some(size), None, Some(piece)).await?;
        let GetPartUploadUrlOutput { url, method, headers, etag, .. } = answer;
        Ok(PartUploadRequest { url, method, headers, etag })
    }

    async fn ask(
        &self,
        number: u32,
        size: Option<u64>,
        count: Option<NonZeroU32>,
        piece: Option<&Piece>,
    ) -> Result<GetPartUploadUrlOutput, StoreError> {
        let part_number =
            NonZeroU32::new(number).ok_or_else(|| StoreError::internal("parts are counted from 1"))?;
        let input = GetPartUploadUrlInput {
            upload_id: self.upload.upload_id.clone(),
            part_number,
            size,
            count,
            offset: piece.map(|piece| piece.offset),
            more: piece.is_some_and(|piece| piece.more),
        };
        self.holds.call::<GetPartUploadUrl>(&self.upload.hold, self.caller, &input).await
    }

    /// Sends a part or a piece of one, again by a new address where that may help, and gives the storage's receipt.
    async fn send(&self, piece: Piece) -> Result<String, StoreError> {
        let (number, length) = (piece.number, piece.bytes.len() as u64);
        let mut attempt = 1;
        loop {
            let target = if piece.more || piece.offset > 0 {
                self.of_piece(&piece).await?
            } else {
                self.of(number, Some(length)).await?
            };
            match self.put(&target, Some(length), piece.bytes.clone().into()).await {
                Ok(etag) => return Ok(etag),
                Err(failure) if attempt < ATTEMPTS && failure.may_pass() => {
                    // What was given with an address that is over is over as well.
                    self.known.lock().await.clear();
                    tracing::debug!(number, attempt, "a part is sent again");
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
                    attempt += 1;
                }
                Err(failure) => return Err(failure.into_error(&self.upload.hold)),
            }
        }
    }

    async fn put(
        &self,
        target: &PartUploadRequest,
        length: Option<u64>,
        body: reqwest::Body,
    ) -> Result<String, PartFailure> {
        let (hold, egress) = (&self.upload.hold, self.holds.egress());
        let broken = |what: &'static str| {
            PartFailure::Error(StoreError::unavailable(format!("the hold {hold}"), what))
        };
        let failed = |e: EgressError| {
            PartFailure::Error(StoreError::unavailable(format!("the storage of the hold {hold}"), e))
        };
        let method = target.method.as_str().parse().map_err(|_| broken("it has no HTTP method"))?;
        let mut request = egress.request(method, target.url.clone()).map_err(failed)?;
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        for (name, value) in &target.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| broken("it asks for a header that is none"))?;
            let value =
                HeaderValue::from_str(value).map_err(|_| broken("it asks for a header that is none"))?;
            request = request.header(name, value);
        }
        let response = egress.send(request.body(body)).await.map_err(failed)?;
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT) {
            let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
            return match target.etag.clone().or_else(|| etag.map(str::to_owned)) {
                Some(etag) => Ok(etag),
                None if self.upload.kind == HoldKind::Streaming => Ok(String::new()),
                None => Err(broken("its storage gave no receipt for a part")),
            };
        }
        let body = egress.read(response, 64 * 1024).await.map_err(failed)?;
        let storage = XrpcClient::new(egress.clone(), target.url.clone());
        Err(PartFailure::Refused(status, storage.refusal("a part upload", status, &body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_cut_into_equal_parts_whatever_its_pieces_are() {
        for (first, pieces, expected) in [
            (5, vec![], vec![]),
            (5, vec![3, 4], vec![5, 2]),
            (5, vec![5], vec![5]),
            (5, vec![12], vec![5, 5, 2]),
            (5, vec![1; 11], vec![5, 5, 1]),
            (2, vec![1; 11], vec![2, 5, 4]),
            (2, vec![1], vec![1]),
        ] {
            let body = stream::iter(pieces.into_iter().map(|n| Ok::<_, Source>(Bytes::from(vec![7; n]))));
            let parts: Vec<usize> =
                cut(body, first, 5).map_ok(|part| part.len()).try_collect().await.unwrap();
            assert_eq!(parts, expected);
        }
    }
}
