use serde_json::Value;

use crate::support::{Dev, http, pull, push_and_pull, token};

#[tokio::test]
async fn an_image_comes_back_byte_for_byte_and_its_manifest_is_a_record_of_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (registry, alice) = (dev.text("registry"), dev.account(0));
    let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let back = push_and_pull(registry, "alice.test/tools/app:1.0", &alice, &content).await;
    assert!(back == content);

    // Any spelling of the owner names the same repository.
    let by_did = format!("{}/tools/app:1.0", alice.did.replacen(':', "-", 2));
    assert!(pull(registry, &by_did).await == content);

    let records = |service: &str, repo: &str, collection: &str| {
        let request = http().get(format!("{service}/xrpc/com.atproto.repo.listRecords"));
        let request = request.query(&[("repo", repo), ("collection", collection)]);
        async move {
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            answer["records"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
        }
    };
    let (pds, hold, hold_did) = (dev.text("pds"), dev.text("hold"), dev.text("hold_did"));
    let manifests = records(pds, &alice.did, "io.atcr.manifest").await;
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[0]["value"]["repository"], "tools/app");
    assert_eq!(manifests[0]["value"]["holdDid"], hold_did);
    let tags = records(pds, &alice.did, "io.atcr.tag").await;
    assert_eq!(tags[0]["value"]["manifest"], manifests[0]["uri"]);
    assert_eq!(
        records(hold, hold_did, "io.atcr.hold.captain").await[0]["value"]["owner"],
        alice.did.as_str()
    );
    let layers = records(hold, hold_did, "io.atcr.hold.layer").await;
    assert!(layers.iter().any(|layer| layer["value"]["size"] == content.len()));
    assert!(layers.iter().all(|layer| layer["value"]["manifest"] == manifests[0]["uri"]));
}

#[tokio::test]
async fn everything_is_there_after_a_stop_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let content = vec![7; 100_000];
    let mut dev = Dev::start(dir.path());
    let alice = dev.account(0);
    push_and_pull(dev.text("registry"), "alice.test/app:1", &alice, &content).await;
    let hold_did = dev.text("hold_did").to_owned();
    assert_eq!(dev.process.stop("TERM"), Some(0));

    let mut dev = Dev::start(dir.path());
    assert_eq!((dev.text("hold_did"), dev.account(0).did), (hold_did.as_str(), alice.did.clone()));
    assert_eq!(pull(dev.text("registry"), "alice.test/app:1").await, content);
    push_and_pull(dev.text("registry"), "alice.test/app:2", &alice, b"second").await;
    dev.process.stop("KILL");

    let mut dev = Dev::start(dir.path());
    assert_eq!(pull(dev.text("registry"), "alice.test/app:1").await, content);
    assert_eq!(pull(dev.text("registry"), "alice.test/app:2").await, b"second");
    assert_eq!(dev.process.stop("INT"), Some(0));
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path());
    let (registry, alice) = (dev.text("registry").to_owned(), dev.account(0));
    let scope = "repository:alice.test/app:pull,push";
    let bearer = token(&registry, Some(&alice), scope).await.unwrap();
    let begun =
        http().post(format!("http://{registry}/v2/alice.test/app/blobs/uploads/")).bearer_auth(&bearer);
    let begun = begun.send().await.unwrap();
    assert_eq!(begun.status(), 202);
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let patched =
        http().patch(format!("http://{registry}{location}")).bearer_auth(&bearer).body("first half, ");
    let patched = patched.send().await.unwrap();
    assert_eq!(patched.status(), 202);
    let location = patched.headers()["location"].to_str().unwrap().to_owned();
    dev.process.stop("KILL");

    let dev = Dev::start(dir.path());
    let registry = dev.text("registry");
    let bearer = token(registry, Some(&alice), scope).await.unwrap();
    let digest = atcr_core::oci::Digest::sha256(b"first half, second half");
    let put = http().put(format!("http://{registry}{location}")).query(&[("digest", digest.to_string())]);
    let put = put.bearer_auth(&bearer).body("second half").send().await.unwrap();
    assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    let got = http().get(format!("http://{registry}/v2/alice.test/app/blobs/{digest}")).bearer_auth(&bearer);
    assert_eq!(got.send().await.unwrap().text().await.unwrap(), "first half, second half");
}

