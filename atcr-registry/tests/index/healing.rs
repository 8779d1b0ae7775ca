//! A relay that loses events, ends streams, or is away: the index is right afterwards, and tags are not believed for
//! longer than they may be.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atcr_auth::pds_session::SignIn as _;
use atcr_core::manifest_store::ManifestStore as _;
use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use atcr_core::{Access, Principal};
use atcr_pds::Clock;
use atcr_pds::repo::Frame;
use atcr_registry::index::{Cursor, PageRequest};
use atcr_registry::ingest::Source;
use axum::Json;
use axum::extract::Query;
use axum::extract::ws::Message;
use axum::routing::get;
use serde_json::json;
use url::Url;

use crate::databases::{Place, both};
use crate::network::{Registry, World};
use crate::records::{manifest, tag};
use crate::streams::{Scripted, serve};

/// `{"op": 1, "t": "#info"}{"name": "OutdatedCursor"}`
const OUTDATED: &[u8] = b"\xa2\x61t\x65#info\x62op\x01\xa1\x64name\x6eOutdatedCursor";
/// `{"op": -1}{"error": "ConsumerTooSlow"}`
const TOO_SLOW: &[u8] = b"\xa1\x62op\x20\xa1\x65error\x6fConsumerTooSlow";

/// The accounts that a relay lists.
type Listed = Arc<Mutex<Vec<Did>>>;

#[derive(serde::Deserialize)]
struct Wanted {
    collection: String,
}

async fn relay(stream: &Scripted, listed: &Listed) -> Url {
    let listed = Arc::clone(listed);
    let list = get(async move |Query(wanted): Query<Wanted>| {
        let repos: Vec<_> = match wanted.collection.as_str() {
            "io.atcr.manifest" => listed.lock().unwrap().iter().map(|did| json!({ "did": did })).collect(),
            _ => Vec::new(),
        };
        Json(json!({ "repos": repos }))
    });
    let router = stream.router("/xrpc/com.atproto.sync.subscribeRepos");
    serve(router.route("/xrpc/com.atproto.sync.listReposByCollection", list)).await
}

/// What the PDS has sequenced so far, as a relay passes it on.
async fn frames(world: &World) -> Vec<(u64, Message)> {
    let events = world.users.repos().events_after(0, 1000).await.unwrap();
    events
        .iter()
        .map(|event| {
            let frame = event.frame();
            let Ok(Frame::Event(read)) = Frame::decode(&frame) else { panic!("an event") };
            (read.seq, Message::Binary(frame.to_vec().into()))
        })
        .collect()
}

