//! A registry on the filesystem that is killed, again and again, in the middle of its work.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::FilesystemBlobStore;
use atcr_core::manifest_store::FilesystemManifestStore;
use atcr_core::oci::{Digest, MediaType};
use atcr_registry::{Registry, SessionKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{image, index};

const DIRECTORY: &str = "ATCR_TEST_DIRECTORY";
/// How often a test looks for what a process has written, and the pause in between: half a minute.
const POLLS: usize = 30_000;
const PAUSE: Duration = Duration::from_millis(1);

/// The registry that the tests start and kill: this test is its process.
#[test]
#[ignore = "it is the process of a registry, which the tests of this module start"]
fn a_process() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let registry = Registry::builder()
            .manifests(Arc::new(FilesystemManifestStore::open(&directory).await.unwrap()))
            .blobs(Arc::new(FilesystemBlobStore::open(&directory).await.unwrap()))
            .authorizer(Arc::new(OpenAuthorizer::default()))
            .session_key(SessionKey::open(&Path::new(&directory).join("session.key")).unwrap());
        let running = registry.build().unwrap().spawn().await.unwrap();
        println!("\nlistening {}", running.addr());
        std::future::pending::<()>().await;
    });
}

pub(crate) struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), directory)
    }

    /// A process whose files cannot grow beyond `kib`: a write that would is cut short, as on a full disk.
    pub(crate) fn start_with_little_room(directory: &Path, kib: u32) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
        shell.args(["-c", &script]).arg(std::env::current_exe().unwrap());
        Self::spawn(shell, directory)
    }

    fn spawn(mut command: Command, directory: &Path) -> Self {
        let mut child = command
            .args(["--exact", "killed::a_process", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ")?.parse().ok());
        Self { child, addr: addr.unwrap() }
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Sends a request and gives status, head and body of the answer.
    pub(crate) async fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        Answer { head, body: answer[end + 4..].to_vec() }
    }

    /// Sends the beginning of a chunk and gives the connection, when the registry has begun to write it down.
    async fn begin_chunk(&self, location: &str, chunk: &[u8], directory: &Path) -> TcpStream {
        let before = bytes_of_uploads(directory);
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let head =
            format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 2 * chunk.len());
        stream.write_all(&[head.as_bytes(), chunk].concat()).await.unwrap();
        for _ in 0..POLLS {
            if bytes_of_uploads(directory) > before {
                return stream;
            }
            let mut answer = [0; 1024];
            // It answers before the end of the body only to refuse it; a connection that it closed has nothing to say.
            if let Ok(length) = stream.try_read(&mut answer) {
                panic!(
                    "the registry does not take the chunk: {:?}",
                    String::from_utf8_lossy(&answer[..length])
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!(
            "of a chunk of {} bytes the registry has written nothing down, and has not refused it",
            chunk.len()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) struct Answer {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert!(self.head.starts_with(&format!("HTTP/1.1 {status} ")), "{}", self.head);
        self
    }

    #[track_caller]
    fn header(&self, name: &str) -> String {
        let value = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.head)).to_owned()
    }
}

fn bytes_of_uploads(directory: &Path) -> u64 {
    let mut bytes = 0;
    for upload in std::fs::read_dir(directory.join("uploads")).unwrap().map_while(Result::ok) {
        for file in std::fs::read_dir(upload.path()).unwrap().map_while(Result::ok) {
            bytes += file.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    bytes
}

#[tokio::test]
async fn an_upload_goes_on_from_the_last_acknowledged_byte_after_each_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    let mut location = process.call("POST", "/v2/a/blobs/uploads/", "", b"").await.is(202).header("location");
    let mut content = Vec::new();
    for n in 0..4_u8 {
        let chunk = vec![n; 300_000 + usize::from(n)];
        let answer = process.call("PATCH", &location, "", &chunk).await.is(202);
        location = answer.header("location");
        content.extend(chunk);
        // Half of a chunk, which counts for nothing.
        let _cut = process.begin_chunk(&location, &vec![9; 1_500_000], directory.path()).await;
        process.kill();
        process = Process::start(directory.path());
        let answer = process.call("GET", &location, "", b"").await.is(204);
        assert_eq!(answer.header("range"), format!("0-{}", content.len() - 1));
    }
    let digest = Digest::sha256(&content);
    process.call("PUT", &format!("{location}?digest={digest}"), "", b"").await.is(201);
    process.kill();
    let process = Process::start(directory.path());
    let answer = process.call("GET", &format!("/v2/a/blobs/{digest}"), "", b"").await.is(200);
    assert!(answer.body == content);
    // The answer to the last request was lost, for all that the client knows.
    process.call("PUT", &format!("{location}?digest={digest}"), "", b"").await.is(201);
    assert_eq!(std::fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0);
    process.kill();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_each_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    let typed = |media_type: &str| format!("Content-Type: {media_type}\r\n");
    for n in 0..4 {
        let blob = format!("layer {n}");
        let digest = Digest::sha256(blob.as_bytes());
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        process.call("POST", &path, "", blob.as_bytes()).await.is(201);
        let json = image(&digest, &digest);
        let headers = typed(MediaType::OCI_MANIFEST);
        process.call("PUT", &format!("/v2/a/manifests/{n}"), &headers, json.as_bytes()).await.is(201);
        process.kill();
        process = Process::start(directory.path());
        for m in 0..=n {
            let digest = Digest::sha256(format!("layer {m}").as_bytes());
            process.call("HEAD", &format!("/v2/a/blobs/{digest}"), "", b"").await.is(200);
            let answer = process.call("GET", &format!("/v2/a/manifests/{m}"), "", b"").await.is(200);
            assert_eq!(answer.body, image(&digest, &digest).as_bytes());
        }
    }
    // Killed while it writes: the put is there or not, and the tag never points at something else.
    let json = index(&[Digest::sha256(b"x")]);
    let request = format!(
        "PUT /v2/a/manifests/0 HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n{json}",
        typed(MediaType::OCI_INDEX),
        json.len()
    );
    let mut stream = TcpStream::connect(process.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    process.kill();
    let process = Process::start(directory.path());
    let body = process.call("GET", "/v2/a/manifests/0", "", b"").await.is(200).body;
    let before = Digest::sha256(b"layer 0");
    assert!(body == json.as_bytes() || body == image(&before, &before).as_bytes());
    process.kill();
}
