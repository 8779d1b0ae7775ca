use atcr_core::oci::Digest;
use atcr_hold::{Tier, Tiers};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::direct::Bucket;
use crate::manifests::notification;
use crate::world::{Answer, User, World, bytes, encoded, local};

fn tiers() -> Tiers {
    let tier = |name: &str, limit| Tier { name: name.to_owned(), limit, features: vec![format!("{name}s")] };
    let all = vec![tier("deckhand", Some(1000)), tier("bosun", Some(5000)), tier("quartermaster", None)];
    Tiers::new(all, None).unwrap()
}

async fn world() -> World {
    World::with(|config| {
        config.public = true;
        config.allow_all_crew = true;
        config.tiers = tiers();
        config.appview = Some("did:web:appview.example".parse().unwrap());
    })
    .await
}

impl World {
    async fn begins(&self, user: &User, input: Value) -> Answer {
        self.post(user, "io.atcr.hold.initiateUpload", input).await
    }

    async fn quota_of(&self, user: &User) -> Value {
        let did = encoded(&user.did);
        self.get(&format!("/xrpc/io.atcr.hold.getQuota?userDid={did}")).await.ok()
    }
}

#[tokio::test]
async fn the_quota_is_asked_before_a_byte_is_sent() {
    let world = world().await;
    let bob = &world.bob;
    world.begins(bob, json!({"digest": "x", "size": 1000})).await.ok();
    let message = world.begins(bob, json!({"digest": "x", "size": 1001})).await.refused(403, "QuotaExceeded");
    assert!(message.contains("0 of 1000 bytes") && message.contains("1001 more"), "{message}");
    world.upload(bob, &bytes(1, 600)).await;
    world.begins(bob, json!({"digest": "x", "size": 401})).await.refused(403, "QuotaExceeded");
    world.begins(bob, json!({"digest": "x", "size": 400})).await.ok();
    // The owner has no limit.
    world.begins(&world.alice, json!({"digest": "x", "size": 1_000_000})).await.ok();
    world.upload(bob, &bytes(2, 400)).await;
    let message = world.begins(bob, json!({"digest": "x"})).await.refused(403, "QuotaExceeded");
    assert!(message.contains("1000 of 1000"), "{message}");
}

#[tokio::test]
async fn parts_count_while_they_come_and_those_of_other_uploads_with_them() {
    let world = world().await;
    let bob = &world.bob;
    let (one, two) = (world.initiate(bob).await, world.initiate(bob).await);
    world.part(bob, &one, 1, &bytes(1, 600)).await;
    let url = world.part_url(bob, &two, 1).await;
    let message = world.put(&url, bytes(2, 401)).await.refused(403, "QuotaExceeded");
    assert!(message.contains("600 of 1000"), "{message}");
    world.put(&url, bytes(2, 400)).await.ok();
    // The same part again is not more.
    world.put(&url, bytes(3, 400)).await.ok();
    let next = json!({"uploadId": two, "partNumber": 2, "size": 1});
    world.post(bob, "io.atcr.hold.getPartUploadUrl", next).await.refused(403, "QuotaExceeded");
    let input = json!({"uploadId": one});
    world.post(bob, "io.atcr.hold.abortUpload", input).await.ok();
    world.part(bob, &two, 2, &bytes(4, 600)).await;
    let digest = Digest::sha256(&[bytes(3, 400), bytes(4, 600)].concat());
    world.complete(bob, &two, &digest, json!([])).await.ok();
    assert_eq!(world.quota_of(bob).await["totalSize"], 1000);
}

