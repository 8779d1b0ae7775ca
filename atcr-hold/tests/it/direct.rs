//! Blobs whose parts go to the storage directly, past the hold, on a server of S3's protocol.

use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use atcr_core::oci::Digest;
use atcr_hold::storage::S3Storage;
use atcr_hold::{HoldConfig, Verify};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};
use strict_s3::{Fault, Operation, Rules, Server};
use url::Url;

use crate::client;
use crate::manifests::notification;
use crate::s3;
use crate::world::{Answer, User, World, bytes, local};

/// A hold over a bucket. Bob is crew as well.
pub(crate) struct Bucket {
    pub(crate) server: Server,
    pub(crate) world: World,
}

/// A part where it goes.
pub(crate) struct Target {
    pub(crate) url: Url,
    headers: HeaderMap,
}

impl Target {
    pub(crate) fn of(json: &Value) -> Self {
        let header = |(name, value): (&String, &Value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value.as_str().unwrap()).unwrap())
        };
        assert_eq!(json["method"], "PUT");
        Self {
            url: json["url"].as_str().unwrap().parse().unwrap(),
            headers: json["headers"].as_object().into_iter().flatten().map(header).collect(),
        }
    }

    pub(crate) async fn put(&self, content: &Bytes) -> client::Reply {
        client::send(Method::PUT, &self.url, self.headers.clone(), content.clone()).await
    }
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HoldConfig)) -> Self {
        let server = Server::start(Rules::default()).await;
        let storage = S3Storage::open(s3::config(&server)).await;
        Self::on(server, storage, change).await
    }

    async fn on(server: Server, storage: S3Storage, change: impl FnOnce(&mut HoldConfig)) -> Self {
        let storage = Arc::new(storage);
        let world = World::with(|config| {
            config.public = true;
            config.allow_all_crew = true;
            config.storage = Some(storage);
            // Nothing is verified but when a test says so.
            config.verification.on_demand = 0;
            change(config);
        })
        .await;
        Self { server, world }
    }

    pub(crate) async fn target(&self, user: &User, upload: &str, number: u32) -> Target {
        let input = json!({"uploadId": upload, "partNumber": number});
        Target::of(&self.world.post(user, "io.atcr.hold.getPartUploadUrl", input).await.ok())
    }

    /// Sends a part directly and gives its receipt as the hold wants it.
    pub(crate) async fn part(&self, user: &User, upload: &str, number: u32, content: &Bytes) -> Value {
        let answer = self.target(user, upload, number).await.put(content).await;
        assert_eq!(answer.status, StatusCode::OK);
        json!({"partNumber": number, "etag": answer.headers["etag"].to_str().unwrap()})
    }

    /// Uploads something directly and says that it is `digest`.
    pub(crate) async fn claim(&self, user: &User, content: &Bytes, digest: &Digest) -> Answer {
        let upload = self.world.initiate(user).await;
        let part = self.part(user, &upload, 1, content).await;
        self.world.complete(user, &upload, digest, json!([part])).await
    }

    async fn upload(&self, user: &User, content: &Bytes) -> Digest {
        let digest = Digest::sha256(content);
        self.claim(user, content, &digest).await.ok();
        digest
    }

    /// What everybody gets.
    async fn content(&self, digest: &Digest) -> Bytes {
        let answer = self.world.get(&self.world.blob_path(digest)).await;
        assert_eq!(answer.status, 307, "{}", String::from_utf8_lossy(&answer.body));
        client::get(&answer.header("location").parse().unwrap(), None).await.body
    }

    /// That nobody but those who may sees anything of the blob.
    async fn hidden(&self, digest: &Digest, from: &User) {
        let path = self.world.blob_path(digest);
        for answer in [
            self.world.get(&path).await,
            self.world.get(&format!("{path}&method=GET")).await,
            self.world.blob_as(from, digest).await,
        ] {
            answer.refused(404, "BlobNotFound");
        }
        assert_eq!(self.world.head(&path).await.status, 404);
        let notified = self.world.post(from, "io.atcr.hold.notifyManifest", one_layer(from, digest)).await;
        assert_eq!(notified.ok()["layersCreated"], 0, "it is not there to be mounted");
    }
}