async fn points_at(registry: &Registry, owner: &Did, digest: Digest) -> bool {
    let all = PageRequest::first(9);
    let tags = registry.index.tags_by_date(owner, &"app".parse().unwrap(), &all).await.unwrap().items;
    let latest = tags.iter().find(|entry| entry.tag == tag(0));
    latest.is_some_and(|entry| entry.digest == Some(digest))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_relay_has_lost_is_listed_and_read_again() {
    for place in both() {
        let world = World::new(place).await;
        world.elsewhere.put(&world.at("app"), manifest(1), &[tag(0)]).await.unwrap();
        let (stream, listed) = (Scripted::default(), Listed::default());
        listed.lock().unwrap().push(world.did());
        stream.says(frames(&world).await.into_iter().map(|(_, frame)| frame).collect(), true);
        let when = stream.says_when(vec![Message::Binary(OUTDATED.to_vec().into())]);
        let relay = relay(&stream, &listed).await;
        let list = format!("list io.atcr.hold.captain of relay {}", relay.as_str().trim_end_matches('/'));
        let sources = vec![Source::Relay(relay)];
        let mut registry = world.open_with(sources, Duration::from_secs(60), Clock::system()).await;
        registry.run();
        let alice = world.did();
        registry.until("the first is known", || points_at(&registry, &alice, manifest(1).digest)).await;
        registry
            .until("all is read that there was", async || {
                let account = registry.index.account(&alice).await.unwrap().unwrap();
                // The last of the lists.
                account.complete && registry.index.source(&list).await.unwrap().page.is_some()
            })
            .await;
        registry.until("it follows again", async || stream.queries().len() == 2).await;

        // The relay tells of none of it.
        world.elsewhere.put(&world.at("app"), manifest(2), &[tag(0)]).await.unwrap();
        let bob = Principal::Account(world.sessions.sign_in("bob.test", "password").await.unwrap());
        let at_bob = Access::new(bob.clone(), "bob.test/app".parse().unwrap());
        world.elsewhere.put(&at_bob, manifest(3), &[tag(0)]).await.unwrap();
        let bob = bob.did().unwrap().clone();
        listed.lock().unwrap().push(bob.clone());
        assert!(points_at(&registry, &alice, manifest(1).digest).await);
        assert!(registry.index.account(&bob).await.unwrap().is_none(), "nobody has told of him");

        when.notify_one();
        registry.until("what was known is right", || points_at(&registry, &alice, manifest(2).digest)).await;
        registry.until("who is new is known", || points_at(&registry, &bob, manifest(3).digest)).await;
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_was_too_slow_goes_on_where_it_was() {
    for place in both() {
        let world = World::new(place).await;
        for n in 0..4 {
            world.elsewhere.put(&world.at("app"), manifest(n), &[tag(0)]).await.unwrap();
        }
        let (stream, listed) = (Scripted::default(), Listed::default());
        let mut first = frames(&world).await;
        let rest = first.split_off(first.len() / 2);
        let last = first.last().unwrap().0;
        let said = |frames: Vec<(u64, Message)>| frames.into_iter().map(|(_, frame)| frame);
        stream.says(said(first).chain([Message::Binary(TOO_SLOW.to_vec().into())]).collect(), true);
        stream.says(said(rest).collect(), false);
        let sources = vec![Source::Relay(relay(&stream, &listed).await)];
        let mut registry = world.open_with(sources, Duration::from_secs(60), Clock::system()).await;
        registry.run();
        let alice = world.did();
        registry.until("all is known", || points_at(&registry, &alice, manifest(3).digest)).await;
        assert_eq!(stream.queries(), [String::new(), format!("cursor={last}")]);
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_believed_for_as_long_as_its_stream_was_seen_and_no_longer() {
    const BOUND: Duration = Duration::from_secs(60);
    for (seen, is_believed) in [(30_i64, true), (61, false)] {
        let world = World::new(Place::sqlite()).await;
        world.elsewhere.put(&world.at("app"), manifest(1), &[tag(0)]).await.unwrap();
        let ago = Arc::new(AtomicI64::new(seen));
        let clock = {
            let ago = Arc::clone(&ago);
            Clock::from_fn(move || {
                jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago.load(Ordering::Relaxed))
            })
        };
        // Nobody listens there. The second one would tell of other accounts, and was seen just now.
        let sources: [Url; 2] = ["http://localhost:1", "http://localhost:2"].map(|url| url.parse().unwrap());
        let [relay, host] = sources.clone();
        let sources = vec![Source::Relay(relay), Source::Host(host)];
        let mut registry = world.open_with(sources, BOUND, clock).await;
        registry.ingest.read_repo(&world.did()).await.unwrap();
        for (name, seconds) in [("relay http://localhost:1", seen), ("host http://localhost:2", 0)] {
            ago.store(seconds, Ordering::Relaxed);
            let cursor = Cursor { source: name.to_owned(), seq: 1 };
            registry.index.apply(&[], Some(&cursor)).await.unwrap();
            registry.index.source_is_alive(name).await.unwrap();
        }
        registry.run();
        let freshness = registry.ingest.freshness();
        registry.until("what was seen is known", async || freshness.covers(Some("http://localhost:2"))).await;

        world.elsewhere.put(&world.at("app"), manifest(2), &[tag(0)]).await.unwrap();
        world.counts.asked();
        let given = registry.tagged(&world.at("app"), &tag(0)).await;
        let asked = world.counts.asked();
        if is_believed {
            assert_eq!(given, Some(manifest(1).digest));
            assert!(asked.is_empty(), "{asked:?}");
        } else {
            assert_eq!(given, Some(manifest(2).digest), "as its PDS says");
            assert!(!asked.is_empty());
        }
        registry.stop().await;
    }
}
