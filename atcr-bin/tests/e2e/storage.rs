//! Blobs in S3, from `docker push` to `docker pull`: the hold hands out addresses and sees no byte of a layer.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use oci_distribution::Client;
use oci_distribution::client::{ClientConfig, ClientProtocol};
use strict_s3::{ACCESS_KEY, BUCKET, Fault, Operation, REGION, Rules, SECRET_KEY, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::outage::appview;
use crate::support::{Account, Dev, HoldProcess, Running, http, image, pull, reference, token};

/// A network whose pushes go to a hold on S3.
pub(crate) struct World {
    pub(crate) s3: Server,
    pub(crate) alice: Account,
    pub(crate) registry: String,
    pub(crate) hold: HoldProcess,
    pub(crate) hold_process: Running,
    /// Where requests to the hold go.
    pub(crate) gate: Gate,
    _appview: Running,
    _dev: Dev,
}

impl World {
    pub(crate) async fn start(dir: &Path, s3: Server, settings: &[(&str, &str)]) -> Self {
        Self::start_at(dir, s3, settings, &[]).await
    }

    /// As above, with settings of the AppView.
    pub(crate) async fn start_at(
        dir: &Path,
        s3: Server,
        settings: &[(&str, &str)],
        of_appview: &[(&str, &str)],
    ) -> Self {
        let dev = Dev::start(&dir.join("dev"));
        let alice = dev.account(0);
        let endpoint = s3.endpoint();
        let mut hold = HoldProcess::new(
            &dir.join("hold"),
            &[
                ("HOLD_REGISTRATION_OWNER_DID", &alice.did),
                ("HOLD_SERVER_PUBLIC", "true"),
                ("HOLD_DATABASE_PLC_DIRECTORY_URL", dev.text("plc")),
                // Somebody else pulls at once what was pushed.
                ("HOLD_VERIFY_MODE", "sync"),
                ("S3_BUCKET", BUCKET),
                ("S3_ENDPOINT", &endpoint),
                ("AWS_REGION", REGION),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ],
        );
        for (name, value) in settings {
            hold.set(name, value);
        }
        let gate = Gate::open(&hold.url()).await;
        hold.set("HOLD_SERVER_PUBLIC_URL", &format!("http://localhost:{}", gate.port));
        let (hold_process, did) = hold.serve().await;
        let settings = [&[("ATCR_SERVER_DEFAULT_HOLD_DID", did.as_str())], of_appview].concat();
        let (appview, registry) = appview(&dev, &dir.join("appview"), &settings).await;
        Self { s3, alice, registry, hold, hold_process, gate, _appview: appview, _dev: dev }
    }

    /// The bytes of bodies that went to or from the storage by signed URLs, and otherwise.
    pub(crate) fn storage_bytes(&self) -> (u64, u64) {
        let requests = self.s3.requests();
        let (signed, own): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.presigned);
        let bytes = |requests: Vec<&strict_s3::Request>| {
            requests.iter().map(|request| request.received + request.sent).sum()
        };
        (bytes(signed), bytes(own))
    }
}

/// Stands before a server and counts what goes either way.
pub(crate) struct Gate {
    pub(crate) port: u16,
    pub(crate) bytes: Arc<AtomicU64>,
    target: Arc<Mutex<String>>,
}

impl Gate {
    async fn open(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Self { port, bytes: Arc::default(), target: Arc::default() };
        gate.lead_to(url);
        let (bytes, target) = (Arc::clone(&gate.bytes), Arc::clone(&gate.target));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, bytes) = (target.lock().unwrap().clone(), Arc::clone(&bytes));
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(
                        copy(from_client, to_server, Arc::clone(&bytes)),
                        copy(from_server, to_client, bytes)
                    );
                });
            }
        });
        gate
    }

    /// New connections go to this server.
    pub(crate) fn lead_to(&self, url: &str) {
        url.strip_prefix("http://").unwrap().clone_into(&mut self.target.lock().unwrap());
    }
}

