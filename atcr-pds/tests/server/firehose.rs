use std::collections::BTreeSet;
use std::time::Duration;

use atcr_pds::accounts::PdsConfig;
use atcr_pds::cbor;
use futures_util::{SinkExt as _, StreamExt as _};
use ipld_core::ipld::Ipld;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::world::{MANIFEST, World};

/// Only what should never happen takes so long.
const FOREVER: Duration = Duration::from_secs(60);

struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

#[derive(Debug)]
struct Frame {
    header: Value,
    body: Ipld,
}

impl Frame {
    fn read(bytes: &[u8]) -> Self {
        let (header, body) = cbor::split_first(bytes).unwrap();
        let header = cbor::json::to_json(&cbor::decode(header).unwrap());
        Self { header, body: cbor::decode(body).unwrap() }
    }

    fn kind(&self) -> &str {
        self.header["t"].as_str().unwrap_or("error")
    }

    fn json(&self) -> Value {
        cbor::json::to_json(&self.body)
    }

    fn seq(&self) -> u64 {
        self.json()["seq"].as_u64().unwrap()
    }

    fn keys(&self) -> BTreeSet<String> {
        let Ipld::Map(map) = &self.body else { panic!("a map") };
        map.keys().cloned().collect()
    }
}

impl World {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/xrpc/com.atproto.sync.subscribeRepos", listener.local_addr().unwrap());
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn tag(&self, n: u64) {
        self.put("com.example.tag", &format!("t{n}"), json!({"n": n})).await.ok();
    }
}

impl Stream {
    async fn open(url: &str, query: &str) -> Self {
        Self(tokio_tungstenite::connect_async(format!("{url}{query}")).await.unwrap().0)
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            match timeout(FOREVER, self.0.next()).await.expect("a message") {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn frame(&mut self) -> Frame {
        match self.message().await {
            Some(Message::Binary(bytes)) => Frame::read(&bytes),
            other => panic!("a binary frame, not {other:?}"),
        }
    }

    async fn frames(&mut self, n: usize) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(n);
        for _ in 0..n {
            frames.push(self.frame().await);
        }
        frames
    }

    /// The error frame that ends the stream, and its close code.
    async fn error(&mut self) -> (Value, CloseCode) {
        let frame = self.frame().await;
        assert_eq!(frame.header, json!({"op": -1}));
        let Some(Message::Close(Some(close))) = self.message().await else { panic!("a close frame") };
        (frame.json(), close.code)
    }
}

#[tokio::test]
async fn a_new_account_is_told_in_the_reference_servers_order_and_shape() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.serve().await, "?cursor=0").await;
    let frames = stream.frames(8).await;
    let kinds: Vec<&str> = frames.iter().map(Frame::kind).collect();
    assert_eq!(kinds[..4], ["#identity", "#account", "#commit", "#sync"]);
    assert_eq!(kinds[4..], kinds[..4]);
    assert_eq!(frames.iter().map(Frame::seq).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/reference-pds-0.5.35/frames");
    for (ours, file) in frames.iter().zip(["001-identity", "002-account", "003-commit", "004-sync"]) {
        let theirs = Frame::read(&std::fs::read(format!("{folder}/{file}.bin")).unwrap());
        assert_eq!(ours.header, theirs.header);
        assert_eq!(ours.keys(), theirs.keys(), "{file}");
    }
    assert_eq!(frames[0].json()["handle"], "alice.test");
    assert_eq!(frames[1].json()["active"], true);
    assert_eq!(frames[2].json()["since"], Value::Null);
}

#[tokio::test]
async fn commits_have_the_reference_servers_shape() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.serve().await, "").await;
    world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let created = stream.frame().await;
    let theirs = include_bytes!("../vectors/reference-pds-0.5.35/frames/010-commit.bin");
    assert_eq!(created.keys(), Frame::read(theirs).keys());
    let body = created.json();
    assert_eq!(body["repo"], json!(world.alice.did));
    assert_eq!(
        (&body["rebase"], &body["tooBig"], &body["blobs"]),
        (&json!(false), &json!(false), &json!([]))
    );
    assert_eq!(body["ops"][0]["action"], "create");
    assert_eq!(body["ops"][0]["path"], "com.example.manifest/one");
    assert!(body["ops"][0].get("prev").is_none());
    world.put(MANIFEST, "one", json!({"v": 2})).await.ok();
    let updated = stream.frame().await.json();
    assert_eq!(updated["ops"][0]["action"], "update");
    assert_eq!(updated["ops"][0]["prev"], body["ops"][0]["cid"]);
    assert_eq!(updated["since"], body["rev"]);
    let delete = json!({"repo": world.alice.did, "collection": MANIFEST, "rkey": "one"});
    world.post_as(&world.alice.access, "com.atproto.repo.deleteRecord", &delete).await.ok();
    let deleted = stream.frame().await.json();
    assert_eq!((&deleted["ops"][0]["action"], &deleted["ops"][0]["cid"]), (&json!("delete"), &Value::Null));
    assert_eq!(deleted["ops"][0]["prev"], updated["ops"][0]["cid"]);
}

