//! Webhooks: what is found in an index, and what receivers get.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atcr_auth::pds_session::SealingKey;
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::oci::{Algorithm, Digest, RepositoryName};
use atcr_core::records::{manifest_rkey, tag_rkey};
use atcr_core::syntax::{Did, Tid};
use atcr_pds::Clock;
use atcr_registry::index::{Collection, Event, Index, RecordOp, RepoCommit, Since};
use atcr_registry::webhooks::{
    Delivery, DeliveryState, Hook, HookUrl, NewHook, Secret, Trigger, WebhookError, WebhookOptions, Webhooks,
};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::{Barrier, mpsc};

use crate::world::{alice, bob, hold, written};

/// Noon of the first day of the world.
const NOON: i64 = 1_780_315_200_000;

/// What a receiver was sent.
pub(crate) struct Sent {
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Sent {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) enum Reply {
    Status(u16),
    /// Sends on to there.
    Redirect(String),
    /// A success whose body never ends.
    Endless,
    /// Never.
    Nothing,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    sent: mpsc::UnboundedReceiver<Sent>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

type Desk = (mpsc::UnboundedSender<Sent>, Arc<Mutex<VecDeque<Reply>>>);

async fn receive(State((sent, replies)): State<Desk>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = replies.lock().unwrap().pop_front();
    sent.send(Sent { headers, body }).ok();
    match reply {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Reply::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Reply::Redirect(to)) => (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response(),
        Some(Reply::Endless) => {
            let endless =
                futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 65536])));
            Body::from_stream(endless).into_response()
        }
        Some(Reply::Nothing) => std::future::pending().await,
    }
}

impl Receiver {
    /// Answers with these, and with 204 after them.
    pub(crate) async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a-path-that-nobody-may-know", listener.local_addr().unwrap());
        let (sender, sent) = mpsc::unbounded_channel();
        let replies: Arc<Mutex<VecDeque<Reply>>> = Arc::new(Mutex::new(replies.into_iter().collect()));
        let router = Router::new().fallback(receive).with_state((sender, replies.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, sent, replies }
    }

    /// What came first of what was not looked at.
    pub(crate) async fn next(&mut self) -> Sent {
        tokio::time::timeout(Duration::from_secs(20), self.sent.recv()).await.expect("nothing came").unwrap()
    }

    pub(crate) fn nothing_came(&mut self) {
        assert!(self.sent.try_recv().is_err(), "something came");
    }
}

/// A store and an index at a time that a test moves.
struct Bench {
    folder: TempDir,
    clock: Arc<AtomicI64>,
    index: Index,
    hooks: Webhooks,
}

fn options(clock: &Arc<AtomicI64>) -> WebhookOptions {
    let clock = clock.clone();
    let mut options = WebhookOptions::default();
    options.clock =
        Clock::from_fn(move || Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap());
    options
}

impl Bench {
    async fn new() -> Self {
        let clock = Arc::new(AtomicI64::new(NOON));
        let index = Index::open_with("sqlite::memory:", options(&clock).clock).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let hooks = open(&folder, &index, options(&clock), EgressPolicy::development()).await;
        Self { folder, clock, index, hooks }
    }

    /// Another process on the same store.
    async fn other(&self, index: &Index) -> Webhooks {
        open(&self.folder, index, options(&self.clock), EgressPolicy::development()).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.load(Ordering::SeqCst)).unwrap()
    }

    fn wait(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    async fn add(&self, url: &str, triggers: &[Trigger]) -> Hook {
        self.hooks.add(&alice(), new_hook(url, triggers)).await.unwrap()
    }

    /// Alice pushes a tag, a second after what was before.
    async fn push(&self, tag: &str, content: &str) {
        self.wait(1);
        self.index.apply(&[commit(self.now(), vec![tagged(tag, content, self.now())])], None).await.unwrap();
    }

    /// Finds and sends what is due; says how much that was.
    async fn go(&self) -> usize {
        self.hooks.find().await.unwrap();
        self.hooks.deliver().await.unwrap()
    }

    async fn last(&self, hook: &Hook) -> Delivery {
        let listed = self.hooks.list(&alice()).await.unwrap();
        listed.into_iter().find(|(one, _)| one.id() == hook.id()).unwrap().1.unwrap()
    }
}

