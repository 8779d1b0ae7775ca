//! The identity of a hold, from the outside.

use axum::Json;
use axum::routing::post;
use serde_json::{Value, json};

use crate::support::{Dev, HoldProcess, http, push_and_pull};

async fn json(url: &str) -> Value {
    http().get(url).send().await.unwrap().json().await.unwrap()
}

#[track_caller]
fn text(output: &std::process::Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &std::process::Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_did_plc_hold_keeps_its_identity_through_a_kill_and_to_another_url() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("dev"));
    let plc = dev.text("plc");
    let settings = [("HOLD_DATABASE_DID_METHOD", "plc"), ("HOLD_DATABASE_PLC_DIRECTORY_URL", plc)];
    let mut hold = HoldProcess::new(&dir.path().join("hold"), &settings);
    assert!(text(&hold.run(&["identity", "show"])).contains("none yet"));
    let (mut process, did) = hold.serve().await;
    assert!(did.starts_with("did:plc:"), "{did}");
    let shown = text(&hold.run(&["identity", "show"]));
    assert!(shown.contains(&did) && shown.contains("up to date"), "{shown}");
    process.stop("KILL");
    let (mut process, again) = hold.serve().await;
    assert_eq!(again, did);
    process.stop("TERM");

    // At another address: what is there, and what would be.
    let url = HoldProcess::new(dir.path(), &[]).url().replace("127.0.0.1", "localhost");
    hold.set("HOLD_SERVER_PUBLIC_URL", &url);
    hold.set("HOLD_SERVER_ADDR", url.strip_prefix("http://").unwrap());
    let report: Value = serde_json::from_str(&text(&hold.run(&["identity", "show", "--json"]))).unwrap();
    assert_eq!(report["plc"]["differences"][0]["hold"]["endpoint"], url);
    let mut served = hold.command(&["serve"]).spawn().unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while http().get(format!("{url}/xrpc/_health")).send().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the hold starts");
    let log = json(&format!("{plc}/{did}/log/audit")).await;
    let log = log.as_array().unwrap();
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[1]["operation"]["services"]["atcr_hold"]["endpoint"], url);
    assert_eq!(log[1]["operation"]["services"]["atproto_pds"]["endpoint"], url);
    served.kill().unwrap();
    served.wait().unwrap();
}

#[tokio::test]
async fn keys_are_made_shown_and_exchanged_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("dev"));
    let data = dir.path().join("hold");
    let settings =
        [("HOLD_DATABASE_DID_METHOD", "plc"), ("HOLD_DATABASE_PLC_DIRECTORY_URL", dev.text("plc"))];
    let mut hold = HoldProcess::new(&data, &settings);
    let recovery = dir.path().join("recovery.key");
    let recovery = recovery.to_str().unwrap();
    let public = text(&hold.run(&["identity", "keygen", recovery])).trim().to_owned();
    assert!(public.starts_with("did:key:zQ3sh"), "{public}");
    assert!(stderr(&hold.run(&["identity", "keygen", recovery])).contains("cannot be written"));
    hold.set("HOLD_DATABASE_RECOVERY_KEY", &public);
    let (mut process, did) = hold.serve().await;
    assert!(stderr(&hold.run(&["identity", "update"])).contains("in use by another hold"));
    process.stop("TERM");

    // The rotation key is lost; the recovery key puts another one in its place.
    let last = format!("{}/{did}/log/last", dev.text("plc"));
    let before = json(&last).await;
    let lost = before["rotationKeys"][1].as_str().unwrap();
    let rotation = data.join("rotation.key");
    std::fs::remove_file(&rotation).unwrap();
    let new = text(&hold.run(&["identity", "keygen", rotation.to_str().unwrap()])).trim().to_owned();
    let refused = stderr(&hold.run(&["identity", "update", "--drop-rotation-key", lost]));
    assert!(refused.contains("is not one of its rotation keys") && refused.contains("\"prev\""), "{refused}");
    let args = ["identity", "update", "--sign-with", recovery, "--drop-rotation-key", lost];
    assert!(text(&hold.run(&args)).contains("up to date"));
    assert_eq!(json(&last).await["rotationKeys"], json!([public, new]));
    assert_eq!(hold.serve().await.1, did);
}