async fn copy(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    bytes: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Pushes an image, each blob in one request as most clients do, and pulls it again; gives the layer's bytes.
async fn push_and_pull(registry: &str, name: &str, account: &Account, content: &[u8]) -> Vec<u8> {
    let config =
        ClientConfig { protocol: ClientProtocol::Http, use_monolithic_push: true, ..ClientConfig::default() };
    let (layers, description) = image(content);
    let pushed = Client::new(config)
        .push(&reference(registry, name), &layers, description, &account.auth(), None)
        .await;
    pushed.unwrap();
    pull(registry, name).await
}

/// Three parts of 16 MiB and a short one.
fn layer() -> Vec<u8> {
    (0..13_000_000u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_go_to_the_storage_and_come_from_it_past_the_hold() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Server::start(Rules::default()).await, &[]).await;
    let (content, size) = (layer(), 52_000_000);
    let back = push_and_pull(&world.registry, "alice.test/app:1", &world.alice, &content).await;
    assert!(back == content);
    let parts = world.s3.requests();
    let parts: Vec<_> = parts.iter().filter(|request| request.operation == Operation::UploadPart).collect();
    assert!(parts.iter().all(|part| part.presigned), "no part comes from the hold");
    // The layer, and the configuration of two bytes; each once in and once out.
    let (signed, own) = world.storage_bytes();
    assert_eq!(signed, 2 * (size + 2));
    let through = world.gate.bytes.load(Ordering::Relaxed);
    assert!(through < 100_000, "{through} bytes passed the hold");
    eprintln!("of {size} bytes, {through} passed the hold towards clients, {own} towards the storage");
    assert_eq!(world.s3.open_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_stumbles_does_not_stop_a_push() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), Server::start(Rules::default()).await, &[]).await;
    world.s3.fail(Operation::UploadPart, 2, Fault::Unavailable);
    world.s3.fail(Operation::UploadPart, 3, Fault::AnswerLost);
    world.s3.fail(Operation::CompleteMultipartUpload, 1, Fault::ErrorInBody);
    world.s3.fail(Operation::CompleteMultipartUpload, 2, Fault::AnswerLost);
    let content = layer();
    let back = push_and_pull(&world.registry, "alice.test/app:1", &world.alice, &content).await;
    assert!(back == content);
    assert_eq!(world.s3.open_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_signed_urls_everything_passes_the_hold() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DISABLE_PRESIGNED_URLS", "true"), ("HOLD_STORAGE_LAYOUT", "distribution")];
    let world = World::start(dir.path(), Server::start(Rules::default()).await, &settings).await;
    let content = layer();
    let back = push_and_pull(&world.registry, "alice.test/app:1", &world.alice, &content).await;
    assert!(back == content);
    assert_eq!(world.storage_bytes().0, 0);
    assert!(world.gate.bytes.load(Ordering::Relaxed) > 100_000_000);
    let keys = world.s3.objects();
    assert!(keys.iter().all(|(key, _)| key.starts_with("docker/registry/v2/blobs/sha256/")), "{keys:?}");
}

/// What upstream or distribution left is served as it is, once somebody pushes a manifest that names it.
#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_in_the_bucket_already_are_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = Server::start(Rules::default()).await;
    let content = b"a layer that was there before".to_vec();
    let digest = atcr_core::oci::Digest::sha256(&content);
    let key = atcr_hold::storage::ObjectKey::of_blob(&digest);
    s3.put(key.as_str(), content.clone());
    let world = World::start(dir.path(), s3, &[]).await;
    let back = push_and_pull(&world.registry, "alice.test/app:1", &world.alice, &content).await;
    assert!(back == content);
    assert!(pull(&world.registry, "alice.test/app:1").await == content);
    assert_eq!(world.s3.object(key.as_str()).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_wrong_and_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut rules = Rules::default();
    rules.ignores_ranges = true;
    let s3 = Server::start(rules).await;
    let endpoint = s3.endpoint();
    let access = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let hold = HoldProcess::new(
        &dir.path().join("hold"),
        &[("S3_BUCKET", BUCKET), ("S3_ENDPOINT", &endpoint), access[0], access[1]],
    );
    let run = async |hold: HoldProcess, args: &'static [&'static str]| {
        tokio::task::spawn_blocking(move || hold.run(args)).await.unwrap()
    };
    let output = run(hold, &["doctor"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILED  ranges") || text.contains("FAILED  read"), "{text}");
    let files = HoldProcess::new(&dir.path().join("files"), &[]);
    let output = run(files, &["doctor", "--json"]).await;
    assert!(output.status.success());
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["verdict"] == "ok"), "{findings}");
}

/// Clients in Go send the registry's token along when they are redirected to its own host (moby#50065), and a storage that
/// sees it beside a signed URL refuses both. There the AppView passes the bytes through; elsewhere it redirects.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_not_sent_to_a_storage_that_would_get_the_registrys_token() {
    for (same_host, expected) in [(true, 200), (false, 307)] {
        let dir = tempfile::tempdir().unwrap();
        let s3 = Server::start(Rules::default()).await;
        let endpoint = if same_host { s3.named_endpoint() } else { s3.endpoint() };
        let settings = [("S3_ENDPOINT", endpoint.as_str())];
        let at_localhost = [("ATCR_SERVER_BASE_URL", "http://localhost:{port}")];
        let world = World::start_at(dir.path(), s3, &settings, &at_localhost).await;
        let registry = world.registry.replace("127.0.0.1", "localhost");
        let content = b"what nobody but the storage keeps".to_vec();
        let digest = crate::chunks::push(&registry, &world.alice, &[&content]).await;
        let bearer = token(&registry, Some(&world.alice), "repository:alice.test/app:pull").await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test speaks to its own server on loopback")]
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let url = format!("http://{registry}/v2/alice.test/app/blobs/{digest}");
        let answer = client.get(url).bearer_auth(&bearer).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected);
        if same_host {
            assert_eq!(answer.bytes().await.unwrap(), content);
        } else {
            let url = answer.headers()["location"].to_str().unwrap().to_owned();
            assert!(url.starts_with(&endpoint), "{url}");
            assert_eq!(client.get(url).send().await.unwrap().bytes().await.unwrap(), content);
        }
    }
}

