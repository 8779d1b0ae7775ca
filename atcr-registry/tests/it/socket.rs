//! What only shows on a real connection: written by hand, byte for byte.

use atcr_core::oci::Digest;
use atcr_registry::{Registry, RunningRegistry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Peer;

/// Sends these bytes, ends the sending side, and gives everything that comes back.
async fn exchange(registry: &RunningRegistry, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(registry.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn docker_streams_a_patch_without_any_length() {
    let registry = Registry::memory();
    let (running, peer) = (registry.spawn().await.unwrap(), Peer::new(registry));
    let location = peer.begin("a").await;
    let request = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    );
    let answer = exchange(&running, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(answer.contains("range: 0-4\r\n"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_breaks_off_costs_only_its_own_bytes() {
    let registry = Registry::memory();
    let (running, peer) = (registry.spawn().await.unwrap(), Peer::new(registry));
    let location = peer.patch(&peer.begin("a").await, "abc").await.is(202).location();
    for framing in ["Content-Length: 1000\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let request = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\n{framing}");
        let answer = exchange(&running, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(peer.get(&location).await.is(204).header("range"), "0-2");
    }
    peer.put(&format!("{location}?digest={}", Digest::sha256(b"abcdef")), "def").await.is(201);
}

#[tokio::test]
async fn a_head_has_the_length_of_the_get() {
    let registry = Registry::memory();
    let (running, peer) = (registry.spawn().await.unwrap(), Peer::new(registry));
    let digest = peer.push_blob("a", &[7; 1234]).await;
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = exchange(&running, head(&format!("/v2/a/blobs/{digest}")).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-length: 1234\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = exchange(&running, head("/v2/a/manifests/absent").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_sees_why_its_large_body_is_refused() {
    let running = Registry::memory().spawn().await.unwrap();
    let length = 5 << 20;
    let mut request = format!(
        "PUT /v2/a/manifests/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.resize(request.len() + length, b'x');
    let answer = exchange(&running, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("SIZE_INVALID"), "{answer}");
}

#[tokio::test]
async fn a_registry_stops_when_it_is_dropped() {
    let running = Registry::memory().spawn().await.unwrap();
    let (addr, url) = (running.addr(), running.url());
    assert_eq!(url, format!("http://{addr}"));
    let mut open = TcpStream::connect(addr).await.unwrap();
    drop(running);
    // The connection ends without an answer.
    let _ = open.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = open.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || TcpStream::connect(addr).await.is_err());
}
