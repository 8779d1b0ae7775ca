//! The limits hold.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::manifest_store::{Listing, ManifestStore, Page, Referrer};
use atcr_core::oci::{Digest, Manifest, MediaType, Reference, RepositoryName, Tag};
use atcr_core::{Access, Principal, StoreError};
use atcr_registry::{Limits, Registry};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::stores::Watched;
use crate::support::{ByToken, Peer, guarded_builder, open, with_blobs};

#[tokio::test]
async fn a_manifest_of_four_mebibytes_is_taken_and_a_larger_one_is_413() {
    let peer = open();
    let manifest = |size: usize| {
        let empty = r#"{"schemaVersion":2,"manifests":[],"annotations":{"x":""}}"#;
        empty.replace("\"\"", &format!("\"{}\"", "x".repeat(size - empty.len())))
    };
    peer.put_manifest("a", "largest", MediaType::OCI_INDEX, &manifest(4 << 20)).await.is(201);
    let larger = manifest((4 << 20) + 1);
    peer.put_manifest("a", "larger", MediaType::OCI_INDEX, &larger).await.fails(413, "SIZE_INVALID");
    let unannounced = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from(larger))]));
    peer.put("/v2/a/manifests/larger", unannounced).await.fails(413, "SIZE_INVALID");
}

#[tokio::test]
async fn one_principal_has_only_so_many_uploads_at_a_time() {
    let (store, mut events) = Watched::new();
    let limits = Limits { concurrent_uploads: 1, ..Limits::default() };
    let peer = Peer::new(with_blobs(Arc::new(store)).limits(limits).build().unwrap());
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let (first, second) = (alice.begin("alice/app").await, alice.begin("alice/app").await);
    let (pieces, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body =
        Body::from_stream(stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) }));
    let uploader = alice.clone();
    let upload = tokio::spawn(async move { uploader.patch(&first, body).await });
    pieces.send(Ok("abc".into())).await.unwrap();
    events.recv().await.unwrap();

    let refused = alice.patch(&second, "x").await.fails(429, "TOOMANYREQUESTS");
    assert_eq!(refused.header("retry-after"), "1");
    let path = format!("/v2/alice/app/blobs/uploads/?digest={}", Digest::sha256(b"x"));
    alice.post(&path, "x").await.fails(429, "TOOMANYREQUESTS");
    bob.patch(&bob.begin("bob/app").await, "x").await.is(202);
    alice.get(&second).await.is(204);
    drop(pieces);
    upload.await.unwrap().is(202);
    alice.patch(&second, "x").await.is(202);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_cut_and_its_session_survives() {
    let peer = Peer::new(guarded_builder().build().unwrap()).with_token("alice");
    let location = peer.begin("alice/app").await;
    let stalled = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    peer.patch(&location, stalled()).await.fails(408, "BLOB_UPLOAD_INVALID");
    peer.put("/v2/alice/app/manifests/x", stalled()).await.fails(408, "MANIFEST_INVALID");
    peer.patch(&location, "abc").await.is(202);
}

/// A store that never answers.
#[derive(Debug)]
struct Hanging;

#[async_trait]
impl ManifestStore for Hanging {
    async fn get(&self, _: &Access, _: &Reference) -> Result<Manifest, StoreError> {
        std::future::pending().await
    }
    async fn put(&self, _: &Access, _: Manifest, _: &[Tag]) -> Result<(), StoreError> {
        std::future::pending().await
    }
    async fn delete(&self, _: &Access, _: &Digest) -> Result<(), StoreError> {
        std::future::pending().await
    }
    async fn delete_tag(&self, _: &Access, _: &Tag) -> Result<(), StoreError> {
        std::future::pending().await
    }
    async fn tags(&self, _: &Access, _: &Page) -> Result<Listing<Tag>, StoreError> {
        std::future::pending().await
    }
    async fn referrers(&self, _: &Access, _: &Digest) -> Result<Vec<Referrer>, StoreError> {
        std::future::pending().await
    }
    async fn repositories(&self, _: &Principal, _: &Page) -> Result<Listing<RepositoryName>, StoreError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_503() {
    let registry = Registry::builder()
        .manifests(Arc::new(Hanging))
        .blobs(Arc::new(MemoryBlobStore::new()))
        .authorizer(Arc::new(ByToken))
        .limits(Limits { request_time: Duration::from_secs(5), ..Limits::default() });
    let alice = Peer::new(registry.build().unwrap()).with_token("alice");
    alice.get("/v2/alice/app/manifests/latest").await.fails(503, "UNAVAILABLE");
    alice.get("/v2/alice/app/tags/list").await.fails(503, "UNAVAILABLE");
}