fn one_layer(user: &User, digest: &Digest) -> Value {
    notification(user, &[(*digest, 1)], "push")
}

#[tokio::test]
async fn a_blob_that_nobody_has_hashed_is_its_uploaders_alone() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let content = bytes(1, 1000);
    let digest = bucket.upload(&world.alice, &content).await;
    assert_eq!(server.count(Operation::GetObject), 0, "the upload was acknowledged unread");
    assert_eq!(world.hold.unverified().await.unwrap(), 1);
    bucket.hidden(&digest, &world.bob).await;

    let own = world.blob_as(&world.alice, &digest).await;
    assert_eq!(own.status, 307);
    assert_eq!(own.header("cache-control"), "no-store");
    assert!(client::get(&own.header("location").parse().unwrap(), None).await.body == content);
    // By an address as well, with GET and with HEAD.
    for method in ["GET", "HEAD"] {
        let token = world.token(&world.alice, Some("com.atproto.sync.getBlob"));
        let path = format!("{}&method={method}", world.blob_path(&digest));
        let request = Request::get(path).header(AUTHORIZATION, format!("Bearer {token}"));
        let url = world.send(request.body(axum::body::Body::empty()).unwrap()).await.ok()["url"].clone();
        let url = url.as_str().unwrap();
        if method == "HEAD" {
            let head = world.head(&local(url)).await;
            assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "1000"));
            assert_eq!(head.header("cache-control"), "private, no-store");
            let stolen = local(url).replace("alice", "bob");
            assert_eq!(world.head(&stolen).await.status, 403);
        } else {
            assert!(client::get(&url.parse().unwrap(), None).await.body == content);
        }
    }
    let notified = world.post(&world.alice, "io.atcr.hold.notifyManifest", one_layer(&world.alice, &digest));
    assert_eq!(notified.await.ok()["layersCreated"], 1);

    assert_eq!(world.hold.verify_pending().await.unwrap(), 1);
    assert!(bucket.content(&digest).await == content);
    assert_eq!(world.blob_as(&world.bob, &digest).await.status, 307);
    assert_eq!((world.hold.unverified().await.unwrap(), server.open_uploads()), (0, 0));
}