/// Their bytes do not pass the hold, which has nothing to go by but what is said of them.
#[tokio::test]
async fn parts_that_are_asked_for_together_count_with_the_size_of_each() {
    let bucket = Bucket::with(|config| config.tiers = tiers()).await;
    let world = &bucket.world;
    let bob = &world.bob;
    let upload = world.initiate(bob).await;
    let ask = async |count: u32, size: u64| {
        let input = json!({"uploadId": upload, "partNumber": 1, "count": count, "size": size});
        world.post(bob, "io.atcr.hold.getPartUploadUrl", input).await
    };
    let message = ask(4, 300).await.refused(403, "QuotaExceeded");
    assert!(message.contains("0 of 1000") && message.contains("1200 more"), "{message}");
    ask(u32::MAX, u64::MAX).await.refused(403, "QuotaExceeded");
    world.begins(bob, json!({"digest": "x", "size": 1000})).await.ok();
    // The same parts asked for again are not more.
    for _ in 0..2 {
        assert_eq!(ask(3, 300).await.ok()["following"].as_array().unwrap().len(), 2);
    }
    let message = world.begins(bob, json!({"digest": "x", "size": 101})).await.refused(403, "QuotaExceeded");
    assert!(message.contains("900 of 1000"), "{message}");
    world.begins(bob, json!({"digest": "x", "size": 100})).await.ok();
    // Whoever sends more than was said gets no blob for it.
    let target = bucket.target(bob, &upload, 1).await;
    let etag = target.put(&bytes(1, 1001)).await.headers["etag"].to_str().unwrap().to_owned();
    let digest = Digest::sha256(&bytes(1, 1001));
    let parts = json!([{"partNumber": 1, "etag": etag}]);
    world.complete(bob, &upload, &digest, parts).await.refused(403, "QuotaExceeded");
    assert_eq!((bucket.server.objects(), world.quota_of(bob).await["totalSize"].clone()), (vec![], json!(0)));
}

/// Chunks that are too short for a part of S3 are kept by the hold until there is enough for one.
#[tokio::test]
async fn a_chunk_that_is_kept_has_to_fit_as_well() {
    let bucket = Bucket::with(|config| config.tiers = tiers()).await;
    let world = &bucket.world;
    let bob = &world.bob;
    let upload = world.initiate(bob).await;
    let piece = async |offset: u64, more: bool, content: Bytes| {
        let input = json!({"uploadId": upload, "partNumber": 1, "offset": offset, "more": more});
        let output = world.post(bob, "io.atcr.hold.getPartUploadUrl", input).await.ok();
        world.put(&local(output["url"].as_str().unwrap()), content).await
    };
    assert_eq!(piece(0, true, bytes(1, 600)).await.ok()["etag"], "kept-600");
    // Whether the part is to grow further, or is whole with it.
    for (more, said) in
        [(true, "600 of 1000 bytes, and this needs 401"), (false, "0 of 1000 bytes, and this needs 1001")]
    {
        let message = piece(600, more, bytes(2, 401)).await.refused(403, "QuotaExceeded");
        assert!(message.contains(said), "{message}");
    }
    // What is kept counts for other uploads too.
    world.begins(bob, json!({"digest": "x", "size": 401})).await.refused(403, "QuotaExceeded");
    // And was not lost with the chunk that did not fit.
    piece(600, false, bytes(3, 400)).await.ok();
    let content = [bytes(1, 600), bytes(3, 400)].concat();
    let digest = Digest::sha256(&content);
    world.complete(bob, &upload, &digest, json!([])).await.ok();
    world.hold.verify_pending().await.unwrap();
    assert_eq!(world.quota_of(bob).await["totalSize"], 1000);
    let answer = world.get(&world.blob_path(&digest)).await;
    let key = answer.header("location").split_once("/bucket/").unwrap().1;
    assert!(bucket.server.object(key.split_once('?').unwrap().0).unwrap() == content);
}

