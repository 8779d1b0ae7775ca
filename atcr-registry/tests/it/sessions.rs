//! The token that an upload session is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use atcr_core::oci::Digest;
use atcr_registry::{Limits, SessionKey};
use http::Method;

use crate::support::{Answer, Peer, guarded, guarded_builder, open};

/// What every step of the upload at this location gives.
async fn every_step(peer: &Peer, location: &str) -> Vec<Answer> {
    let finish = format!("{location}?digest={}", Digest::sha256(b""));
    vec![
        peer.get(location).await,
        peer.patch(location, "x").await,
        peer.patch(location, ()).await,
        peer.put(&finish, ()).await,
        peer.delete(location).await,
    ]
}

async fn assert_unknown(peer: &Peer, location: &str) {
    for answer in every_step(peer, location).await {
        answer.fails(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn an_altered_token_is_refused() {
    let peer = open();
    let location = peer.begin("a").await;
    let (path, token) = location.rsplit_once('/').unwrap();
    for at in [0, 20, 36, 37, 45, token.len() - 1] {
        let mut altered = token.as_bytes().to_vec();
        altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
        assert_unknown(&peer, &format!("{path}/{}", String::from_utf8(altered).unwrap())).await;
    }
    for forged in ["x", ".", &token[..token.len() - 2], &format!("{token}AA"), &"A".repeat(8000)] {
        assert_unknown(&peer, &format!("{path}/{forged}")).await;
    }
    peer.get(&location).await.is(204);
}

#[tokio::test]
async fn a_token_is_refused_for_another_principal() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    // Both may push there.
    let location = alice.begin("shared/app").await;
    bob.begin("shared/app").await;
    assert_unknown(&bob, &location).await;
    peer.patch(&location, "x").await.fails(401, "UNAUTHORIZED");
    alice.get(&location).await.is(204);
}

#[tokio::test]
async fn a_token_is_refused_for_another_repository() {
    let alice = guarded().with_token("alice");
    let location = alice.begin("alice/app").await;
    assert_unknown(&alice, &location.replace("alice/app", "alice/other")).await;
    alice.get(&location).await.is(204);
}

#[tokio::test]
async fn a_token_expires_and_each_step_renews_it() {
    let clock = Arc::new(AtomicU64::new(1_800_000_000));
    let now = Arc::clone(&clock);
    let limits = Limits { upload_idle: Duration::from_secs(100), ..Limits::default() };
    let registry = guarded_builder()
        .limits(limits)
        .clock(move || SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)));
    let alice = Peer::new(registry.build().unwrap()).with_token("alice");
    let first = alice.begin("alice/app").await;
    clock.fetch_add(60, Ordering::SeqCst);
    let second = alice.patch(&first, "abc").await.is(202).location();
    clock.fetch_add(60, Ordering::SeqCst);
    assert_unknown(&alice, &first).await;
    let third = alice.get(&second).await.is(204).location();
    clock.fetch_add(60, Ordering::SeqCst);
    assert_unknown(&alice, &second).await;
    alice.put(&format!("{third}?digest={}", Digest::sha256(b"abc")), ()).await.is(201);
}

#[tokio::test]
async fn a_token_is_of_no_use_after_the_end() {
    let peer = open();
    let (first, digest) = (peer.begin("a").await, Digest::sha256(b"abc"));
    let second = peer.patch(&first, "abc").await.is(202).location();
    peer.put(&format!("{second}?digest={digest}"), ()).await.is(201);
    for token in [&first, &second] {
        assert_unknown(&peer, token).await;
    }
    // A client that lost the answer to its last request asks again.
    peer.put(&format!("{second}?digest={digest}"), ()).await.is(201);

    let cancelled = peer.begin("a").await;
    peer.delete(&cancelled).await.is(204);
    assert_unknown(&peer, &cancelled).await;
}

#[tokio::test]
async fn a_step_that_was_done_over_is_refused() {
    let peer = open();
    let start = peer.begin("a").await;
    let lost = peer.patch(&start, "lost").await.is(202).location();
    let kept = peer.patch(&start, "kept").await.is(202).location();
    assert_unknown(&peer, &lost).await;
    peer.put(&format!("{kept}?digest={}", Digest::sha256(b"kept")), ()).await.is(201);
}

#[tokio::test]
async fn a_replayed_chunk_is_out_of_order() {
    let peer = open();
    let start = peer.begin("a").await;
    let chunk = |at: &str, range: &str| peer.call(Method::PATCH, at).header("content-range", range);
    let next = chunk(&start, "0-2").send("abc").await.is(202).location();
    let answer = chunk(&next, "0-2").send("abc").await.fails(416, "BLOB_UPLOAD_INVALID");
    assert_eq!(answer.header("range"), "0-2");
    peer.get(&answer.location()).await.is(204);
}

#[tokio::test]
async fn a_session_goes_on_at_another_replica_and_after_a_rotation_of_the_key() {
    use atcr_core::authorizer::OpenAuthorizer;
    use atcr_core::blob_store::MemoryBlobStore;
    use atcr_core::manifest_store::MemoryManifestStore;
    let blobs = Arc::new(MemoryBlobStore::new());
    let replica = |key: [u8; 32], previous: Option<[u8; 32]>| {
        let builder = atcr_registry::Registry::builder()
            .manifests(Arc::new(MemoryManifestStore::new()))
            .blobs(Arc::clone(&blobs) as _)
            .authorizer(Arc::new(OpenAuthorizer::default()))
            .session_key(SessionKey::from_bytes(key));
        let builder = match previous {
            Some(previous) => builder.previous_session_key(SessionKey::from_bytes(previous)),
            None => builder,
        };
        Peer::new(builder.build().unwrap())
    };
    let old = replica([1; 32], None);
    let location = old.begin("a").await;
    let location = replica([1; 32], None).patch(&location, "one ").await.is(202).location();
    let location = replica([2; 32], Some([1; 32])).patch(&location, "two").await.is(202).location();
    assert_unknown(&old, &location).await;
    let digest = Digest::sha256(b"one two");
    replica([2; 32], None).put(&format!("{location}?digest={digest}"), ()).await.is(201);
    assert_eq!(old.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, "one two");
}

#[tokio::test]
async fn a_location_has_no_query_and_keeps_its_uuid() {
    let peer = open();
    let begun = peer.post("/v2/a/b/blobs/uploads/", ()).await.is(202);
    let uuid = begun.header("docker-upload-uuid").to_owned();
    let location = begun.location();
    assert!(location.starts_with(&format!("/v2/a/b/blobs/uploads/{uuid}.")), "{location}");
    assert!(!location.contains('?') && location.len() < 200, "{location}");
    let next = peer.patch(&location, "abc").await.is(202);
    assert_eq!(next.header("docker-upload-uuid"), uuid);
    assert_ne!(next.location(), location);
}