#[tokio::test]
async fn what_is_verified_before_the_answer_is_everybodys_at_once_and_what_is_wrong_is_refused() {
    let bucket = Bucket::with(|config| config.verification.when = Verify::Sync).await;
    let Bucket { world, server } = &bucket;
    let begun = world.post(&world.alice, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await.ok();
    assert_eq!(begun["capabilities"], json!(["parts:batch", "parts:tail", "digest:verified"]));
    let digest = bucket.upload(&world.alice, &bytes(1, 1000)).await;
    assert!(bucket.content(&digest).await == bytes(1, 1000));
    let wrong = Digest::sha256(b"something else");
    let message = bucket.claim(&world.alice, &bytes(2, 1000), &wrong).await.refused(400, "InvalidDigest");
    assert!(message.contains(&Digest::sha256(&bytes(2, 1000)).to_string()), "{message}");
    world.get(&world.blob_path(&wrong)).await.refused(404, "BlobNotFound");
    let blobs = server.objects().into_iter().filter(|(key, _)| key.ends_with("/data")).count();
    assert_eq!((blobs, world.hold.unverified().await.unwrap()), (1, 0));
}

#[tokio::test]
async fn who_is_trusted_is_believed() {
    let bucket = Bucket::with(|config| config.verification.when = Verify::Trust).await;
    let Bucket { world, server } = &bucket;
    let begun = world.post(&world.alice, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await.ok();
    assert_eq!(begun["capabilities"], json!(["parts:batch", "parts:tail"]), "nothing is promised");
    let digest = bucket.upload(&world.alice, &bytes(1, 1000)).await;
    assert!(bucket.content(&digest).await == bytes(1, 1000));
    let reads =
        server.requests().iter().filter(|r| r.operation == Operation::GetObject && !r.presigned).count();
    assert_eq!(reads, 0);
}

/// Mallory wants Alice, or whoever pulls what Alice pushed, to get other bytes than the digest says.
#[tokio::test]
async fn a_malicious_uploader_makes_nobody_receive_other_bytes() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let (alice, mallory) = (&world.alice, &world.user("did:plc:mallory"));
    let (good, evil) = (bytes(1, 5 << 20), bytes(2, 5 << 20));
    let digest = Digest::sha256(&good);

    // First: the name of a blob that the hold does not have yet.
    bucket.claim(mallory, &evil, &digest).await.ok();
    bucket.hidden(&digest, alice).await;
    // Alice pushes the real one meanwhile, and has it whatever Mallory said.
    bucket.upload(alice, &good).await;
    let own = world.blob_as(alice, &digest).await;
    assert!(client::get(&own.header("location").parse().unwrap(), None).await.body == good);
    bucket.hidden(&digest, &world.bob).await;
    assert_eq!(world.hold.verify_pending().await.unwrap(), 2);
    assert!(bucket.content(&digest).await == good);
    for user in [alice, mallory, &world.bob] {
        let answer = world.blob_as(user, &digest).await;
        assert!(client::get(&answer.header("location").parse().unwrap(), None).await.body == good);
    }

    // Second: over a blob that the hold has. It is acknowledged, and what there was is what there is.
    bucket.claim(mallory, &evil, &digest).await.ok();
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&digest).await == good);

    // Third: a part sent again after the completion, by an address that is still good.
    let other = bytes(3, 5 << 20);
    let upload = world.initiate(mallory).await;
    let target = bucket.target(mallory, &upload, 1).await;
    let part = bucket.part(mallory, &upload, 1, &other).await;
    let other_digest = Digest::sha256(&other);
    world.complete(mallory, &upload, &other_digest, json!([part])).await.ok();
    assert!(!target.put(&bytes(2, 1000)).await.status.is_success());
    world.hold.verify_pending().await.unwrap();
    assert!(!target.put(&bytes(2, 1000)).await.status.is_success());
    assert!(bucket.content(&other_digest).await == other);

    // Fourth: a part through the hold, which hashes it, and then another one of the same number directly.
    let upload = world.initiate(mallory).await;
    let token = world.token(mallory, None);
    let through = Request::put("/xrpc/io.atcr.hold.uploadPart")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("X-Upload-Id", &upload)
        .header("X-Part-Number", "1")
        .body(axum::body::Body::from(bytes(4, 5 << 20)));
    world.send(through.unwrap()).await.ok();
    let part = bucket.part(mallory, &upload, 1, &evil).await;
    let claimed = Digest::sha256(&bytes(4, 5 << 20));
    world.complete(mallory, &upload, &claimed, json!([part])).await.ok();
    bucket.hidden(&claimed, alice).await;
    world.hold.verify_pending().await.unwrap();
    bucket.hidden(&claimed, alice).await;

    // Fifth: the same with the receipt of the first part, in case the storage cannot tell them apart.
    let upload = world.initiate(mallory).await;
    let target = bucket.target(mallory, &upload, 1).await;
    let through = Request::put("/xrpc/io.atcr.hold.uploadPart")
        .header(AUTHORIZATION, format!("Bearer {}", world.token(mallory, None)))
        .header("X-Upload-Id", &upload)
        .header("X-Part-Number", "1")
        .body(axum::body::Body::from(bytes(5, 5 << 20)));
    let etag = world.send(through.unwrap()).await.ok()["etag"].clone();
    let parts = json!([{"partNumber": 1, "etag": etag}]);
    let reads = |server: &Server| server.count(Operation::GetObject);
    let before = reads(server);
    let fifth = Digest::sha256(&bytes(5, 5 << 20));
    world.complete(mallory, &upload, &fifth, parts).await.ok();
    assert_eq!(reads(server), before);
    bucket.hidden(&fifth, alice).await;
    world.hold.verify_pending().await.unwrap();
    assert_eq!(reads(server), before + 1, "it was read, though the hold had hashed it on the way");
    assert!(!target.put(&bytes(2, 1000)).await.status.is_success());

    // Sixth: all of it at once.
    let seventh = Digest::sha256(&bytes(7, 5 << 20));
    let claims = (0..4).map(|n| {
        let content = if n == 2 { bytes(7, 5 << 20) } else { bytes(70 + n, 5 << 20) };
        let bucket = &bucket;
        async move { bucket.claim(mallory, &content, &seventh).await.status }
    });
    let verify = async {
        for _ in 0..4 {
            world.hold.verify_pending().await.unwrap();
        }
    };
    futures_util::join!(futures_util::future::join_all(claims), verify);
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&seventh).await == bytes(7, 5 << 20));
}