#[tokio::test]
async fn a_blob_counts_once_for_each_who_has_it() {
    let world = world().await;
    let bob = &world.bob;
    let content = bytes(1, 900);
    let digest = world.upload(bob, &content).await;
    for manifest in ["one", "two"] {
        let mut input = notification(bob, &[(digest, 900)], "push");
        input["manifestDigest"] = json!(Digest::sha256(manifest.as_bytes()));
        world.post(bob, "io.atcr.hold.notifyManifest", input).await.ok();
    }
    let quota = world.quota_of(bob).await;
    let expected = json!({
        "userDid": "did:plc:bob", "uniqueBlobs": 1, "totalSize": 900, "limit": 1000, "tier": "deckhand",
    });
    assert_eq!(quota, expected);
    // Again under its name, as by a client that does not ask first.
    let begun = world.begins(bob, json!({"digest": digest, "size": 900})).await.ok();
    let upload = begun["uploadId"].as_str().unwrap();
    world.part(bob, upload, 1, &content).await;
    world.complete(bob, upload, &digest, json!([])).await.ok();
    assert_eq!(world.quota_of(bob).await["totalSize"], 900);
    // The name is no way round: what comes out as something else has no room.
    let begun = world.begins(bob, json!({"digest": digest, "size": 900})).await.ok();
    let upload = begun["uploadId"].as_str().unwrap();
    world.part(bob, upload, 1, &bytes(2, 900)).await;
    let other = Digest::sha256(&bytes(2, 900));
    let message = world.complete(bob, upload, &other, json!([])).await.refused(403, "QuotaExceeded");
    assert!(message.contains("900 of 1000"), "{message}");
    world.get(&world.blob_path(&other)).await.refused(404, "BlobNotFound");
    assert!(world.hold.storage().list_uploads().await.unwrap().is_empty());
    // Somebody else's blob counts for who names it in a manifest.
    let large = world.upload(&world.alice, &bytes(3, 4000)).await;
    let input = notification(bob, &[(large, 4000)], "push");
    world.post(bob, "io.atcr.hold.notifyManifest", input).await.refused(403, "QuotaExceeded");
}

#[tokio::test]
async fn of_two_completions_at_once_one_gets_the_last_room() {
    let world = world().await;
    let bob = &world.bob;
    let mut uploads = Vec::new();
    for n in 0..2 {
        let begun = world.begins(bob, json!({"digest": "x"})).await.ok();
        uploads.push((begun["uploadId"].as_str().unwrap().to_owned(), bytes(n, 600)));
    }
    // As if both had come at the same moment, each without seeing the other.
    let pool = world.database().await;
    sqlx::query("update uploads set allowed = null").execute(&pool).await.unwrap();
    for (upload, content) in &uploads {
        let grant = world.part_url(bob, upload, 1).await;
        sqlx::query("update uploads set allowed = null").execute(&pool).await.unwrap();
        world.put(&grant, content.clone()).await.ok();
    }
    let completions = uploads.iter().map(|(upload, content)| {
        let digest = Digest::sha256(content);
        let world = &world;
        async move { world.complete(bob, upload, &digest, json!([])).await.status.as_u16() }
    });
    let mut outcomes = futures_util::future::join_all(completions).await;
    outcomes.sort_unstable();
    assert_eq!(outcomes, [200, 403]);
    assert_eq!(world.quota_of(bob).await["totalSize"], 600);
}

#[tokio::test]
async fn the_appview_that_the_hold_trusts_sets_tiers() {
    const METHOD: &str = "io.atcr.hold.updateCrewTier";
    let world = world().await;
    let (bob, appview) = (&world.bob, &world.user("did:web:appview.example"));
    let input = |rank: i64| json!({"userDid": bob.did, "tierRank": rank});
    world.post(appview, METHOD, input(1)).await.refused(404, "UserNotFound");
    world.post(bob, "io.atcr.hold.requestCrew", json!({})).await.ok();
    assert_eq!(world.post(appview, METHOD, input(1)).await.ok(), json!({"tierName": "bosun"}));
    let quota = world.quota_of(bob).await;
    assert_eq!((&quota["tier"], &quota["limit"]), (&json!("bosun"), &json!(5000)));
    world.begins(bob, json!({"digest": "x", "size": 4000})).await.ok();
    for caller in [bob, &world.alice, &world.user("did:web:other.example")] {
        world.post(caller, METHOD, input(2)).await.refused(403, "AuthRequired");
    }
    world.post(appview, METHOD, input(3)).await.refused(400, "InvalidRequest");
    assert_eq!(world.post(appview, METHOD, input(2)).await.ok()["tierName"], "quartermaster");
    let quota = world.quota_of(bob).await;
    assert_eq!((&quota["tier"], quota.get("limit")), (&json!("quartermaster"), None));
    // It may do nothing else.
    world.begins(appview, json!({"digest": "x"})).await.ok();
    let path = "/xrpc/io.atcr.hold.listTiers";
    let tiers = world.get(path).await.ok();
    assert_eq!(tiers["tiers"][0], json!({"name": "deckhand", "limit": 1000, "features": ["deckhands"]}));
    assert_eq!(tiers["tiers"][2], json!({"name": "quartermaster", "features": ["quartermasters"]}));
}
