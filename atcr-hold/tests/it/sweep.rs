use std::time::Duration;

use atcr_core::oci::Digest;
use serde_json::json;

use crate::world::{World, bytes};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn uploads_that_lie_unused_for_a_day_go_and_others_stay() {
    let world = World::public().await;
    let alice = &world.alice;
    let blob = world.upload(alice, &bytes(9, 100)).await;
    let idle = world.initiate(alice).await;
    world.part(alice, &idle, 1, &bytes(1, 100)).await;
    let used = world.initiate(alice).await;
    world.part(alice, &used, 1, &bytes(2, 100)).await;
    world.clock.advance(DAY / 2);
    world.part(alice, &used, 2, &bytes(3, 100)).await;
    assert_eq!(world.hold.sweep().await.unwrap(), atcr_hold::Swept::default());
    world.clock.advance(DAY / 2 + Duration::from_secs(1));
    let swept = world.hold.sweep().await.unwrap();
    // The idle one, and the memory of the one that was completed.
    assert_eq!((swept.sessions, swept.orphans), (2, 0));
    let digest = Digest::sha256(&bytes(1, 100));
    world.complete(alice, &idle, &digest, json!([])).await.refused(404, "InvalidUploadId");
    assert_eq!(world.hold.storage().list_uploads().await.unwrap().len(), 1);
    let digest = Digest::sha256(&[bytes(2, 100), bytes(3, 100)].concat());
    world.complete(alice, &used, &digest, json!([])).await.ok();
    for digest in [blob, digest] {
        assert_eq!(world.get(&world.blob_path(&digest)).await.status, 200);
    }
    assert!(world.hold.storage().list_uploads().await.unwrap().is_empty());
}

#[tokio::test]
async fn uploads_of_the_storage_without_a_session_go() {
    let world = World::public().await;
    let storage = world.hold.storage();
    storage.begin_upload().await.unwrap();
    assert_eq!(world.hold.sweep().await.unwrap().orphans, 0, "it may be about to get one");
    world.clock.advance(DAY + Duration::from_secs(60));
    let kept = world.initiate(&world.alice).await;
    assert_eq!(world.hold.sweep().await.unwrap().orphans, 1);
    world.part(&world.alice, &kept, 1, &bytes(1, 1)).await;
}