#[tokio::test]
async fn wrong_bytes_are_locked_away_and_their_uploader_is_told() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let (alice, bob) = (&world.alice, &world.bob);
    let (wrong, right) = (bytes(1, 1000), bytes(2, 1000));
    let digest = Digest::sha256(&right);
    let upload = world.initiate(bob).await;
    let part = bucket.part(bob, &upload, 1, &wrong).await;
    world.complete(bob, &upload, &digest, json!([part])).await.ok();
    world.hold.verify_pending().await.unwrap();

    let message = world.blob_as(bob, &digest).await.refused(410, "BlobQuarantined");
    let actual = Digest::sha256(&wrong).to_string();
    assert!(message.contains(&actual) && message.contains("upload the blob again"), "{message}");
    world.complete(bob, &upload, &digest, json!([part])).await.refused(410, "BlobQuarantined");
    bucket.hidden(&digest, alice).await;
    let notified = world.post(bob, "io.atcr.hold.notifyManifest", one_layer(bob, &digest)).await.ok();
    assert_eq!(notified["layersCreated"], 0);
    let pool = world.database().await;
    let record: (String, String, String) =
        sqlx::query_as("select digest, actual, uploader from quarantine").fetch_one(&pool).await.unwrap();
    assert_eq!(record, (digest.to_string(), actual, bob.did.to_string()));

    // The bytes stay for the operator to look at, for a week; the record stays.
    let blobs = || server.objects().into_iter().filter(|(key, _)| key.ends_with("/data")).count();
    world.clock.advance(Duration::from_secs(2 * 24 * 3600));
    world.hold.sweep().await.unwrap();
    assert_eq!(blobs(), 1);
    world.clock.advance(Duration::from_secs(6 * 24 * 3600));
    assert_eq!(world.hold.sweep().await.unwrap().quarantined, 1);
    assert_eq!(blobs(), 0);
    let left: i64 = sqlx::query_scalar("select count(*) from quarantine").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 1);

    // What is right can come at any time.
    bucket.claim(bob, &right, &digest).await.ok();
    assert_eq!(world.blob_as(bob, &digest).await.status, 307);
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&digest).await == right);
    assert_eq!(world.blob_as(bob, &digest).await.status, 307);
}

#[tokio::test]
async fn what_waits_survives_the_end_of_the_process_and_a_storage_that_fails() {
    let bucket = Bucket::new().await;
    let digest = bucket.upload(&bucket.world.alice, &bytes(1, 1000)).await;
    let Bucket { server, world } = bucket;
    // Killed while it was read: somebody has it, for a minute.
    let pool = world.database().await;
    let held = "update pending set worker = 'killed', leased = ?";
    sqlx::query(held).bind(world.clock.unix() + 60).execute(&pool).await.unwrap();
    assert_eq!(world.hold.verify_pending().await.unwrap(), 0);
    let world = world.reopened().await;
    for nth in 1..=6 {
        server.fail(Operation::GetObject, nth, Fault::Unavailable);
    }
    assert_eq!(world.hold.verify_pending().await.unwrap(), 1, "it is tried");
    assert_eq!(world.hold.unverified().await.unwrap(), 1, "and stays");
    let bucket = Bucket { server, world };
    bucket.hidden(&digest, &bucket.world.bob).await;
    let mut rounds = 0;
    while bucket.world.hold.unverified().await.unwrap() > 0 {
        bucket.world.clock.advance(Duration::from_secs(1200));
        bucket.world.hold.verify_pending().await.unwrap();
        rounds += 1;
        assert!(rounds < 10);
    }
    assert!(bucket.content(&digest).await == bytes(1, 1000));
}