async fn open(folder: &TempDir, index: &Index, options: WebhookOptions, policy: EgressPolicy) -> Webhooks {
    let (path, egress) = (folder.path().join("webhooks.sqlite"), Egress::new(policy).unwrap());
    let base = "https://registry.example".parse().unwrap();
    Webhooks::open(&path, SealingKey::new(&[7; 32]), index.clone(), egress, &base, options).await.unwrap()
}

fn new_hook(url: &str, triggers: &[Trigger]) -> NewHook {
    let secret = Secret::parse("a secret of alice").unwrap();
    NewHook { url: HookUrl::parse(url).unwrap(), secret, triggers: triggers.iter().copied().collect() }
}

fn repository() -> RepositoryName {
    "tools/app".parse().unwrap()
}

fn tagged(tag: &str, content: &str, at: Timestamp) -> RecordOp {
    let value = json!({
        "$type": "io.atcr.tag", "repository": repository(), "tag": tag, "updatedAt": at,
        "manifestDigest": Digest::sha256(content.as_bytes()),
    });
    written(Collection::Tag, tag_rkey(&repository(), &tag.parse().unwrap()), value)
}

fn rev(at: Timestamp) -> Tid {
    Tid::new(u64::try_from(at.as_microsecond()).unwrap(), 7)
}

fn commit_of(did: Did, at: Timestamp, ops: Vec<RecordOp>) -> Event {
    Event::Commit(RepoCommit { did, rev: rev(at), since: Since::Unknown, data: None, ops })
}

fn commit(at: Timestamp, ops: Vec<RecordOp>) -> Event {
    commit_of(alice(), at, ops)
}

/// HMAC-SHA256 as RFC 2104 defines it.
fn hmac(key: &[u8], message: &[u8]) -> String {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    Digest::from_bytes(Algorithm::Sha256, &outer).unwrap().hex()
}

#[tokio::test]
async fn a_push_is_told_once_and_signed() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    assert_eq!(bench.go().await, 1);
    let sent = receiver.next().await;
    assert_eq!(sent.header("content-type"), "application/json");
    assert_eq!(sent.header("x-atcr-event"), "push");
    let signature = format!("sha256={}", hmac(b"a secret of alice", &sent.body));
    assert_eq!(sent.header("x-atcr-signature-256"), signature);
    let body = sent.json();
    assert_eq!(body["trigger"], "push");
    assert_eq!(body["delivery"], sent.header("x-atcr-delivery"));
    assert_eq!(body["sent_at"], "2026-06-01T12:00:01.000Z");
    assert_eq!(body["push_data"]["tag"], "v1");
    assert_eq!(body["push_data"]["pusher_did"], "did:plc:alice");
    assert_eq!(body["push_data"]["digest"], Digest::sha256(b"one").to_string());
    assert_eq!(body["repository"]["repo_url"], "https://registry.example/r/did:plc:alice/tools/app");
    let last = bench.last(&hook).await;
    assert_eq!((last.state, last.attempts), (DeliveryState::Delivered, 1));
    assert_eq!(last.answer.as_deref(), Some("answered 204"));

    assert_eq!(bench.go().await, 0);
    // A tag that is pushed again as it was has not moved.
    bench.push("v1", "one").await;
    assert_eq!(bench.go().await, 0);
    bench.push("v1", "two").await;
    bench.push("v1", "one").await;
    assert_eq!(bench.go().await + bench.go().await, 2, "one after the other");
    let tags = [receiver.next().await.json(), receiver.next().await.json()];
    let digests = tags.map(|body| body["push_data"]["digest"].clone());
    assert_eq!(digests, ["two", "one"].map(|content| json!(Digest::sha256(content.as_bytes()))));
    receiver.nothing_came();
}

