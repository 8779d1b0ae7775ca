//! Uploads whose parts go to S3 directly, over the hold's own methods and under faults of the storage: nothing that was
//! acknowledged is lost, no wrong byte is served, nothing is left over.

use std::sync::Arc;
use std::time::Duration;

use atcr_core::oci::Digest;
use atcr_hold::storage::S3Storage;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use strict_s3::{Fault, Operation, Rules, Server};

use crate::client;
use crate::s3::config;
use crate::world::{World, bytes};

/// A hold on a bucket of its own.
async fn world() -> (Server, World) {
    let server = Server::start(Rules::default()).await;
    let storage = S3Storage::open(config(&server)).await;
    let world = World::on(Arc::new(storage)).await;
    (server, world)
}

impl World {
    /// Where a part goes in the storage.
    async fn signed_part(&self, upload: &str, number: u32) -> url::Url {
        let input = json!({"uploadId": upload, "partNumber": number});
        let output = self.post(&self.alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
        assert_eq!(output["method"], "PUT");
        output["url"].as_str().unwrap().parse().unwrap()
    }

    /// Sends parts past the hold; gives what the completion names them by.
    async fn send_parts(&self, upload: &str, contents: &[Bytes]) -> Vec<Value> {
        let mut parts = Vec::new();
        for (content, number) in contents.iter().zip(1..) {
            let url = self.signed_part(upload, number).await;
            let answer = client::send(Method::PUT, &url, HeaderMap::new(), content.clone()).await;
            assert_eq!(answer.status, StatusCode::OK);
            let etag = answer.headers["etag"].to_str().unwrap();
            // With quotes and without.
            let etag = if number % 2 == 0 { etag.trim_matches('"') } else { etag };
            parts.push(json!({"partNumber": number, "etag": etag}));
        }
        parts
    }

    /// The blob as its uploader gets it: from the storage, by the address that the hold gives.
    async fn fetched(&self, digest: &Digest) -> Bytes {
        let answer = self.blob_as(&self.alice, digest).await;
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        let answer = client::get(&answer.header("location").parse().unwrap(), None).await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.body
    }
}

fn contents() -> [Bytes; 3] {
    [bytes(1, 5 << 20), bytes(2, 5 << 20), bytes(3, 1234)]
}

#[tokio::test]
async fn parts_go_past_the_hold_and_the_blob_comes_past_it() {
    let (server, world) = world().await;
    let begun = world.post(&world.alice, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await.ok();
    let able = begun["capabilities"].as_array().unwrap();
    for not in ["parts:any-size", "parts:recorded"] {
        assert!(!able.contains(&json!(not)), "{able:?}");
    }
    assert_eq!(begun["partSize"], 16 << 20);
    let large = json!({"digest": "x", "size": 200_000_000_000_u64});
    let large = world.post(&world.alice, "io.atcr.hold.initiateUpload", large).await.ok();
    assert_eq!(large["partSize"], 20 << 20, "10,000 parts must do");
    let upload = begun["uploadId"].as_str().unwrap();
    let parts = world.send_parts(upload, &contents()).await;
    let digest = Digest::sha256(&contents().concat());
    world.complete(&world.alice, upload, &digest, json!(parts)).await.ok();
    assert!(world.fetched(&digest).await == contents().concat());
    let own_parts = server.requests();
    let own_parts = own_parts.iter().filter(|r| r.operation == Operation::UploadPart && !r.presigned);
    assert_eq!(own_parts.count(), 0);
}

#[tokio::test]
async fn bytes_of_another_digest_leave_nothing() {
    let (server, world) = world().await;
    let upload = world.initiate(&world.alice).await;
    let parts = world.send_parts(&upload, &contents()).await;
    let digest = Digest::sha256(b"what was promised");
    let answer = world.complete(&world.alice, &upload, &digest, json!(parts)).await;
    if answer.status.is_success() {
        // Verified later: nobody else sees it meanwhile.
        assert_eq!(world.get(&world.blob_path(&digest)).await.status, StatusCode::NOT_FOUND);
    } else {
        answer.refused(400, "InvalidDigest");
        assert_eq!((server.objects(), server.open_uploads()), (vec![], 0));
    }
}

#[tokio::test]
async fn a_part_that_the_storage_lost_is_named_and_can_be_sent_again() {
    let (server, world) = world().await;
    let upload = world.initiate(&world.alice).await;
    let parts = world.send_parts(&upload, &contents()).await;
    server.lose_part(2);
    let digest = Digest::sha256(&contents().concat());
    let message =
        world.complete(&world.alice, &upload, &digest, json!(parts)).await.refused(400, "MissingParts");
    assert!(message.contains("part 2"), "{message}");
    let url = world.signed_part(&upload, 2).await;
    client::send(Method::PUT, &url, HeaderMap::new(), contents()[1].clone()).await;
    world.complete(&world.alice, &upload, &digest, json!(parts)).await.ok();
    assert!(world.fetched(&digest).await == contents().concat());
}

#[tokio::test]
async fn a_short_part_in_the_middle_is_refused_with_the_limit() {
    let (_server, world) = world().await;
    let upload = world.initiate(&world.alice).await;
    let contents = [bytes(1, 1000), bytes(2, 1000)];
    let parts = world.send_parts(&upload, &contents).await;
    let digest = Digest::sha256(&contents.concat());
    let answer = world.complete(&world.alice, &upload, &digest, json!(parts)).await;
    assert!(answer.refused(400, "UploadFailed").contains("5242880"));
}

#[tokio::test]
async fn a_completion_that_the_storage_does_not_do_is_done_by_the_next() {
    for fault in [Fault::Unavailable, Fault::ErrorInBody] {
        let (server, world) = world().await;
        let upload = world.initiate(&world.alice).await;
        let parts = world.send_parts(&upload, &contents()).await;
        for nth in 1..=3 {
            server.fail(Operation::CompleteMultipartUpload, nth, fault);
        }
        let digest = Digest::sha256(&contents().concat());
        let answer = world.complete(&world.alice, &upload, &digest, json!(parts)).await;
        answer.refused(503, "StorageUnavailable");
        assert_eq!(world.get(&world.blob_path(&digest)).await.status, StatusCode::NOT_FOUND);
        let world = world.reopened().await;
        world.complete(&world.alice, &upload, &digest, json!(parts)).await.ok();
        assert!(world.fetched(&digest).await == contents().concat());
    }
}

/// What is done twice must not undo what was done once: the object has no name but that of its upload.
#[tokio::test(flavor = "multi_thread")]
async fn of_completions_that_race_none_takes_the_blob_away() {
    let (server, world) = world().await;
    for round in 0..6 {
        let content = [bytes(100 + round, 100_000)];
        let upload = world.initiate(&world.alice).await;
        let parts = json!(world.send_parts(&upload, &content).await);
        let digest = Digest::sha256(&content[0]);
        if round % 2 == 1 {
            server.fail(Operation::CompleteMultipartUpload, 1, Fault::AnswerLost);
        }
        let complete = || world.complete(&world.alice, &upload, &digest, parts.clone());
        let answers = tokio::join!(complete(), complete(), complete());
        let answers = [answers.0, answers.1, answers.2];
        assert!(answers.iter().any(|answer| answer.status.is_success()));
        complete().await.ok();
        assert!(world.fetched(&digest).await == content[0], "round {round}");
    }
    // The same bytes by two uploads at once: one of them is kept.
    let content = [bytes(200, 100_000)];
    let digest = Digest::sha256(&content[0]);
    let uploads = [world.initiate(&world.alice).await, world.initiate(&world.alice).await];
    let parts = [
        json!(world.send_parts(&uploads[0], &content).await),
        json!(world.send_parts(&uploads[1], &content).await),
    ];
    let answers = tokio::join!(
        world.complete(&world.alice, &uploads[0], &digest, parts[0].clone()),
        world.complete(&world.alice, &uploads[1], &digest, parts[1].clone()),
    );
    answers.0.ok();
    answers.1.ok();
    assert!(world.fetched(&digest).await == content[0]);
    world.clock.advance(Duration::from_secs(48 * 3600));
    world.hold.sweep().await.unwrap();
    assert!(world.fetched(&digest).await == content[0], "the sweep took nothing that is a blob");
    assert_eq!(server.open_uploads(), 0);
}

#[tokio::test]
async fn what_nobody_ends_is_swept_from_the_bucket() {
    let (server, world) = world().await;
    let upload = world.initiate(&world.alice).await;
    world.send_parts(&upload, &contents()).await;
    world.initiate(&world.alice).await;
    assert_eq!(server.open_uploads(), 2);
    world.clock.advance(Duration::from_secs(48 * 3600));
    world.hold.sweep().await.unwrap();
    assert_eq!((server.objects(), server.open_uploads()), (vec![], 0));
    let url = world.post(
        &world.alice,
        "io.atcr.hold.getPartUploadUrl",
        json!({"uploadId": upload, "partNumber": 1}),
    );
    url.await.refused(404, "InvalidUploadId");
}
