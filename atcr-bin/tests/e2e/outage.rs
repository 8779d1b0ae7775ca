//! What people see when something that the registry needs is down.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Account, Dev, Running, http, token};

/// An AppView of its own beside a running network, with another hold or PDS than that network has.
pub(crate) async fn appview(
    dev: &Dev,
    data_dir: &std::path::Path,
    settings: &[(&str, &str)],
) -> (Running, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let registry = format!("127.0.0.1:{port}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_atcr-appview"));
    command
        .arg("serve")
        .env("ATCR_SERVER_ADDR", &registry)
        .env("ATCR_SERVER_BASE_URL", format!("http://{registry}"))
        .env("ATCR_SERVER_DEFAULT_HOLD_DID", dev.text("hold_did"))
        .env("ATCR_SERVER_TEST_MODE", "true")
        .env("ATCR_AUTH_DATA_DIR", data_dir)
        .env("ATCR_IDENTITY_PLC_DIRECTORY_URL", dev.text("plc"))
        .env("ATCR_IDENTITY_HANDLE_RESOLVER_URL", dev.text("pds"))
        .envs(settings.iter().map(|(name, value)| (*name, value.replace("{port}", &port.to_string()))));
    let process = Running::spawn(command);
    let ping = format!("http://{registry}/v2/");
    tokio::time::timeout(Duration::from_secs(30), async {
        while http().get(&ping).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the AppView starts");
    (process, registry)
}

async fn begin_upload(registry: &str, alice: &Account) -> (u16, Value) {
    let bearer = token(registry, Some(alice), "repository:alice.test/app:pull,push").await.unwrap();
    let request =
        http().post(format!("http://{registry}/v2/alice.test/app/blobs/uploads/")).bearer_auth(bearer);
    let response = request.timeout(Duration::from_secs(20)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn message(body: &Value) -> &str {
    body["errors"][0]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_hold_that_is_down_is_named_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("dev"));
    // Nobody listens on port 1.
    let settings = [("ATCR_SERVER_DEFAULT_HOLD_DID", "did:web:localhost%3A1")];
    let (_process, registry) = appview(&dev, &dir.path().join("appview"), &settings).await;
    let (status, body) = begin_upload(&registry, &dev.account(0)).await;
    assert_eq!(status, 503, "{body}");
    assert!(
        message(&body).contains("did:web:localhost%3A1") && message(&body).contains("try again"),
        "{body}"
    );
}

#[tokio::test]
async fn a_pds_that_is_down_is_told_apart_from_a_wrong_password() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&dir.path().join("dev"));
    let (_process, registry) = appview(&dev, &dir.path().join("appview"), &[]).await;
    let alice = dev.account(0);
    assert!(token(&registry, Some(&alice), "repository:alice.test/app:push").await.is_ok());
    dev.process.stop("TERM");
    let bob = dev.account(1);
    let (status, body) = token(&registry, Some(&bob), "repository:bob.test/app:push").await.unwrap_err();
    assert_eq!(status, 503, "{body}");
    assert!(message(&body).contains("try again"), "{body}");
    // Alice's token is signed by the registry; what needs her PDS says so.
    let (status, body) = begin_upload(&registry, &alice).await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn an_unknown_handle_is_an_unknown_name() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let registry = dev.text("registry");
    let bearer = token(registry, None, "repository:nobody.test/app:pull").await.unwrap();
    let url = format!("http://{registry}/v2/nobody.test/app/manifests/latest");
    let response = http().get(url).bearer_auth(bearer).send().await.unwrap();
    assert_eq!(response.status(), 404);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["errors"][0]["code"], "NAME_UNKNOWN");
    assert!(message(&body).contains("nobody.test"), "{body}");
}