#[tokio::test]
async fn a_tag_that_was_removed_and_comes_again_is_told() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    bench.wait(1);
    let gone = RecordOp::gone(Collection::Tag, tag_rkey(&repository(), &"v1".parse().unwrap()));
    bench.index.apply(&[commit(bench.now(), vec![gone])], None).await.unwrap();
    bench.push("v1", "one").await;
    assert_eq!(bench.go().await + bench.go().await + bench.go().await, 2);
    let ids = [receiver.next().await, receiver.next().await].map(|s| s.header("x-atcr-delivery").to_owned());
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_after_30_seconds_2_minutes_and_8_minutes() {
    let bench = Bench::new().await;
    let mut receiver = Receiver::new([500, 404, 503].map(Reply::Status)).await;
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    let mut ids = Vec::new();
    for (attempt, pause) in [(1, 30), (2, 90), (3, 360)] {
        assert_eq!(bench.go().await, 1);
        ids.push(receiver.next().await.header("x-atcr-delivery").to_owned());
        let last = bench.last(&hook).await;
        let due = bench.now().checked_add(SignedDuration::from_secs(pause)).unwrap();
        assert_eq!((last.state, last.attempts), (DeliveryState::Waiting(due), attempt));
        bench.wait(pause - 1);
        assert_eq!(bench.go().await, 0, "too early");
        bench.wait(1);
    }
    assert_eq!(bench.go().await, 1);
    let sent = receiver.next().await;
    ids.push(sent.header("x-atcr-delivery").to_owned());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(sent.json()["sent_at"], "2026-06-01T12:08:01.000Z");
    assert_eq!(bench.last(&hook).await.state, DeliveryState::Delivered);
}

#[tokio::test]
async fn after_four_attempts_it_is_given_up_and_after_twenty_such_the_hook_is_off_until_a_test_succeeds() {
    let bench = Bench::new().await;
    let mut receiver = Receiver::new((0..80).map(|_| Reply::Status(500))).await;
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    for number in 0..20 {
        assert!(bench.hooks.list(&alice()).await.unwrap()[0].0.off_since().is_none(), "{number}");
        bench.push("v1", &number.to_string()).await;
        for pause in [30, 90, 360, 0] {
            assert_eq!(bench.go().await, 1);
            bench.wait(pause);
            receiver.next().await;
        }
        let last = bench.last(&hook).await;
        assert_eq!((last.state, last.attempts), (DeliveryState::GivenUp, 4));
        assert_eq!(last.answer.as_deref(), Some("answered 500"));
        assert_eq!(bench.go().await, 0);
    }
    assert_eq!(bench.hooks.list(&alice()).await.unwrap()[0].0.off_since(), Some(bench.now()));
    bench.push("v1", "while it is off").await;
    assert_eq!(bench.go().await, 0);
    receiver.replies.lock().unwrap().push_back(Reply::Status(500));
    assert_eq!(bench.hooks.test(&alice(), hook.id()).await.unwrap().state, DeliveryState::GivenUp);
    assert!(bench.hooks.list(&alice()).await.unwrap()[0].0.off_since().is_some());
    assert!(matches!(bench.hooks.test(&alice(), hook.id()).await, Err(WebhookError::TooSoon)));
    bench.wait(10);
    assert_eq!(bench.hooks.test(&alice(), hook.id()).await.unwrap().state, DeliveryState::Delivered);
    for event in ["test", "test"] {
        let sent = receiver.next().await;
        assert_eq!((sent.header("x-atcr-event"), &sent.json()["trigger"]), (event, &json!("test")));
    }
    assert_eq!(bench.go().await, 0, "what came up meanwhile is not told");
    bench.push("v1", "now").await;
    assert_eq!(bench.go().await, 1);
    assert_eq!(receiver.next().await.json()["push_data"]["digest"], json!(Digest::sha256(b"now")));
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_no_other() {
    let bench = Bench::new().await;
    let mut slow = Receiver::new([Reply::Nothing, Reply::Nothing]).await;
    let mut fast = Receiver::new([]).await;
    bench.add(&slow.url, &[Trigger::Push]).await;
    bench.add(&fast.url, &[Trigger::Push]).await;
    let running = tokio::spawn(bench.hooks.clone().run());
    for content in ["one", "two", "three"] {
        bench.push("v1", content).await;
        let body = fast.next().await.json();
        assert_eq!(body["push_data"]["digest"], json!(Digest::sha256(content.as_bytes())));
    }
    slow.next().await;
    slow.nothing_came();
    running.abort();
}

#[tokio::test]
async fn a_hook_that_is_made_while_it_runs_is_told_of_what_follows() {
    let bench = Bench::new().await;
    let running = tokio::spawn(bench.hooks.clone().run());
    let mut receiver = Receiver::new([]).await;
    bench.push("v1", "before").await;
    bench.wait(1);
    bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "after").await;
    assert_eq!(receiver.next().await.json()["push_data"]["digest"], json!(Digest::sha256(b"after")));
    receiver.nothing_came();
    running.abort();
}