#[tokio::test]
async fn the_maintenance_verifies_by_itself_and_several_do_nothing_twice() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let maintenance: Vec<_> = (0..3)
        .map(|_| {
            let hold = world.hold.clone();
            tokio::spawn(async move { hold.maintain().await })
        })
        .collect();
    let mut digests = Vec::new();
    for n in 0..12 {
        digests.push(bucket.upload(&world.alice, &bytes(n, 1000)).await);
    }
    while world.hold.unverified().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    for task in maintenance {
        task.abort();
    }
    let hold_reads =
        server.requests().into_iter().filter(|r| r.operation == Operation::GetObject && !r.presigned);
    assert_eq!(hold_reads.count(), 12);
    for (digest, n) in digests.iter().zip(0..) {
        assert!(bucket.content(digest).await == bytes(n, 1000));
    }
}

#[tokio::test]
async fn many_parts_are_asked_for_in_one_call_and_go_in_any_order_in_parallel() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    let input = json!({"uploadId": upload, "partNumber": 1, "count": 4});
    let output = world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
    let mut targets = vec![Target::of(&output)];
    targets.extend(output["following"].as_array().unwrap().iter().map(Target::of));
    assert_eq!(targets.len(), 4);
    let content: Vec<Bytes> = (0..4).map(|n| bytes(n, if n == 3 { 77 } else { 5 << 20 })).collect();
    let sent = targets.iter().zip(&content).rev().map(|(target, piece)| target.put(piece));
    let answers = futures_util::future::join_all(sent).await;
    let etags: Vec<&str> = answers.iter().rev().map(|a| a.headers["etag"].to_str().unwrap()).collect();
    // Some are sent again.
    targets[1].put(&content[1]).await;
    let mut parts: Vec<Value> = etags
        .iter()
        .enumerate()
        .map(|(at, etag)| {
            let etag = if at % 2 == 0 { (*etag).to_owned() } else { etag.trim_matches('"').to_owned() };
            json!({"partNumber": at + 1, "etag": etag})
        })
        .collect();
    parts.reverse();
    let digest = Digest::sha256(&content.concat());
    for _ in 0..2 {
        world.complete(alice, &upload, &digest, json!(parts)).await.ok();
    }
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&digest).await == content.concat());
    assert_eq!(server.count(Operation::CompleteMultipartUpload), 1);
    for bad in [json!(0), json!(-1), json!("x")] {
        let input = json!({"uploadId": upload, "partNumber": 1, "count": bad});
        assert_eq!(world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.status, 400);
    }
    let upload = world.initiate(alice).await;
    let input = json!({"uploadId": upload, "partNumber": 9_990, "count": 5000});
    let output = world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
    assert_eq!(
        output["following"].as_array().unwrap().len(),
        10,
        "up to the last number that the storage takes"
    );
}

#[tokio::test]
async fn a_part_that_was_lost_is_named_and_can_be_sent_again() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    let content = [bytes(1, 5 << 20), bytes(2, 100)];
    let mut parts = Vec::new();
    for (piece, number) in content.iter().zip(1..) {
        parts.push(bucket.part(alice, &upload, number, piece).await);
    }
    let digest = Digest::sha256(&content.concat());
    server.lose_part(1);
    let message = world.complete(alice, &upload, &digest, json!(parts)).await.refused(400, "MissingParts");
    assert!(message.contains("part 1"), "{message}");
    parts[0] = bucket.part(alice, &upload, 1, &content[0]).await;
    world.complete(alice, &upload, &digest, json!(parts)).await.ok();
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&digest).await == content.concat());
}

#[tokio::test]
async fn a_part_whose_address_has_expired_goes_by_a_new_one() {
    let server = Server::start(Rules::default()).await;
    let clock = Clock::manual(Clock::system().unix() - 3600);
    let mut config = s3::config(&server);
    config.clock = clock.clone();
    let storage = S3Storage::open(config).await;
    let bucket = Bucket::on(server, storage, |_| {}).await;
    let world = &bucket.world;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    let (content, digest) = (bytes(1, 1000), Digest::sha256(&bytes(1, 1000)));
    assert_eq!(bucket.target(alice, &upload, 1).await.put(&content).await.status, 403);
    let claimed = json!([{"partNumber": 1, "etag": "never given"}]);
    world.complete(alice, &upload, &digest, claimed).await.refused(400, "MissingParts");
    clock.advance(Duration::from_secs(3600));
    let part = bucket.part(alice, &upload, 1, &content).await;
    world.complete(alice, &upload, &digest, json!([part])).await.ok();
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&digest).await == content);
}

