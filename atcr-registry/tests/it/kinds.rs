//! What is pushed to registries beside OCI images.

use atcr_core::oci::{Digest, MediaType};
use serde_json::{Value, json};

use crate::support::{Peer, open};

/// Pushes the manifest, and expects to get it back by tag and digest under its media type.
async fn round_trip(peer: &Peer, name: &str, media_type: &str, manifest: &Value) -> Digest {
    let json = serde_json::to_string_pretty(manifest).unwrap();
    let digest = Digest::sha256(json.as_bytes());
    peer.put_manifest("a", name, media_type, &json).await.is(201);
    for reference in [name.to_owned(), digest.to_string()] {
        let answer = peer.get(&format!("/v2/a/manifests/{reference}")).await.is(200);
        assert_eq!((answer.header("content-type"), &*answer.body), (media_type, json.as_bytes()), "{name}");
    }
    digest
}

fn descriptor(media_type: &str, digest: &Digest) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": 2})
}

#[tokio::test]
async fn docker_images_and_lists() {
    let peer = open();
    let blob = peer.push_blob("a", b"{}").await;
    let image = json!({
        "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &blob),
        "layers": [
            descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &blob),
            {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
             "digest": Digest::sha256(b"elsewhere"), "size": 5, "urls": ["https://example.com/layer"]},
        ],
    });
    let image = round_trip(&peer, "image", MediaType::DOCKER_MANIFEST, &image).await;
    let mut child = descriptor(MediaType::DOCKER_MANIFEST, &image);
    child["platform"] = json!({"architecture": "arm64", "os": "linux", "variant": "v8", "features": ["x"]});
    // Windows and attestations: children whose blobs are elsewhere, or that are not there at all.
    let absent = descriptor(MediaType::DOCKER_MANIFEST, &Digest::sha256(b"another platform"));
    let list = json!({
        "schemaVersion": 2, "mediaType": MediaType::DOCKER_LIST, "manifests": [child, absent],
    });
    round_trip(&peer, "list", MediaType::DOCKER_LIST, &list).await;
}

#[tokio::test]
async fn helm_charts() {
    let peer = open();
    let (config, chart) = (peer.push_blob("a", b"{}").await, peer.push_blob("a", b"chart").await);
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor("application/vnd.cncf.helm.config.v1+json", &config),
        "layers": [descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &chart)],
        "annotations": {"org.opencontainers.image.title": "chart", "org.opencontainers.image.version": "1.0.0"},
    });
    // Helm writes `+` as `_` in tags.
    round_trip(&peer, "1.0.0_build.5", MediaType::OCI_MANIFEST, &manifest).await;
}

#[tokio::test]
async fn artifacts_with_and_without_layers() {
    let peer = open();
    let empty = peer.push_blob("a", b"{}").await;
    let config = descriptor("application/vnd.oci.empty.v1+json", &empty);
    let mut with_data = config.clone();
    with_data["data"] = json!("e30=");
    let image = peer.push_image("a", "image", "image").await;
    for (name, layers) in
        [("none", json!([])), ("null", json!(null)), ("data", json!([with_data])), ("empty", json!([config]))]
    {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers,
            "artifactType": format!("application/vnd.example.{name}"),
            "subject": descriptor(MediaType::OCI_MANIFEST, &image),
        });
        let digest = round_trip(&peer, name, MediaType::OCI_MANIFEST, &manifest).await;
        let path = format!("/v2/a/referrers/{image}?artifactType=application/vnd.example.{name}");
        assert_eq!(peer.get(&path).await.is(200).json()["manifests"][0]["digest"], json!(digest));
    }
    // The artifact manifest of the release candidates, which old ORAS pushes.
    let withdrawn = json!({
        "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "artifactType": "application/vnd.example",
        "blobs": [descriptor("application/octet-stream", &empty)],
    });
    round_trip(&peer, "withdrawn", "application/vnd.oci.artifact.manifest.v1+json", &withdrawn).await;
}

#[tokio::test]
async fn caches_of_buildkit_whose_index_lists_layers() {
    let peer = open();
    let (layer, config) = (peer.push_blob("a", b"layer").await, peer.push_blob("a", b"{}").await);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
        "manifests": [
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer),
            descriptor("application/vnd.buildkit.cacheconfig.v0", &config),
        ],
    });
    round_trip(&peer, "cache", MediaType::OCI_INDEX, &manifest).await;
}
