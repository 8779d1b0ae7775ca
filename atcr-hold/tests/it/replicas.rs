//! Two holds on one data directory and one storage.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atcr_core::oci::Digest;
use atcr_hold::storage::S3Storage;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client;
use crate::direct::{Bucket, Target};
use crate::manifests::notification;
use crate::s3;
use crate::world::{World, bytes, encoded};

async fn two() -> (World, World) {
    let one = World::with(|config| {
        config.public = true;
        config.allow_all_crew = true;
        config.replicas = true;
    })
    .await;
    let two = one.replica().await;
    (one, two)
}

impl World {
    async fn layers(&self) -> Vec<Value> {
        let did = encoded(self.hold.did());
        let path = "/xrpc/com.atproto.repo.listRecords?collection=io.atcr.hold.layer&limit=100&repo=";
        self.get(&format!("{path}{did}")).await.ok()["records"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn two_replicas_serve_one_upload_between_them_and_one_may_die() {
    let (one, two) = two().await;
    let alice = &one.alice;
    let upload = one.initiate(alice).await;
    let content: Vec<Bytes> = (0..6).map(|n| bytes(n, 300_000)).collect();
    for (piece, number) in content.iter().zip(1..) {
        let replica = if number % 2 == 0 { &two } else { &one };
        replica.part(alice, &upload, number, piece).await;
    }
    let digest = Digest::sha256(&content.concat());
    // The one that began it is killed before the end.
    let (directory, two) = one.killed(two);
    two.complete(&two.alice, &upload, &digest, json!([])).await.ok();
    assert!(two.get(&two.blob_path(&digest)).await.body == content.concat());
    let third = two.replica().await;
    third.complete(&two.alice, &upload, &digest, json!([])).await.ok();
    assert!(third.get(&third.blob_path(&digest)).await.body == content.concat());
    drop((two, third, directory));
}

#[tokio::test]
async fn two_replicas_on_one_bucket_sign_verify_and_serve_one_upload_between_them() {
    let Bucket { server, world: mut one } = Bucket::with(|config| config.replicas = true).await;
    // The other process has its own connections and memory.
    let shared = one.config.storage.replace(Arc::new(S3Storage::open(s3::config(&server)).await));
    let two = one.replica().await;
    one.config.storage = shared;
    let alice = &one.alice;
    let content: Vec<Bytes> = [5 << 20, 5 << 20, 5 << 20, 77].map(|size| bytes(7, size)).to_vec();
    let digest = Digest::sha256(&content.concat());
    let upload = one.initiate(alice).await;
    let mut parts = Vec::new();
    for (piece, number) in content.iter().zip(1..) {
        let replica = if number % 2 == 0 { &two } else { &one };
        let input = json!({"uploadId": upload, "partNumber": number});
        let target = replica.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
        let answer = Target::of(&target).put(piece).await;
        parts.push(json!({"partNumber": number, "etag": answer.headers["etag"].to_str().unwrap()}));
    }
    // Both are told at once that it is complete; one is killed before anybody has verified it.
    let both = futures_util::join!(
        one.complete(alice, &upload, &digest, json!(parts)),
        two.complete(alice, &upload, &digest, json!(parts)),
    );
    both.0.ok();
    both.1.ok();
    let (directory, two) = one.killed(two);
    two.get(&two.blob_path(&digest)).await.refused(404, "BlobNotFound");
    while two.hold.unverified().await.unwrap() > 0 {
        two.clock.advance(Duration::from_secs(1200));
        two.hold.verify_pending().await.unwrap();
    }
    let third = two.replica().await;
    for replica in [&two, &third] {
        let answer = replica.get(&replica.blob_path(&digest)).await;
        assert_eq!(answer.status, 307);
        let url = answer.header("location").parse().unwrap();
        assert!(client::get(&url, None).await.body == content.concat());
    }
    third.hold.sweep().await.unwrap();
    let objects = server.objects().into_iter().filter(|(key, _)| key.ends_with("/data")).count();
    assert_eq!((objects, server.open_uploads()), (1, 0));
    drop((two, third, directory));
}

/// It is asked at every read, and so is not looked up each time.
#[tokio::test]
async fn that_the_hold_is_not_public_any_more_the_other_knows_within_a_second() {
    let (one, two) = two().await;
    let digest = one.upload(&one.alice, &bytes(1, 10)).await;
    let path = one.blob_path(&digest);
    assert_eq!(two.get(&path).await.status, 200);
    let captain = json!({
        "owner": one.alice.did, "public": false, "allowAllCrew": false, "enableBlueskyPosts": false,
        "deployedAt": "2026-01-01T00:00:00Z",
    });
    let input = json!({
        "repo": one.hold.did(), "collection": "io.atcr.hold.captain", "rkey": "self", "record": captain,
    });
    one.post(&one.alice, "com.atproto.repo.putRecord", input).await.ok();
    assert_eq!(one.get(&path).await.status, 401, "who was told knows at once");
    assert_eq!(two.get(&path).await.status, 200, "nobody looked again in this second");
    one.clock.advance(Duration::from_secs(1));
    assert_eq!(two.get(&path).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_write_the_repo_and_it_is_one() {
    let (one, two) = two().await;
    let alice = &one.alice;
    let mut pushes = Vec::new();
    let mut digests = BTreeSet::new();
    for n in 0..12 {
        let digest = one.upload(alice, &bytes(n, 100)).await;
        digests.insert(digest.to_string());
        let mut input = notification(alice, &[(digest, 100)], "push");
        input["manifestDigest"] = json!(Digest::sha256(&n.to_be_bytes()));
        // Each is told to both, as by a registry that did not get the answer.
        pushes.push((&one, input.clone()));
        pushes.push((&two, input));
    }
    let pushes = pushes.into_iter().map(|(world, input)| async move {
        world.post(&world.alice, "io.atcr.hold.notifyManifest", input).await.ok();
    });
    futures_util::future::join_all(pushes).await;
    for world in [&one, &two] {
        let layers = world.layers().await;
        let named: BTreeSet<String> =
            layers.iter().map(|r| r["value"]["digest"].as_str().unwrap().to_owned()).collect();
        assert_eq!((layers.len(), &named), (12, &digests));
        let did = encoded(world.hold.did());
        let path = "/xrpc/com.atproto.repo.listRecords?collection=io.atcr.hold.stats&repo=";
        let stats = world.get(&format!("{path}{did}")).await.ok();
        assert_eq!(stats["records"][0]["value"]["pushCount"], 24, "no count is lost");
    }
    // One history: every commit follows the one before it.
    let events = two.hold.repos().events_after(0, 10_000).await.unwrap();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert!(seqs.is_sorted());
    let heads: Vec<_> = futures_util::future::join_all(
        [&one, &two]
            .map(|world| async { world.hold.repos().info(world.hold.did()).await.unwrap().unwrap().head }),
    )
    .await;
    assert_eq!(heads[0], heads[1]);
}

#[tokio::test]
async fn what_one_is_told_the_other_knows_at_once_and_followers_of_both_learn_it() {
    let (one, two) = two().await;
    let mut seen = two.hold.repos().subscribe();
    let before = *seen.borrow_and_update();
    one.post(&one.bob, "io.atcr.hold.requestCrew", json!({})).await.ok();
    let again = two.post(&one.bob, "io.atcr.hold.requestCrew", json!({})).await.ok();
    assert_eq!(again["status"], "already_member");
    let maintained = two.hold.clone();
    let maintenance = tokio::spawn(async move { maintained.maintain().await });
    seen.wait_for(|seq| *seq > before).await.unwrap();
    one.post(&one.user("did:plc:carol"), "io.atcr.hold.requestCrew", json!({})).await.ok();
    let newest = *one.hold.repos().subscribe().borrow();
    seen.wait_for(|seq| *seq >= newest).await.unwrap();
    let events = two.hold.repos().events_after(before, 100).await.unwrap();
    assert_eq!(events.last().unwrap().seq, newest);
    maintenance.abort();
}

#[tokio::test]
async fn a_hold_that_is_to_be_alone_does_not_start_beside_replicas() {
    let (one, _two) = two().await;
    let mut config = one.config.clone();
    config.replicas = false;
    let error = one.open(config).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
}

/// A token that is good for one call is that at all replicas together, and after a restart.
#[tokio::test]
async fn a_token_that_was_used_at_one_replica_is_used_at_the_other() {
    let (one, two) = two().await;
    let record = json!({"a": 1});
    let input = json!({"repo": one.hold.did(), "collection": "com.example.note", "record": record});
    let method = "com.atproto.repo.createRecord";
    let token = one.token(&one.alice, Some(method));
    let send = async |world: &World| {
        let request = http::Request::post(format!("/xrpc/{method}"))
            .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(input.to_string().into());
        world.send(request.unwrap()).await
    };
    send(&one).await.ok();
    send(&two).await.refused(401, "JwtReplayed");
    let third = two.replica().await;
    send(&third).await.refused(401, "JwtReplayed");
    drop(third);
}
