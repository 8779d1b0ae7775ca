//! Records of `io.atcr.*` are checked against their lexicons.

use atcr_core::oci::{Digest, Manifest, MediaType};
use atcr_core::records::{ManifestRecord, Record, StarRecord, StarSubject, TagRecord};
use atcr_core::syntax::Datetime;
use serde_json::{Value, json};

use crate::world::World;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Records as upstream's programs write them: those of today, and older ones that today's lexicons still take.
fn upstream() -> Vec<(&'static str, &'static str, Value)> {
    let digest = format!("sha256:{HEX}");
    let manifest = format!("at://did:plc:bob/io.atcr.manifest/{HEX}");
    let descriptor = |kind: &str| json!({"mediaType": kind, "size": 7, "digest": digest});
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    vec![
        (
            "io.atcr.manifest",
            HEX,
            json!({
                "repository": "app", "digest": digest, "mediaType": MediaType::OCI_MANIFEST, "schemaVersion": 2,
                "createdAt": "2026-08-01T12:00:00.123456789Z", "holdDid": "did:web:hold01.atcr.io",
                "holdEndpoint": "https://hold01.atcr.io", "config": descriptor("application/vnd.oci.image.config.v1+json"),
                "layers": [descriptor(layer), descriptor(layer)], "annotations": {"org.opencontainers.image.title": "x"},
            }),
        ),
        (
            "io.atcr.manifest",
            "index",
            json!({
                "repository": "tools/app", "digest": digest, "mediaType": MediaType::OCI_INDEX, "schemaVersion": 2,
                "createdAt": "2026-08-01T12:00:00+02:00", "holdDid": "did:plc:hold",
                "manifests": [{"mediaType": MediaType::OCI_MANIFEST, "size": 1, "digest": digest,
                    "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}}],
                "subject": descriptor(MediaType::OCI_MANIFEST),
            }),
        ),
        (
            "io.atcr.tag",
            "app_1.0",
            json!({"repository": "app", "tag": "1.0", "manifest": manifest,
            "mediaType": MediaType::OCI_MANIFEST, "updatedAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.tag",
            "app_0.9",
            json!({"repository": "app", "tag": "0.9", "manifestDigest": digest,
            "createdAt": "2025-12-01T12:00:00Z"}),
        ),
        (
            "io.atcr.sailor.profile",
            "self",
            json!({"defaultHold": "did:web:hold01.atcr.io", "ociClient": "podman",
            "autoRemoveUntagged": false, "createdAt": "2025-10-01T12:00:00Z", "updatedAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.sailor.star",
            "s",
            json!({"subject": "at://did:plc:bob/io.atcr.repo.page/app",
            "createdAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.repo.page",
            "app",
            json!({"repository": "app", "description": "# App", "userEdited": true,
            "createdAt": "2026-08-01T12:00:00Z", "updatedAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.hold.captain",
            "self",
            json!({"owner": "did:plc:own", "public": true, "allowAllCrew": false,
            "enableBlueskyPosts": false, "deployedAt": "2026-08-01T12:00:00Z", "region": "eu", "provider": "fly.io"}),
        ),
        (
            "io.atcr.hold.crew",
            "c",
            json!({"member": "did:plc:bob", "role": "member",
            "permissions": ["blob:read", "blob:write"], "addedAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.hold.layer",
            "3jui7kd54zh2y",
            json!({"digest": digest, "size": 7, "mediaType": layer,
            "manifest": manifest, "userDid": "did:plc:bob", "createdAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.hold.stats",
            "s",
            json!({"ownerDid": "did:plc:bob", "repository": "app", "pullCount": 0,
            "pushCount": 3, "lastPush": "2026-08-01T12:00:00Z", "updatedAt": "2026-08-01T12:00:00Z"}),
        ),
        (
            "io.atcr.hold.scan",
            HEX,
            json!({"manifest": manifest, "repository": "app", "userDid": "did:plc:bob",
            "critical": 0, "high": 1, "medium": 2, "low": 3, "total": 6, "scannerVersion": "1",
            "scannedAt": "2026-08-01T12:00:00Z"}),
        ),
    ]
}

#[tokio::test]
async fn what_upstream_writes_is_valid() {
    let world = World::new().await;
    for (collection, rkey, record) in upstream() {
        let put = world.put(collection, rkey, record.clone()).await.ok();
        assert_eq!(put["validationStatus"], "valid", "{collection}");
        let mut insisting =
            json!({"repo": world.alice.did, "collection": collection, "rkey": rkey, "validate": true});
        insisting["record"] = record;
        let put = world.post_as(&world.alice.access, "com.atproto.repo.putRecord", &insisting).await.ok();
        assert_eq!(put["validationStatus"], "valid", "{collection}");
    }
}

#[tokio::test]
async fn what_our_own_types_write_is_valid() {
    let world = World::new().await;
    let text = r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let bytes = bytes::Bytes::from_static(text.as_bytes());
    let manifest = Manifest {
        digest: Digest::sha256(&bytes),
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        bytes,
    };
    let content = manifest.content().unwrap();
    let repository: atcr_core::oci::RepositoryName = "tools/app".parse().unwrap();
    let hold = Some("did:web:hold.example.com".parse().unwrap());
    let record =
        ManifestRecord::from_manifest(repository.clone(), &manifest, &content, hold, Datetime::now())
            .unwrap();
    let owner = &world.alice.did;
    let tag = "1.0".parse().unwrap();
    let media_type = Some(manifest.media_type.clone());
    let tag = TagRecord::new(owner, repository.clone(), tag, &manifest.digest, media_type, Datetime::now());
    let subject = StarSubject::new(owner, &repository);
    let star = StarRecord { subject, created_at: Datetime::now() };
    for (collection, record) in [
        (ManifestRecord::collection(), serde_json::to_value(&record).unwrap()),
        (TagRecord::collection(), serde_json::to_value(&tag).unwrap()),
        (StarRecord::collection(), serde_json::to_value(&star).unwrap()),
    ] {
        let put = world.put(collection.as_str(), "x", record).await.ok();
        assert_eq!(put["validationStatus"], "valid", "{collection}");
    }
}

#[tokio::test]
async fn what_breaks_its_lexicon_is_refused_unless_the_caller_waives_it() {
    let world = World::new().await;
    let message =
        world.put("io.atcr.tag", "x", json!({"repository": "app"})).await.fails(400, "InvalidRequest");
    assert_eq!(message, "Invalid io.atcr.tag record: the value: the required field tag is missing");
    for (collection, rkey, record) in upstream() {
        for field in record.as_object().unwrap().keys() {
            let mut broken = record.clone();
            broken[field] = json!([[]]);
            let answer = world.put(collection, rkey, broken).await;
            // Fields that the lexicon does not know may hold anything.
            if (collection, field.as_str()) == ("io.atcr.hold.captain", "provider") {
                answer.ok();
            } else {
                let message = answer.fails(400, "InvalidRequest");
                assert!(message.starts_with(&format!("Invalid {collection} record: {field}")), "{message}");
            }
        }
    }
    for validate in [Value::Null, json!(true), json!(false)] {
        let input = json!({"repo": world.alice.did, "collection": "io.atcr.tag", "rkey": "x", "record": {},
            "validate": validate});
        let answer = world.post_as(&world.alice.access, "com.atproto.repo.putRecord", &input).await;
        if validate == json!(false) {
            assert!(answer.ok().get("validationStatus").is_none());
        } else {
            answer.fails(400, "InvalidRequest");
        }
    }
    // A method has a lexicon, and is no collection.
    let put = world.put("io.atcr.hold.getQuota", "x", json!({})).await.ok();
    assert_eq!(put["validationStatus"], "unknown");
}

#[tokio::test]
async fn one_broken_record_among_many_writes_undoes_all() {
    let world = World::new().await;
    let (collection, rkey, record) = upstream().swap_remove(2);
    let create = |rkey: &str, value: &Value| {
        json!({"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": rkey,
            "value": value})
    };
    let other = json!({"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note",
        "rkey": "a", "value": {}});
    let apply = async |writes: Value| {
        let input = json!({"repo": world.alice.did, "writes": writes});
        world.post_as(&world.alice.access, "com.atproto.repo.applyWrites", &input).await
    };
    let broken = json!([create(rkey, &record), other, create("broken", &json!({}))]);
    apply(broken).await.fails(400, "InvalidRequest");
    let done = apply(json!([create(rkey, &record), other])).await.ok();
    let statuses: Vec<&Value> =
        done["results"].as_array().unwrap().iter().map(|result| &result["validationStatus"]).collect();
    assert_eq!(statuses, ["valid", "unknown"]);
}
