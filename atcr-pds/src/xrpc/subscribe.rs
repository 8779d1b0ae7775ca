use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use ipld_core::ipld::Ipld;
use tokio::time::timeout;

use super::{Params, Server, XrpcError};
use crate::{RepoError, Repos, cbor};

/// The longest frame of the protocol; it bounds what a socket may hold back.
const MAX_FRAME: usize = 5_000_000;
/// Frames are gathered up to this size before they go to the socket.
const WRITE_BUFFER: usize = 32 * 1024;
/// Consumers have nothing to say; what they send is thrown away.
const MAX_CLIENT_MESSAGE: usize = 4 * 1024;

/// Bounds for the subscribers of the event stream.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Subscribers at the same time; another one is told to come back (503). Default: 2,000.
    pub subscribers: usize,
    /// Events read ahead for one subscriber. Default: 32.
    pub batch: usize,
    /// How long one event may take to go out before the subscriber is dropped with `ConsumerTooSlow`. Default: 30 s.
    pub send_timeout: Duration,
    /// How long a subscriber that is being dropped may take to read why, before it is cut off. Default: 5 s.
    pub last_word: Duration,
    /// A silent stream is pinged this often, so that dead connections are noticed. Default: 30 s.
    pub ping: Duration,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            subscribers: 2000,
            batch: 32,
            send_timeout: Duration::from_secs(30),
            last_word: Duration::from_secs(5),
            ping: Duration::from_secs(30),
        }
    }
}

pub(super) async fn subscribe_repos(
    State(server): State<Server>,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, XrpcError> {
    let upgrade = upgrade.map_err(|error| XrpcError::invalid_request(error.to_string()))?;
    let permit = server.0.subscribers.clone().try_acquire_owned().map_err(|_| {
        let message = "Too many subscribers; try again later";
        XrpcError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            .with_header(RETRY_AFTER, HeaderValue::from_static("30"))
    })?;
    let cursor = params.number("cursor");
    Ok(upgrade
        .max_message_size(MAX_CLIENT_MESSAGE)
        .max_frame_size(MAX_CLIENT_MESSAGE)
        .read_buffer_size(MAX_CLIENT_MESSAGE)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + 2 * MAX_FRAME)
        .on_upgrade(move |socket| async move {
            serve(server, socket, cursor).await;
            drop(permit);
        }))
}

