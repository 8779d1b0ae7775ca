use std::io::Write as _;

use atcr_pds::accounts::PdsConfig;
use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::world::{MANIFEST, World};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn link(answer: &Value) -> String {
    answer["blob"]["ref"]["$link"].as_str().unwrap().to_owned()
}

impl World {
    async fn blob(&self, cid: &str) -> crate::world::Answer {
        self.get(&format!("com.atproto.sync.getBlob?did={}&cid={cid}", self.alice.did)).await
    }

    async fn listed(&self) -> Value {
        self.get(&format!("com.atproto.sync.listBlobs?did={}", self.alice.did)).await.ok()["cids"].clone()
    }
}

#[tokio::test]
async fn a_blob_is_invisible_until_a_record_refers_to_it_and_gone_with_the_last() {
    let world = World::new().await;
    let uploaded = world.upload(&world.alice.access, OCI, "{\"x\":1}").await.ok();
    assert_eq!(uploaded["blob"]["$type"], "blob");
    assert_eq!(uploaded["blob"]["mimeType"], OCI);
    assert_eq!(uploaded["blob"]["size"], 7);
    let cid = link(&uploaded);
    assert_eq!(world.blob(&cid).await.fails(400, "InvalidRequest"), "Blob not found");
    assert_eq!(world.listed().await, json!([]));

    for rkey in ["one", "two"] {
        world.put(MANIFEST, rkey, json!({"m": uploaded["blob"]})).await.ok();
    }
    let served = world.blob(&cid).await;
    assert_eq!(&served.body[..], b"{\"x\":1}");
    assert_eq!(served.header("content-type"), OCI);
    assert_eq!(served.header("content-length"), "7");
    assert_eq!(served.header("content-disposition"), format!("attachment; filename=\"{cid}\""));
    assert_eq!(served.header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(served.header("x-content-type-options"), "nosniff");
    assert_eq!(world.listed().await, json!([cid]));

    world.put(MANIFEST, "one", json!({})).await.ok();
    assert_eq!(world.listed().await, json!([cid]), "one record is left");
    let delete = json!({"repo": world.alice.did, "collection": MANIFEST, "rkey": "two"});
    world.post_as(&world.alice.access, "com.atproto.repo.deleteRecord", &delete).await.ok();
    world.blob(&cid).await.fails(400, "InvalidRequest");
    assert_eq!(world.listed().await, json!([]));
}

#[tokio::test]
async fn a_sweep_removes_old_blobs_that_nothing_refers_to_and_no_other() {
    let world = World::new().await;
    let kept = world.upload(&world.alice.access, OCI, "kept").await.ok();
    world.put(MANIFEST, "one", json!({"m": kept["blob"]})).await.ok();
    let dropped = world.upload(&world.alice.access, OCI, "dropped").await.ok();
    let now = jiff::Timestamp::now();
    assert_eq!(world.pds.sweep_blobs(now - jiff::SignedDuration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(world.pds.sweep_blobs(now + jiff::SignedDuration::from_mins(1)).await.unwrap(), 1);
    assert_eq!(&world.blob(&link(&kept)).await.body[..], b"kept");
    let refused = world.put(MANIFEST, "two", json!({"m": dropped["blob"]})).await;
    assert_eq!(refused.fails(400, "BlobNotFound"), format!("Could not find blob: {}", link(&dropped)));
    let again = world.upload(&world.alice.access, OCI, "dropped").await.ok();
    world.put(MANIFEST, "two", json!({"m": again["blob"]})).await.ok();
    assert_eq!(&world.blob(&link(&again)).await.body[..], b"dropped");
}

#[tokio::test]
async fn the_media_type_is_what_the_bytes_show() {
    let world = World::new().await;
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01";
    for (bytes, sent, kept) in [
        (&gzip[..], "application/vnd.oci.image.layer.v1.tar+gzip", "application/gzip"),
        (&png[..], "text/plain", "image/png"),
        (b"{}", OCI, OCI),
        (b"\x00\x9f\x92\x96", "application/octet-stream", "application/octet-stream"),
        (b"", OCI, OCI),
    ] {
        let uploaded = world.upload(&world.alice.access, sent, bytes.to_vec()).await.ok();
        assert_eq!(uploaded["blob"]["mimeType"], kept);
        assert_eq!(uploaded["blob"]["size"], bytes.len());
    }
}

#[tokio::test]
async fn a_fresh_blob_is_compared_with_its_reference_and_a_known_one_is_not() {
    let world = World::new().await;
    let blob = world.upload(&world.alice.access, OCI, "{\"y\":1}").await.ok()["blob"].clone();
    let with = |key: &str, value: Value| {
        let mut changed = blob.clone();
        changed[key] = value;
        json!({"m": changed})
    };
    let message = world.put(MANIFEST, "x", with("mimeType", json!("application/other"))).await;
    assert_eq!(
        message.fails(400, "InvalidMimeType"),
        format!("Referenced Mimetype does not match stored blob. Expected: {OCI}, Got: application/other")
    );
    let message = world.put(MANIFEST, "x", with("size", json!(1))).await;
    assert_eq!(
        message.fails(400, "InvalidSize"),
        "Referenced Size does not match stored blob. Expected: 7, Got: 1"
    );
    world.put(MANIFEST, "x", json!({"m": blob})).await.ok();
    world.put(MANIFEST, "y", with("size", json!(1))).await.ok();
    let unknown = "bafkreihphify4hfs4zhrozj5kzrdp4x4edhqjtwokbrlpxiqu6hz33364a";
    world.put(MANIFEST, "z", with("ref", json!({"$link": unknown}))).await.fails(400, "BlobNotFound");
}

#[tokio::test]
async fn a_blob_of_one_account_is_not_the_other_ones() {
    let world = World::new().await;
    let blob = world.upload(&world.bob.access, OCI, "bob's").await.ok()["blob"].clone();
    world.put(MANIFEST, "x", json!({"m": blob})).await.fails(400, "BlobNotFound");
}

#[tokio::test]
async fn the_size_limit_is_exact_whether_the_length_is_announced_or_not() {
    let world = World::with(|config| config.blob_limit = 1000).await;
    world.upload(&world.alice.access, OCI, vec![b'x'; 1000]).await.ok();
    world.upload(&world.alice.access, OCI, vec![b'x'; 1001]).await.fails(413, "PayloadTooLarge");
    let pieces = futures_util::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100])));
    let request = upload(&world).body(Body::from_stream(pieces)).unwrap();
    world.send(request).await.fails(413, "PayloadTooLarge");
    let described = world.get("com.atproto.server.describeServer").await.ok();
    assert_eq!(described["blobUploadLimit"], 1000);
}

