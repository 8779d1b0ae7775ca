//! Pushing, pulling and deleting manifests.

use atcr_core::oci::{Algorithm, Digest, MediaType};
use atcr_registry::{Registry, Sparse};
use http::Method;

use crate::support::{Peer, guarded_builder, image, index, open};

const MANIFEST: &str = MediaType::OCI_MANIFEST;

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_with_its_media_type() {
    let peer = open();
    let blob = peer.push_blob("a", b"{}").await;
    let odd =
        format!(" {}\n", image(&blob, &blob).replacen("\"layers\"", "\"x\\u002d1\": 1.50, \"layers\"", 1));
    for (media_type, json) in [
        (MANIFEST, odd.clone()),
        (MediaType::DOCKER_MANIFEST, odd.replacen('{', "{ ", 1)),
        (MediaType::DOCKER_LIST, r#"{"schemaVersion":2,"manifests":[]}"#.to_owned()),
        (MediaType::OCI_INDEX, r#"{"schemaVersion":2,"manifests":null}"#.to_owned()),
        ("application/vnd.example.unknown+json", r#"{"anything":["goes"]}"#.to_owned()),
    ] {
        let digest = Digest::sha256(json.as_bytes());
        let typed = format!("{media_type}; charset=utf-8");
        let pushed = peer.put_manifest("a", "tag", &typed, &json).await.is(201);
        assert_eq!(pushed.location(), format!("/v2/a/manifests/{digest}"));
        assert_eq!(pushed.header("docker-content-digest"), digest.to_string());
        for reference in ["tag".to_owned(), digest.to_string()] {
            let path = format!("/v2/a/manifests/{reference}");
            let (get, head) = (peer.get(&path).await.is(200), peer.head(&path).await.is(200));
            assert_eq!((&*get.body, head.body.len()), (json.as_bytes(), 0));
            for (name, value) in [
                ("content-type", media_type),
                ("content-length", &json.len().to_string()),
                ("docker-content-digest", &digest.to_string()),
            ] {
                assert_eq!((get.header(name), head.header(name)), (value, value));
            }
        }
    }
}

#[tokio::test]
async fn what_a_manifest_is_may_be_said_by_itself_alone() {
    let peer = open();
    let json = index(&[]);
    peer.put("/v2/a/manifests/latest", json).await.is(201);
    assert_eq!(peer.get("/v2/a/manifests/latest").await.is(200).header("content-type"), MediaType::OCI_INDEX);
}

#[tokio::test]
async fn a_manifest_is_pushed_by_its_sha512() {
    let peer = open();
    let blob = peer.push_blob("a", b"{}").await;
    let json = image(&blob, &blob);
    let digest = Digest::of(Algorithm::Sha512, json.as_bytes());
    let answer = peer.put_manifest("a", &format!("{digest}?tag=wide"), MANIFEST, &json).await.is(201);
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    let by_tag = peer.head("/v2/a/manifests/wide").await.is(200);
    assert_eq!(by_tag.header("docker-content-digest"), digest.to_string());
    peer.get(&format!("/v2/a/manifests/{}", Digest::sha256(json.as_bytes()))).await.is(404);
    peer.delete(&format!("/v2/a/manifests/{digest}")).await.is(202);
    peer.get("/v2/a/manifests/wide").await.is(404);
}

#[tokio::test]
async fn several_tags_are_set_in_one_push() {
    let peer = open();
    let json = index(&[]);
    let digest = Digest::sha256(json.as_bytes());
    let tags: Vec<_> = (0..40).map(|n| format!("t{n}")).collect();
    let query: Vec<_> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let path = format!("{digest}?{}", query.join("&"));
    let answer = peer.put_manifest("a", &path, MediaType::OCI_INDEX, &json).await.is(201);
    let mut accepted: Vec<_> = answer
        .headers
        .get_all("oci-tag")
        .iter()
        .flat_map(|line| line.to_str().unwrap().split(", "))
        .collect();
    accepted.sort_unstable_by_key(|tag| tag[1..].parse::<u32>().unwrap());
    assert_eq!(accepted, tags);
    for tag in &tags {
        peer.head(&format!("/v2/a/manifests/{tag}")).await.is(200);
    }
    let many = vec!["tag=x"; 65].join("&");
    let answer = peer.put_manifest("a", &format!("{digest}?{many}"), MediaType::OCI_INDEX, &json).await;
    answer.fails(414, "UNSUPPORTED");
    let answer =
        peer.put_manifest("a", &format!("{digest}?tag=ok&tag=.bad"), MediaType::OCI_INDEX, &json).await;
    answer.fails(400, "MANIFEST_INVALID");
    peer.head("/v2/a/manifests/ok").await.is(404);
}

#[tokio::test]
async fn a_foreign_layer_need_not_be_there() {
    let peer = open();
    let (config, absent) = (peer.push_blob("a", b"{}").await, Digest::sha256(b"absent"));
    let kind = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let json = image(&config, &absent).replace("application/vnd.oci.image.layer.v1.tar", kind);
    peer.put_manifest("a", "latest", MANIFEST, &json).await.is(201);
}

fn with_sparse(sparse: Sparse) -> Peer {
    Peer::new(guarded_builder().sparse(sparse).build().unwrap()).with_token("alice")
}

#[tokio::test]
async fn whether_content_may_be_missing_is_a_setting() {
    let absent = Digest::sha256(b"absent");
    for (indexes, images) in [(true, false), (false, false), (true, true)] {
        let alice = with_sparse(Sparse { indexes, images });
        let pushed = alice.put_manifest("alice/app", "image", MANIFEST, &image(&absent, &absent)).await;
        assert_eq!(pushed.status.as_u16(), if images { 201 } else { 400 });
        let pushed = alice.put_manifest("alice/app", "index", MediaType::OCI_INDEX, &index(&[absent])).await;
        assert_eq!(pushed.status.as_u16(), if indexes { 201 } else { 400 });
        let child = alice.push_image("alice/app", "child", "child").await;
        alice.put_manifest("alice/app", "index", MediaType::OCI_INDEX, &index(&[child])).await.is(201);
    }
}

#[tokio::test]
async fn a_blob_of_another_repository_does_not_count() {
    let peer = open();
    let blob = peer.push_blob("a", b"{}").await;
    let answer = peer.put_manifest("b", "latest", MANIFEST, &image(&blob, &blob)).await;
    answer.fails(400, "MANIFEST_BLOB_UNKNOWN");
    peer.get("/v2/b/manifests/latest").await.is(404);
}

#[tokio::test]
async fn a_document_that_is_image_and_index_at_once_is_refused() {
    let peer = open();
    let blob = peer.push_blob("a", b"{}").await;
    let child = format!(r#"{{"mediaType":"{MANIFEST}","digest":"{blob}","size":2}}"#);
    let json = image(&blob, &blob).replacen('{', &format!(r#"{{"manifests":[{child}],"#), 1);
    for media_type in [MANIFEST, MediaType::OCI_INDEX] {
        peer.put_manifest("a", "both", media_type, &json).await.fails(400, "MANIFEST_INVALID");
    }
}

#[tokio::test]
async fn a_deleted_manifest_takes_its_tags_along_and_a_deleted_tag_nothing() {
    let peer = open();
    let digest = peer.push_image("a", "one", "image").await;
    peer.push_image("a", "two", "image").await;
    peer.delete("/v2/a/manifests/two").await.is(202);
    peer.get("/v2/a/manifests/two").await.is(404);
    peer.get(&format!("/v2/a/manifests/{digest}")).await.is(200);
    peer.delete(&format!("/v2/a/manifests/{digest}")).await.is(202);
    for reference in ["one".to_owned(), digest.to_string()] {
        peer.get(&format!("/v2/a/manifests/{reference}")).await.is(404);
        peer.head(&format!("/v2/a/manifests/{reference}")).await.is(404);
        peer.delete(&format!("/v2/a/manifests/{reference}")).await.fails(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(peer.get("/v2/a/tags/list").await.is(200).json()["tags"], serde_json::json!([]));
}

#[tokio::test]
async fn a_client_that_has_the_manifest_gets_no_bytes_and_a_tag_is_asked_for_each_time() {
    let peer = open();
    let digest = peer.push_image("a", "latest", "image").await;
    for (reference, cache) in
        [("latest".to_owned(), "no-cache"), (digest.to_string(), "public, max-age=31536000, immutable")]
    {
        let path = format!("/v2/a/manifests/{reference}");
        assert_eq!(peer.get(&path).await.is(200).header("cache-control"), cache);
        let known = peer.call(Method::GET, &path).header("if-none-match", &format!("\"{digest}\""));
        let answer = known.send(()).await.is(304);
        assert_eq!((answer.header("cache-control"), answer.body.len()), (cache, 0));
    }
}

#[tokio::test]
async fn any_accept_header_gets_the_manifest_as_it_is() {
    let peer = open();
    peer.push_image("a", "latest", "image").await;
    for accept in ["*/*", MediaType::DOCKER_MANIFEST, "text/html"] {
        let call = peer.call(Method::GET, "/v2/a/manifests/latest").header("accept", accept);
        assert_eq!(call.send(()).await.is(200).header("content-type"), MANIFEST);
    }
}

#[tokio::test]
async fn a_warning_is_given_with_every_answer() {
    let registry = guarded_builder().warning("read-only from Monday on").build().unwrap();
    for path in ["/v2/", "/v2/alice/public/tags/list"] {
        let answer = Peer::new(registry.clone()).get(path).await;
        assert_eq!(answer.header("warning"), "299 - \"read-only from Monday on\"");
    }
}

#[test]
fn a_registry_is_not_built_without_its_parts() {
    let error = Registry::builder().build().unwrap_err();
    assert!(error.to_string().contains("manifests"), "{error}");
}
