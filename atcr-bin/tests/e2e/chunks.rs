//! Clients that send a blob in chunks of their own size, to a hold whose storage takes no small parts.

use atcr_core::oci::Digest;
use strict_s3::{Operation, Rules, Server};

use crate::storage::World;
use crate::support::{Account, http, pull, push_and_pull, token};

const MIB: usize = 1 << 20;

fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).to_le_bytes()[0]).collect()
}

/// An upload in chunks.
struct Chunked {
    registry: String,
    bearer: String,
    location: String,
    offset: usize,
}

impl Chunked {
    async fn begin(registry: &str, alice: &Account) -> Self {
        let bearer = token(registry, Some(alice), "repository:alice.test/app:pull,push").await.unwrap();
        let url = format!("http://{registry}/v2/alice.test/app/blobs/uploads/");
        let answer = http().post(url).bearer_auth(&bearer).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        Self { registry: registry.to_owned(), bearer, location, offset: 0 }
    }

    fn request(&self, method: reqwest::Method) -> reqwest::RequestBuilder {
        http().request(method, format!("http://{}{}", self.registry, self.location)).bearer_auth(&self.bearer)
    }

    fn patch(&self, length: usize, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let range = format!("{}-{}", self.offset, self.offset + length - 1);
        self.request(reqwest::Method::PATCH).header("content-range", range).body(body)
    }

    async fn took(&mut self, length: usize, answer: reqwest::Response) {
        let status = answer.status();
        let headers = answer.headers().clone();
        assert_eq!(status, 202, "at {}: {}", self.offset, answer.text().await.unwrap());
        self.offset += length;
        assert_eq!(headers["range"], format!("0-{}", self.offset - 1));
        headers["location"].to_str().unwrap().clone_into(&mut self.location);
    }

    async fn chunk(&mut self, chunk: &[u8]) {
        let answer = self.patch(chunk.len(), chunk.to_vec()).send().await.unwrap();
        self.took(chunk.len(), answer).await;
    }

    async fn end(&self, digest: &Digest) {
        let answer =
            self.request(reqwest::Method::PUT).query(&[("digest", digest.to_string())]).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

/// Pushes these chunks as a blob of alice.test/app.
pub(crate) async fn push(registry: &str, alice: &Account, chunks: &[&[u8]]) -> Digest {
    let mut upload = Chunked::begin(registry, alice).await;
    for chunk in chunks {
        upload.chunk(chunk).await;
    }
    let digest = Digest::sha256(&chunks.concat());
    upload.end(&digest).await;
    digest
}

async fn blob(registry: &str, digest: &Digest) -> Vec<u8> {
    let bearer = token(registry, None, "repository:alice.test/app:pull").await.unwrap();
    let url = format!("http://{registry}/v2/alice.test/app/blobs/{digest}");
    let answer = http().get(url).bearer_auth(bearer).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_any_size_become_the_blob() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Server::start(Rules::default()).await, &[]).await;
    let registry = &world.registry;
    for (length, chunk) in [
        (24, 1),
        (100_000, 999),
        (18 * MIB + 7, 4 * MIB),
        (21 * MIB, 5 * MIB - 1),
        (21 * MIB, 5 * MIB),
        (19 * MIB, 6 * MIB),
    ] {
        let content = bytes(length);
        let chunks: Vec<&[u8]> = content.chunks(chunk).collect();
        let digest = push(registry, &world.alice, &chunks).await;
        assert!(blob(registry, &digest).await == content, "{length} bytes in chunks of {chunk}");
    }
    // And of sizes that have nothing to do with each other.
    let content = bytes(50 * MIB + 11);
    let mut rest = &content[..];
    let mut chunks = Vec::new();
    for size in [3, 17 * MIB, 1, 5 * MIB, 16 * MIB - 4, 2 * MIB, usize::MAX] {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    let digest = push(registry, &world.alice, &chunks).await;
    assert!(blob(registry, &digest).await == content);
    assert_eq!(world.s3.open_uploads(), 0);
    let kept = std::fs::read_dir(dir.path().join("hold/tails")).unwrap().count();
    assert_eq!(kept, 0, "nothing is kept of uploads that have ended");
}

/// Clients in Rust send chunks of 4 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_in_the_default_chunks_of_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Server::start(Rules::default()).await, &[]).await;
    let content = bytes(23 * MIB + 5);
    assert!(push_and_pull(&world.registry, "alice.test/app:1", &world.alice, &content).await == content);
    assert!(pull(&world.registry, "alice.test/app:1").await == content);
}

/// A chunk whose answer was lost is sent again, from where the client knows to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_comes_twice_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Server::start(Rules::default()).await, &[]).await;
    let content = bytes(23 * MIB);
    let mut upload = Chunked::begin(&world.registry, &world.alice).await;
    for chunk in content.chunks(3 * MIB) {
        let lost = upload.patch(chunk.len(), chunk.to_vec()).send().await.unwrap();
        assert_eq!(lost.status(), 202);
        upload.chunk(chunk).await;
    }
    let digest = Digest::sha256(&content);
    upload.end(&digest).await;
    upload.end(&digest).await;
    assert!(blob(&world.registry, &digest).await == content);
}

/// Two processes of one hold on one database and one bucket; one is killed in the middle of a chunk.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_began_the_other_ends_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = Server::start(Rules::default()).await;
    let mut world = World::start(dir.path(), s3, &[("HOLD_SERVER_REPLICAS", "true")]).await;
    let other = world.hold.replica();
    let (_other_process, did) = other.serve().await;
    assert!(did.starts_with("did:web:"));
    for chunk in [3 * MIB, 7 * MIB] {
        let content = bytes(26 * MIB + chunk);
        let chunks: Vec<&[u8]> = content.chunks(chunk).collect();
        let mut upload = Chunked::begin(&world.registry, &world.alice).await;
        upload.chunk(chunks[0]).await;
        upload.chunk(chunks[1]).await;
        let (first, second) = chunks[2].split_at(chunk / 2);
        let (first, second) = (first.to_vec(), second.to_vec());
        let (half, wait) = tokio::sync::oneshot::channel::<()>();
        let body = futures_util::stream::once(async move { Ok::<_, std::io::Error>(first) });
        let rest = futures_util::stream::once(async move {
            wait.await.unwrap();
            Ok(second)
        });
        let body = reqwest::Body::wrap_stream(futures_util::StreamExt::chain(body, rest));
        let sending = tokio::spawn(upload.patch(chunk, body).send());
        world.hold_process.stop("KILL");
        world.gate.lead_to(&other.url());
        half.send(()).unwrap();
        let answer = sending.await.unwrap().unwrap();
        if answer.status() == 202 {
            upload.took(chunk, answer).await;
        } else {
            // The client does it again.
            upload.chunk(chunks[2]).await;
        }
        for chunk in &chunks[3..] {
            upload.chunk(chunk).await;
        }
        let digest = Digest::sha256(&content);
        upload.end(&digest).await;
        assert!(blob(&world.registry, &digest).await == content);
        assert_eq!(world.s3.open_uploads(), 0);
        // The next one is killed again.
        world.hold_process = world.hold.serve().await.0;
        world.gate.lead_to(&world.hold.url());
    }
    assert!(world.s3.count(Operation::UploadPart) > 0);
}