#[tokio::test]
async fn a_cursor_begins_behind_what_it_names_and_none_begins_now() {
    let world = World::new().await;
    let url = world.serve().await;
    for n in 0..3 {
        world.tag(n).await;
    }
    let mut replayed = Stream::open(&url, "?cursor=9").await;
    assert_eq!(replayed.frames(2).await.iter().map(Frame::seq).collect::<Vec<_>>(), [10, 11]);
    let mut at_the_end = Stream::open(&url, "?cursor=11").await;
    let mut live = Stream::open(&url, "").await;
    world.tag(3).await;
    for stream in [&mut replayed, &mut at_the_end, &mut live] {
        assert_eq!(stream.frame().await.seq(), 12);
    }
}

#[tokio::test]
async fn impossible_cursors_end_the_stream_with_an_error_frame() {
    let world = World::new().await;
    let url = world.serve().await;
    let (error, code) = Stream::open(&url, "?cursor=9").await.error().await;
    assert_eq!(error, json!({"error": "FutureCursor", "message": "Cursor in the future."}));
    assert_eq!(code, CloseCode::Policy);
    let (error, code) = Stream::open(&url, "?cursor=abc").await.error().await;
    assert_eq!(error["error"], "InvalidRequest");
    assert_eq!(code, CloseCode::Policy);
}

#[tokio::test]
async fn a_cursor_from_before_the_window_is_told_that_it_missed_something() {
    let world = World::new().await;
    let url = world.serve().await;
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(world.pds.repos().prune_events(&later.into()).await.unwrap(), 8);
    world.tag(0).await;
    let mut late = Stream::open(&url, "?cursor=3").await;
    let info = late.frame().await;
    assert_eq!(info.header, json!({"t": "#info", "op": 1}));
    assert_eq!(info.json()["name"], "OutdatedCursor");
    assert!(info.json().get("seq").is_none());
    assert_eq!(late.frame().await.seq(), 9);
    assert_eq!(Stream::open(&url, "?cursor=0").await.frame().await.seq(), 9);
    assert_eq!(Stream::open(&url, "?cursor=8").await.frame().await.seq(), 9, "nothing was missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_between_replay_and_live() {
    const WRITES: u64 = 200;
    let world = std::sync::Arc::new(World::new().await);
    let url = world.serve().await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let world = world.clone();
            tokio::spawn(async move {
                for n in 0..WRITES / 4 {
                    world.tag(writer * 1000 + n).await;
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..8u64)
        .map(|reader| {
            let url = url.clone();
            tokio::spawn(async move {
                let from = reader % 4;
                let mut stream = Stream::open(&url, &format!("?cursor={from}")).await;
                for seq in from + 1..=8 + WRITES {
                    assert_eq!(stream.frame().await.seq(), seq);
                }
            })
        })
        .collect();
    for task in writers.into_iter().chain(readers) {
        task.await.unwrap();
    }
}

/// What somebody finds who stopped reading and looks again: events without a gap, then why there are no more.
async fn end_of(mut stalled: Stream, from: u64) -> (u64, Value) {
    let mut last = from;
    loop {
        match stalled.message().await {
            Some(Message::Binary(bytes)) => {
                let frame = Frame::read(&bytes);
                if frame.kind() == "error" {
                    return (last, frame.json());
                }
                assert_eq!(frame.seq(), last + 1);
                last += 1;
            }
            other => panic!("cut off without a word: {other:?}"),
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_dropped_with_an_error_and_the_others_miss_nothing() {
    let world = World::with(|config| {
        config.subscribe.send_timeout = Duration::from_secs(3);
        config.subscribe.last_word = FOREVER;
    })
    .await;
    let url = world.serve().await;
    let (mut stalled, mut readers) = (Vec::new(), Vec::new());
    for n in 0..6 {
        let stream = Stream::open(&url, "?cursor=8").await;
        if n % 3 == 0 { stalled.push(stream) } else { readers.push(stream) }
    }
    // Far more than the buffers of the sockets hold.
    for n in 0..40 {
        world.put("com.example.tag", &format!("t{n}"), json!({"text": "x".repeat(800_000)})).await.ok();
        for stream in &mut readers {
            assert_eq!(stream.frame().await.seq(), 9 + n);
        }
    }
    // It is time itself that makes a consumer slow.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    for stream in stalled {
        let (last, error) = end_of(stream, 8).await;
        assert!(last < 48, "it was dropped before the end");
        assert_eq!(error["error"], "ConsumerTooSlow");
    }
}

#[tokio::test]
async fn what_a_consumer_says_is_ignored_and_too_much_of_it_ends_the_stream() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.serve().await, "?cursor=0").await;
    stream.0.send(Message::text("hello")).await.unwrap();
    stream.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(stream.frames(8).await.len(), 8);
    stream.0.send(Message::binary(vec![0; 1 << 20])).await.ok();
    assert!(!matches!(stream.message().await, Some(Message::Binary(_))));
}

#[tokio::test]
async fn a_farewell_is_answered() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.serve().await, "").await;
    stream.0.close(None).await.unwrap();
    assert!(matches!(stream.message().await, Some(Message::Close(_))));
}

#[tokio::test]
async fn changes_of_an_account_are_events() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.serve().await, "").await;
    let handle = json!({"handle": "alicia.test"});
    world.post_as(&world.alice.access, "com.atproto.identity.updateHandle", &handle).await.ok();
    world.post_as(&world.alice.access, "com.atproto.server.deactivateAccount", &json!({})).await.ok();
    world.poke(&world.alice.access, "com.atproto.server.activateAccount").await.ok();
    let identity = stream.frame().await;
    assert_eq!((identity.kind(), &identity.json()["handle"]), ("#identity", &json!("alicia.test")));
    let off = stream.frame().await;
    assert_eq!((off.kind(), &off.json()["active"]), ("#account", &json!(false)));
    assert_eq!(off.json()["status"], "deactivated");
    let on = stream.frame().await;
    assert_eq!((on.kind(), &on.json()["active"]), ("#account", &json!(true)));
    let rest: BTreeSet<String> = stream.frames(2).await.iter().map(|frame| frame.kind().to_owned()).collect();
    assert_eq!(rest, BTreeSet::from(["#identity".to_owned(), "#sync".to_owned()]));
}

