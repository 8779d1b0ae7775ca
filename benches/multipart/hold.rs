//! The hold as a process, and what it costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, StaticResolver};
use atcr_core::syntax::Did;
use atcr_hold::storage::{ObjectStorage, S3Storage};
use atcr_hold::{Hold, HoldConfig, Verify};
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tower::Service as _;
use url::Url;

use crate::Verified;
use crate::storage::Bucket;

/// The first argument of the process that is the hold.
pub(crate) const ROLE: &str = "hold";
/// Whose hold it is, and who uploads.
pub(crate) const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

#[derive(Debug, Serialize, Deserialize)]
struct Role {
    port: u16,
    directory: PathBuf,
    owner_key: [u8; 32],
    bucket: Option<Bucket>,
    verify: Verified,
}

/// Is the hold, until it is killed.
pub(crate) async fn run(role: &str) {
    let role: Role = serde_json::from_str(role).unwrap();
    let owner: Did = OWNER.parse().unwrap();
    let key = SigningKey::from_bytes(Curve::K256, &role.owner_key).unwrap();
    let resolver = Arc::new(StaticResolver::default());
    let pds: Url = "https://pds.example".parse().unwrap();
    let services = [("atproto_pds", "AtprotoPersonalDataServer", &pds)];
    resolver.insert(DidDocument::new(owner.clone(), None, &key.public_key(), &services));

    let public_url = format!("http://127.0.0.1:{}", role.port).parse().unwrap();
    let mut config = HoldConfig::new(public_url, role.directory, owner);
    config.public = true;
    config.verification.when = match role.verify {
        Verified::Sync => Verify::Sync,
        Verified::Background => Verify::Background,
        Verified::Trust => Verify::Trust,
    };
    if let Some(bucket) = role.bucket {
        let storage: Arc<dyn ObjectStorage> = Arc::new(S3Storage::open(bucket.config()).await);
        config.storage = Some(storage);
    }
    let hold = Hold::open(config, resolver).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", role.port)).await.unwrap();
    tokio::select! {
        () = serve(listener, hold.router()) => {}
        () = hold.maintain() => {}
    }
}

/// Serves as `atcr-hold serve` does, where the buffer of a connection has 64 KiB. `axum::serve` lets it grow to 400.
async fn serve(listener: TcpListener, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(64 << 10);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let router = router.clone();
        let service = service_fn(move |request| router.clone().call(request));
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

/// A hold that runs, until it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: Url,
    pub(crate) owner_key: SigningKey,
}

impl Process {
    pub(crate) async fn start(directory: &Path, bucket: Option<Bucket>, verify: Verified) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let owner_key = SigningKey::generate(Curve::K256).unwrap();
        let directory = directory.join("hold");
        let role = Role { port, directory, owner_key: owner_key.to_bytes(), bucket, verify };
        let child = Command::new(std::env::current_exe().unwrap())
            .args([ROLE, &serde_json::to_string(&role).unwrap()])
            .spawn()
            .unwrap();
        let url: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let process = Self { child, url, owner_key };
        let wait = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the hold starts");
        process
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }

    /// A field of its memory in MiB.
    pub(crate) fn memory(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
