use atcr_core::oci::{Algorithm, Digest};
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::world::{World, bytes, local};

#[tokio::test]
async fn a_blob_goes_in_by_parts_and_comes_out_whole() {
    let world = World::public().await;
    let alice = &world.alice;
    let begun =
        world.post(alice, "io.atcr.hold.initiateUpload", json!({"digest": "uploads/temp-1"})).await.ok();
    assert_eq!(
        begun["capabilities"],
        json!(["parts:any-size", "parts:recorded", "parts:batch", "digest:verified"])
    );
    assert!(begun["partSize"].as_u64().unwrap() > 0);
    let upload = begun["uploadId"].as_str().unwrap();
    let content = [bytes(1, 5 << 20), bytes(2, 5 << 20), bytes(3, 12345)];
    let mut parts = Vec::new();
    for (piece, number) in content.iter().zip(1..) {
        let etag = world.part(alice, upload, number, piece).await;
        parts.push(json!({"partNumber": number, "etag": format!("\"{etag}\"")}));
    }
    let digest = Digest::sha256(&content.concat());
    world.get(&world.blob_path(&digest)).await.refused(404, "BlobNotFound");
    let done = world.complete(alice, upload, &digest, json!(parts)).await.ok();
    assert_eq!(done, json!({"status": "completed", "digest": digest}));
    let answer = world.get(&world.blob_path(&digest)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == content.concat());
    let hex = digest.hex();
    let place = format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    assert!(world.config.data_dir.join(place).is_file(), "it is where distribution would have it");
    // Again, as by a client that did not get the answer.
    world.complete(alice, upload, &digest, json!(parts)).await.ok();
    world.complete(alice, upload, &Digest::sha256(b""), json!(parts)).await.refused(409, "InvalidUploadId");
}

#[tokio::test]
async fn parts_come_in_any_order_twice_and_as_streams() {
    let world = World::public().await;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    let content: Vec<Bytes> = (0..4).map(|seed| bytes(seed, 300_000)).collect();
    world.part(alice, &upload, 3, &content[2]).await;
    world.part(alice, &upload, 1, &bytes(99, 777)).await;
    world.part(alice, &upload, 2, &content[1]).await;
    world.part(alice, &upload, 1, &content[0]).await;
    let url = world.part_url(alice, &upload, 4).await;
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        content[3].chunks(1000).map(|piece| Ok(content[3].slice_ref(piece))).collect();
    world.put(&url, Body::from_stream(futures_util::stream::iter(pieces))).await.ok();
    let digest = Digest::sha256(&content.concat());
    world.complete(alice, &upload, &digest, json!([])).await.ok();
    assert!(world.get(&world.blob_path(&digest)).await.body == content.concat());
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let world = World::public().await;
    let upload = world.initiate(&world.alice).await;
    let digest = Digest::sha256(b"");
    world.complete(&world.alice, &upload, &digest, json!([])).await.ok();
    let answer = world.get(&world.blob_path(&digest)).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(world.upload(&world.alice, &Bytes::new()).await, digest);
}