fn upload(world: &World) -> http::request::Builder {
    Request::post("/xrpc/com.atproto.repo.uploadBlob")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.alice.access))
        .header(header::CONTENT_TYPE, OCI)
}

#[tokio::test]
async fn a_packed_body_is_unpacked_before_it_is_hashed_and_measured() {
    let world = World::with(|config| config.blob_limit = 100_000).await;
    let pack = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let plain = world.upload(&world.alice.access, OCI, "{\"schemaVersion\":2}").await.ok();
    let send = async |body: Vec<u8>| {
        world.send(upload(&world).header("content-encoding", "gzip").body(Body::from(body)).unwrap()).await
    };
    assert_eq!(send(pack(b"{\"schemaVersion\":2}")).await.ok(), plain);
    // A bomb of a thousandth of the size that it unpacks to stops at the limit.
    send(pack(&vec![0; 10_000_000])).await.fails(413, "PayloadTooLarge");
    send(b"not gzip".to_vec()).await.fails(400, "InvalidRequest");
    let mut cut = pack(b"{\"schemaVersion\":2}");
    cut.truncate(cut.len() - 9);
    send(cut).await.fails(400, "InvalidRequest");
    let other = upload(&world).header("content-encoding", "br").body(Body::empty()).unwrap();
    world.send(other).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn an_upload_needs_a_caller_and_a_type() {
    let world = World::new().await;
    let anonymous =
        world.raw(Method::POST, "/xrpc/com.atproto.repo.uploadBlob", &[("content-type", OCI)]).await;
    anonymous.fails(401, "AuthMissing");
    let token = format!("Bearer {}", world.alice.access);
    let untyped =
        world.raw(Method::POST, "/xrpc/com.atproto.repo.uploadBlob", &[("authorization", &token)]).await;
    assert_eq!(
        untyped.fails(400, "InvalidRequest"),
        "Request encoding (Content-Type) required but not provided"
    );
}

#[tokio::test]
async fn blobs_on_disk_survive_a_restart_and_a_broken_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = |config: &mut PdsConfig| {
        config.data_dir = Some(dir.path().to_owned());
        config.blob_limit = 1000;
    };
    let world = World::with(config).await;
    let blob = world.upload(&world.alice.access, OCI, "kept on disk").await.ok();
    world.put(MANIFEST, "one", json!({"m": blob["blob"]})).await.ok();
    world.upload(&world.alice.access, OCI, vec![b'x'; 1001]).await.fails(413, "PayloadTooLarge");
    let broken = futures_util::stream::iter([Ok(vec![b'x'; 10]), Err(std::io::Error::other("cut"))]);
    world.send(upload(&world).body(Body::from_stream(broken)).unwrap()).await.fails(400, "InvalidRequest");
    let incoming = dir.path().join("blobs/incoming");
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    std::fs::write(incoming.join("left-over"), "x").unwrap();
    let did = world.alice.did.clone();
    drop(world);
    let world = World::with(config).await;
    assert_eq!(world.alice.did, did, "the accounts survive as well");
    assert_eq!(&world.blob(&link(&blob)).await.body[..], b"kept on disk");
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
}
