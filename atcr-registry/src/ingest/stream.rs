//! Following one source for as long as this process holds its lease.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use super::jetstream::Inflater;
use super::judge::Judged;
use super::socket::connect;
use super::{IngestError, Inner, Source, pause};
use crate::index::{Collection, Cursor, Event};

/// A replica that is gone is replaced after this long.
const LEASE: Duration = Duration::from_secs(15);
/// How often the lease is renewed and the stream is noted as being at work.
const BEAT: Duration = Duration::from_secs(5);
/// Messages that are judged at the same time; their order stays.
const AHEAD: usize = 32;
/// Events of one transaction.
const BATCH: usize = 256;
/// The longest an event waits for others.
const GATHER: Duration = Duration::from_millis(20);

impl Inner {
    /// Follows a source for ever.
    pub(super) async fn follow(self: Arc<Self>, source: Source) {
        let name = source.name();
        let lease = format!("follow {name}");
        let (mut attempt, mut compress) = (0, self.options.jetstream_compress);
        loop {
            match self.index.lease(&lease, &self.holder, LEASE).await {
                Ok(true) => {}
                Ok(false) => {
                    tokio::time::sleep(LEASE / 3).await;
                    continue;
                }
                Err(error) => tracing::warn!(%error, "the lease of a stream cannot be had"),
            }
            let began = Instant::now();
            let ended = self.stream(&source, &lease, compress).await;
            // A stream that lasted was a good one.
            attempt = if began.elapsed() > Duration::from_secs(60) { 0 } else { attempt + 1 };
            match ended {
                Err(IngestError::Ended { error, message }) if error == "FutureCursor" => {
                    tracing::warn!(source = %name, message, "the source has begun a new sequence; what it has is read again");
                    if let Err(error) = self.begin_anew(&name).await {
                        tracing::warn!(%error, "the cursor cannot be forgotten");
                    }
                }
                Err(error @ IngestError::Compressed(_)) if compress => {
                    tracing::warn!(source = %name, %error, "the stream is connected again without compression");
                    compress = false;
                }
                Err(error) => {
                    tracing::info!(source = %name, %error, "the stream ended; it is connected again");
                }
                Ok(()) => tracing::debug!(source = %name, "the stream ended; it is connected again"),
            }
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    async fn begin_anew(&self, name: &str) -> Result<(), IngestError> {
        self.index.forget_cursor(name).await?;
        self.index.read_all_again().await?;
        self.work.notify_one();
        Ok(())
    }

    async fn stream(
        self: &Arc<Self>,
        source: &Source,
        lease: &str,
        compress: bool,
    ) -> Result<(), IngestError> {
        let name = source.name();
        let state = self.index.source(&name).await?;
        let cursor = match source {
            // A stream that has said nothing yet has no cursor. What a host says from now on is all that it ever said.
            Source::Host(_) => Some(state.seq.unwrap_or(0)),
            // One that has the whole network is not asked for all of it: whoever was known before is read again.
            Source::Relay(_) | Source::Jetstream(_) => {
                if state.seq.is_none() && state.alive_at > 0 {
                    self.index.read_all_again().await?;
                    self.work.notify_one();
                }
                state.seq
            }
        };
        let mut socket = connect(&self.egress, &stream_url(source, cursor, compress)).await?;
        let mut inflater = Inflater::new()?;
        tracing::info!(source = %name, ?cursor, "following");
        self.index.source_is_alive(&name).await?;
        // Events from now on arrive; what was before is listed and read. It ends with the stream.
        let mut backfill = JoinSet::new();
        backfill.spawn(Arc::clone(self).list(source.clone(), state.seq.is_none()));

        let mut judging: FuturesOrdered<BoxFuture<'static, Result<Judged, IngestError>>> =
            FuturesOrdered::new();
        let mut waiting = Batch::default();
        let mut heard = Instant::now();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(judged) = judging.next(), if !judging.is_empty() => {
                    let Judged { seq, events, lost, end } = judged?;
                    if waiting.is_empty() {
                        waiting.began = Instant::now();
                    }
                    waiting.seq = seq.or(waiting.seq);
                    waiting.events.extend(events);
                    if lost {
                        self.index.read_all_again().await?;
                        // Who was first heard of in what is lost is in the list.
                        backfill.spawn(Arc::clone(self).list(source.clone(), true));
                        self.work.notify_one();
                    }
                    if let Some((error, message)) = end {
                        self.write(&name, &mut waiting).await?;
                        return Err(IngestError::Ended { error, message });
                    }
                    if waiting.events.len() >= BATCH || waiting.due() <= Instant::now() {
                        self.write(&name, &mut waiting).await?;
                    }
                }
                _ = beat.tick() => {
                    if heard.elapsed() > self.options.silence {
                        return Err(IngestError::Stream("it has said nothing for too long".to_owned()));
                    }
                    if !self.index.lease(lease, &self.holder, LEASE).await? {
                        return Err(IngestError::Lease);
                    }
                    self.index.source_is_alive(&name).await?;
                }
                message = socket.next(), if judging.len() < AHEAD => {
                    heard = Instant::now();
                    let Some(message) = message else { break };
                    let mut message = message.map_err(|error| IngestError::Stream(error.to_string()))?;
                    if let (Source::Jetstream(_), Message::Binary(frame)) = (source, &message) {
                        message = Message::text(inflater.text(frame)?);
                    }
                    let this = Arc::clone(self);
                    let source = source.clone();
                    judging.push_back(async move { this.message(&source, message).await }.boxed());
                }
                () = tokio::time::sleep_until(waiting.due()), if !waiting.is_empty() => {
                    self.write(&name, &mut waiting).await?;
                }
            }
        }
        while let Some(judged) = judging.next().await {
            let Judged { seq, events, .. } = judged?;
            waiting.seq = seq.or(waiting.seq);
            waiting.events.extend(events);
        }
        self.write(&name, &mut waiting).await
    }