#[tokio::test]
async fn a_completion_that_comes_twice_or_too_late_changes_nothing() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let alice = &world.alice;
    let (content, digest) = (bytes(1, 1000), Digest::sha256(&bytes(1, 1000)));
    let upload = world.initiate(alice).await;
    let parts = json!([bucket.part(alice, &upload, 1, &content).await]);
    let slow = world.initiate(alice).await;
    let target = bucket.target(alice, &slow, 1).await;
    let slow_parts = json!([bucket.part(alice, &slow, 1, &bytes(2, 1000)).await]);
    let complete = async || world.complete(alice, &upload, &digest, parts.clone()).await;
    for verified in [false, true] {
        complete().await.ok();
        complete().await.ok();
        let other = Digest::sha256(b"other");
        world.complete(alice, &upload, &other, parts.clone()).await.refused(409, "InvalidUploadId");
        assert_eq!(world.hold.verify_pending().await.unwrap(), u64::from(!verified));
        assert!(bucket.content(&digest).await == content);
    }
    world.clock.advance(Duration::from_secs(25 * 3600));
    world.hold.sweep().await.unwrap();
    complete().await.refused(404, "InvalidUploadId");
    let late = Digest::sha256(&bytes(2, 1000));
    world.complete(alice, &slow, &late, slow_parts).await.refused(404, "InvalidUploadId");
    assert!(!target.put(&bytes(2, 1000)).await.status.is_success());
    world.get(&world.blob_path(&late)).await.refused(404, "BlobNotFound");
    assert!(bucket.content(&digest).await == content);
    let objects = server.objects().into_iter().filter(|(key, _)| key.ends_with("/data")).count();
    assert_eq!((objects, server.open_uploads()), (1, 0));
}

