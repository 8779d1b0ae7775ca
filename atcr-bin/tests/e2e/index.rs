//! What the registry knows by itself.

use std::time::Duration;

use reqwest::redirect::Policy;

use crate::outage::appview;
use crate::support::{Dev, HoldProcess, Running, http, pull, push_and_pull, token};

/// A client that goes where it is sent only when it wants to.
fn staying() -> reqwest::Client {
    #[expect(clippy::disallowed_methods, reason = "a test speaks to its own server on loopback")]
    reqwest::Client::builder().redirect(Policy::none()).build().unwrap()
}

#[tokio::test]
async fn a_blob_that_its_hold_has_announced_is_fetched_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let registry = dev.text("registry");
    push_and_pull(registry, "alice.test/app:1", &dev.account(0), b"some layer").await;
    let bearer = token(registry, None, "repository:alice.test/app:pull").await.unwrap();
    let manifest: serde_json::Value = http()
        .get(format!("http://{registry}/v2/alice.test/app/manifests/1"))
        .bearer_auth(&bearer)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let client = staying();
    let sent_to_the_hold = async {
        loop {
            let blob = client.get(format!("http://{registry}/v2/alice.test/app/blobs/{digest}"));
            let answer = blob.bearer_auth(&bearer).send().await.unwrap();
            assert_eq!(answer.status(), 307);
            let location = answer.headers()["location"].to_str().unwrap().to_owned();
            if location.starts_with(&format!("{}/xrpc/com.atproto.sync.getBlob?did=", dev.text("hold"))) {
                break location;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let location = tokio::time::timeout(Duration::from_secs(30), sent_to_the_hold).await.expect("in seconds");
    let bytes = http().get(location).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&bytes[..], b"some layer");
    assert_eq!(pull(registry, "alice.test/app:1").await, b"some layer");
}

/// What the index says of a tag, which the API shows and nobody else is asked for.
async fn indexed_tag(registry: &str, tag: &str) -> Option<String> {
    let url = format!("http://{registry}/api/v1/tags?owner=alice.test&repository=app");
    let answer = http().get(url).send().await.ok()?;
    let tags: serde_json::Value = answer.json().await.ok()?;
    let entry = tags["items"].as_array()?.iter().find(|entry| entry["tag"] == tag)?;
    entry["digest"].as_str().map(str::to_owned)
}

async fn digest_of(registry: &str, name: &str, tag: &str) -> String {
    let bearer = token(registry, None, &format!("repository:{name}:pull")).await.unwrap();
    let url = format!("http://{registry}/v2/{name}/manifests/{tag}");
    let answer = http().head(url).bearer_auth(bearer).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.headers()["docker-content-digest"].to_str().unwrap().to_owned()
}

async fn everything_known(registry: &str) {
    assert_eq!(pull(registry, "alice.test/app:1").await, b"some layer");
    let bearer = token(registry, None, "repository:alice.test/app:pull").await.unwrap();
    let digest = digest_of(registry, "alice.test/app", "1").await;
    for path in ["tags/list".to_owned(), format!("manifests/{digest}"), format!("referrers/{digest}")] {
        let url = format!("http://{registry}/v2/alice.test/app/{path}");
        let answer = http().get(url).bearer_auth(&bearer).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}

/// One registry takes nothing for current, so that it asks the PDS for tags, and one does for a minute.
#[tokio::test]
async fn with_pds_and_firehose_off_all_that_is_known_is_pulled_and_soon_after_they_return_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&dir.path().join("dev"));
    let alice = dev.account(0);
    let hold = HoldProcess::new(
        &dir.path().join("hold"),
        &[
            ("HOLD_REGISTRATION_OWNER_DID", &alice.did),
            ("HOLD_SERVER_PUBLIC", "true"),
            ("HOLD_DATABASE_PLC_DIRECTORY_URL", dev.text("plc")),
        ],
    );
    let (_hold, hold_did) = hold.serve().await;
    let mut registries = Vec::new();
    for freshness in ["0", "60"] {
        let settings = [
            ("ATCR_SERVER_DEFAULT_HOLD_DID", hold_did.as_str()),
            ("ATCR_INGEST_HOSTS", dev.text("pds")),
            ("ATCR_INGEST_FRESHNESS_SECONDS", freshness),
        ];
        registries.push(appview(&dev, &dir.path().join(freshness), &settings).await);
    }
    push_and_pull(&registries[0].1, "alice.test/app:1", &alice, b"some layer").await;
    within("both have heard of it", async |registry| indexed_tag(registry, "1").await.is_some(), &registries)
        .await;

    dev.process.stop("KILL");
    for (_, registry) in &registries {
        everything_known(registry).await;
    }

    // Another registry moves the tag, as soon as there is a PDS again and before the two have come back to it.
    let dev = Dev::start(&dir.path().join("dev"));
    push_and_pull(dev.text("registry"), "alice.test/app:1", &alice, b"another layer").await;
    let moved = digest_of(dev.text("registry"), "alice.test/app", "1").await;
    let is_right = async |registry: &str| indexed_tag(registry, "1").await.as_ref() == Some(&moved);
    within("both know where the tag went", is_right, &registries).await;
    for (_, registry) in &registries {
        assert_eq!(pull(registry, "alice.test/app:1").await, b"another layer");
    }
}

/// Waits until something is so at every registry.
async fn within(what: &str, holds: impl AsyncFn(&str) -> bool, registries: &[(Running, String)]) {
    let all = async {
        for (_, registry) in registries {
            while !holds(registry).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect(what);
}

#[tokio::test]
async fn a_manifest_is_pulled_while_its_pds_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&dir.path().join("dev"));
    let hosts = format!("{},{}", dev.text("pds"), dev.text("hold"));
    let (_process, registry) =
        appview(&dev, &dir.path().join("appview"), &[("ATCR_INGEST_HOSTS", &hosts)]).await;
    push_and_pull(&registry, "alice.test/app:1", &dev.account(0), b"some layer").await;
    dev.process.stop("KILL");
    let bearer = token(&registry, None, "repository:alice.test/app:pull").await.unwrap();
    let url = format!("http://{registry}/v2/alice.test/app/manifests/1");
    let answer = http().get(url).bearer_auth(bearer).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let manifest: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(manifest["layers"][0]["size"], "some layer".len());
}