#[tokio::test]
async fn a_receiver_has_so_much_time_and_no_more() {
    let bench = Bench::new().await;
    let mut receiver = Receiver::new([Reply::Nothing]).await;
    let mut options = options(&bench.clock);
    options.timeout = Duration::from_millis(50);
    let hooks = open(&bench.folder, &bench.index, options, EgressPolicy::development()).await;
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    hooks.find().await.unwrap();
    assert_eq!(hooks.deliver().await.unwrap(), 1);
    receiver.next().await;
    assert_eq!(bench.last(&hook).await.answer.as_deref(), Some("no answer within 0.05 seconds"));
}

#[tokio::test]
async fn redirects_are_not_followed_and_bodies_not_read() {
    let (bench, mut other) = (Bench::new().await, Receiver::new([]).await);
    let mut receiver = Receiver::new([Reply::Redirect(other.url.clone()), Reply::Endless]).await;
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    assert_eq!(bench.go().await, 1);
    receiver.next().await;
    let last = bench.last(&hook).await;
    assert_eq!(last.answer.as_deref(), Some("answered 307; redirects are not followed"));
    assert!(matches!(last.state, DeliveryState::Waiting(_)));
    other.nothing_came();
    bench.wait(30);
    assert_eq!(bench.go().await, 1);
    receiver.next().await;
    assert_eq!(bench.last(&hook).await.answer.as_deref(), Some("answered 200"));
}

#[tokio::test]
async fn addresses_of_ones_own_network_are_refused_when_made_and_when_sent_to() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    let strict = open(&bench.folder, &bench.index, options(&bench.clock), EgressPolicy::default()).await;
    for url in [
        receiver.url.as_str(),
        "https://localhost/hook",
        "https://ci.localhost/hook",
        "https://10.0.0.1/hook",
        "https://0x7f000001/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest/meta-data",
        "http://ci.example/hook",
        "https://user:password@ci.example/hook",
    ] {
        let refused = strict.add(&alice(), new_hook(url, &[Trigger::Push])).await;
        assert!(matches!(refused, Err(WebhookError::Url(_))), "{url}: {refused:?}");
    }
    // One that was made where it was allowed.
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    strict.find().await.unwrap();
    assert_eq!(strict.deliver().await.unwrap(), 1);
    let answer = bench.last(&hook).await.answer.unwrap();
    assert_eq!(answer, "not allowed: the address is not a public one");
    receiver.nothing_came();
}

