//! `oci-distribution` as a client, over a real socket.

use std::collections::BTreeMap;

use atcr_registry::{Registry, RunningRegistry};
use bytes::Bytes;
use futures_util::stream;
use oci_distribution::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_distribution::manifest::OciDescriptor;
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Client, Reference, RegistryOperation};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn client(monolithic: bool) -> Client {
    Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        use_monolithic_push: monolithic,
        ..ClientConfig::default()
    })
}

fn reference(registry: &RunningRegistry, name: &str) -> Reference {
    format!("{}/{name}", registry.addr()).parse().unwrap()
}

fn image(size: usize) -> (Vec<ImageLayer>, Config) {
    let layer = |byte: u8, size| ImageLayer::new(vec![byte; size], LAYER.to_owned(), None);
    (vec![layer(1, size), layer(2, 10)], Config::oci_v1(&b"{}"[..], None))
}

#[tokio::test]
async fn an_image_is_pushed_and_pulled() {
    let registry = Registry::memory().spawn().await.unwrap();
    // Larger than axum's own limit of a body, and than the client's chunk.
    for (monolithic, size) in [(true, 100), (true, 6 << 20), (false, 100), (false, 6 << 20)] {
        let (client, (layers, config)) = (client(monolithic), image(size));
        let image = reference(&registry, "alice.test/app:1.0");
        let auth = RegistryAuth::Anonymous;
        client.push(&image, &layers, config, &auth, None).await.unwrap();
        let pulled = client.pull(&image, &auth, vec![LAYER]).await.unwrap();
        // The client gives them in the order in which they arrive.
        let mut data: Vec<_> = pulled.layers.iter().map(|layer| &layer.data).collect();
        data.sort_by_key(|data| std::cmp::Reverse(data.len()));
        assert!(data == layers.iter().map(|layer| &layer.data).collect::<Vec<_>>());
        let tags = client.list_tags(&image, &auth, None, None).await.unwrap();
        assert_eq!(tags.tags, ["1.0"]);
    }
}

#[tokio::test]
async fn a_blob_is_streamed_in_chunks_mounted_and_pulled_in_part() {
    let registry = Registry::memory().spawn().await.unwrap();
    let client = client(false);
    let (one, two) = (reference(&registry, "one:latest"), reference(&registry, "two:latest"));
    client.auth(&one, &RegistryAuth::Anonymous, RegistryOperation::Push).await.unwrap();
    let pieces: Vec<Bytes> = (0..9_u8).map(|n| Bytes::from(vec![n; 1 << 20])).collect();
    let content = pieces.concat();
    let pushed =
        client.push_blob_stream_chunked(&one, stream::iter(pieces.into_iter().map(Ok))).await.unwrap();
    let digest = atcr_core::oci::Digest::sha256(&content).to_string();
    assert!(client.blob_exists(&one, &digest).await.unwrap(), "{pushed:?}");
    assert!(!client.blob_exists(&two, &digest).await.unwrap());
    client.mount_blob(&two, &one, &digest).await.unwrap();
    let blob = OciDescriptor { digest, size: 9 << 20, ..OciDescriptor::default() };
    let mut pulled = Vec::new();
    client.pull_blob(&two, &blob, &mut pulled).await.unwrap();
    assert!(pulled == content);
    let partial = client.pull_blob_stream_partial(&two, &blob, 5, Some(3)).await.unwrap();
    assert!(matches!(partial, oci_distribution::client::BlobResponse::Partial(_)));
}

#[tokio::test]
async fn referrers_are_found() {
    let registry = Registry::memory().spawn().await.unwrap();
    let client = client(true);
    let image = reference(&registry, "app:latest");
    let auth = RegistryAuth::Anonymous;
    let (layers, config) = self::image(10);
    client.push(&image, &layers, config, &auth, None).await.unwrap();
    let subject = client.fetch_manifest_digest(&image, &auth).await.unwrap();
    let mut annotations = BTreeMap::new();
    annotations.insert("kind".to_owned(), "signature".to_owned());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.signature", "layers": [], "annotations": annotations,
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 1},
    });
    let body = manifest.to_string();
    let digest = atcr_core::oci::Digest::sha256(body.as_bytes());
    let artifact = reference(&registry, &format!("app@{digest}"));
    let media_type = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
    client.push_manifest_raw(&artifact, body, media_type).await.unwrap();
    let subject = reference(&registry, &format!("app@{subject}"));
    let found = client.pull_referrers(&subject, Some("application/vnd.example.signature")).await.unwrap();
    assert_eq!(found.manifests.len(), 1);
    assert_eq!(found.manifests[0].digest, digest.to_string());
}
