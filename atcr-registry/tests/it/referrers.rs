//! Listing referrers.

use atcr_core::oci::{Algorithm, Digest, MediaType};
use atcr_registry::Limits;
use serde_json::Value;

use crate::support::{Peer, guarded_builder, index, open};

const MANIFEST: &str = MediaType::OCI_MANIFEST;

fn artifact(subject: &Digest, artifact_type: &str, name: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}"{artifact_type},"layers":[],"annotations":{{"name":"{name}"}},
            "subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":1}}}}"#
    )
}

async fn push_artifact(
    peer: &Peer,
    repository: &str,
    subject: &Digest,
    artifact_type: &str,
    name: &str,
) -> Digest {
    let artifact_type = if artifact_type.is_empty() {
        String::new()
    } else {
        format!(r#","artifactType":"{artifact_type}""#)
    };
    let json = artifact(subject, &artifact_type, name);
    let digest = Digest::sha256(json.as_bytes());
    let answer = peer.put_manifest(repository, &digest.to_string(), MANIFEST, &json).await.is(201);
    assert_eq!(answer.header("oci-subject"), subject.to_string());
    digest
}

async fn list(peer: &Peer, path: &str) -> (Vec<Value>, String, String) {
    let answer = peer.get(path).await.is(200);
    assert_eq!(answer.header("content-type"), MediaType::OCI_INDEX);
    let json = answer.json();
    assert_eq!((&json["schemaVersion"], &json["mediaType"]), (&2.into(), &MediaType::OCI_INDEX.into()));
    let entries = json["manifests"].as_array().unwrap().clone();
    (entries, answer.header("oci-filters-applied").to_owned(), answer.header("link").to_owned())
}

fn digests(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["digest"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_unknown_subject_has_an_empty_list() {
    let peer = open();
    peer.push_image("known", "latest", "image").await;
    for (repository, algorithm) in
        [("unknown", Algorithm::Sha256), ("known", Algorithm::Sha256), ("known", Algorithm::Sha512)]
    {
        let path = format!("/v2/{repository}/referrers/{}", Digest::of(algorithm, b"x"));
        assert!(list(&peer, &path).await.0.is_empty());
    }
}

#[tokio::test]
async fn a_referrer_is_listed_with_what_it_says_of_itself() {
    let peer = open();
    let subject = Digest::sha256(b"not pushed yet");
    let digest = push_artifact(&peer, "a", &subject, "application/vnd.example.sbom", "sbom").await;
    let (entries, filters, link) = list(&peer, &format!("/v2/a/referrers/{subject}")).await;
    let size = peer.get(&format!("/v2/a/manifests/{digest}")).await.is(200).body.len();
    assert_eq!(
        entries,
        [serde_json::json!({
            "mediaType": MANIFEST, "digest": digest, "size": size,
            "artifactType": "application/vnd.example.sbom", "annotations": {"name": "sbom"},
        })]
    );
    assert!(filters.is_empty() && link.is_empty());
    peer.delete(&format!("/v2/a/manifests/{digest}")).await.is(202);
    assert!(list(&peer, &format!("/v2/a/referrers/{subject}")).await.0.is_empty());
}

#[tokio::test]
async fn referrers_are_filtered_by_their_artifact_type() {
    let peer = open();
    let subject = Digest::sha256(b"subject");
    let sbom = push_artifact(&peer, "a", &subject, "application/vnd.example.sbom+json", "sbom").await;
    let other = push_artifact(&peer, "a", &subject, "application/vnd.example.other", "other").await;
    let untyped = push_artifact(&peer, "a", &subject, "", "untyped").await;
    for (query, expected) in [
        ("application/vnd.example.sbom%2Bjson", vec![sbom]),
        ("application/vnd.example.sbom+json", vec![sbom]),
        ("application%2Fvnd.example.other", vec![other]),
        ("application/vnd.example", vec![]),
        ("", vec![untyped]),
    ] {
        let (entries, filters, _) =
            list(&peer, &format!("/v2/a/referrers/{subject}?artifactType={query}")).await;
        let expected: Vec<_> = expected.iter().map(Digest::to_string).collect();
        assert_eq!(digests(&entries), expected, "{query}");
        assert_eq!(filters, "artifactType");
    }
}

#[tokio::test]
async fn referrers_come_in_pages_that_keep_the_filter() {
    let limits = Limits { referrers_page: 3, ..Limits::default() };
    let peer = Peer::new(guarded_builder().limits(limits).build().unwrap()).with_token("alice");
    let subject = Digest::sha256(b"subject");
    let mut pushed = Vec::new();
    for n in 0..7 {
        pushed.push(
            push_artifact(&peer, "alice/app", &subject, "application/a+b", &n.to_string()).await.to_string(),
        );
        push_artifact(&peer, "alice/app", &subject, "application/other", &n.to_string()).await;
    }
    pushed.sort();
    let mut path = format!("/v2/alice/app/referrers/{subject}?artifactType=application/a%2Bb");
    let mut listed = Vec::new();
    for length in [3, 3, 1] {
        let (entries, _, link) = list(&peer, &path).await;
        assert_eq!(entries.len(), length);
        listed.extend(digests(&entries).into_iter().map(str::to_owned));
        path = link
            .strip_prefix('<')
            .and_then(|link| link.split_once(">; rel=\"next\""))
            .map_or(String::new(), |l| l.0.to_owned());
    }
    assert_eq!((listed, path), (pushed, String::new()));
}

#[tokio::test]
async fn a_page_is_not_larger_than_a_manifest_may_be() {
    let peer = open();
    let subject = Digest::sha256(b"subject");
    for n in 0..3 {
        push_artifact(&peer, "a", &subject, "", &format!("{n}{}", "x".repeat(2_000_000))).await;
    }
    let answer = peer.get(&format!("/v2/a/referrers/{subject}")).await.is(200);
    assert!(answer.body.len() <= 4 << 20 && !answer.header("link").is_empty());
    assert_eq!(answer.json()["manifests"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_index_at_the_fallback_tag_is_merged_in() {
    let peer = open();
    let subject = peer.push_image("a", "latest", "subject").await;
    let native = push_artifact(&peer, "a", &subject, "application/x", "native").await;
    // Pushed by a client that knew no referrers API: without `subject`, or before this registry had the API.
    let old = peer.push_image("a", "old", "old").await;
    let gone = Digest::sha256(b"deleted since");
    let fallback = format!("sha256-{}", subject.hex());
    peer.put_manifest("a", &fallback, MediaType::OCI_INDEX, &index(&[native, old, gone])).await.is(201);
    let (entries, ..) = list(&peer, &format!("/v2/a/referrers/{subject}")).await;
    let mut expected = [native.to_string(), old.to_string()];
    expected.sort();
    assert_eq!(digests(&entries), expected);
    let entry = entries.iter().find(|entry| entry["digest"] == native.to_string()).unwrap();
    assert_eq!(entry["annotations"]["name"], "native", "the native entry knows more");

    // What is no index at the tag is no error.
    peer.push_image("a", &fallback, "not an index").await;
    assert_eq!(list(&peer, &format!("/v2/a/referrers/{subject}")).await.0.len(), 1);
}

#[tokio::test]
async fn the_fallback_tag_of_a_sha512_is_cut() {
    let peer = open();
    let subject = Digest::of(Algorithm::Sha512, b"subject");
    let old = peer.push_image("a", "old", "old").await;
    let fallback = format!("sha512-{}", &subject.hex()[..64]);
    peer.put_manifest("a", &fallback, MediaType::OCI_INDEX, &index(&[old])).await.is(201);
    assert_eq!(digests(&list(&peer, &format!("/v2/a/referrers/{subject}")).await.0), [old.to_string()]);
}