#[tokio::test]
async fn who_dies_between_sending_and_keeping_leaves_the_same_delivery_to_the_next() {
    let bench = Bench::new().await;
    let mut receiver = Receiver::new([Reply::Nothing]).await;
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    bench.hooks.find().await.unwrap();
    let dying = bench.hooks.clone();
    let dying = tokio::spawn(async move { dying.deliver().await });
    let first = receiver.next().await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());

    let next = bench.other(&bench.index).await;
    bench.wait(29);
    assert_eq!(next.deliver().await.unwrap(), 0, "it may still be under way");
    bench.wait(2);
    assert_eq!(next.deliver().await.unwrap(), 1);
    assert_eq!(receiver.next().await.header("x-atcr-delivery"), first.header("x-atcr-delivery"));
    assert_eq!(bench.last(&hook).await.state, DeliveryState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_on_one_store_tell_of_each_thing_once() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    let [one, two, three] =
        [bench.hooks.clone(), bench.other(&bench.index).await, bench.other(&bench.index).await];
    bench.add(&receiver.url, &[Trigger::Push]).await;
    for number in 0..20 {
        bench.push(&format!("v{number}"), "one").await;
    }
    let (all_have_looked, sent) = (Arc::new(Barrier::new(3)), Arc::new(AtomicUsize::new(0)));
    let run = |hooks: Webhooks| {
        let (all_have_looked, sent) = (all_have_looked.clone(), sent.clone());
        tokio::spawn(async move {
            hooks.find().await.unwrap();
            all_have_looked.wait().await;
            // What is left may be under way at another one.
            while sent.load(Ordering::SeqCst) < 20 {
                sent.fetch_add(hooks.deliver().await.unwrap(), Ordering::SeqCst);
            }
            assert_eq!(hooks.deliver().await.unwrap(), 0);
        })
    };
    let (one, two, three) = tokio::join!(run(one), run(two), run(three));
    one.and(two).and(three).unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 20);
    let mut tags = Vec::new();
    for _ in 0..20 {
        tags.push(receiver.next().await.json()["push_data"]["tag"].as_str().unwrap().to_owned());
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 20);
    receiver.nothing_came();
}

#[tokio::test]
async fn an_index_that_is_made_anew_tells_nothing_twice() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    let v1 = tagged("v1", "one", bench.now());
    bench.push("v2", "two").await;
    let v2 = tagged("v2", "two", bench.now());
    assert_eq!(bench.go().await + bench.go().await, 2);
    let told = [receiver.next().await, receiver.next().await];

    // The repo has a revision of its own since, at which the new index finds the tags.
    bench.wait(60);
    let index = Index::open_with("sqlite::memory:", options(&bench.clock).clock).await.unwrap();
    let reading = index.begin_reading(&alice(), rev(bench.now())).await.unwrap().unwrap();
    reading.put(&[v1, v2]).await.unwrap();
    reading.finish("tree".to_owned()).await.unwrap();
    let hooks = bench.other(&index).await;
    hooks.find().await.unwrap();
    assert_eq!(hooks.deliver().await.unwrap(), 0);
    bench.wait(1);
    index.apply(&[commit(bench.now(), vec![tagged("v1", "three", bench.now())])], None).await.unwrap();
    hooks.find().await.unwrap();
    assert_eq!(hooks.deliver().await.unwrap(), 1);
    let third = receiver.next().await;
    assert!(told.iter().all(|sent| sent.header("x-atcr-delivery") != third.header("x-atcr-delivery")));
    receiver.nothing_came();
}

#[tokio::test]
async fn what_was_before_the_hook_or_long_ago_is_not_told() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    bench.push("before", "one").await;
    bench.wait(1);
    bench.add(&receiver.url, &[Trigger::Push]).await;
    assert_eq!(bench.go().await, 0);
    // An hour passes before the push is seen.
    bench.push("late", "one").await;
    bench.wait(3601);
    assert_eq!(bench.go().await, 0);
    // A tag of long ago is found at a revision of today, as in a repo that is read for the first time.
    bench.wait(1);
    let old = tagged("old", "one", "2026-01-01T00:00:00Z".parse().unwrap());
    bench.index.apply(&[commit(bench.now(), vec![old])], None).await.unwrap();
    let undated = json!({
        "$type": "io.atcr.tag", "repository": repository(), "tag": "undated", "manifestDigest": Digest::sha256(b"one"),
    });
    let undated = written(Collection::Tag, tag_rkey(&repository(), &"undated".parse().unwrap()), undated);
    bench.wait(1);
    bench.index.apply(&[commit(bench.now(), vec![undated])], None).await.unwrap();
    assert_eq!(bench.go().await, 0);
    bench.push("new", "one").await;
    assert_eq!(bench.go().await, 1);
    assert_eq!(receiver.next().await.json()["push_data"]["tag"], "new");
    receiver.nothing_came();
}