#[tokio::test]
async fn a_hold_that_cannot_have_its_identity_says_why_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("hold");
    let hold = HoldProcess::new(&data, &[("HOLD_DATABASE_DID_METHOD", "plc")]);
    let down = stderr(&hold.run(&["serve"]));
    assert!(down.contains("cannot be reached") && down.contains("try again later"), "{down}");
    let hold = HoldProcess::new(&data, &[("HOLD_DATABASE_DID", "did:plc:ewvi7nxzyoun6zhxrhs64oiz")]);
    assert!(stderr(&hold.run(&["serve"])).contains("database.did_method"));
    let settings = [("HOLD_DATABASE_DID_METHOD", "plc"), ("HOLD_DATABASE_RECOVERY_KEY", "x")];
    assert!(stderr(&HoldProcess::new(&data, &settings).run(&["serve"])).contains("database.recovery_key"));
    let web = HoldProcess::new(&data, &[]);
    assert!(stderr(&web.run(&["identity", "update"])).contains("no did:plc"));
}

#[tokio::test]
async fn of_two_holds_that_start_at_once_on_one_folder_one_serves() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("dev"));
    let plc = dev.text("plc");
    let settings = [("HOLD_DATABASE_DID_METHOD", "plc"), ("HOLD_DATABASE_PLC_DIRECTORY_URL", plc)];
    let data = dir.path().join("hold");
    let holds = [HoldProcess::new(&data, &settings), HoldProcess::new(&data, &settings)];
    let mut children = holds
        .each_ref()
        .map(|hold| hold.command(&["serve"]).stderr(std::process::Stdio::piped()).spawn().unwrap());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            if let Some(at) = children.iter_mut().position(|child| child.try_wait().unwrap().is_some()) {
                return at;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let ended = ended.await.expect("one gives way");
    let [first, second] = children;
    let (loser, mut winner) = if ended == 0 { (first, second) } else { (second, first) };
    assert!(stderr(&loser.wait_with_output().unwrap()).contains("in use by another hold"));
    let url = format!("{}/.well-known/atproto-did", holds[1 - ended].url());
    let did = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            if let Ok(answer) = http().get(&url).send().await {
                return answer.text().await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let did = did.await.expect("the other serves");
    winner.kill().unwrap();
    winner.wait().unwrap();
    assert_eq!(std::fs::read_to_string(data.join("did.txt")).unwrap().trim(), did);
    // alice, bob, and one hold.
    let export = http().get(format!("{plc}/export")).send().await.unwrap().text().await.unwrap();
    assert_eq!(export.lines().count(), 3, "{export}");
}

#[tokio::test]
async fn relays_are_asked_to_follow_a_hold() {
    let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let relay = axum::Router::new().route(
        "/xrpc/com.atproto.sync.requestCrawl",
        post(async move |Json(input): Json<Value>| sender.send(input).unwrap()),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relays = format!("http://{}, http://localhost:1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, relay).await });
    let dir = tempfile::tempdir().unwrap();
    let hold = HoldProcess::new(dir.path(), &[("HOLD_SERVER_RELAYS", &relays)]);
    let (_process, _) = hold.serve().await;
    let hostname = hold.url().replace("http://127.0.0.1", "localhost");
    assert_eq!(asked.recv().await.unwrap(), json!({"hostname": hostname}));
}

#[tokio::test]
async fn images_live_in_a_did_plc_hold() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(dir.path(), &["--hold-identity", "plc"]);
    let (did, alice) = (dev.text("hold_did"), dev.account(0));
    assert!(did.starts_with("did:plc:"), "{did}");
    let back = push_and_pull(dev.text("registry"), "alice.test/app:1", &alice, b"a layer").await;
    assert_eq!(back, b"a layer");
    let document = json(&format!("{}/{did}", dev.text("plc"))).await;
    assert_eq!(document["service"][0]["serviceEndpoint"], dev.text("hold"));
    let described =
        json(&format!("{}/xrpc/com.atproto.repo.describeRepo?repo={did}", dev.text("hold"))).await;
    assert_eq!(described["didDoc"], document);
    assert_eq!(
        http().get(format!("{}/.well-known/did.json", dev.text("hold"))).send().await.unwrap().status(),
        404
    );
}
