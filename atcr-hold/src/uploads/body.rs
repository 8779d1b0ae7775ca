use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::Hasher;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

/// The body of a part: hashed as it passes, and ended when it grows too large or stands still.
pub(super) struct PartIntake {
    body: ByteStream,
    hasher: Option<Hasher>,
    room: Option<Room>,
    silence: Duration,
    deadline: Pin<Box<Sleep>>,
}

/// How much a part may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes that this part may have.
    pub(super) left: u64,
    /// Bytes that the blob may have.
    pub(super) limit: u64,
}

/// Why the hold ended a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyFailure {
    #[error("the blob is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("no byte came for {seconds} seconds")]
    Silent { seconds: u64 },
}

impl PartIntake {
    pub(super) fn new(
        body: ByteStream,
        hasher: Option<Hasher>,
        room: Option<Room>,
        silence: Duration,
    ) -> Self {
        Self { body, hasher, room, silence, deadline: Box::pin(tokio::time::sleep(silence)) }
    }

    /// The hash with all that passed in it.
    pub(super) fn into_hasher(self) -> Option<Hasher> {
        self.hasher
    }
}

impl Stream for PartIntake {
    type Item = Result<Bytes, Source>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(next) = self.body.poll_next_unpin(cx) else {
            ready!(self.deadline.as_mut().poll(cx));
            let seconds = self.silence.as_secs();
            return Poll::Ready(Some(Err(BodyFailure::Silent { seconds }.into())));
        };
        let piece = match next {
            Some(Ok(piece)) => piece,
            ended => return Poll::Ready(ended),
        };
        let deadline = Instant::now() + self.silence;
        self.deadline.as_mut().reset(deadline);
        if let Some(room) = &mut self.room {
            let Some(left) = room.left.checked_sub(piece.len() as u64) else {
                let limit = room.limit;
                return Poll::Ready(Some(Err(BodyFailure::TooLarge { limit }.into())));
            };
            room.left = left;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        Poll::Ready(Some(Ok(piece)))
    }
}
