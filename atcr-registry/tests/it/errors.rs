//! Every error with its status, its code and a message.

use std::sync::Arc;
use std::time::Duration;

use atcr_core::StoreError;
use atcr_core::oci::{Digest, MediaType};
use http::Method;

use crate::stores::Watched;
use crate::support::{Peer, guarded, image, open, with_blobs};

#[tokio::test]
async fn every_code_of_the_table_is_given_where_it_belongs() {
    let peer = open();
    let absent = Digest::sha256(b"absent");
    peer.push_image("a", "latest", "image").await;
    peer.get(&format!("/v2/a/blobs/{absent}")).await.fails(404, "BLOB_UNKNOWN");
    peer.delete(&format!("/v2/a/blobs/{absent}")).await.fails(404, "BLOB_UNKNOWN");
    peer.get(&format!("/v2/a/manifests/{absent}")).await.fails(404, "MANIFEST_UNKNOWN");
    peer.get("/v2/a/manifests/absent").await.fails(404, "MANIFEST_UNKNOWN");
    peer.delete("/v2/a/manifests/absent").await.fails(404, "MANIFEST_UNKNOWN");
    peer.get("/v2/nobody/tags/list").await.fails(404, "NAME_UNKNOWN");
    peer.get("/v2/UPPER/tags/list").await.fails(400, "NAME_INVALID");
    peer.post("/v2/-a/blobs/uploads/", ()).await.fails(400, "NAME_INVALID");
    peer.get("/v2/a/blobs/sha256:short").await.fails(400, "DIGEST_INVALID");
    peer.get("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e").await.fails(400, "DIGEST_INVALID");
    peer.get("/v2/a/referrers/sha256:short").await.fails(400, "DIGEST_INVALID");
    peer.put("/v2/a/manifests/sha256:short", "{}").await.fails(400, "DIGEST_INVALID");
    peer.put(&format!("/v2/a/manifests/{absent}"), "{}").await.fails(400, "DIGEST_INVALID");
    peer.post("/v2/a/blobs/uploads/?digest=sha256:short", "x").await.fails(400, "DIGEST_INVALID");
    peer.post(&format!("/v2/a/blobs/uploads/?digest={absent}"), "x").await.fails(400, "DIGEST_INVALID");
    peer.post("/v2/a/blobs/uploads/?mount=x&from=b", ()).await.fails(400, "DIGEST_INVALID");
    peer.post("/v2/a/blobs/uploads/?digest-algorithm=md5", ()).await.fails(400, "DIGEST_INVALID");
    let upload = peer.begin("a").await;
    peer.put(&upload, "x").await.fails(400, "DIGEST_INVALID");
    let chunk = |range| peer.call(Method::PATCH, &upload).header("content-range", range);
    chunk("nonsense").send("x").await.fails(400, "BLOB_UPLOAD_INVALID");
    chunk("0-9").send("x").await.fails(400, "SIZE_INVALID");
    chunk("5-5").send("x").await.fails(416, "BLOB_UPLOAD_INVALID");
    peer.get("/v2/a/blobs/uploads/forged").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    for (media_type, json) in [
        (MediaType::OCI_MANIFEST, "not JSON"),
        (MediaType::OCI_MANIFEST, r#"{"schemaVersion":2,"mediaType":"application/other"}"#),
        (MediaType::OCI_MANIFEST, r#"{"schemaVersion":2,"layers":[{"digest":"x"}]}"#),
        ("no media type", "{}"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}"),
    ] {
        peer.put_manifest("a", "bad", media_type, json).await.fails(400, "MANIFEST_INVALID");
    }
    peer.put("/v2/a/manifests/untyped", "{}").await.fails(400, "MANIFEST_INVALID");
    peer.get("/v2/a/manifests/.hidden").await.fails(400, "MANIFEST_INVALID");
    let missing = peer.put_manifest("a", "x", MediaType::OCI_MANIFEST, &image(&absent, &absent)).await;
    let missing = missing.fails(400, "MANIFEST_BLOB_UNKNOWN").json();
    assert_eq!(missing["errors"][0]["detail"]["missing"], serde_json::json!([absent]));
    assert!(missing["errors"][0]["message"].as_str().is_some_and(|m| m.contains("push it first")));
    peer.put("/v2/a/tags/list", ()).await.fails(405, "UNSUPPORTED");
    peer.get("/v2/a/tags/list?n=-1").await.fails(400, "UNSUPPORTED");
    peer.get("/v2/a/nothing/here").await.fails(404, "UNSUPPORTED");
}

#[tokio::test]
async fn an_endpoint_names_the_methods_it_has() {
    let answer = open().put("/v2/", ()).await.fails(405, "UNSUPPORTED");
    assert_eq!(answer.header("allow"), "GET, HEAD");
    let answer = open().get("/v2/a/blobs/uploads/").await.fails(405, "UNSUPPORTED");
    assert_eq!(answer.header("allow"), "POST");
}

#[tokio::test]
async fn a_401_has_a_challenge_with_one_scope_on_every_endpoint() {
    let peer = guarded();
    let digest = Digest::sha256(b"x");
    let repository = "/v2/alice/app";
    for (method, path, scope) in [
        (Method::GET, "/v2/".to_owned(), ""),
        (Method::GET, "/v2/_catalog".to_owned(), ""),
        (Method::GET, format!("{repository}/tags/list"), "pull"),
        (Method::GET, format!("{repository}/referrers/{digest}"), "pull"),
        (Method::GET, format!("{repository}/manifests/latest"), "pull"),
        (Method::HEAD, format!("{repository}/manifests/latest"), "pull"),
        (Method::PUT, format!("{repository}/manifests/latest"), "push"),
        (Method::DELETE, format!("{repository}/manifests/latest"), "delete"),
        (Method::GET, format!("{repository}/blobs/{digest}"), "pull"),
        (Method::DELETE, format!("{repository}/blobs/{digest}"), "delete"),
        (Method::POST, format!("{repository}/blobs/uploads/"), "push"),
        (Method::POST, format!("{repository}/blobs/uploads/?mount={digest}&from=bob/app"), "push"),
        (Method::GET, format!("{repository}/blobs/uploads/x"), "push"),
        (Method::PATCH, format!("{repository}/blobs/uploads/x"), "push"),
        (Method::PUT, format!("{repository}/blobs/uploads/x?digest={digest}"), "push"),
        (Method::DELETE, format!("{repository}/blobs/uploads/x"), "push"),
    ] {
        let answer = peer.call(method.clone(), &path).send(()).await.fails(401, "UNAUTHORIZED");
        let challenge = answer.header("www-authenticate");
        let expected = format!(r#"scope="repository:alice/app:{scope}""#);
        assert_eq!(challenge.contains(&expected), !scope.is_empty(), "{method} {path}: {challenge}");
        assert_eq!(answer.headers.get_all("www-authenticate").iter().count(), 1, "{answer:?}");
        assert!(challenge.matches("repository:").count() <= 1, "{challenge}");
        let invalid = peer.with_token("invalid").call(method, &path).send(()).await;
        invalid.fails(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_right_that_is_lacking_is_denied_and_a_decision_that_cannot_be_made_is_503() {
    let bob = guarded().with_token("bob");
    bob.post("/v2/alice/app/blobs/uploads/", ()).await.fails(403, "DENIED");
    bob.get("/v2/alice/app/manifests/latest").await.fails(403, "DENIED");
    bob.get("/v2/down/app/manifests/latest").await.fails(503, "UNAVAILABLE");
}

fn over(fail: fn() -> StoreError) -> Peer {
    let blobs = Arc::new(Watched::failing(fail));
    Peer::new(with_blobs(blobs).build().unwrap()).with_token("alice")
}

#[tokio::test]
async fn what_a_store_says_reaches_the_client() {
    type Case = (fn() -> StoreError, u16, &'static str);
    let cases: [Case; 12] = [
        (|| StoreError::Unauthenticated("sign in again".to_owned()), 401, "UNAUTHORIZED"),
        (|| StoreError::Denied("not a member".to_owned()), 403, "DENIED"),
        (|| StoreError::QuotaExceeded("5 of 5 GB used".to_owned()), 403, "DENIED"),
        (|| StoreError::TooLarge { limit: 5 }, 413, "SIZE_INVALID"),
        (|| StoreError::Conflict("the repository".to_owned()), 409, "BLOB_UPLOAD_INVALID"),
        (|| StoreError::Invalid("no good".to_owned()), 400, "BLOB_UPLOAD_INVALID"),
        (|| StoreError::Unsupported("not here".to_owned()), 405, "UNSUPPORTED"),
        (|| StoreError::StorageFull, 507, "UNAVAILABLE"),
        (|| StoreError::unavailable("the hold", "refused"), 503, "UNAVAILABLE"),
        (|| StoreError::internal("secret detail"), 500, "UNKNOWN"),
        (|| StoreError::RepositoryUnknown("nobody is called that".to_owned()), 404, "NAME_UNKNOWN"),
        (|| StoreError::UploadUnknown, 404, "BLOB_UPLOAD_UNKNOWN"),
    ];
    for (fail, status, code) in cases {
        let answer = over(fail).post("/v2/alice/app/blobs/uploads/", ()).await.fails(status, code);
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_limited_learns_how_long_to_wait() {
    let limited = || StoreError::RateLimited {
        message: "the PDS takes 5,000 points an hour".to_owned(),
        retry_after: Some(Duration::from_secs(90)),
    };
    let answer = over(limited).post("/v2/alice/app/blobs/uploads/", ()).await;
    assert_eq!(answer.fails(429, "TOOMANYREQUESTS").header("retry-after"), "90");
}

#[tokio::test]
async fn a_failing_store_never_fails_a_mount() {
    // `begin` fails too, but with the store's error and not because of the mount.
    let digest = Digest::sha256(b"x");
    let path = format!("/v2/alice/app/blobs/uploads/?mount={digest}&from=alice/other");
    over(|| StoreError::StorageFull).post(&path, ()).await.fails(507, "UNAVAILABLE");
}

#[tokio::test]
async fn a_request_id_from_a_proxy_is_kept_and_a_strange_one_is_not() {
    let peer = open();
    let answer = peer.call(Method::GET, "/v2/").header("x-request-id", "edge-42.a").send(()).await;
    assert_eq!(answer.header("x-request-id"), "edge-42.a");
    for strange in ["with space", "", &"x".repeat(65), "<script>"] {
        let answer = peer.call(Method::GET, "/v2/").header("x-request-id", strange).send(()).await;
        assert_eq!(answer.header("x-request-id").len(), 32, "{strange}");
    }
}
