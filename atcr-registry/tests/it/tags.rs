//! Listing tags and repositories.

use atcr_core::oci::MediaType;
use atcr_registry::Limits;
use serde_json::json;

use crate::support::{Answer, Peer, guarded_builder, index, open};

async fn push(peer: &Peer, repository: &str, tags: &[&str]) {
    for tag in tags {
        peer.put_manifest(repository, tag, MediaType::OCI_INDEX, &index(&[])).await.is(201);
    }
}

fn tags(answer: &Answer) -> Vec<String> {
    serde_json::from_value(answer.json()["tags"].clone()).unwrap()
}

/// The address in a `Link` header.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

#[tokio::test]
async fn tags_are_listed_in_byte_order_and_paged_by_n_and_last() {
    let peer = open();
    push(&peer, "a/b", &["b", "a", "_", "Z", "10", "2"]).await;
    let sorted = ["10", "2", "Z", "_", "a", "b"];
    let answer = peer.get("/v2/a/b/tags/list").await.is(200);
    assert_eq!(answer.json(), json!({"name": "a/b", "tags": sorted}));
    assert_eq!(next(&answer), None);
    for (query, expected, more) in [
        ("n=2", &sorted[..2], true),
        ("n=6", &sorted[..], false),
        ("n=100", &sorted[..], false),
        ("n=2&last=2", &sorted[2..4], true),
        ("last=Z", &sorted[3..], false),
        ("last=3", &sorted[2..], false),
        ("n=2&last=a", &sorted[5..], false),
        ("n=2&last=b", &[], false),
        ("n=0", &[], false),
        ("n=0&last=Z", &[], false),
    ] {
        let answer = peer.get(&format!("/v2/a/b/tags/list?{query}")).await.is(200);
        assert_eq!(tags(&answer), expected, "{query}");
        assert_eq!(next(&answer).is_some(), more, "{query}");
    }
}

#[tokio::test]
async fn links_lead_through_all_pages_also_without_n() {
    let limits = Limits { tags_page: 4, ..Limits::default() };
    let peer = Peer::new(guarded_builder().limits(limits).build().unwrap()).with_token("alice");
    let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    push(&peer, "alice/app", &all).await;
    for (query, lengths) in [("", &[4, 4, 1][..]), ("?n=100", &[4, 4, 1]), ("?n=3", &[3, 3, 3])] {
        let mut path = Some(format!("/v2/alice/app/tags/list{query}"));
        let mut listed = Vec::new();
        for length in lengths {
            let answer = peer.get(&path.unwrap()).await.is(200);
            assert_eq!(tags(&answer).len(), *length);
            listed.extend(tags(&answer));
            path = next(&answer);
        }
        assert_eq!((listed.as_slice(), path), (&all.map(str::to_owned)[..], None));
    }
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list_and_an_unknown_one_none() {
    let peer = open();
    push(&peer, "a", &["x"]).await;
    peer.delete("/v2/a/manifests/x").await.is(202);
    assert_eq!(peer.get("/v2/a/tags/list").await.is(200).json(), json!({"name": "a", "tags": []}));
    peer.get("/v2/b/tags/list").await.fails(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn the_catalog_is_paged() {
    let peer = open();
    for repository in ["c", "a/x", "a", "b"] {
        push(&peer, repository, &["latest"]).await;
    }
    let answer = peer.get("/v2/_catalog").await.is(200);
    assert_eq!(answer.json(), json!({"repositories": ["a", "a/x", "b", "c"]}));
    let answer = peer.get("/v2/_catalog?n=2").await.is(200);
    assert_eq!(answer.json(), json!({"repositories": ["a", "a/x"]}));
    let answer = peer.get(&next(&answer).unwrap()).await.is(200);
    assert_eq!(answer.json(), json!({"repositories": ["b", "c"]}));
    assert_eq!(next(&answer), None);
    assert_eq!(open().get("/v2/_catalog").await.is(200).json(), json!({"repositories": []}));
}

#[tokio::test]
async fn the_catalog_names_no_repository_that_the_caller_may_not_pull() {
    let peer = guarded_builder().build().map(Peer::new).unwrap();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    push(&alice, "alice/app", &["latest"]).await;
    push(&bob, "bob/private", &["latest"]).await;
    push(&bob, "bob/public", &["latest"]).await;
    let expected = json!({"repositories": ["alice/app", "bob/public"]});
    assert_eq!(alice.get("/v2/_catalog").await.is(200).json(), expected);
    let first = bob.get("/v2/_catalog?n=1").await.is(200);
    assert_eq!(first.json(), json!({"repositories": []}));
    let second = bob.get(&next(&first).unwrap()).await.is(200);
    assert_eq!(second.json(), json!({"repositories": ["bob/private"]}));
    peer.get("/v2/_catalog").await.fails(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn the_ping_is_an_empty_object_with_the_version() {
    for path in ["/v2/", "/v2"] {
        let answer = open().get(path).await.is(200);
        assert_eq!(answer.body, "{}");
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
    open().head("/v2/").await.is(200);
}
