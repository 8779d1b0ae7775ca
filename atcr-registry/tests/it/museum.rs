//! Faults that other registries shipped, each by its public name.

use atcr_core::oci::{Digest, MediaType};
use http::Method;

use crate::support::{Peer, guarded, guarded_builder, image, index, on_filesystem, open};

#[tokio::test]
async fn cve_2026_35172_a_deleted_blob_is_not_readable_from_any_cache() {
    let peer = open();
    let digest = peer.push_blob("a", b"abc").await;
    let path = format!("/v2/a/blobs/{digest}");
    peer.get(&path).await.is(200);
    peer.head(&path).await.is(200);
    peer.delete(&path).await.is(202);
    peer.get(&path).await.is(404);
    peer.head(&path).await.is(404);
    let conditional = peer.call(Method::GET, &path).header("if-none-match", &format!("\"{digest}\""));
    conditional.send(()).await.is(404);
    let ranged = peer.call(Method::GET, &path).header("range", "bytes=0-0");
    ranged.send(()).await.is(404);
}

#[tokio::test]
async fn cve_2026_41888_nothing_is_deleted_where_deletion_is_off() {
    let registry = guarded_builder().deletion(false).build().unwrap();
    let alice = Peer::new(registry).with_token("alice");
    let digest = alice.push_image("alice/app", "latest", "layer").await;
    for path in [
        "/v2/alice/app/manifests/latest".to_owned(),
        format!("/v2/alice/app/manifests/{digest}"),
        format!("/v2/alice/app/blobs/{}", Digest::sha256(b"layer")),
    ] {
        alice.delete(&path).await.fails(405, "UNSUPPORTED");
        alice.get(&path).await.is(200);
    }
    // Giving up an upload deletes nothing.
    alice.delete(&alice.begin("alice/app").await).await.is(204);
}

#[tokio::test]
async fn cve_2026_61833_the_right_to_push_is_not_the_right_to_delete() {
    let peer = guarded();
    let (alice, pusher) = (peer.with_token("alice"), peer.with_token("alice:push"));
    let digest = alice.push_image("alice/app", "latest", "layer").await;
    pusher.push_blob("alice/app", b"more").await;
    for path in [
        "/v2/alice/app/manifests/latest".to_owned(),
        format!("/v2/alice/app/manifests/{digest}"),
        format!("/v2/alice/app/blobs/{}", Digest::sha256(b"layer")),
    ] {
        pusher.delete(&path).await.fails(403, "DENIED");
        alice.head(&path).await.is(200);
    }
}

