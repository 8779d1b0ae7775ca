//! Blobs hashed anew, and brought to other storages.

use std::sync::Arc;

use atcr_core::oci::Digest;
use atcr_hold::HoldError;
use atcr_hold::storage::{FilesystemStorage, Layout, ObjectKey, ObjectStorage, S3Storage};
use atcr_hold::upkeep::{Destination, Migrated, ScrubOptions, Scrubbed, Trouble, Upkeep};
use bytes::Bytes;
use serde_json::json;
use strict_s3::{Rules, Server};

use crate::client;
use crate::s3;
use crate::world::{World, bytes};

async fn bucket(server: &Server, layout: Layout) -> Arc<dyn ObjectStorage> {
    let mut config = s3::config(server);
    config.layout = layout;
    Arc::new(S3Storage::open(config).await)
}

impl World {
    async fn upkeep(&self) -> Upkeep {
        Upkeep::open(&self.config.data_dir, Arc::clone(self.hold.storage())).await.unwrap()
    }

    async fn scrub(&self) -> Scrubbed {
        self.upkeep().await.scrub(ScrubOptions::default(), &|_, _| {}).await.unwrap()
    }

    async fn bytes_of(&self, digest: &Digest) -> Option<Bytes> {
        let answer = self.get(&self.blob_path(digest)).await;
        match answer.status.as_u16() {
            200 => Some(answer.body),
            307 => {
                let answer = client::get(&answer.header("location").parse().unwrap(), None).await;
                answer.status.is_success().then_some(answer.body)
            }
            404 => None,
            other => panic!("{other}"),
        }
    }