/// Runs a command of the hold and kills it when `reached` says so; gives whether it was still running then.
async fn killed_when(hold: &HoldProcess, args: &[&str], mut reached: impl AsyncFnMut() -> bool) -> bool {
    let mut child = hold.command(args).spawn().unwrap();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if reached().await {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Blobs on the disk of a hold that was stopped, and the hold.
async fn stopped_with_blobs(dir: &Path) -> (Dev, HoldProcess, Vec<(atcr_core::oci::Digest, Vec<u8>)>) {
    let dev = Dev::start(&dir.join("dev"));
    let alice = dev.account(0);
    let hold = HoldProcess::new(
        &dir.join("hold"),
        &[
            ("HOLD_REGISTRATION_OWNER_DID", &alice.did),
            ("HOLD_SERVER_PUBLIC", "true"),
            ("HOLD_DATABASE_PLC_DIRECTORY_URL", dev.text("plc")),
        ],
    );
    let (mut process, did) = hold.serve().await;
    let (mut appview, registry) =
        appview(&dev, &dir.join("appview"), &[("ATCR_SERVER_DEFAULT_HOLD_DID", &did)]).await;
    let mut blobs = Vec::new();
    for n in 0..8_u8 {
        let content = vec![n; 2_000_000];
        blobs.push((crate::chunks::push(&registry, &alice, &[&content]).await, content));
    }
    appview.stop("TERM");
    process.stop("TERM");
    (dev, hold, blobs)
}

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_that_is_killed_goes_on_and_finds_what_went_bad() {
    let dir = tempfile::tempdir().unwrap();
    let (_dev, hold, blobs) = stopped_with_blobs(dir.path()).await;
    let key = atcr_hold::storage::ObjectKey::of_blob(&blobs[3].0);
    let file = dir.path().join("hold/storage").join(key.as_str());
    std::fs::write(file, b"rot").unwrap();
    // Four blobs a second. Something is noted in the log of the database with each.
    let log = dir.path().join("hold/hold.db-wal");
    let begun = std::time::Instant::now();
    let args = ["storage", "scrub", "--rate", "8 MB"];
    let running = killed_when(&hold, &args, async || {
        std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) && begun.elapsed().as_millis() > 1200
    });
    assert!(running.await, "it was killed in the middle");
    let output = hold.run(&["storage", "scrub", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    assert_eq!(found["blobs"], 8, "{found}");
    assert!(found["before"].as_u64().unwrap() > 0, "{found}");
    assert_eq!(found["findings"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["findings"][0]["digest"], blobs[3].0.to_string());
    assert_eq!(found["findings"][0]["actual"], atcr_core::oci::Digest::sha256(b"rot").to_string());
    let again = hold.run(&["storage", "scrub", "--json"]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(json(&again)["blobs"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_goes_on_and_the_hold_serves_from_the_new_storage() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = Server::start(Rules::default()).await;
    let (_dev, hold, blobs) = stopped_with_blobs(dir.path()).await;
    let to = dir.path().join("new.yaml");
    let endpoint = s3.endpoint();
    let settings = format!(
        "storage:\n  bucket: {BUCKET}\n  endpoint: {endpoint}\n  region: {REGION}\n  access_key: {ACCESS_KEY}\n  secret_key: {SECRET_KEY}\n"
    );
    std::fs::write(&to, settings).unwrap();
    let to = to.to_str().unwrap();
    let args = ["storage", "migrate", "--to", to, "--rate", "8 MB"];
    // In the middle of a blob: some are there, and an upload is open.
    let running = killed_when(&hold, &args, async || {
        s3.open_uploads() > 0 && s3.objects().iter().filter(|(key, _)| key.ends_with("/data")).count() >= 2
    });
    assert!(running.await, "it was killed in the middle");

    // While the hold runs it copies, and says what is left to do.
    let (mut process, _) = hold.serve().await;
    let output = hold.run(&["storage", "migrate", "--to", to]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("stop it and call this again"), "{output:?}");
    process.stop("TERM");
    let output = hold.run(&["storage", "migrate", "--to", to]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(s3.open_uploads(), 0, "what the killed one had begun is gone");

    std::fs::remove_dir_all(dir.path().join("hold/storage")).unwrap();
    let mut hold = hold;
    for (name, value) in [
        ("S3_BUCKET", BUCKET),
        ("S3_ENDPOINT", &endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ] {
        hold.set(name, value);
    }
    let (_process, did) = hold.serve().await;
    for (digest, content) in &blobs {
        let request = http().get(format!("{}/xrpc/com.atproto.sync.getBlob", hold.url()));
        let request = request.query(&[("did", did.as_str()), ("cid", &digest.to_string())]);
        assert!(request.send().await.unwrap().bytes().await.unwrap() == *content);
    }
    assert!(hold.run(&["storage", "scrub"]).status.success());
}
