use std::pin::Pin;
use std::task::{Context, Poll};

use atcr_core::Source;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::PartBody;

/// The body of a part that ends with an error when it has another size than was said.
pub(super) struct Measured<'b, 'a> {
    body: &'b mut PartBody<'a>,
    left: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
enum WrongSize {
    #[error("the part has more bytes than was said")]
    Longer,
    #[error("the part ended {0} bytes early")]
    Shorter(u64),
}

impl<'b, 'a> Measured<'b, 'a> {
    /// Expects `size` bytes, where that is known.
    pub(super) fn new(size: Option<u64>, body: &'b mut PartBody<'a>) -> Self {
        Self { body, left: size }
    }
}

impl Stream for Measured<'_, '_> {
    type Item = Result<Bytes, Source>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.body.poll_next_unpin(cx);
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
