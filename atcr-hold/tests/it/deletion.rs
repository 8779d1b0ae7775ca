use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atcr_core::oci::Digest;
use bytes::Bytes;
use serde_json::json;

use crate::faults::Faulty;
use crate::manifests::{NOTIFY, notification};
use crate::world::{Answer, User, World, bytes};

const DELETE: &str = "io.atcr.hold.deleteBlob";
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn upload_for(world: &World, user: &User, repository: &str, content: &Bytes) -> Digest {
    let input = json!({"digest": "uploads/temp-1", "repository": repository});
    let begun = world.post(user, "io.atcr.hold.initiateUpload", input).await.ok();
    let upload = begun["uploadId"].as_str().unwrap();
    world.part(user, upload, 1, content).await;
    let digest = Digest::sha256(content);
    world.complete(user, upload, &digest, json!([])).await.ok();
    digest
}

async fn delete(world: &World, user: &User, repository: &str, digest: &Digest) -> Answer {
    world.post(user, DELETE, json!({"digest": digest, "repository": repository})).await
}

/// The status of the blob as a repository sees it.
async fn seen(world: &World, user: &User, repository: &str, digest: &Digest) -> u16 {
    let path =
        format!("/xrpc/com.atproto.sync.getBlob?did={}&cid={digest}&repository={repository}", user.did);
    world.head(&path).await.status.as_u16()
}

/// As long after as unused blobs are kept, and the sweeps before and behind.
async fn swept_a_day_later(world: &World) -> u64 {
    let before = world.hold.sweep().await.unwrap().blobs;
    world.clock.advance(DAY);
    before + world.hold.sweep().await.unwrap().blobs
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_at_once_and_from_no_other() {
    let world = World::public().await;
    let (alice, bob) = (&world.alice, &world.bob);
    let blob = upload_for(&world, alice, "app", &bytes(1, 100)).await;
    delete(&world, alice, "app", &blob).await.ok();
    assert_eq!(seen(&world, alice, "app", &blob).await, 404);
    assert_eq!(seen(&world, alice, "other", &blob).await, 200);
    assert_eq!(seen(&world, bob, "app", &blob).await, 200);
    delete(&world, alice, "app", &blob).await.refused(404, "BlobNotFound");

    upload_for(&world, alice, "app", &bytes(1, 100)).await;
    assert_eq!(seen(&world, alice, "app", &blob).await, 200, "it has come back");
    delete(&world, alice, "app", &blob).await.ok();
}

#[tokio::test]
async fn only_who_may_write_deletes_and_only_their_own() {
    let world = World::with(|config| config.public = true).await;
    let alice = &world.alice;
    let blob = upload_for(&world, alice, "app", &bytes(1, 100)).await;
    delete(&world, &world.bob, "app", &blob).await.refused(403, "Forbidden");
    assert_eq!(seen(&world, alice, "app", &blob).await, 200);
    let missing = Digest::sha256(b"missing");
    delete(&world, alice, "app", &missing).await.refused(404, "BlobNotFound");
    let input = json!({"digest": "md5:1", "repository": "app"});
    world.post(alice, DELETE, input).await.refused(400, "InvalidDigest");
}

#[tokio::test]
async fn a_blob_that_every_repository_deleted_leaves_the_storage_a_day_later() {
    let world = World::public().await;
    let alice = &world.alice;
    let blob = upload_for(&world, alice, "app", &bytes(1, 100)).await;
    upload_for(&world, alice, "tool", &bytes(1, 100)).await;
    delete(&world, alice, "app", &blob).await.ok();
    assert_eq!(swept_a_day_later(&world).await, 0, "tool has it");
    delete(&world, alice, "tool", &blob).await.ok();
    assert_eq!(world.hold.sweep().await.unwrap().blobs, 0);
    world.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(world.hold.sweep().await.unwrap().blobs, 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.hold.sweep().await.unwrap().blobs, 1);
    assert_eq!(world.get(&world.blob_path(&blob)).await.status, 404);
    let again = upload_for(&world, alice, "app", &bytes(1, 100)).await;
    assert_eq!(world.get(&world.blob_path(&again)).await.body, bytes(1, 100));
}

#[tokio::test]
async fn whoever_asks_for_an_unused_blob_keeps_it_for_another_day() {
    let world = World::public().await;
    let alice = &world.alice;
    let blob = upload_for(&world, alice, "app", &bytes(1, 100)).await;
    delete(&world, alice, "app", &blob).await.ok();
    for _ in 0..3 {
        assert_eq!(world.hold.sweep().await.unwrap().blobs, 0);
        world.clock.advance(DAY / 2 + Duration::from_secs(1));
        assert_eq!(seen(&world, alice, "mounted", &blob).await, 200);
    }
    assert_eq!(swept_a_day_later(&world).await, 1);
}

#[tokio::test]
async fn a_blob_that_a_layer_record_names_or_whose_repository_is_not_known_stays() {
    let world = World::public().await;
    let alice = &world.alice;
    let layer = upload_for(&world, alice, "tools/app", &bytes(1, 100)).await;
    world.post(alice, NOTIFY, notification(alice, &[(layer, 100)], "push")).await.ok();
    delete(&world, alice, "tools/app", &layer).await.ok();
    let unknown = world.upload(alice, &bytes(7, 100)).await;
    delete(&world, alice, "tools/app", &unknown).await.ok();
    assert_eq!(swept_a_day_later(&world).await, 0);
    for blob in [layer, unknown] {
        assert_eq!(world.get(&world.blob_path(&blob)).await.status, 200);
    }
}

#[tokio::test]
async fn a_removal_that_broke_off_is_done_again() {
    let storage = Arc::new(Faulty::default());
    let world = World::on(storage.clone()).await;
    let alice = &world.alice;
    let blob = upload_for(&world, alice, "app", &bytes(1, 100)).await;
    delete(&world, alice, "app", &blob).await.ok();
    world.hold.sweep().await.unwrap();
    world.clock.advance(DAY);
    storage.deletion_lost.store(true, Ordering::SeqCst);
    world.hold.sweep().await.unwrap_err();
    assert_eq!(world.hold.sweep().await.unwrap().blobs, 1);
    assert_eq!(world.get(&world.blob_path(&blob)).await.status, 404);
}
