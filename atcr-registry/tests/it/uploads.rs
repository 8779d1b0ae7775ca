//! Pushing blobs, in every way that the specification and the clients know.

use std::sync::Arc;

use atcr_core::oci::{Algorithm, Digest};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use tokio::sync::mpsc;

use crate::stores::{Event, Watched};
use crate::support::{Peer, guarded, open, with_blobs};

/// A body without a length.
fn streamed(pieces: &[&'static str]) -> Body {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(*piece))).collect();
    Body::from_stream(stream::iter(pieces))
}

/// A body whose sender goes away.
fn cut_off(piece: &'static str) -> Body {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Body::from_stream(stream::iter([Ok(Bytes::from(piece)), Err(reset)]))
}

async fn assert_blob(peer: &Peer, location: &str, content: &str) {
    assert_eq!(peer.get(location).await.is(200).body, content);
}

#[tokio::test]
async fn a_blob_is_pushed_by_one_post() {
    let peer = open();
    for (algorithm, content) in
        [(Algorithm::Sha256, "abc"), (Algorithm::Sha512, "abc"), (Algorithm::Sha256, "")]
    {
        let digest = Digest::of(algorithm, content.as_bytes());
        let answer = peer.post(&format!("/v2/a/blobs/uploads/?digest={digest}"), content).await.is(201);
        assert_eq!(answer.location(), format!("/v2/a/blobs/{digest}"));
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_blob(&peer, &answer.location(), content).await;
    }
}

#[tokio::test]
async fn a_blob_is_pushed_by_post_and_put() {
    let peer = open();
    for body in [Body::from("abc"), streamed(&["a", "", "bc"])] {
        let (location, digest) = (peer.begin("a").await, Digest::sha256(b"abc"));
        let answer = peer.put(&format!("{location}?digest={digest}"), body).await.is(201);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_blob(&peer, &answer.location(), "abc").await;
    }
}

#[tokio::test]
async fn a_blob_is_pushed_in_chunks_and_the_last_may_come_with_the_put() {
    let peer = open();
    for last_in_put in [false, true] {
        let begun = peer.post("/v2/a/blobs/uploads/", ()).await.is(202);
        assert_eq!(begun.header("range"), "0-0");
        let chunk =
            |method: Method, at: &str, range: &str| peer.call(method, at).header("content-range", range);
        let first = chunk(Method::PATCH, &begun.location(), "0-3").send("abcd").await.is(202);
        assert_eq!(first.header("range"), "0-3");
        let digest = Digest::sha256(b"abcdefg");
        let answer = if last_in_put {
            chunk(Method::PUT, &format!("{}?digest={digest}", first.location()), "4-6").send("efg").await
        } else {
            let second = chunk(Method::PATCH, &first.location(), "4-6").send("efg").await.is(202);
            assert_eq!(second.header("range"), "0-6");
            peer.put(&format!("{}?digest={digest}", second.location()), ()).await
        };
        assert_blob(&peer, &answer.is(201).location(), "abcdefg").await;
    }
}

#[tokio::test]
async fn a_chunk_out_of_order_is_416_and_the_session_survives() {
    let peer = open();
    let first = peer.patch(&peer.begin("a").await, "abcd").await.is(202).location();
    let digest = Digest::sha256(b"abcdefg");
    for (method, at) in [(Method::PATCH, first.clone()), (Method::PUT, format!("{first}?digest={digest}"))] {
        for range in ["0-2", "3-5", "5-7"] {
            let answer = peer.call(method.clone(), &at).header("content-range", range).send("efg").await;
            let answer = answer.fails(416, "BLOB_UPLOAD_INVALID");
            assert_eq!(answer.header("range"), "0-3");
            let progress = peer.get(&answer.location()).await.is(204);
            assert_eq!(progress.header("range"), "0-3");
            assert!(!progress.location().is_empty());
        }
    }
    let finish = format!("{first}?digest={digest}");
    peer.call(Method::PUT, &finish).header("content-range", "4-6").send("efg").await.is(201);
}

#[tokio::test]
async fn a_chunk_of_another_length_than_its_range_does_not_count() {
    let peer = open();
    let location = peer.begin("a").await;
    for (range, body) in [("0-9", &["abc"][..]), ("0-1", &["abc"]), ("0-1", &["ab", "c"])] {
        let chunk = peer.call(Method::PATCH, &location).header("content-range", range);
        chunk.send(streamed(body)).await.fails(400, "SIZE_INVALID");
    }
    assert_eq!(peer.get(&location).await.is(204).header("range"), "0-0");
    let chunk = peer.call(Method::PATCH, &location).header("content-range", "0-2");
    assert_eq!(chunk.send(streamed(&["ab", "c"])).await.is(202).header("range"), "0-2");
}

#[tokio::test]
async fn nothing_of_a_body_that_was_cut_off_counts() {
    let peer = open();
    let location = peer.patch(&peer.begin("a").await, "abc").await.is(202).location();
    let digest = Digest::sha256(b"abcdef");
    peer.patch(&location, cut_off("d")).await.fails(400, "BLOB_UPLOAD_INVALID");
    peer.put(&format!("{location}?digest={digest}"), cut_off("def")).await.fails(400, "BLOB_UPLOAD_INVALID");
    peer.head(&format!("/v2/a/blobs/{digest}")).await.is(404);
    assert_eq!(peer.get(&location).await.is(204).header("range"), "0-2");
    peer.put(&format!("{location}?digest={digest}"), "def").await.is(201);
}

#[tokio::test]
async fn a_wrong_digest_is_400_and_the_session_survives() {
    let peer = open();
    let location = peer.patch(&peer.begin("a").await, "abc").await.is(202).location();
    let wrong = Digest::sha256(b"other");
    let answer = peer.put(&format!("{location}?digest={wrong}"), "def").await.fails(400, "DIGEST_INVALID");
    let detail = &answer.json()["errors"][0]["detail"];
    assert_eq!(detail["expected"], wrong.to_string());
    assert_eq!(detail["actual"], Digest::sha256(b"abcdef").to_string());
    peer.put(&format!("{location}?digest={}", Digest::sha256(b"abcdef")), "def").await.is(201);
}

#[tokio::test]
async fn an_upload_is_cancelled() {
    let peer = open();
    let location = peer.patch(&peer.begin("a").await, "abc").await.is(202).location();
    peer.delete(&location).await.is(204);
    peer.delete(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    let finish = format!("{location}?digest={}", Digest::sha256(b"abc"));
    peer.put(&finish, ()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_blob_by_sha512_is_announced_or_not() {
    let peer = open();
    let digest = Digest::of(Algorithm::Sha512, b"abc");
    for query in ["", "?digest-algorithm=sha512"] {
        let begun = peer.post(&format!("/v2/a/blobs/uploads/{query}"), ()).await.is(202).location();
        let next = peer.patch(&begun, "abc").await.is(202).location();
        let answer = peer.put(&format!("{next}?digest={digest}"), ()).await.is(201);
        let head = peer.head(&answer.location()).await.is(200);
        assert_eq!(head.header("docker-content-digest"), digest.to_string());
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_repository_that_the_caller_may_read() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let public = bob.push_blob("bob/public", b"public").await;
    let own = alice.push_blob("alice/one", b"own").await;
    for (digest, from) in [(public, "bob/public"), (own, "alice/one")] {
        let path = format!("/v2/alice/two/blobs/uploads/?mount={digest}&from={from}");
        let answer = alice.post(&path, ()).await.is(201);
        assert_eq!(answer.location(), format!("/v2/alice/two/blobs/{digest}"));
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        alice.head(&answer.location()).await.is(200);
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_everybody_may_pull_with_a_token_for_the_target_alone() {
    let peer = guarded();
    let digest = peer.with_token("publisher").push_blob("open/app", b"abc").await;
    let alice = peer.with_token("alice");
    alice.get(&format!("/v2/open/app/blobs/{digest}")).await.fails(403, "DENIED");
    alice.post(&format!("/v2/alice/app/blobs/uploads/?mount={digest}&from=open/app"), ()).await.is(201);
    alice.head(&format!("/v2/alice/app/blobs/{digest}")).await.is(200);
}

#[tokio::test]
async fn a_mount_that_is_refused_is_an_upload() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let private = bob.push_blob("bob/private", b"private").await;
    let absent = Digest::sha256(b"absent");
    for query in [
        format!("mount={private}&from=bob/private"),
        format!("mount={private}"),
        format!("mount={private}&from="),
        format!("mount={private}&from=NOT%20A%20NAME"),
        format!("mount={absent}&from=alice/app"),
        format!("mount={absent}&from=nobody/public"),
        format!("mount={absent}&from=down/app"),
    ] {
        let answer = alice.post(&format!("/v2/alice/app/blobs/uploads/?{query}"), ()).await.is(202);
        alice.head(&format!("/v2/alice/app/blobs/{private}")).await.is(404);
        let next = alice.patch(&answer.location(), "abc").await.is(202).location();
        alice.put(&format!("{next}?digest={}", Digest::sha256(b"abc")), ()).await.is(201);
    }
}

#[tokio::test]
async fn a_body_goes_to_the_store_piece_by_piece() {
    let (store, mut events) = Watched::new();
    let alice = Peer::new(with_blobs(Arc::new(store)).build().unwrap()).with_token("alice");
    let location = alice.begin("alice/app").await;
    let (pieces, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body =
        Body::from_stream(stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) }));
    let push = tokio::spawn(async move { alice.patch(&location, body).await.is(202) });
    for length in [100, 50_000, 1] {
        pieces.send(Ok(vec![0; length].into())).await.unwrap();
        // It has arrived although the body has not ended.
        assert_eq!(events.recv().await, Some(Event::Piece(length)));
    }
    drop(pieces);
    assert_eq!(push.await.unwrap().header("range"), "0-50100");
}

#[tokio::test]
async fn an_upload_that_no_client_can_go_on_with_is_thrown_away() {
    let (store, mut events) = Watched::new();
    let alice = Peer::new(with_blobs(Arc::new(store)).build().unwrap()).with_token("alice");
    let path = format!("/v2/alice/app/blobs/uploads/?digest={}", Digest::sha256(b"other"));
    alice.post(&path, "abc").await.fails(400, "DIGEST_INVALID");
    assert_eq!(events.recv().await, Some(Event::Piece(3)));
    assert_eq!(events.recv().await, Some(Event::Aborted));

    // The client leaves: its request is dropped in the middle.
    let (pieces, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body =
        Body::from_stream(stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) }));
    let push = tokio::spawn(async move { alice.post(&path, body).await });
    pieces.send(Ok("abc".into())).await.unwrap();
    assert_eq!(events.recv().await, Some(Event::Piece(3)));
    push.abort();
    assert_eq!(events.recv().await, Some(Event::Aborted));
}