    async fn list(self: Arc<Self>, source: Source, anew: bool) {
        if let Err(error) = self.backfill(&source, anew).await {
            let source = source.name();
            tracing::warn!(source, %error, "the accounts of a source cannot be listed; it is tried at the next connection");
        }
    }

    /// Writes what was gathered, with its place.
    async fn write(&self, name: &str, batch: &mut Batch) -> Result<(), IngestError> {
        let Some(seq) = batch.seq else {
            if !batch.events.is_empty() {
                self.index.apply(&batch.events, None).await?;
            }
            *batch = Batch::default();
            return Ok(());
        };
        let cursor = Cursor { source: name.to_owned(), seq };
        let applied = self.index.apply(&batch.events, Some(&cursor)).await?;
        if applied.missed > 0 {
            self.work.notify_one();
        }
        *batch = Batch::default();
        Ok(())
    }

    async fn message(&self, source: &Source, message: Message) -> Result<Judged, IngestError> {
        match (source, message) {
            (Source::Jetstream(_), Message::Text(text)) => Ok(self.jetstream(text.as_str()).await),
            (Source::Jetstream(_), Message::Binary(_)) | (_, Message::Text(_)) => {
                Err(IngestError::Stream("a message of the wrong kind".to_owned()))
            }
            (_, Message::Binary(frame)) => Ok(self.judge(source, &frame).await),
            (_, Message::Close(_)) => Err(IngestError::Stream("the source closed it".to_owned())),
            _ => Ok(Judged::default()),
        }
    }
}

/// What was gathered for one transaction.
struct Batch {
    events: Vec<Event>,
    seq: Option<i64>,
    began: Instant,
}

impl Default for Batch {
    fn default() -> Self {
        Self { events: Vec::new(), seq: None, began: Instant::now() }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.seq.is_none()
    }

    /// When it must be written at the latest. A place alone has time: without it some events come twice, no more.
    fn due(&self) -> Instant {
        self.began + if self.events.is_empty() { Duration::from_secs(1) } else { GATHER }
    }
}

/// Where the stream is.
fn stream_url(source: &Source, cursor: Option<i64>, compress: bool) -> Url {
    let mut url = source.url().clone();
    let base = url.path().trim_end_matches('/').to_owned();
    match source {
        Source::Relay(_) | Source::Host(_) => {
            url.set_path(&format!("{base}/xrpc/com.atproto.sync.subscribeRepos"));
            if let Some(cursor) = cursor {
                url.query_pairs_mut().append_pair("cursor", &cursor.to_string());
            }
        }
        Source::Jetstream(_) => {
            if !base.ends_with("/subscribe") {
                url.set_path(&format!("{base}/subscribe"));
            }
            let mut query = url.query_pairs_mut();
            for collection in Collection::ALL {
                query.append_pair("wantedCollections", collection.nsid());
            }
            if compress {
                query.append_pair("compress", "true");
            }
            if let Some(cursor) = cursor {
                // Its cursor is a time: two events of one microsecond would be torn apart.
                query.append_pair("cursor", &cursor.saturating_sub(1_000_000).to_string());
            }
        }
    }
    url
}
