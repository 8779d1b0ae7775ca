//! A deletion is complete when it is acknowledged: no endpoint knows any more what was deleted.

use atcr_core::oci::{Digest, MediaType};
use http::Method;
use serde_json::json;

use crate::support::{Peer, image, index, on_filesystem, open};

/// The same registry over each pair of stores, with what must live as long as it.
async fn registries() -> [(Peer, Option<tempfile::TempDir>); 2] {
    let (peer, directory) = on_filesystem().await;
    [(open(), None), (peer, Some(directory))]
}

async fn assert_gone(peer: &Peer, path: &str) {
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        peer.call(method, path).send(()).await.is(404);
    }
}

#[tokio::test]
async fn a_tag() {
    for (peer, _directory) in registries().await {
        let digest = peer.push_image("a", "kept", "image").await;
        peer.put_manifest("a", "gone", MediaType::OCI_INDEX, &index(&[digest])).await.is(201);
        peer.delete("/v2/a/manifests/gone").await.is(202);
        assert_gone(&peer, "/v2/a/manifests/gone").await;
        assert_eq!(peer.get("/v2/a/tags/list").await.is(200).json()["tags"], json!(["kept"]));
        peer.get(&format!("/v2/a/manifests/{}", Digest::sha256(index(&[digest]).as_bytes()))).await.is(200);
    }
}

#[tokio::test]
async fn a_manifest_with_its_tags_and_its_place_among_the_referrers() {
    for (peer, _directory) in registries().await {
        let subject = peer.push_image("a", "subject", "subject").await;
        let json = format!(
            r#"{{"schemaVersion":2,"layers":[],"artifactType":"a/b","subject":{{"mediaType":"{}","digest":"{subject}","size":1}}}}"#,
            MediaType::OCI_MANIFEST
        );
        let digest = Digest::sha256(json.as_bytes());
        let path = format!("{digest}?tag=one&tag=two");
        peer.put_manifest("a", &path, MediaType::OCI_MANIFEST, &json).await.is(201);
        let referrers = format!("/v2/a/referrers/{subject}");
        assert_eq!(peer.get(&referrers).await.is(200).json()["manifests"].as_array().map(Vec::len), Some(1));

        peer.delete(&format!("/v2/a/manifests/{digest}")).await.is(202);
        for reference in [digest.to_string(), "one".to_owned(), "two".to_owned()] {
            assert_gone(&peer, &format!("/v2/a/manifests/{reference}")).await;
        }
        assert_eq!(peer.get("/v2/a/tags/list").await.is(200).json()["tags"], json!(["subject"]));
        assert_eq!(peer.get(&referrers).await.is(200).json()["manifests"], json!([]));
    }
}

#[tokio::test]
async fn a_blob_of_one_repository() {
    for (peer, _directory) in registries().await {
        let digest = peer.push_blob("a", b"abc").await;
        peer.push_blob("b", b"abc").await;
        peer.delete(&format!("/v2/a/blobs/{digest}")).await.is(202);
        assert_gone(&peer, &format!("/v2/a/blobs/{digest}")).await;
        let whole = peer.put_manifest("a", "x", MediaType::OCI_MANIFEST, &image(&digest, &digest)).await;
        whole.fails(400, "MANIFEST_BLOB_UNKNOWN");
        peer.post(&format!("/v2/c/blobs/uploads/?mount={digest}&from=a"), ()).await.is(202);
        peer.get(&format!("/v2/b/blobs/{digest}")).await.is(200);

        peer.delete(&format!("/v2/b/blobs/{digest}")).await.is(202);
        peer.post(&format!("/v2/c/blobs/uploads/?mount={digest}"), ()).await.is(202);
        assert_eq!(peer.push_blob("a", b"abc").await, digest);
        assert_eq!(peer.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, "abc");
    }
}
