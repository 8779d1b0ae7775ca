use std::collections::BTreeSet;

use atcr_auth::PdsSessions as _;
use atcr_core::manifest_store::{ManifestStore as _, Page};
use atcr_core::oci::{Digest, Manifest, MediaType, Reference, Tag};
use atcr_core::{Access, StoreError};
use bytes::Bytes;
use serde_json::json;

use crate::world::World;

fn manifest(text: &str) -> Manifest {
    let bytes = Bytes::from(format!("{{\"schemaVersion\":2,\"x\":\"{text}\"}}"));
    Manifest { digest: Digest::sha256(&bytes), media_type: MediaType::OCI_MANIFEST.parse().unwrap(), bytes }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_store_keeps_the_contract() {
    let world = World::new().await;
    atcr_core::manifest_store::contract::check(&world.manifests, &world.at("here"), &world.at("else/where"))
        .await;
}

#[tokio::test]
async fn a_manifest_that_is_too_large_for_a_record_is_a_blob_of_the_repo() {
    let world = World::new().await;
    let big = manifest(&"x".repeat(3 << 20));
    world.manifests.put(&world.at("app"), big.clone(), &[tag("big")]).await.unwrap();
    assert_eq!(world.manifests.get(&world.at("app"), &tag("big").into()).await.unwrap(), big);
}

#[tokio::test]
async fn the_hold_is_told_of_a_pushed_manifest() {
    let world = World::new().await;
    let pushed = manifest("x");
    world.manifests.put(&world.at("app"), pushed.clone(), &[tag("1")]).await.unwrap();
    let stored = world.hold.stored.lock().unwrap();
    assert_eq!(stored.notified[0]["manifestDigest"], pushed.digest.to_string());
    assert_eq!((&stored.notified[0]["repository"], &stored.notified[0]["tag"]), (&json!("app"), &json!("1")));
}

#[tokio::test]
async fn pushes_at_the_same_time_all_count() {
    let world = World::new().await;
    let pushes = (0..8).map(|n| {
        let world = &world;
        async move {
            let one = manifest(&n.to_string());
            world.manifests.put(&world.at("app"), one, &[tag("latest"), tag(&format!("v{n}"))]).await
        }
    });
    for result in futures_util::future::join_all(pushes).await {
        result.unwrap();
    }
    let tags = world.manifests.tags(&world.at("app"), &Page::default()).await.unwrap();
    assert_eq!(tags.items.len(), 9, "{tags:?}");
    for n in 0..8 {
        let got = world.manifests.get(&world.at("app"), &tag(&format!("v{n}")).into()).await.unwrap();
        assert_eq!(got, manifest(&n.to_string()));
    }
}

#[tokio::test]
async fn tags_whose_joined_names_are_equal_do_not_collide() {
    let world = World::new().await;
    let (one, two) = (manifest("1"), manifest("2"));
    world.manifests.put(&world.at("a_b"), one.clone(), &[tag("c")]).await.unwrap();
    world.manifests.put(&world.at("a"), two.clone(), &[tag("b_c")]).await.unwrap();
    assert_eq!(world.manifests.get(&world.at("a_b"), &tag("c").into()).await.unwrap(), one);
    assert_eq!(world.manifests.get(&world.at("a"), &tag("b_c").into()).await.unwrap(), two);
    world.manifests.delete_tag(&world.at("a_b"), &tag("c")).await.unwrap();
    assert_eq!(world.manifests.get(&world.at("a"), &tag("b_c").into()).await.unwrap(), two);
}

/// Records as older versions of upstream wrote them, under keys of their choice.
#[tokio::test]
async fn records_of_older_shapes_are_read_and_their_keys_kept() {
    let world = World::new().await;
    let access = world.at("old");
    let bytes = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let digest = Digest::sha256(bytes);
    let did = access.principal.did().unwrap();
    let create = |collection: &'static str, rkey: String, record: serde_json::Value| {
        // A server that knows the lexicons of today would refuse some of them.
        let input = json!({ "repo": did, "collection": collection, "rkey": rkey, "record": record, "validate": false });
        world.sessions.procedure(did, "com.atproto.repo.createRecord", input)
    };
    let record = json!({
        "$type": "io.atcr.manifest", "repository": "old", "digest": digest, "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST, "createdAt": "2025-10-01T00:00:00Z", "holdEndpoint": "https://hold.example",
        "config": { "digest": Digest::sha256(b""), "size": 0 }, "layers": [],
    });
    create("io.atcr.manifest", digest.hex(), record).await.unwrap();
    let record = json!({
        "$type": "io.atcr.tag", "repository": "old", "tag": "1", "manifestDigest": digest, "createdAt": "2025-10-01T00:00:00Z",
    });
    create("io.atcr.tag", "someones-own-key".to_owned(), record).await.unwrap();

    let got = world.manifests.get(&access, &tag("1").into()).await.unwrap();
    assert_eq!((got.digest, &got.bytes[..]), (digest, &bytes[..]));
    let newer = manifest("newer");
    world.manifests.put(&access, newer.clone(), &[tag("1")]).await.unwrap();
    assert_eq!(world.manifests.get(&access, &tag("1").into()).await.unwrap(), newer);
    let params = [("repo", did.as_str()), ("collection", "io.atcr.tag")];
    let tags = world.sessions.query(did, "com.atproto.repo.listRecords", &params).await.unwrap();
    let uris: BTreeSet<_> =
        tags["records"].as_array().unwrap().iter().map(|r| r["uri"].as_str().unwrap()).collect();
    assert!(uris.len() == 1 && uris.iter().all(|uri| uri.ends_with("/someones-own-key")), "{uris:?}");
}

#[tokio::test]
async fn nobody_writes_to_another_repo_or_to_none() {
    let world = World::new().await;
    let pushed =
        world.manifests.put(&Access::anonymous("alice.test/app".parse().unwrap()), manifest("x"), &[]).await;
    assert!(matches!(pushed, Err(StoreError::Unauthenticated(_))), "{pushed:?}");
    world.pds.ensure_account(&"bob.test".parse().unwrap(), "password", "bob@example.test").await.unwrap();
    let at_bob = Access::new(world.at("app").principal, "bob.test/app".parse().unwrap());
    let pushed = world.manifests.put(&at_bob, manifest("x"), &[]).await;
    assert!(matches!(pushed, Err(StoreError::Denied(_))), "{pushed:?}");
    let nobody = Access::anonymous("nobody.test/app".parse().unwrap());
    let got = world.manifests.get(&nobody, &Reference::Tag(tag("1"))).await;
    assert!(matches!(got, Err(StoreError::RepositoryUnknown(_))), "{got:?}");
}