    /// Pushes through the hold, whatever the storage.
    async fn push(&self, content: &Bytes) -> Digest {
        let digest = Digest::sha256(content);
        let upload = self.initiate(&self.alice).await;
        let input = json!({"uploadId": upload, "partNumber": 1, "offset": 0});
        let output = self.post(&self.alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
        let url = crate::world::local(output["url"].as_str().unwrap());
        let etag = self.put(&url, content.clone()).await.ok()["etag"].clone();
        let parts = json!([{"partNumber": 1, "etag": etag}]);
        self.complete(&self.alice, &upload, &digest, parts).await.ok();
        self.hold.verify_pending().await.unwrap();
        digest
    }
}

#[tokio::test]
async fn a_scrub_finds_what_went_bad_on_the_disk_and_pushing_it_again_mends_it() {
    let world = World::public().await;
    let good = world.push(&bytes(1, 100_000)).await;
    let bad = world.push(&bytes(2, 100_000)).await;
    let gone = world.push(&bytes(3, 10)).await;
    let cut = world.push(&bytes(4, 1000)).await;
    assert_eq!(world.scrub().await.findings, []);
    let file =
        |digest: &Digest| world.config.data_dir.join("storage").join(ObjectKey::of_blob(digest).as_str());
    let mut wrong = bytes(2, 100_000).to_vec();
    wrong[77_777] ^= 1;
    std::fs::write(file(&bad), &wrong).unwrap();
    std::fs::remove_file(file(&gone)).unwrap();
    std::fs::write(file(&cut), b"").unwrap();

    let scrubbed = world.scrub().await;
    assert_eq!((scrubbed.blobs, scrubbed.before), (4, 0));
    let trouble = |digest: &Digest| {
        scrubbed.findings.iter().find(|finding| finding.digest == *digest).map(|found| found.trouble.clone())
    };
    assert_eq!(trouble(&good), None);
    assert_eq!(trouble(&bad), Some(Trouble::Wrong { actual: Digest::sha256(&wrong) }));
    assert_eq!(trouble(&gone), Some(Trouble::Missing));
    assert_eq!(trouble(&cut), Some(Trouble::Wrong { actual: Digest::sha256(b"") }));
    // Nobody gets any of it, and a client that asks pushes it again.
    for digest in [&bad, &gone, &cut] {
        assert_eq!(world.bytes_of(digest).await, None);
        assert_eq!(world.head(&world.blob_path(digest)).await.status, 404);
    }
    assert_eq!(world.push(&bytes(2, 100_000)).await, bad);
    assert_eq!(world.push(&bytes(3, 10)).await, gone);
    assert!(world.bytes_of(&bad).await.unwrap() == bytes(2, 100_000));
    assert!(world.bytes_of(&gone).await.unwrap() == bytes(3, 10));
    assert_eq!(world.scrub().await.findings, [], "what is in quarantine is no blob");
    // And the bytes in quarantine are not confused with those that took their place.
    world.clock.advance(std::time::Duration::from_secs(8 * 24 * 3600));
    world.hold.sweep().await.unwrap();
    assert!(world.bytes_of(&bad).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_finds_what_went_bad_in_a_bucket() {
    let server = Server::start(Rules::default()).await;
    let world = World::on(bucket(&server, Layout::Uploaded).await).await;
    let (bad, gone) = (world.push(&bytes(1, 1000)).await, world.push(&bytes(2, 2000)).await);
    let key = |size: u64| server.objects().into_iter().find(|(_, known)| *known == size).unwrap().0;
    let (bad_key, gone_key) = (key(1000), key(2000));
    server.put(&bad_key, bytes(9, 1000));
    server.remove(&gone_key);
    // By itself the hold sees none of this: readers are sent to the bucket.
    assert!(world.bytes_of(&bad).await.unwrap() == bytes(9, 1000));
    let scrubbed = world.scrub().await;
    assert_eq!(scrubbed.findings.len(), 2, "{scrubbed:?}");
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.bytes_of(&bad).await, None, "within a second nobody gets it any more");
    // The way to what is missing is kept: it may be the wrong bucket.
    server.put(&gone_key, bytes(2, 2000));
    assert!(world.bytes_of(&gone).await.unwrap() == bytes(2, 2000));
    server.remove(&gone_key);
    let mut options = ScrubOptions::default();
    options.forget_missing = true;
    let scrubbed = world.upkeep().await.scrub(options, &|_, _| {}).await.unwrap();
    assert_eq!(scrubbed.findings[0].trouble, Trouble::Missing);
    assert_eq!(world.get(&world.blob_path(&gone)).await.status, 307, "for this second");
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.get(&world.blob_path(&gone)).await.status, 404);
}

async fn migrate(world: &World, to: &Destination) -> Result<Migrated, HoldError> {
    world.upkeep().await.migrate(to, &|_, _| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_go_to_another_storage_while_the_hold_runs_and_the_hold_when_it_is_stopped() {
    let server = Server::start(Rules::default()).await;
    let world = World::public().await;
    let contents = [bytes(1, 40 << 20), bytes(2, 1000), Bytes::new()];
    let mut digests = Vec::new();
    for content in &contents {
        digests.push(world.push(content).await);
    }
    // One that is there already, in distribution's layout, and that only a layer record names.
    let listed = bytes(7, 500);
    let there =
        world.config.data_dir.join("storage").join(ObjectKey::of_blob(&Digest::sha256(&listed)).as_str());
    std::fs::create_dir_all(there.parent().unwrap()).unwrap();
    std::fs::write(&there, &listed).unwrap();
    let notification =
        crate::manifests::notification(&world.alice, &[(Digest::sha256(&listed), 500)], "push");
    world.post(&world.alice, "io.atcr.hold.notifyManifest", notification).await.ok();

    let target = bucket(&server, Layout::Uploaded).await;
    let to = Destination::new(Arc::clone(&target), "the bucket");
    let first = migrate(&world, &to).await.unwrap();
    assert_eq!((first.blobs, first.switched, first.running), (4, false, true), "{first:?}");
    assert!(world.bytes_of(&digests[0]).await.unwrap() == contents[0], "it still serves its files");
    // Pushed since.
    let late = world.push(&bytes(3, 2000)).await;

    let data_dir = world.config.data_dir.clone();
    let storage = Arc::clone(world.hold.storage());
    let world = world.stopped();
    let upkeep = Upkeep::open(&data_dir, storage).await.unwrap();
    let second = upkeep.migrate(&to, &|_, _| {}).await.unwrap();
    assert_eq!((second.blobs, second.switched), (1, true), "{second:?}");
    drop(upkeep);
    std::fs::rename(data_dir.join("storage"), data_dir.join("old storage")).unwrap();
    let world = world.started_on(target).await;
    for (digest, content) in digests.iter().zip(&contents) {
        assert!(world.bytes_of(digest).await.unwrap() == *content);
    }
    assert!(world.bytes_of(&late).await.unwrap() == bytes(3, 2000));
    assert!(world.bytes_of(&Digest::sha256(&listed)).await.unwrap() == listed);
    assert_eq!(world.scrub().await.findings, []);
    assert_eq!(server.open_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_do_not_migrate_and_keep_the_hold_where_it_is() {
    let world = World::public().await;
    let (good, bad) = (world.push(&bytes(1, 1000)).await, world.push(&bytes(2, 1000)).await);
    let file = world.config.data_dir.join("storage").join(ObjectKey::of_blob(&bad).as_str());
    std::fs::write(file, bytes(3, 1000)).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target: Arc<dyn ObjectStorage> = Arc::new(FilesystemStorage::open(elsewhere.path()).await.unwrap());
    let to = Destination::new(Arc::clone(&target), "elsewhere");
    let (data_dir, storage) = (world.config.data_dir.clone(), Arc::clone(world.hold.storage()));
    let world = world.stopped();
    let migrate = async || {
        let upkeep = Upkeep::open(&data_dir, Arc::clone(&storage)).await.unwrap();
        upkeep.migrate(&to, &|_, _| {}).await.unwrap()
    };
    let refused = migrate().await;
    assert!(!refused.switched);
    assert_eq!(refused.findings[0].trouble, Trouble::Wrong { actual: Digest::sha256(&bytes(3, 1000)) });
    assert_eq!(target.stat(&ObjectKey::of_blob(&bad)).await.unwrap(), None);
    assert!(target.list_uploads().await.unwrap().is_empty());
    // Once it is locked away the rest goes.
    let upkeep = Upkeep::open(&data_dir, Arc::clone(&storage)).await.unwrap();
    upkeep.scrub(ScrubOptions::default(), &|_, _| {}).await.unwrap();
    drop(upkeep);
    assert!(migrate().await.switched);
    let world = world.started_on(target).await;
    assert!(world.bytes_of(&good).await.unwrap() == bytes(1, 1000));
    assert_eq!(world.bytes_of(&bad).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_is_changed_while_the_hold_is_stopped_and_not_before() {
    let server = Server::start(Rules::default()).await;
    let uploaded = bucket(&server, Layout::Uploaded).await;
    let world = World::on(Arc::clone(&uploaded)).await;
    let contents = [bytes(1, 1000), bytes(2, 2000)];
    let digests = [world.push(&contents[0]).await, world.push(&contents[1]).await];
    let distribution = bucket(&server, Layout::Distribution).await;
    let mut to = Destination::new(Arc::clone(&distribution), "the same bucket");
    to.same = true;
    assert!(matches!(migrate(&world, &to).await, Err(HoldError::InUse { .. })));
    let data_dir = world.config.data_dir.clone();
    let world = world.stopped();
    // A run was killed between the move of the bytes and the note of it.
    let (key, _) = server.objects().into_iter().find(|(_, size)| *size == 1000).unwrap();
    let moved = ObjectKey::of_blob(&digests[0]);
    distribution.relocate(&ObjectKey::try_from(key).unwrap(), &moved).await.unwrap();
    let upkeep = Upkeep::open(&data_dir, uploaded).await.unwrap();
    let migrated = upkeep.migrate(&to, &|_, _| {}).await.unwrap();
    assert_eq!((migrated.blobs, migrated.switched), (2, true), "{migrated:?}");
    drop(upkeep);
    let keys: Vec<String> = server.objects().into_iter().map(|(key, _)| key).collect();
    let mut expected = digests.map(|digest| ObjectKey::of_blob(&digest).to_string());
    expected.sort_unstable();
    assert_eq!(keys, expected, "nothing else is left");
    let world = world.started_on(distribution).await;
    for (digest, content) in digests.iter().zip(&contents) {
        assert!(world.bytes_of(digest).await.unwrap() == *content);
    }
}