#[tokio::test]
async fn cve_2024_39897_a_private_blob_is_not_readable_through_another_repository() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let secret = bob.push_blob("bob/private", b"secret").await;
    alice.push_blob("alice/app", b"other").await;
    for query in [format!("mount={secret}&from=bob/private"), format!("mount={secret}")] {
        alice.post(&format!("/v2/alice/app/blobs/uploads/?{query}"), ()).await.is(202);
    }
    alice.get(&format!("/v2/alice/app/blobs/{secret}")).await.is(404);
    alice.head(&format!("/v2/alice/app/blobs/{secret}")).await.is(404);
    let manifest =
        alice.put_manifest("alice/app", "x", MediaType::OCI_MANIFEST, &image(&secret, &secret)).await;
    manifest.fails(400, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn cve_2026_32589_an_upload_belongs_to_its_principal_and_its_repository() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let location = alice.patch(&alice.begin("shared/app").await, "alice's").await.is(202).location();
    let finish = |location: &str| format!("{location}?digest={}", Digest::sha256(b"alice's"));
    bob.put(&finish(&location), ()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    bob.delete(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    let elsewhere = location.replace("shared/app", "alice/app");
    alice.put(&finish(&elsewhere), ()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    alice.put(&finish(&location), ()).await.is(201);
}

#[tokio::test]
async fn harbor_2026_05_the_source_of_a_mount_is_authorized() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let digest = bob.push_blob("bob/private", b"abc").await;
    let path = format!("/v2/alice/app/blobs/uploads/?mount={digest}&from=bob/private");
    alice.post(&path, ()).await.is(202);
    alice.head(&format!("/v2/alice/app/blobs/{digest}")).await.is(404);
}

#[tokio::test]
async fn cve_2023_3384_no_browser_runs_what_was_pushed() {
    let peer = open();
    let page = r#"{"x":"<script>alert(1)</script>"}"#;
    peer.put_manifest("a", "page", "text/html", page).await.is(201);
    let blob = peer.push_blob("a", b"<script>alert(1)</script>").await;
    for path in
        ["/v2/a/manifests/page".to_owned(), format!("/v2/a/blobs/{blob}"), "/v2/a/tags/list".to_owned()]
    {
        let answer = peer.get(&path).await.is(200);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
    }
}

#[tokio::test]
async fn zot_2026_07_no_other_origin_is_let_in() {
    let peer = open();
    let call = peer.call(Method::GET, "/v2/").header("origin", "https://evil.example");
    let answer = call.send(()).await.is(200);
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{answer:?}");
}

#[tokio::test]
async fn distribution_4891_and_4903_a_tag_that_begins_another_is_listed() {
    let peer = open();
    for tag in ["1.0", "1", "1.0-a", "1-0", "1.0.0"] {
        peer.put_manifest("a", tag, MediaType::OCI_INDEX, &index(&[])).await.is(201);
    }
    let sorted = serde_json::json!(["1", "1-0", "1.0", "1.0-a", "1.0.0"]);
    assert_eq!(peer.get("/v2/a/tags/list").await.is(200).json()["tags"], sorted);
    let after = serde_json::json!(["1.0", "1.0-a"]);
    assert_eq!(peer.get("/v2/a/tags/list?n=2&last=1-0").await.is(200).json()["tags"], after);
}

#[tokio::test]
async fn distribution_4931_the_last_page_is_an_empty_list() {
    let peer = open();
    peer.put_manifest("a", "only", MediaType::OCI_INDEX, &index(&[])).await.is(201);
    let answer = peer.get("/v2/a/tags/list?n=1&last=only").await.is(200);
    assert_eq!(answer.body, r#"{"name":"a","tags":[]}"#);
}

#[tokio::test]
async fn zot_4318_nested_indexes_are_not_walked() {
    let peer = open();
    let mut children = vec![peer.push_image("a", "leaf", "leaf").await];
    // Sixty levels, each naming the one below four times: a walk would take for ever.
    for _ in 0..60 {
        let below = *children.last().unwrap();
        let json = index(&[below, below, below, below]);
        peer.put_manifest("a", "top", MediaType::OCI_INDEX, &json).await.is(201);
        children.push(Digest::sha256(json.as_bytes()));
    }
    let top = *children.last().unwrap();
    peer.get(&format!("/v2/a/referrers/{top}")).await.is(200);
    peer.delete(&format!("/v2/a/manifests/{top}")).await.is(202);
}

#[tokio::test]
async fn distribution_4892_a_content_range_with_an_asterisk_is_read() {
    let peer = open();
    let call =
        |at: &str, range: &str| peer.call(Method::PATCH, at).header("content-range", range).send("abc");
    let next = call(&peer.begin("a").await, "bytes 0-2/*").await.is(202).location();
    call(&next, "bytes */10").await.fails(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(call(&next, "3-5/*").await.is(202).header("range"), "0-5");
}

#[tokio::test]
async fn zot_3995_several_ranges_are_multipart() {
    let peer = open();
    let path = format!("/v2/a/blobs/{}", peer.push_blob("a", b"0123456789").await);
    let answer = peer.call(Method::GET, &path).header("range", "bytes=0-1,8-9").send(()).await.is(206);
    assert!(answer.header("content-type").starts_with("multipart/byteranges; boundary="));
}

#[tokio::test]
async fn zot_regclient_961_every_202_says_how_far_the_upload_is() {
    let peer = open();
    let begun = peer.post("/v2/a/blobs/uploads/", ()).await.is(202);
    assert_eq!(begun.header("range"), "0-0");
    let next = peer.patch(&begun.location(), "abc").await.is(202);
    assert_eq!(next.header("range"), "0-2");
    assert_eq!(peer.patch(&next.location(), "d").await.is(202).header("range"), "0-3");
}

#[tokio::test]
async fn hub_feedback_2372_a_referrer_may_come_before_its_subject() {
    let peer = open();
    let subject = Digest::sha256(b"to come");
    let json = format!(
        r#"{{"schemaVersion":2,"layers":[],"subject":{{"mediaType":"a/b","digest":"{subject}","size":1}}}}"#
    );
    let answer = peer.put_manifest("a", "x", MediaType::OCI_MANIFEST, &json).await.is(201);
    assert_eq!(answer.header("oci-subject"), subject.to_string());
}

#[tokio::test]
async fn quay_6385_an_empty_filter_is_a_filter() {
    let path = format!("/v2/a/referrers/{}?artifactType=", Digest::sha256(b"x"));
    assert_eq!(open().get(&path).await.is(200).header("oci-filters-applied"), "artifactType");
}

#[tokio::test]
async fn containerd_10177_a_range_on_a_manifest_does_no_harm() {
    let peer = open();
    peer.push_image("a", "latest", "image").await;
    let whole = peer.get("/v2/a/manifests/latest").await.is(200).body;
    let call = peer.call(Method::GET, "/v2/a/manifests/latest").header("range", "bytes=0-");
    assert_eq!(call.send(()).await.is(200).body, whole);
}

#[tokio::test]
async fn containerd_14086_and_11709_a_refused_mount_does_not_stop_a_push() {
    let alice = guarded().with_token("alice");
    let digest = Digest::sha256(b"x");
    for from in ["bob/private", "nobody/app", "down/app"] {
        alice.post(&format!("/v2/alice/app/blobs/uploads/?mount={digest}&from={from}"), ()).await.is(202);
    }
}

#[tokio::test]
async fn sdk_container_builds_471_a_blob_may_come_in_many_patches() {
    let peer = open();
    let mut location = peer.begin("a").await;
    let mut content = Vec::new();
    for n in 0..50_u8 {
        location = peer.patch(&location, vec![n; 100]).await.is(202).location();
        content.extend([n; 100]);
    }
    let digest = Digest::sha256(&content);
    peer.put(&format!("{location}?digest={digest}"), ()).await.is(201);
    assert_eq!(peer.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, content);
}

#[tokio::test]
async fn containerd_10177_a_layer_is_fetched_in_parallel_ranges() {
    let (peer, _directory) = on_filesystem().await;
    let content: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let path = format!("/v2/a/blobs/{}", peer.push_blob("a", &content).await);
    let part = |n: usize| {
        let (peer, path) = (peer.clone(), path.clone());
        async move {
            let range = format!("bytes={}-{}", n * 100_000, n * 100_000 + 99_999);
            peer.call(Method::GET, &path).header("range", &range).send(()).await.is(206).body
        }
    };
    let parts = futures_util::future::join_all((0..11).map(part)).await;
    assert!(parts.concat() == content);
}

#[tokio::test]
async fn containerd_7459_a_blob_may_come_in_one_put() {
    let peer = open();
    let content = vec![7; 5 << 20];
    let digest = Digest::sha256(&content);
    let location = peer.begin("a").await;
    let answer = peer.put(&format!("{location}?digest={digest}"), content.clone()).await.is(201);
    assert!(peer.get(&answer.location()).await.is(200).body == content);
}

#[tokio::test]
async fn zot_4266_and_cve_2026_31801_a_tag_is_moved_by_who_may_push_and_by_nobody_else() {
    let peer = guarded();
    let (alice, bob) = (peer.with_token("alice"), peer.with_token("bob"));
    let first = alice.push_image("alice/public", "latest", "first").await;
    let json = index(&[first]);
    let moved = |peer: Peer| {
        let json = json.clone();
        async move { peer.put_manifest("alice/public", "latest", MediaType::OCI_INDEX, &json).await }
    };
    moved(bob.clone()).await.fails(403, "DENIED");
    moved(peer.clone()).await.fails(401, "UNAUTHORIZED");
    moved(peer.with_token("alice:pull")).await.fails(403, "DENIED");
    let digest = |answer: &crate::support::Answer| answer.header("docker-content-digest").to_owned();
    let path = "/v2/alice/public/manifests/latest";
    assert_eq!(digest(&bob.head(path).await.is(200)), first.to_string());
    // Neither does another way to the same tag help.
    let by_digest = format!("{}?tag=latest", Digest::sha256(json.as_bytes()));
    bob.put_manifest("alice/public", &by_digest, MediaType::OCI_INDEX, &json).await.fails(403, "DENIED");
    moved(alice).await.is(201);
    assert_eq!(digest(&bob.head(path).await.is(200)), Digest::sha256(json.as_bytes()).to_string());
}
