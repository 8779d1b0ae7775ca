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
    came: u64,
    silence: Duration,
    deadline: Pin<Box<Sleep>>,
}

/// How much a part may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Room {
    /// The blob may have `limit` bytes, and this part `left` of them.
    Blob { left: u64, limit: u64 },
    /// A part of which the hold keeps pieces may have `limit` bytes, and this piece `left` of them.
    Part { left: u64, limit: u64 },
    /// The uploader stores `used` of `allowed` bytes without this part.
    Quota { used: u64, allowed: u64 },
}

impl Room {
    fn left(self) -> u64 {
        match self {
            Self::Blob { left, .. } | Self::Part { left, .. } => left,
            Self::Quota { used, allowed } => allowed.saturating_sub(used),
        }
    }

    /// The one that is used up first.
    pub(super) fn least(rooms: impl IntoIterator<Item = Self>) -> Option<Self> {
        rooms.into_iter().min_by_key(|room| room.left())
    }

    fn failure(self, came: u64) -> BodyFailure {
        match self {
            Self::Blob { limit, .. } => BodyFailure::TooLarge { limit },
            Self::Part { left, limit } => BodyFailure::PartTooLarge { size: limit - left + came, limit },
            Self::Quota { used, allowed } => BodyFailure::Quota { used, more: came, allowed },
        }
    }
}

/// Why the hold ended a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyFailure {
    #[error("the blob is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the uploader stores {used} of {allowed} bytes, and {more} more came")]
    Quota { used: u64, more: u64, allowed: u64 },
    #[error("the part has {size} bytes, and may have {limit}")]
    PartTooLarge { size: u64, limit: u64 },
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
        Self { body, hasher, room, came: 0, silence, deadline: Box::pin(tokio::time::sleep(silence)) }
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
        self.came = self.came.saturating_add(piece.len() as u64);
        if let Some(room) = self.room.filter(|room| self.came > room.left()) {
            return Poll::Ready(Some(Err(room.failure(self.came).into())));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        Poll::Ready(Some(Ok(piece)))
    }
}