#[tokio::test]
async fn one_manifest_in_two_repositories_is_deleted_from_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (registry, alice) = (dev.text("registry"), dev.account(0));
    push_and_pull(registry, "alice.test/one:1", &alice, b"shared").await;
    push_and_pull(registry, "alice.test/two:1", &alice, b"shared").await;
    let manifest =
        |name: &str, reference: &str| format!("http://{registry}/v2/alice.test/{name}/manifests/{reference}");
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let scope = "repository:alice.test/one:pull,push,delete";
    let one = token(registry, Some(&alice), scope).await.unwrap();
    let two = token(registry, None, "repository:alice.test/two:pull").await.unwrap();
    let head =
        http().head(manifest("one", "1")).bearer_auth(&one).header("accept", accept).send().await.unwrap();
    let digest = head.headers()["docker-content-digest"].to_str().unwrap().to_owned();
    let deleted = http().delete(manifest("one", &digest)).bearer_auth(&one).send().await.unwrap();
    assert_eq!(deleted.status(), 202);
    for reference in ["1", digest.as_str()] {
        let gone = http().get(manifest("one", reference)).bearer_auth(&one).send().await.unwrap();
        assert_eq!(gone.status(), 404, "{reference}");
        let there = http().get(manifest("two", reference)).bearer_auth(&two).send().await.unwrap();
        assert_eq!(there.status(), 200, "{reference}");
    }
}

#[tokio::test]
async fn nobody_pushes_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (registry, bob) = (dev.text("registry"), dev.account(1));
    let bearer = token(registry, Some(&bob), "repository:alice.test/app:pull,push").await.unwrap();
    let begun =
        http().post(format!("http://{registry}/v2/alice.test/app/blobs/uploads/")).bearer_auth(&bearer);
    let refused = begun.send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["errors"][0]["code"], "DENIED");

    let mut wrong = bob.clone();
    wrong.password = "wrong".to_owned();
    let (status, body) = token(registry, Some(&wrong), "repository:bob.test/app:push").await.unwrap_err();
    assert_eq!((status, &body["errors"][0]["code"]), (401, &Value::from("UNAUTHORIZED")));
}

#[tokio::test]
async fn a_blob_is_mounted_with_a_token_of_the_target_alone_and_deleted_from_one_repository() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (registry, alice) = (dev.text("registry"), dev.account(0));
    push_and_pull(registry, "alice.test/one:1", &alice, b"shared").await;
    let digest = atcr_core::oci::Digest::sha256(b"shared");
    let blob = |name: &str| format!("http://{registry}/v2/alice.test/{name}/blobs/{digest}");
    let two = token(registry, Some(&alice), "repository:alice.test/two:pull,push,delete").await.unwrap();
    let mount =
        format!("http://{registry}/v2/alice.test/two/blobs/uploads/?mount={digest}&from=alice.test/one");
    assert_eq!(http().post(&mount).bearer_auth(&two).send().await.unwrap().status(), 201);

    let deleted = http().delete(blob("two")).bearer_auth(&two).send().await.unwrap();
    assert_eq!(deleted.status(), 202);
    for method in [reqwest::Method::HEAD, reqwest::Method::GET] {
        let gone = http().request(method, blob("two")).bearer_auth(&two).send().await.unwrap();
        assert_eq!(gone.status(), 404);
    }
    let again = http().delete(blob("two")).bearer_auth(&two).send().await.unwrap();
    assert_eq!(again.status(), 404);
    assert_eq!(pull(registry, "alice.test/one:1").await, b"shared");
    assert_eq!(http().post(&mount).bearer_auth(&two).send().await.unwrap().status(), 202);
}
