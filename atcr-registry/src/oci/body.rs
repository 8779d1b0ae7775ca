//! The body of a request, on its way into a store.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

/// How much of a body that nobody wants is read off the connection, so that the client gets to see the answer instead
/// of a reset connection.
const DRAIN_BYTES: usize = 8 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body was cut off")]
    Cut(#[source] axum::Error),
    #[error("nothing came for {} seconds", .0.as_secs())]
    Idle(Duration),
    #[error("the body does not have the length of its Content-Range")]
    Length,
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

/// A request's body as a stream that ends with an error when the client stalls, and that is read off the connection
/// when it is dropped early.
pub(crate) struct RequestBody {
    body: Option<BodyDataStream>,
    length: Option<u64>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// How many bytes must still come, where that is known from elsewhere than `Content-Length`.
    expected: Option<u64>,
}

impl RequestBody {
    pub(crate) fn new(body: Body, idle: Duration) -> Self {
        let length = body.size_hint().exact();
        let body = (!body.is_end_stream()).then(|| body.into_data_stream());
        Self { body, length, idle, timer: None, expected: None }
    }

    /// Its length in bytes, where the request says it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether it is known to be empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_none() || self.length == Some(0)
    }

    /// Makes it an error to have more or fewer bytes than this.
    pub(crate) fn expect_length(&mut self, length: u64) {
        self.expected = Some(length);
    }

    /// The form that a store takes.
    pub(crate) fn into_stream(self) -> ByteStream {
        self.map(|piece| piece.map_err(Source::from)).boxed()
    }

    /// All of it, up to `limit` bytes.
    pub(crate) async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let length = self.length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if length > limit {
            return Err(BodyError::TooLarge(limit));
        }
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
        if first.len() == length {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(length.max(first.len()));
        all.extend_from_slice(&first);
        while let Some(piece) = self.next().await.transpose()? {
            if all.len() + piece.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
            all.extend_from_slice(&piece);
        }
        if all.len() > limit { Err(BodyError::TooLarge(limit)) } else { Ok(all.freeze()) }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(piece) = body.poll_next_unpin(cx) {
            self.timer = None;
            return Poll::Ready(piece.map(|piece| piece.map_err(BodyError::Cut)));
        }
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle(idle))))
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.poll_piece(cx));
        let piece = match (piece, self.expected) {
            (Some(Ok(piece)), Some(left)) => {
                self.expected = left.checked_sub(piece.len() as u64);
                Some(if self.expected.is_some() { Ok(piece) } else { Err(BodyError::Length) })
            }
            (None, Some(1..)) => Some(Err(BodyError::Length)),
            (piece, _) => piece,
        };
        match &piece {
            None | Some(Err(BodyError::Cut(_))) => {
                self.body = None;
                self.expected = None;
            }
            _ => {}
        }
        Poll::Ready(piece)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let (Some(body), Ok(runtime)) = (self.body.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(drain(body));
    }
}

async fn drain(mut body: BodyDataStream) {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut left = DRAIN_BYTES;
    while let Ok(Some(Ok(piece))) = tokio::time::timeout_at(deadline, body.next()).await {
        let Some(rest) = left.checked_sub(piece.len()) else { return };
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn body(pieces: Vec<&'static str>) -> RequestBody {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        RequestBody::new(Body::from_stream(futures_util::stream::iter(pieces)), IDLE)
    }

    #[tokio::test]
    async fn a_body_is_collected_up_to_the_limit() {
        assert_eq!(body(vec!["abc", "de"]).collect(5).await.unwrap(), "abcde");
        assert_eq!(body(vec![]).collect(5).await.unwrap(), "");
        assert!(matches!(body(vec!["abc", "def"]).collect(5).await, Err(BodyError::TooLarge(5))));
        assert!(matches!(body(vec!["abcdef"]).collect(5).await, Err(BodyError::TooLarge(5))));
        let known = RequestBody::new(Body::from("abcdef"), IDLE);
        assert!(matches!(known.collect(5).await, Err(BodyError::TooLarge(5))));
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_expected_is_an_error() {
        for (expected, good) in [(4, false), (5, true), (6, false)] {
            let mut body = body(vec!["abc", "de"]);
            body.expect_length(expected);
            assert_eq!(body.collect(100).await.is_ok(), good, "{expected}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_is_cut() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let stalled = RequestBody::new(never, IDLE);
        assert!(matches!(stalled.collect(5).await, Err(BodyError::Idle(IDLE))));
    }
}