/// Why a stream ends.
enum End {
    /// The consumer went away, or the server is closing.
    Gone,
    /// An error frame is due first.
    Error { error: &'static str, message: String },
}

impl End {
    fn error(error: &'static str, message: impl Into<String>) -> Self {
        Self::Error { error, message: message.into() }
    }
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

impl From<RepoError> for End {
    fn from(error: RepoError) -> Self {
        if !matches!(error, RepoError::Closed) {
            tracing::error!(%error, "the event stream could not be read");
        }
        Self::error("InternalServerError", "Internal Server Error")
    }
}

async fn serve(server: Server, socket: WebSocket, cursor: Result<Option<i64>, XrpcError>) {
    let (mut sink, stream) = socket.split();
    let end = tokio::select! {
        end = produce(&server, &mut sink, cursor) => end,
        () = ignore(stream) => End::Gone,
    };
    let last_word = async {
        if let End::Error { error, message } = end {
            sink.send(Message::Binary(error_frame(error, &message))).await?;
            let close = CloseFrame { code: close_code::POLICY, reason: error.into() };
            sink.send(Message::Close(Some(close))).await?;
        }
        // Sends the answer to a consumer's own farewell as well.
        sink.close().await
    };
    // Whoever does not even read this is cut off.
    let _ = timeout(server.0.subscribe.last_word, last_word).await;
}

/// Reads and forgets what the consumer sends, so that pings are answered and its going is noticed.
async fn ignore(mut stream: SplitStream<WebSocket>) {
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

type Sink = SplitSink<WebSocket, Message>;

/// Sends everything after the cursor, then what comes, until there is a reason to stop.
async fn produce(server: &Server, sink: &mut Sink, cursor: Result<Option<i64>, XrpcError>) -> End {
    match follow(server, sink, cursor).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn follow(
    server: &Server,
    sink: &mut Sink,
    cursor: Result<Option<i64>, XrpcError>,
) -> Result<Infallible, End> {
    let repos = &server.0.repos;
    let options = &server.0.subscribe;
    let mut changes = repos.subscribe();
    let newest = *changes.borrow_and_update();
    let mut sent = start(repos, sink, cursor, newest).await?;
    loop {
        let events = repos.events_after(sent, options.batch).await?;
        if events.is_empty() {
            match timeout(options.ping, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) => within(options, sink.send(Message::Ping(Bytes::new()))).await?,
            }
            continue;
        }
        for event in events {
            // What is not kept any more was pruned before this consumer came to it.
            if event.seq != sent + 1 {
                return Err(too_slow());
            }
            within(options, sink.feed(Message::Binary(event.frame()))).await?;
            sent = event.seq;
        }
        within(options, sink.flush()).await?;
    }
}

fn too_slow() -> End {
    End::error("ConsumerTooSlow", "Stream consumer too slow")
}

async fn within(
    options: &SubscribeOptions,
    sending: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), End> {
    Ok(timeout(options.send_timeout, sending).await.map_err(|_| too_slow())??)
}

/// The sequence number behind which the stream begins: the newest without a cursor, else the cursor itself. Like the
/// reference server, and unlike the wording of the specification, a cursor names an event that was seen already.
async fn start(
    repos: &Repos,
    sink: &mut Sink,
    cursor: Result<Option<i64>, XrpcError>,
    newest: u64,
) -> Result<u64, End> {
    let cursor = match cursor {
        Ok(None) => return Ok(newest),
        Ok(Some(cursor)) => u64::try_from(cursor).unwrap_or_default(),
        Err(error) => return Err(End::error("InvalidRequest", error.message)),
    };
    let (oldest, last) = repos.event_window().await?.into_inner();
    // An event can be read a moment before its number is announced.
    if cursor > newest.max(last) {
        return Err(End::error("FutureCursor", "Cursor in the future."));
    }
    if cursor + 1 >= oldest {
        return Ok(cursor);
    }
    // A consumer that asks for the beginning is not told that it is late.
    if cursor > 0 {
        let info = [
            ("name", "OutdatedCursor"),
            ("message", "Requested cursor exceeded limit. Possibly missing events"),
        ];
        sink.send(Message::Binary(info_frame(&info))).await?;
    }
    Ok(oldest - 1)
}

fn frame(header: &[(&str, Ipld)], body: &[(&str, &str)]) -> Bytes {
    let map = |pairs: &mut dyn Iterator<Item = (String, Ipld)>| {
        let map: BTreeMap<String, Ipld> = pairs.collect();
        cbor::encode(&Ipld::Map(map)).expect("a map of strings and integers has a CBOR form")
    };
    let header = map(&mut header.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let body = map(&mut body.iter().map(|(key, text)| ((*key).to_owned(), Ipld::String((*text).to_owned()))));
    [header, body].concat().into()
}

fn error_frame(error: &str, message: &str) -> Bytes {
    frame(&[("op", Ipld::Integer(-1))], &[("error", error), ("message", message)])
}

fn info_frame(body: &[(&str, &str)]) -> Bytes {
    frame(&[("op", Ipld::Integer(1)), ("t", Ipld::String("#info".into()))], body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_frame_is_the_reference_servers() {
        let reference =
            include_bytes!("../../tests/vectors/reference-pds-0.5.35/frames/error-FutureCursor.bin");
        assert_eq!(error_frame("FutureCursor", "Cursor in the future."), reference.as_slice());
    }

    #[test]
    fn the_info_frame_has_its_header_in_canonical_order() {
        let frame = info_frame(&[("name", "OutdatedCursor")]);
        assert_eq!(&frame[..14], b"\xa2\x61t\x65#info\x62op\x01\xa1");
    }
}
