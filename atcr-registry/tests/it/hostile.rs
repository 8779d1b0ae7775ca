//! Peers who mean harm, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::FilesystemBlobStore;
use atcr_core::manifest_store::MemoryManifestStore;
use atcr_core::oci::Digest;
use atcr_registry::{ConnectionLimits, Limits, Registry, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::Peer;

/// Short enough for a test, and long enough for an honest peer on a slow machine.
const SHORT: Duration = Duration::from_millis(300);

struct Server {
    addr: std::net::SocketAddr,
    peer: Peer,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start(registry: Registry, limits: ConnectionLimits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(serve(listener, registry.router(), limits, async {
        let _ = stopped.await;
    }));
    Server { addr, peer: Peer::new(registry), stop, ended }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends these bytes and gives everything that comes back until the server ends the connection.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that has heard enough may have hung up.
        let _ = stream.write_all(request).await;
        read_to_end(&mut stream).await
    }

    async fn is_well(&self) {
        let answer = self.exchange(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn headers_without_end_are_431() {
    let limits = ConnectionLimits { header_bytes: 16 << 10, headers: 20, ..ConnectionLimits::default() };
    let server = start(Registry::memory(), limits).await;
    let request =
        |headers: String| format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    for (headers, status) in [
        (format!("X: {}\r\n", "x".repeat(10 << 10)), "200"),
        (format!("X: {}\r\n", "x".repeat(20 << 10)), "431"),
        ("X: x\r\n".repeat(18), "200"),
        ("X: x\r\n".repeat(19), "431"),
    ] {
        let answer = server.exchange(request(headers).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    let answer = server.exchange(format!("GET /v2/{} ", "x".repeat(1 << 20)).as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    server.is_well().await;
}

#[tokio::test]
async fn headers_that_never_come_end_the_connection() {
    let limits = ConnectionLimits { header_time: SHORT, ..ConnectionLimits::default() };
    let server = start(Registry::memory(), limits).await;
    for beginning in ["", "GET /v2/ HTTP/1.1\r\nHost: x\r\n", "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), beginning.ends_with("\r\n\r\n"), "{answer}");
    }
    // One header at a time does not help.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v2/ HTTP/1.1\r\n").await.unwrap();
    while stream.write_all(b"X: x\r\n").await.is_ok() {
        tokio::time::sleep(SHORT / 10).await;
    }
    server.is_well().await;
}

#[tokio::test]
async fn a_download_that_stalls_is_cut_and_a_slow_one_is_not() {
    let limits = ConnectionLimits { write_idle: SHORT, ..ConnectionLimits::default() };
    let server = start(Registry::memory(), limits).await;
    // More than the buffers of both sides of a connection.
    let content = vec![7; 64 << 20];
    let digest = server.peer.push_blob("a", &content).await;
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stalled = server.connect().await;
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut slow = server.connect().await;
    slow.write_all(request.as_bytes()).await.unwrap();

    let mut read = 0;
    let mut piece = vec![0; 8 << 20];
    loop {
        match slow.read(&mut piece).await.unwrap() {
            0 => break,
            length => read += length,
        }
        tokio::time::sleep(SHORT / 100).await;
    }
    assert!(read > content.len(), "the slow one gets everything");
    tokio::time::sleep(2 * SHORT).await;
    let mut rest = 0;
    while let Ok(length @ 1..) = stalled.read(&mut piece).await {
        rest += length;
    }
    assert!(rest < content.len(), "the stalled one got all of {rest} bytes");
    server.is_well().await;
}

#[tokio::test]
async fn an_upload_that_stalls_is_cut_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::builder()
        .manifests(Arc::new(MemoryManifestStore::new()))
        .blobs(Arc::new(FilesystemBlobStore::open(directory.path()).await.unwrap()))
        .authorizer(Arc::new(OpenAuthorizer::default()))
        .limits(Limits { body_idle: SHORT, ..Limits::default() })
        .build()
        .unwrap();
    let server = start(registry, ConnectionLimits::default()).await;
    let digest = Digest::sha256(b"never");
    let stalled = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc"
    );
    let answer = server.exchange(stalled.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // The upload is thrown away when its request has ended, by a task of its own.
    while std::fs::read_dir(directory.path().join("uploads")).unwrap().next().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_more_than_the_limit_waits() {
    let limits = ConnectionLimits { connections: 2, header_time: SHORT, ..ConnectionLimits::default() };
    let server = start(Registry::memory(), limits).await;
    let _hold: Vec<TcpStream> = [server.connect().await, server.connect().await].into();
    // It is served when the first two have shown that they want nothing.
    server.is_well().await;
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let server = start(Registry::memory(), ConnectionLimits::default()).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v2/\0 HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    server.is_well().await;
}

#[tokio::test]
async fn a_request_under_way_comes_to_its_end_when_the_server_stops() {
    let server = start(Registry::memory(), ConnectionLimits::default()).await;
    let location = server.peer.begin("a").await;
    let mut upload = server.connect().await;
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    upload.write_all(head.as_bytes()).await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    assert!(idle.read(&mut answer).await.unwrap() > 0);

    server.stop.send(()).unwrap();
    assert_eq!(read_to_end(&mut idle).await, "", "a connection that only waits ends");
    upload.write_all(b"def").await.unwrap();
    let answer = read_to_end(&mut upload).await;
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("range: 0-5\r\n"), "{answer}");
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}