#[tokio::test]
async fn what_waits_for_a_hook_goes_with_it() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    bench.hooks.find().await.unwrap();
    bench.hooks.remove(&alice(), hook.id()).await.unwrap();
    assert_eq!(bench.go().await, 0);
    assert!(bench.hooks.list(&alice()).await.unwrap().is_empty());
    // One that is made now is not told either.
    bench.wait(1);
    bench.add(&receiver.url, &[Trigger::Push]).await;
    assert_eq!(bench.go().await, 0);
    receiver.nothing_came();
}

#[tokio::test]
async fn a_hook_is_its_owners_alone() {
    let (bench, mut receiver) = (Bench::new().await, Receiver::new([]).await);
    let hook = bench.add(&receiver.url, &[Trigger::Push]).await;
    assert!(bench.hooks.list(&bob()).await.unwrap().is_empty());
    assert!(matches!(bench.hooks.test(&bob(), hook.id()).await, Err(WebhookError::NotFound)));
    assert!(matches!(bench.hooks.remove(&bob(), hook.id()).await, Err(WebhookError::NotFound)));
    bench.wait(1);
    let of_bob = commit_of(bob(), bench.now(), vec![tagged("v1", "one", bench.now())]);
    bench.index.apply(&[of_bob], None).await.unwrap();
    assert_eq!(bench.go().await, 0, "bob's push is not alice's");
    assert_eq!(bench.hooks.list(&alice()).await.unwrap().len(), 1);
    receiver.nothing_came();
}

#[tokio::test]
async fn an_account_has_ten_hooks_and_each_is_told_something() {
    let bench = Bench::new().await;
    for number in 0..10 {
        bench.add(&format!("https://ci.example/{number}"), &[Trigger::Push]).await;
    }
    let hook = new_hook("https://ci.example/10", &[Trigger::Push]);
    assert!(matches!(bench.hooks.add(&alice(), hook.clone()).await, Err(WebhookError::TooMany(10))));
    bench.hooks.add(&bob(), hook).await.unwrap();
    let none = bench.hooks.add(&bob(), new_hook("https://ci.example/11", &[])).await;
    assert!(matches!(none, Err(WebhookError::NoTrigger)));
}

#[tokio::test]
async fn addresses_and_secrets_stand_nowhere_in_plain() {
    let bench = Bench::new().await;
    // Nobody listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a-path-that-nobody-may-know", listener.local_addr().unwrap());
    drop(listener);
    let hook = bench.add(&url, &[Trigger::Push]).await;
    bench.push("v1", "one").await;
    assert_eq!(bench.go().await, 1);
    let last = bench.last(&hook).await;
    assert!(last.answer.as_deref().unwrap().starts_with("no connection"), "{last:?}");
    let shown = format!("{hook:?} {last:?} {:?}", bench.hooks);
    assert!(!shown.contains("nobody-may") && !shown.contains("a secret"), "{shown}");

    let mut kept = 0;
    for entry in std::fs::read_dir(bench.folder.path()).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        kept += bytes.len();
        for plain in [&b"nobody-may"[..], b"a secret of alice", b"127.0.0.1"] {
            assert!(!bytes.windows(plain.len()).any(|window| window == plain), "{}", path.display());
        }
    }
    assert!(kept > 1000);

    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let (path, base) =
        (bench.folder.path().join("webhooks.sqlite"), "https://registry.example".parse().unwrap());
    let (key, options) = (SealingKey::new(&[8; 32]), options(&bench.clock));
    let other = Webhooks::open(&path, key, bench.index.clone(), egress, &base, options).await.unwrap();
    assert_eq!(other.list(&alice()).await.unwrap()[0].0.shown_url(), None);
    let tested = other.test(&alice(), hook.id()).await.unwrap();
    assert!(tested.answer.unwrap().contains("cannot be decrypted"));
}

/// The manifest `content` of alice, whose blobs are in the hold.
fn manifest(content: &str) -> RecordOp {
    let digest = Digest::sha256(content.as_bytes());
    let value = json!({
        "$type": "io.atcr.manifest", "repository": repository(), "digest": digest, "holdDid": hold(),
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "schemaVersion": 2,
        "createdAt": "2026-06-01T00:00:00Z",
    });
    written(Collection::Manifest, manifest_rkey(&digest), value)
}

