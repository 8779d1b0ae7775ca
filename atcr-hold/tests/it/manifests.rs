use atcr_core::oci::Digest;
use serde_json::{Value, json};

use crate::world::{User, World, bytes, encoded};

pub(crate) const NOTIFY: &str = "io.atcr.hold.notifyManifest";

pub(crate) fn notification(user: &User, layers: &[(Digest, u64)], operation: &str) -> Value {
    let (config, rest) = layers.split_first().unwrap();
    let layers: Vec<Value> = rest
        .iter()
        .map(|(digest, size)| json!({"digest": digest, "size": size, "mediaType": "application/layer"}))
        .collect();
    json!({
        "repository": "tools/app", "userDid": user.did, "manifestDigest": Digest::sha256(b"manifest"),
        "operation": operation,
        "manifest": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"digest": config.0, "size": config.1}, "layers": layers,
        },
    })
}

impl World {
    async fn records(&self, collection: &str) -> Vec<Value> {
        let did = encoded(self.hold.did());
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!(
                "/xrpc/com.atproto.repo.listRecords?repo={did}&collection={collection}&limit=100{cursor}"
            );
            let page = self.get(&path).await.ok();
            all.extend(page["records"].as_array().unwrap().iter().map(|record| record["value"].clone()));
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    async fn rev(&self) -> String {
        let did = encoded(self.hold.did());
        let latest = self.get(&format!("/xrpc/com.atproto.sync.getLatestCommit?did={did}")).await.ok();
        latest["rev"].as_str().unwrap().to_owned()
    }

    async fn quota(&self, user: &User) -> (u64, u64) {
        let quota = self.get(&format!("/xrpc/io.atcr.hold.getQuota?userDid={}", user.did)).await.ok();
        assert!(quota.get("limit").is_none());
        (quota["uniqueBlobs"].as_u64().unwrap(), quota["totalSize"].as_u64().unwrap())
    }
}

#[tokio::test]
async fn a_push_leaves_one_record_for_each_layer_and_counts() {
    let world = World::public().await;
    let alice = &world.alice;
    let mut layers = Vec::new();
    for n in 1..=3u32 {
        layers.push((world.upload(alice, &bytes(n, n as usize * 100)).await, u64::from(n) * 100));
    }
    let elsewhere = (Digest::sha256(b"in another hold"), 5);
    let twice = layers[2];
    let all: Vec<_> = layers.iter().copied().chain([elsewhere, twice]).collect();
    let before = world.rev().await;
    let output = world.post(alice, NOTIFY, notification(alice, &all, "push")).await.ok();
    assert_eq!(
        output,
        json!({"success": true, "operation": "push", "statsUpdated": true, "layersCreated": 3})
    );
    assert_ne!(world.rev().await, before);

    let records = world.records("io.atcr.hold.layer").await;
    assert_eq!(records.len(), 3);
    let manifest = format!("at://did:plc:alice/io.atcr.manifest/{}", Digest::sha256(b"manifest").hex());
    for (digest, size) in &layers {
        let record = records.iter().find(|record| record["digest"] == json!(digest)).unwrap();
        assert_eq!((&record["size"], &record["manifest"]), (&json!(size), &json!(manifest)));
        assert_eq!(record["userDid"], "did:plc:alice");
    }
    let config = records.iter().find(|record| record["digest"] == json!(layers[0].0)).unwrap();
    assert_eq!(config["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(world.quota(alice).await, (3, 600));
    assert_eq!(world.quota(&world.bob).await, (0, 0));

    // The same again, also after a restart: nothing new but the count.
    let world = world.reopened().await;
    let alice = &world.alice;
    let again = world.post(alice, NOTIFY, notification(alice, &all, "push")).await.ok();
    assert_eq!(again["layersCreated"], 0);
    assert_eq!(world.records("io.atcr.hold.layer").await.len(), 3);
    let stats = world.records("io.atcr.hold.stats").await;
    assert_eq!((stats.len(), &stats[0]["pushCount"]), (1, &json!(2)));
    let path = format!("/xrpc/io.atcr.hold.getLayersForManifest?manifest={manifest}");
    assert_eq!(world.get(&path).await.ok()["layers"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn sizes_are_those_of_the_blobs_and_not_what_is_claimed() {
    let world = World::public().await;
    let digest = world.upload(&world.alice, &bytes(1, 1000)).await;
    world.post(&world.alice, NOTIFY, notification(&world.alice, &[(digest, 1)], "push")).await.ok();
    assert_eq!(world.quota(&world.alice).await, (1, 1000));
}

#[tokio::test]
async fn nobody_pushes_in_anothers_name() {
    let world = World::with(|config| config.allow_all_crew = true).await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    let input = notification(&world.alice, &[(digest, 10)], "push");
    world.post(&world.bob, NOTIFY, input).await.refused(403, "UserMismatch");
    assert!(world.records("io.atcr.hold.layer").await.is_empty());
    let input = notification(&world.alice, &[(digest, 10)], "delete");
    world.post(&world.alice, NOTIFY, input).await.refused(400, "InvalidOperation");
}

#[tokio::test]
async fn a_pull_counts_what_was_pushed_and_needs_no_right_to_write() {
    let world = World::public().await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    let pull = notification(&world.alice, &[(digest, 10)], "pull");
    let output = world.post(&world.bob, NOTIFY, pull.clone()).await.ok();
    assert_eq!(output, json!({"success": true, "operation": "pull", "statsUpdated": false}));
    assert!(world.records("io.atcr.hold.stats").await.is_empty(), "a stranger makes no record");
    world.post(&world.alice, NOTIFY, notification(&world.alice, &[(digest, 10)], "push")).await.ok();
    world.post(&world.bob, NOTIFY, pull.clone()).await.ok();
    let stats = world.records("io.atcr.hold.stats").await;
    assert_eq!((&stats[0]["pullCount"], &stats[0]["pushCount"]), (&json!(1), &json!(1)));
    assert_eq!(stats[0]["ownerDid"], "did:plc:alice");
    let private = World::private().await;
    private.post(&private.bob, NOTIFY, pull).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn pushes_at_once_lose_no_count_and_make_no_record_twice() {
    let world = World::public().await;
    let alice = &world.alice;
    let digest = world.upload(alice, &bytes(1, 10)).await;
    let input = notification(alice, &[(digest, 10)], "push");
    let pushes = (0..8).map(|_| world.post(alice, NOTIFY, input.clone()));
    for answer in futures_util::future::join_all(pushes).await {
        answer.ok();
    }
    assert_eq!(world.records("io.atcr.hold.layer").await.len(), 1);
    assert_eq!(world.records("io.atcr.hold.stats").await[0]["pushCount"], 8);
}

#[tokio::test]
async fn a_manifest_may_have_more_layers_than_a_commit_has_room_for() {
    let world = World::public().await;
    let alice = &world.alice;
    let mut layers = Vec::new();
    for n in 0..230u32 {
        layers.push((world.upload(alice, &bytes(n, 20)).await, 20));
    }
    let output = world.post(alice, NOTIFY, notification(alice, &layers, "push")).await.ok();
    assert_eq!(output["layersCreated"], 230);
    assert_eq!(world.records("io.atcr.hold.layer").await.len(), 230);
    assert_eq!(world.quota(alice).await, (230, 4600));
}

#[tokio::test]
async fn the_index_of_layers_follows_the_repo_and_can_be_lost() {
    let world = World::public().await;
    let alice = &world.alice;
    let (one, two) = (world.upload(alice, &bytes(1, 10)).await, world.upload(alice, &bytes(2, 20)).await);
    world.post(alice, NOTIFY, notification(alice, &[(one, 10), (two, 20)], "push")).await.ok();
    let did = encoded(world.hold.did());
    let path = format!("/xrpc/com.atproto.repo.listRecords?repo={did}&collection=io.atcr.hold.layer");
    let listed = world.get(&path).await.ok();
    let record =
        listed["records"].as_array().unwrap().iter().find(|r| r["value"]["digest"] == json!(two)).unwrap();
    let rkey = record["uri"].as_str().unwrap().rsplit('/').next().unwrap();
    let input = json!({"repo": world.hold.did(), "collection": "io.atcr.hold.layer", "rkey": rkey});
    world.post(alice, "com.atproto.repo.deleteRecord", input).await.ok();
    assert_eq!(world.quota(alice).await, (2, 30), "it is there, and alice uploaded it");
    let pool = world.database().await;
    let withdrawn = sqlx::query("update claims set removed = 1 where digest = ?").bind(two.to_string());
    withdrawn.execute(&pool).await.unwrap();
    assert_eq!(world.quota(alice).await, (1, 10));

    sqlx::query("delete from layers").execute(&pool).await.unwrap();
    sqlx::query("delete from meta where key = 'layers_indexed'").execute(&pool).await.unwrap();
    pool.close().await;
    let world = world.reopened().await;
    assert_eq!(world.quota(&world.alice).await, (1, 10));
}

#[tokio::test]
async fn what_is_asked_of_quota_and_tiers_is_answered() {
    let world = World::public().await;
    world.get("/xrpc/io.atcr.hold.getQuota?userDid=alice").await.refused(400, "InvalidUserDid");
    assert_eq!(world.get("/xrpc/io.atcr.hold.listTiers").await.ok(), json!({"tiers": []}));
}
