use std::sync::Arc;

use atcr_core::oci::Digest;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, RANGE};
use serde_json::json;

use crate::faults::Faulty;
use crate::world::{World, bytes, encoded, local};

#[tokio::test]
async fn ranges_heads_and_conditions() {
    let world = World::public().await;
    let content = bytes(1, 1_000_000);
    let digest = world.upload(&world.alice, &content).await;
    let path = world.blob_path(&digest);
    let ranged = async |range: &str| {
        world.send(Request::get(&path).header(RANGE, range).body(Body::empty()).unwrap()).await
    };
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 1_000_000),
        ("bytes=999999-", 999_999, 1_000_000),
        ("bytes=-5", 999_995, 1_000_000),
        ("bytes=300000-700000", 300_000, 700_001),
        ("bytes=5-99999999999999999999", 5, 1_000_000),
    ] {
        let answer = ranged(range).await;
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == content[start..end], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/1000000", end - 1));
        assert_eq!(answer.header("content-length"), (end - start).to_string());
    }
    for range in ["bytes=1000000-", "bytes=-0"] {
        let answer = ranged(range).await;
        answer.refused(416, "RangeNotSatisfiable");
        assert_eq!(answer.header("content-range"), "bytes */1000000");
    }
    assert_eq!(ranged("bytes=0-1,5-6").await.body.len(), 1_000_000);

    let head = world.head(&path).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), "1000000");
    assert_eq!(head.header("docker-content-digest"), digest.to_string());
    assert_eq!(head.header("x-content-type-options"), "nosniff");
    assert!(head.header("cache-control").contains("immutable"));
    let known = Request::get(&path).header(IF_NONE_MATCH, head.header("etag")).body(Body::empty());
    assert_eq!(world.send(known.unwrap()).await.status, 304);
}

#[tokio::test]
async fn the_address_of_a_blob_is_given_for_get_and_head() {
    let world = World::public().await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    let path = world.blob_path(&digest);
    let url = world.get(&format!("{path}&method=GET")).await.ok();
    assert_eq!(world.get(&local(url["url"].as_str().unwrap())).await.body, bytes(1, 10));
    world.get(&format!("{path}&method=HEAD")).await.ok();
    world.get(&format!("{path}&method=PUT")).await.refused(400, "InvalidRequest");
    let missing = world.blob_path(&Digest::sha256(b"missing"));
    world.get(&format!("{missing}&method=GET")).await.refused(404, "BlobNotFound");
    assert_eq!(world.head(&missing).await.status, 404);
    let broken = world.blob_path(&digest).replace("sha256:", "md5:");
    world.get(&broken).await.refused(400, "InvalidRequest");
    let upper = world.blob_path(&digest).replace(&digest.hex(), &digest.hex().to_uppercase());
    world.get(&upper).await.refused(400, "InvalidRequest");
}

#[tokio::test]
async fn a_storage_that_signs_is_redirected_to() {
    let storage = Arc::new(Faulty::presigning());
    let world = World::on(storage).await;
    let alice = &world.alice;
    let begun = world.post(alice, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await.ok();
    assert_eq!(begun["capabilities"], json!(["parts:any-size", "parts:batch"]));
    let upload = begun["uploadId"].as_str().unwrap();
    let input = json!({"uploadId": upload, "partNumber": 1});
    let part = world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
    assert!(part["url"].as_str().unwrap().starts_with("https://bucket.example/"), "{part}");
    let digest = world.upload_through_the_hold(&bytes(1, 10)).await;
    let answer = world.get(&world.blob_path(&digest)).await;
    assert_eq!(answer.status, 307);
    assert!(answer.header("location").starts_with("https://bucket.example/"));
    assert_eq!(world.head(&world.blob_path(&digest)).await.status, 200);
    let json = world.get(&format!("{}&method=GET", world.blob_path(&digest))).await.ok();
    assert!(json["url"].as_str().unwrap().starts_with("https://bucket.example/"));
}

#[tokio::test]
async fn a_directory_that_distribution_wrote_is_read_as_it_is() {
    let world = World::public().await;
    let content = bytes(1, 100);
    let digest = Digest::sha256(&content);
    let hex = digest.hex();
    let folder = format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]);
    let folder = world.config.data_dir.join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("data"), &content).unwrap();
    assert_eq!(world.get(&world.blob_path(&digest)).await.body, content);
}

#[tokio::test]
async fn a_blob_that_the_storage_has_lost_is_missing_and_can_come_again() {
    let world = World::public().await;
    let content = bytes(1, 100);
    let digest = world.upload(&world.alice, &content).await;
    let hex = digest.hex();
    let file = format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let file = world.config.data_dir.join(file);
    for lost in [true, false] {
        if lost {
            std::fs::remove_file(&file).unwrap();
        } else {
            std::fs::write(&file, b"short").unwrap();
        }
        world.get(&world.blob_path(&digest)).await.refused(404, "BlobNotFound");
        world.upload(&world.alice, &content).await;
        assert_eq!(world.get(&world.blob_path(&digest)).await.body, content);
    }
}

#[tokio::test]
async fn files_of_the_holds_own_repo_are_served_by_cid() {
    let world = World::private().await;
    let token = world.token(&world.alice, Some("com.atproto.repo.uploadBlob"));
    let request = Request::post("/xrpc/com.atproto.repo.uploadBlob")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "text/plain")
        .body(Body::from(Bytes::from_static(b"a file")));
    let blob = world.send(request.unwrap()).await.ok()["blob"].clone();
    let input = json!({"repo": world.hold.did(), "collection": "com.example.file", "record": {"file": blob}});
    world.post(&world.alice, "com.atproto.repo.createRecord", input).await.ok();
    let cid = blob["ref"]["$link"].as_str().unwrap();
    let did = encoded(world.hold.did());
    let answer = world.get(&format!("/xrpc/com.atproto.sync.getBlob?did={did}&cid={cid}")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"a file"[..]));
}
