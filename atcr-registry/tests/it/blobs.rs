//! Pulling and deleting blobs.

use std::sync::Arc;

use atcr_core::oci::Digest;
use http::Method;

use crate::stores::Watched;
use crate::support::{Answer, Peer, guarded, open, with_blobs};

fn content() -> Vec<u8> {
    (0..5000_u32).map(|n| (n % 251) as u8).collect()
}

async fn ranged(peer: &Peer, path: &str, range: &str) -> Answer {
    peer.call(Method::GET, path).header("range", range).send(()).await
}

#[tokio::test]
async fn a_blob_has_the_same_headers_by_head_and_get() {
    let peer = open();
    for content in [&b"abc"[..], b""] {
        let digest = peer.push_blob("a", content).await;
        let path = format!("/v2/a/blobs/{digest}");
        let (get, head) = (peer.get(&path).await.is(200), peer.head(&path).await.is(200));
        assert_eq!((&*get.body, &*head.body), (content, &b""[..]));
        for name in [
            "content-length",
            "content-type",
            "docker-content-digest",
            "etag",
            "cache-control",
            "accept-ranges",
        ] {
            assert_eq!(get.header(name), head.header(name));
            assert!(!get.header(name).is_empty(), "{name}");
        }
        assert_eq!(head.header("content-length"), content.len().to_string());
    }
}

#[tokio::test]
async fn a_part_of_a_blob_is_given() {
    let (peer, content) = (open(), content());
    let path = format!("/v2/a/blobs/{}", peer.push_blob("a", &content).await);
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 5000),
        ("bytes=0-", 0, 5000),
        ("bytes=-500", 4500, 5000),
        ("bytes=2000-5000", 2000, 5000),
        ("bytes=0-0", 0, 1),
        ("bytes=4000-4999,9000-", 4000, 5000),
    ] {
        let answer = ranged(&peer, &path, range).await.is(206);
        assert_eq!(answer.body, content[start..end], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/5000", end - 1));
        assert_eq!(answer.header("content-length"), (end - start).to_string());
    }
    for range in ["bytes=500-0", "bytes=5000-10000", "bytes=5000-", "bytes=-0", "bytes=7000-,8000-"] {
        let answer = ranged(&peer, &path, range).await.fails(416, "SIZE_INVALID");
        assert_eq!(answer.header("content-range"), "bytes */5000", "{range}");
    }
    for ignored in ["lines=1-2", "bytes=x", "bytes", "bytes=0-4999,0-4999"] {
        assert_eq!(ranged(&peer, &path, ignored).await.is(200).body, content, "{ignored}");
    }
}

#[tokio::test]
async fn several_parts_are_given_as_a_multipart_body_of_the_announced_length() {
    let (peer, content) = (open(), content());
    let path = format!("/v2/a/blobs/{}", peer.push_blob("a", &content).await);
    let answer = ranged(&peer, &path, "bytes=10-19, 4990-, 100-100").await.is(206);
    let boundary =
        answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let mut expected = Vec::new();
    for (start, end) in [(10, 20), (4990, 5000), (100, 101)] {
        let range = format!("bytes {start}-{}/5000", end - 1);
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {range}\r\n\r\n"
        );
        expected.extend(head.bytes());
        expected.extend_from_slice(&content[start..end]);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
    assert_eq!(answer.body, expected);
}

#[tokio::test]
async fn too_many_ranges_are_refused() {
    let peer = open();
    let path = format!("/v2/a/blobs/{}", peer.push_blob("a", &content()).await);
    let ranges: Vec<_> = (0..1025).map(|n| format!("{n}-{n}")).collect();
    ranged(&peer, &path, &format!("bytes={}", ranges.join(","))).await.fails(400, "SIZE_INVALID");
    ranged(&peer, &path, &format!("bytes={}", ranges[1..].join(","))).await.is(206);
}

#[tokio::test]
async fn a_client_that_has_the_blob_gets_no_bytes() {
    let peer = open();
    let digest = peer.push_blob("a", b"abc").await;
    let path = format!("/v2/a/blobs/{digest}");
    let with = |tag: String| peer.call(Method::GET, &path).header("if-none-match", &tag);
    let answer = with(format!("\"other\", W/\"{digest}\"")).send(()).await.is(304);
    assert!(answer.body.is_empty() && answer.header("etag") == format!("\"{digest}\""));
    with("\"other\"".to_owned()).send(()).await.is(200);
    let absent = format!("/v2/a/blobs/{}", Digest::sha256(b"absent"));
    peer.call(Method::GET, &absent).header("if-none-match", "*").send(()).await.fails(404, "BLOB_UNKNOWN");
    let stale = peer.call(Method::GET, &path).header("if-range", "\"other\"").header("range", "bytes=1-1");
    assert_eq!(stale.send(()).await.is(200).body, "abc");
}

#[tokio::test]
async fn only_what_everybody_may_pull_is_kept_by_shared_caches() {
    let peer = guarded();
    let (alice, nobody) = (peer.with_token("alice"), &peer);
    let digest = alice.push_blob("alice/public", b"abc").await;
    let path = format!("/v2/alice/public/blobs/{digest}");
    assert!(alice.get(&path).await.is(200).header("cache-control").starts_with("private, max-age=31536000"));
    assert!(nobody.get(&path).await.is(200).header("cache-control").starts_with("public, max-age=31536000"));
}

#[tokio::test]
async fn a_store_may_redirect_a_get_but_a_head_is_answered() {
    let mut store = Watched::new().0;
    store.redirect = true;
    let alice = Peer::new(with_blobs(Arc::new(store)).build().unwrap()).with_token("alice");
    let digest = alice.push_blob("alice/app", b"abc").await;
    let path = format!("/v2/alice/app/blobs/{digest}");
    for range in [None, Some("bytes=0-1"), Some("bytes=0-0,2-2")] {
        let call = alice.call(Method::GET, &path);
        let call = range.map_or(alice.call(Method::GET, &path), |range| call.header("range", range));
        let answer = call.send(()).await.is(307);
        assert!(answer.location().starts_with("https://storage.example/"));
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    }
    assert_eq!(alice.head(&path).await.is(200).header("content-length"), "3");
    alice.get(&format!("/v2/alice/app/blobs/{}", Digest::sha256(b"x"))).await.fails(404, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_and_stays_in_others() {
    let peer = open();
    let digest = peer.push_blob("a", b"abc").await;
    peer.post(&format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), ()).await.is(201);
    peer.delete(&format!("/v2/a/blobs/{digest}")).await.is(202);
    peer.head(&format!("/v2/a/blobs/{digest}")).await.is(404);
    peer.delete(&format!("/v2/a/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    assert_eq!(peer.get(&format!("/v2/b/blobs/{digest}")).await.is(200).body, "abc");
}