#[tokio::test]
async fn a_part_that_is_cut_off_does_not_count() {
    let world = World::public().await;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    let content = [bytes(1, 600_000), bytes(2, 600_000)];
    world.part(alice, &upload, 1, &content[0]).await;
    for number in [2, 1] {
        let cut = [Ok(bytes(9, 400_000)), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
        let url = world.part_url(alice, &upload, number).await;
        let answer = world.put(&url, Body::from_stream(futures_util::stream::iter(cut))).await;
        assert!(answer.refused(400, "UploadFailed").contains("send it again"));
    }
    let digest = Digest::sha256(&content.concat());
    let named = json!([{"partNumber": 1, "etag": ""}, {"partNumber": 2, "etag": ""}]);
    world.complete(alice, &upload, &digest, named).await.refused(400, "MissingParts");
    world.part(alice, &upload, 2, &content[1]).await;
    world.complete(alice, &upload, &digest, json!([])).await.ok();
    assert!(world.get(&world.blob_path(&digest)).await.body == content.concat());
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let content = [bytes(1, 700_001), bytes(2, 700_001), bytes(3, 700_001)];
    let mut world = World::public().await;
    let upload = world.initiate(&world.alice).await;
    for (piece, number) in content.iter().zip(1..) {
        world.part(&world.alice, &upload, number, piece).await;
        world = world.reopened().await;
    }
    let digest = Digest::sha256(&content.concat());
    world.complete(&world.alice, &upload, &digest, json!([])).await.ok();
    world = world.reopened().await;
    assert!(world.get(&world.blob_path(&digest)).await.body == content.concat());
    world.complete(&world.alice, &upload, &digest, json!([])).await.ok();
}

#[tokio::test]
async fn bytes_that_are_not_what_was_said_are_thrown_away() {
    let world = World::public().await;
    let alice = &world.alice;
    let expected = Digest::sha256(b"what was promised");
    for out_of_order in [false, true] {
        let upload = world.initiate(alice).await;
        let content = [bytes(1, 1000), bytes(2, 1000)];
        for number in if out_of_order { [2, 1] } else { [1, 2] } {
            world.part(alice, &upload, number, &content[number as usize - 1]).await;
        }
        let message =
            world.complete(alice, &upload, &expected, json!([])).await.refused(400, "InvalidDigest");
        let actual = Digest::sha256(&content.concat());
        assert!(
            message.contains(&actual.to_string()) && message.contains(&expected.to_string()),
            "{message}"
        );
        world.complete(alice, &upload, &actual, json!([])).await.refused(404, "InvalidUploadId");
        for digest in [actual, expected] {
            world.get(&world.blob_path(&digest)).await.refused(404, "BlobNotFound");
        }
    }
    assert!(world.hold.storage().list_uploads().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_other_algorithm_is_verified_whether_it_was_announced_or_not() {
    let world = World::public().await;
    let alice = &world.alice;
    let content = bytes(5, 100_000);
    let digest = Digest::of(Algorithm::Sha512, &content);
    for input in [json!({"digest": "uploads/x", "digestAlgorithm": "sha512"}), json!({"digest": "uploads/x"})]
    {
        let begun = world.post(alice, "io.atcr.hold.initiateUpload", input).await.ok();
        let upload = begun["uploadId"].as_str().unwrap();
        world.part(alice, upload, 1, &content).await;
        world.complete(alice, upload, &digest, json!([])).await.ok();
        assert!(world.get(&world.blob_path(&digest)).await.body == content);
    }
    // The same bytes under their other name are another blob.
    world.get(&world.blob_path(&Digest::sha256(&content))).await.refused(404, "BlobNotFound");
}

#[tokio::test]
async fn an_upload_is_its_uploaders_only() {
    let world = World::with(|config| config.allow_all_crew = true).await;
    let (alice, bob) = (&world.alice, &world.bob);
    let upload = world.initiate(alice).await;
    world.part(alice, &upload, 1, &bytes(1, 100)).await;
    let digest = Digest::sha256(&bytes(1, 100));
    let input = json!({"uploadId": upload, "partNumber": 2});
    world.post(bob, "io.atcr.hold.getPartUploadUrl", input).await.refused(404, "InvalidUploadId");
    world.complete(bob, &upload, &digest, json!([])).await.refused(404, "InvalidUploadId");
    let input = json!({"uploadId": upload});
    world.post(bob, "io.atcr.hold.abortUpload", input.clone()).await.refused(404, "InvalidUploadId");
    let put = |user: &str| {
        Request::put("/xrpc/io.atcr.hold.uploadPart")
            .header(AUTHORIZATION, format!("Bearer {user}"))
            .header("X-Upload-Id", &upload)
            .header("X-Part-Number", "2")
            .body(Body::from("more"))
            .unwrap()
    };
    let token = world.token(bob, None);
    world.send(put(&token)).await.refused(404, "InvalidUploadId");
    // The uploader's own token works there too, as clients of older holds send it.
    let token = world.token(alice, None);
    world.send(put(&token)).await.ok();
    world.post(alice, "io.atcr.hold.abortUpload", input.clone()).await.ok();
    world.post(alice, "io.atcr.hold.abortUpload", input).await.refused(404, "InvalidUploadId");
    assert!(world.hold.storage().list_uploads().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_signed_address_opens_one_part_for_a_while() {
    let world = World::public().await;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    let other = world.initiate(alice).await;
    let url = world.part_url(alice, &upload, 1).await;
    world.put(&url, "first").await.ok();
    let altered = [
        url.replace("partNumber=1", "partNumber=2"),
        url.replace(&upload, &other),
        url.replace("expires=1", "expires=2"),
        url.replace("signature=", "signature=A"),
    ];
    for altered in altered {
        assert_ne!(altered, url);
        world.put(&altered, "x").await.refused(403, "InvalidSignature");
    }
    let unsigned = url.split("&expires").next().unwrap();
    world.put(unsigned, "x").await.refused(401, "AuthRequired");
    world.clock.advance(std::time::Duration::from_secs(15 * 60));
    world.put(&url, "still good").await.ok();
    world.clock.advance(std::time::Duration::from_secs(1));
    assert!(world.put(&url, "late").await.refused(403, "ExpiredUrl").contains("new one"));
}

#[tokio::test]
async fn a_transfer_that_began_in_time_is_not_cut() {
    let world = World::public().await;
    let upload = world.initiate(&world.alice).await;
    let url = world.part_url(&world.alice, &upload, 1).await;
    let clock = world.clock.clone();
    let body = futures_util::stream::unfold(0, move |step| {
        let clock = clock.clone();
        async move {
            clock.advance(std::time::Duration::from_secs(600));
            (step < 4).then(|| (Ok::<_, std::io::Error>(bytes(step, 1000)), step + 1))
        }
    });
    world.put(&url, Body::from_stream(body)).await.ok();
    let content: Vec<Bytes> = (0..4).map(|step| bytes(step, 1000)).collect();
    world.complete(&world.alice, &upload, &Digest::sha256(&content.concat()), json!([])).await.ok();
}

#[tokio::test]
async fn part_numbers_and_lists_are_checked() {
    let world = World::public().await;
    let alice = &world.alice;
    let upload = world.initiate(alice).await;
    for number in [json!(0), json!(-1), json!("1"), Value::Null] {
        let input = json!({"uploadId": upload, "partNumber": number});
        let answer = world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await;
        assert_eq!(answer.status, 400, "{number}");
    }
    let input = json!({"uploadId": upload, "partNumber": 1_000_001});
    world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.refused(400, "InvalidPartNumber");
    let input = json!({"uploadId": "../../etc/passwd", "partNumber": 1});
    world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.refused(404, "InvalidUploadId");
    world.part(alice, &upload, 1, &bytes(1, 10)).await;
    world.part(alice, &upload, 3, &bytes(1, 10)).await;
    let digest = Digest::sha256(&bytes(1, 10));
    let message = world.complete(alice, &upload, &digest, json!([])).await.refused(400, "MissingParts");
    assert!(message.contains("part 2"), "{message}");
    let twice = json!([{"partNumber": 1, "etag": "a"}, {"partNumber": 1, "etag": "a"}]);
    world.complete(alice, &upload, &digest, twice).await.refused(400, "MissingParts");
    // Only the parts that are named: the third was a mistake.
    let named = json!([{"partNumber": 1, "etag": "whatever"}]);
    world.complete(alice, &upload, &digest, named).await.ok();
}

#[tokio::test]
async fn a_blob_may_not_be_larger_than_the_limit() {
    let world = World::with(|config| {
        config.max_blob_size = Some(1_000_000);
        config.public = true;
    })
    .await;
    let alice = &world.alice;
    let input = json!({"digest": "uploads/temp", "size": 1_000_001});
    world.post(alice, "io.atcr.hold.initiateUpload", input).await.refused(413, "BlobTooLarge");
    let upload = world.initiate(alice).await;
    world.part(alice, &upload, 1, &bytes(1, 600_000)).await;
    let url = world.part_url(alice, &upload, 2).await;
    let message = world.put(&url, bytes(2, 400_001)).await.refused(413, "BlobTooLarge");
    assert!(message.contains("1000000"), "{message}");
    world.put(&url, bytes(2, 400_000)).await.ok();
    let digest = Digest::sha256(&[bytes(1, 600_000), bytes(2, 400_000)].concat());
    world.complete(alice, &upload, &digest, json!([])).await.ok();
}

#[tokio::test]
async fn what_is_no_digest_is_refused_by_its_name() {
    let world = World::public().await;
    let too_long = json!({"digest": "x".repeat(129)});
    world.post(&world.alice, "io.atcr.hold.initiateUpload", too_long).await.refused(400, "InvalidDigest");
    let upload = world.initiate(&world.alice).await;
    let input = json!({"uploadId": upload, "digest": "md5:abc", "parts": []});
    let answer = world.post(&world.alice, "io.atcr.hold.completeUpload", input).await;
    answer.refused(400, "InvalidDigest");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_completions_of_one_blob_leave_one_blob() {
    let world = World::public().await;
    let alice = &world.alice;
    let content = bytes(7, 2_000_000);
    let digest = Digest::sha256(&content);
    let mut uploads = Vec::new();
    for _ in 0..6 {
        let upload = world.initiate(alice).await;
        world.part(alice, &upload, 1, &content).await;
        uploads.push(upload);
    }
    // Each of them twice, all at once.
    let completions = uploads.iter().chain(&uploads).map(|id| world.complete(alice, id, &digest, json!([])));
    for answer in futures_util::future::join_all(completions).await {
        answer.ok();
    }
    assert!(world.get(&world.blob_path(&digest)).await.body == content);
    let usage = world.hold.storage().usage().await.unwrap();
    assert_eq!((usage.objects, usage.bytes), (1, 2_000_000));
    assert!(world.hold.storage().list_uploads().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_addresses_are_the_holds_own() {
    let world = World::public().await;
    let upload = world.initiate(&world.alice).await;
    let input = json!({"uploadId": upload, "partNumber": 1});
    let output = world.post(&world.alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
    let path = local(output["url"].as_str().unwrap());
    assert!(path.starts_with("/xrpc/io.atcr.hold.uploadPart?"), "{path}");
}