#[tokio::test]
async fn a_bucket_that_refuses_to_say_makes_no_blob_missing() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let digest = bucket.upload(&world.alice, &bytes(1, 1000)).await;
    world.hold.verify_pending().await.unwrap();
    let path = world.blob_path(&digest);
    server.fail(Operation::HeadObject, 1, Fault::BadRequest);
    assert_eq!(world.head(&path).await.status, 503, "404 would have it pushed again, or given up");
    assert_eq!(world.head(&path).await.status, 200);
    // Nor is a blob acknowledged whose place cannot be looked at.
    let upload = world.initiate(&world.alice).await;
    let part = bucket.part(&world.alice, &upload, 1, &bytes(2, 1000)).await;
    let second = Digest::sha256(&bytes(2, 1000));
    server.fail(Operation::HeadObject, 1, Fault::BadRequest);
    let answer = world.complete(&world.alice, &upload, &second, json!([part])).await;
    answer.refused(503, "StorageUnavailable");
    world.complete(&world.alice, &upload, &second, json!([part])).await.ok();
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&second).await == bytes(2, 1000));
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_is_gone_from_the_bucket() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let upload = world.initiate(&world.alice).await;
    bucket.part(&world.alice, &upload, 1, &bytes(1, 1000)).await;
    let waiting = bucket.upload(&world.alice, &bytes(2, 1000)).await;
    assert_eq!(server.open_uploads(), 1);
    world.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(world.hold.sweep().await.unwrap().sessions, 2);
    assert_eq!(server.open_uploads(), 0);
    // What waits to be verified is not swept with its session.
    world.clock.advance(Duration::from_secs(25 * 3600));
    world.hold.sweep().await.unwrap();
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&waiting).await == bytes(2, 1000));
    let storage = world.hold.storage();
    assert_eq!(storage.usage().await.unwrap().objects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_blob_that_was_uploaded_several_times_at_once_one_object_is_left() {
    for when in [Verify::Background, Verify::Sync, Verify::Trust] {
        let bucket = Bucket::with(|config| config.verification.when = when).await;
        let Bucket { world, server } = &bucket;
        let content = bytes(1, 100_000);
        let digest = Digest::sha256(&content);
        let users = [&world.alice, &world.bob, &world.alice, &world.bob];
        let claims = users.map(|user| bucket.claim(user, &content, &digest));
        for answer in futures_util::future::join_all(claims).await {
            answer.ok();
        }
        let verify = (0..4).map(|_| world.hold.verify_pending());
        for verified in futures_util::future::join_all(verify).await {
            verified.unwrap();
        }
        assert_eq!(world.hold.unverified().await.unwrap(), 0);
        world.hold.sweep().await.unwrap();
        assert!(bucket.content(&digest).await == content);
        let objects = server.objects().into_iter().filter(|(key, _)| key.ends_with("/data")).count();
        assert_eq!((objects, server.open_uploads()), (1, 0), "{when:?}");
    }
}

#[tokio::test]
async fn a_reader_is_sent_to_the_bucket_without_asking_it_and_a_deleted_blob_is_gone_at_once() {
    let bucket = Bucket::new().await;
    let Bucket { world, server } = &bucket;
    let digest = bucket.upload(&world.alice, &bytes(1, 1000)).await;
    world.hold.verify_pending().await.unwrap();
    let path = world.blob_path(&digest);
    let asked = server.requests().len();
    let first = world.get(&path).await;
    let second = world.get(&format!("{path}&method=GET")).await.ok()["url"].clone();
    assert_eq!((first.status.as_u16(), first.header("location")), (307, second.as_str().unwrap()));
    assert_eq!(server.requests().len(), asked, "neither answer needed the bucket");
    // Whoever wants to know whether to upload gets the truth.
    let (key, _) = server.objects().into_iter().find(|(key, _)| key.ends_with("/data")).unwrap();
    server.remove(&key);
    assert_eq!(world.head(&path).await.status, 404);
    assert_eq!(world.get(&path).await.status, 307, "the bucket answers 404");
    let again = bucket.upload(&world.bob, &bytes(1, 1000)).await;
    world.hold.verify_pending().await.unwrap();
    assert!(bucket.content(&again).await == bytes(1, 1000), "the new bytes take its place");
}

#[tokio::test]
async fn what_is_remembered_of_a_blob_ends_with_its_deletion_from_the_repository() {
    let bucket = Bucket::new().await;
    let world = &bucket.world;
    let content = bytes(1, 1000);
    let digest = Digest::sha256(&content);
    let input = json!({"digest": digest, "repository": "app"});
    let upload = world.post(&world.alice, "io.atcr.hold.initiateUpload", input).await.ok();
    let upload = upload["uploadId"].as_str().unwrap();
    let part = bucket.part(&world.alice, upload, 1, &content).await;
    world.complete(&world.alice, upload, &digest, json!([part])).await.ok();
    world.hold.verify_pending().await.unwrap();
    let path = format!("/xrpc/com.atproto.sync.getBlob?did=did:plc:alice&cid={digest}&repository=app");
    for _ in 0..2 {
        assert_eq!(world.get(&path).await.status, 307);
    }
    let input = json!({"digest": digest, "repository": "app"});
    world.post(&world.alice, "io.atcr.hold.deleteBlob", input).await.ok();
    world.get(&path).await.refused(404, "BlobNotFound");
}

#[tokio::test]
async fn a_blob_that_somebody_waits_for_is_verified_at_once_if_it_is_not_too_large() {
    let bucket = Bucket::with(|config| config.verification.on_demand = 1000).await;
    let world = &bucket.world;
    let small = bucket.upload(&world.alice, &bytes(1, 1000)).await;
    let large = bucket.upload(&world.alice, &bytes(2, 1001)).await;
    // Everybody who asks at the same time gets it.
    let path = world.blob_path(&small);
    let asked = futures_util::future::join_all((0..4).map(|_| world.get(&path))).await;
    assert!(asked.iter().all(|answer| answer.status == 307));
    assert!(bucket.content(&small).await == bytes(1, 1000));
    bucket.hidden(&large, &world.bob).await;
    // What is something else is nobody's, whoever waits for it.
    let claimed = Digest::sha256(b"what was meant");
    bucket.claim(&world.alice, &bytes(3, 10), &claimed).await.ok();
    bucket.hidden(&claimed, &world.bob).await;
    world.blob_as(&world.alice, &claimed).await.refused(410, "BlobQuarantined");
}