#[tokio::test]
async fn the_sequence_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = |config: &mut PdsConfig| config.data_dir = Some(dir.path().to_owned());
    let world = World::with(config).await;
    world.tag(0).await;
    drop(world);
    let world = World::with(config).await;
    let mut stream = Stream::open(&world.serve().await, "?cursor=8").await;
    world.tag(1).await;
    assert_eq!(stream.frames(2).await.iter().map(Frame::seq).collect::<Vec<_>>(), [9, 10]);
}

#[tokio::test]
async fn one_subscriber_too_many_is_told_to_come_back() {
    let world = World::with(|config| config.subscribe.subscribers = 2).await;
    let url = world.serve().await;
    let mut first = Stream::open(&url, "").await;
    let _second = Stream::open(&url, "").await;
    let refused = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    // There is room again when one has gone; the server notices by its farewell.
    first.0.close(None).await.unwrap();
    while first.message().await.is_some() {}
    let again = async {
        loop {
            match tokio_tungstenite::connect_async(&url).await {
                Ok(_) => break,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(FOREVER, again).await.unwrap();
}

#[tokio::test]
async fn cursors_that_are_no_sequence_numbers() {
    let world = World::new().await;
    let url = world.serve().await;
    for cursor in ["9", "9223372036854775807"] {
        let (error, code) = Stream::open(&url, &format!("?cursor={cursor}")).await.error().await;
        assert_eq!((&error["error"], code), (&json!("FutureCursor"), CloseCode::Policy), "{cursor}");
    }
    for cursor in ["9223372036854775808", "99999999999999999999999", "1.5", "", "0x1", "1%00"] {
        let (error, code) = Stream::open(&url, &format!("?cursor={cursor}")).await.error().await;
        assert_eq!((&error["error"], code), (&json!("InvalidRequest"), CloseCode::Policy), "{cursor}");
    }
    assert_eq!(Stream::open(&url, "?cursor=-1").await.frame().await.seq(), 1);
}