/// What the hold's scanner found in it.
fn scan(content: &str, at: Timestamp, critical: u64, status: &str) -> RecordOp {
    let digest = Digest::sha256(content.as_bytes());
    let rkey = manifest_rkey(&digest);
    let value = json!({
        "$type": "io.atcr.hold.scan", "manifest": format!("at://{}/io.atcr.manifest/{rkey}", alice()),
        "repository": repository(), "userDid": alice(), "critical": critical, "high": 0, "medium": 0, "low": 1,
        "total": critical + 1, "scannerVersion": "trivy 1", "scannedAt": at, "status": status,
    });
    written(Collection::Scan, rkey, value)
}

impl Bench {
    async fn scanned(&self, content: &str, critical: u64, status: &str) {
        self.wait(1);
        let op = scan(content, self.now(), critical, status);
        self.index.apply(&[commit_of(hold(), self.now(), vec![op])], None).await.unwrap();
    }
}

#[tokio::test]
async fn scans_are_told_to_whom_they_concern() {
    let bench = Bench::new().await;
    let mut receivers = Vec::new();
    bench.index.apply(&[commit(bench.now(), vec![manifest("one"), manifest("two")])], None).await.unwrap();
    bench.scanned("one", 3, "ok").await;
    bench.wait(1);
    for trigger in [Trigger::ScanFirst, Trigger::ScanChanged, Trigger::ScanAll, Trigger::Push] {
        let receiver = Receiver::new([]).await;
        bench.add(&receiver.url, &[trigger]).await;
        receivers.push(receiver);
    }
    assert_eq!(bench.go().await, 0, "that was before");
    let [first, changed, all, push] = receivers.as_mut_slice() else { unreachable!() };

    // It was scanned before, if not told.
    bench.scanned("one", 2, "ok").await;
    assert_eq!(bench.go().await, 2);
    let sent = changed.next().await;
    assert_eq!(sent.header("x-atcr-event"), "scan:changed");
    let body = sent.json();
    assert_eq!(body["scan"]["vulnerabilities"]["critical"], 2);
    assert_eq!(body["previous"]["critical"], 3);
    assert_eq!(body["holdEndpoint"], "https://hold.example");
    assert_eq!(body["manifest"]["userDid"], "did:plc:alice");
    assert_eq!(all.next().await.json()["trigger"], "scan:all");

    bench.scanned("one", 2, "ok").await;
    assert_eq!(bench.go().await, 1, "it says the same");
    assert_eq!(all.next().await.json()["trigger"], "scan:all");
    bench.scanned("two", 0, "failed").await;
    assert_eq!(bench.go().await, 0, "it says nothing");
    bench.scanned("two", 0, "ok").await;
    assert_eq!(bench.go().await, 2);
    assert_eq!(first.next().await.json()["trigger"], "scan:first");
    assert_eq!(all.next().await.json()["trigger"], "scan:all");

    // A hold that alice does not use says what it likes.
    bench.wait(1);
    let op = scan("one", bench.now(), 99, "ok");
    let foreign = commit_of("did:web:evil.example".parse().unwrap(), bench.now(), vec![op]);
    bench.index.apply(&[foreign], None).await.unwrap();
    assert_eq!(bench.go().await, 0);

    // Another index, which has the scans of now and no other.
    let index = Index::open_with("sqlite::memory:", options(&bench.clock).clock).await.unwrap();
    let known = [manifest("one"), manifest("two")].to_vec();
    let at = bench.now().checked_sub(SignedDuration::from_secs(1)).unwrap();
    let scans = vec![scan("two", at, 0, "ok")];
    index.apply(&[commit(at, known), commit_of(hold(), at, scans)], None).await.unwrap();
    let hooks = bench.other(&index).await;
    hooks.find().await.unwrap();
    assert_eq!(hooks.deliver().await.unwrap(), 0);
    for receiver in [first, changed, all, push] {
        receiver.nothing_came();
    }
}
