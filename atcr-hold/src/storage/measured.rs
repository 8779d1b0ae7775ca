use std::pin::Pin;
use std::task::{Context, Poll};

use atcr_core::Source;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

/// Bytes that end with an error when there are more or fewer of them than was said.
pub(super) struct Measured<S> {
    bytes: S,
    left: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
enum WrongSize {
    #[error("there are more bytes than was said")]
    Longer,
    #[error("{0} bytes are missing at the end")]
    Shorter(u64),
}

impl<S> Measured<S> {
    /// Expects `size` bytes, where that is known.
    pub(super) fn new(size: Option<u64>, bytes: S) -> Self {
        Self { bytes, left: size }
    }
}

impl<S: Stream<Item = Result<Bytes, Source>> + Unpin> Stream for Measured<S> {
    type Item = Result<Bytes, Source>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.bytes.poll_next_unpin(cx);
        let Some(left) = &mut self.left else { return next };
        match &next {
            Poll::Ready(Some(Ok(piece))) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    next
                }
                None => Poll::Ready(Some(Err(WrongSize::Longer.into()))),
            },
            Poll::Ready(None) if *left > 0 => Poll::Ready(Some(Err(WrongSize::Shorter(*left).into()))),
            _ => next,
        }
    }
}
