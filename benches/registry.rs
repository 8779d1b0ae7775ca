//! The registry on the filesystem beside others, under one load client: CPU time of the server's process for each
//! operation, rates, and memory.
//!
//! `cargo bench -p atcr-registry --bench registry -- [NAME='COMMAND with {port} and {dir}']…`
//!
//! Without a command it measures the example `filesystem_registry`, which must be built in release mode before. Each
//! server gets an empty directory below the system's temporary one, which is removed when it has ended. The pushes that
//! run at once are of `PUSH_MIB` (256) MiB each; fifty of them are kept until the end.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use atcr_core::oci::{Algorithm, Digest, Hasher, MediaType};

const MIB: usize = 1 << 20;
/// One connection alone would measure how the kernel wakes an idle processor, four times what the request costs.
const CONNECTIONS: usize = 8;
/// The first argument of the process that only receives, hashes and writes.
const BARE: &str = "bare";

struct Answer {
    status: u16,
    location: String,
    length: usize,
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::with_capacity(256 << 10, stream) }
    }

    fn head(&mut self, method: &str, path: &str, headers: &str, length: usize) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(head.as_bytes()).unwrap();
    }

    fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.head(method, path, headers, body.len());
        self.stream.get_mut().write_all(body).unwrap();
        self.answer(method == "HEAD")
    }

    /// Reads an answer and throws its body away.
    fn answer(&mut self, is_head: bool) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, location: String::new(), length: 0 };
        let mut chunked = false;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => answer.length = value.parse().unwrap(),
                "location" => value.clone_into(&mut answer.location),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        if is_head {
            return answer;
        }
        if !chunked {
            self.skip(answer.length);
        }
        while chunked {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
            self.skip(length + 2);
            answer.length += length;
            chunked = length > 0;
        }
        answer
    }

    fn skip(&mut self, mut length: usize) {
        while length > 0 {
            let there = self.stream.fill_buf().unwrap().len().min(length);
            assert!(there > 0, "the server hung up");
            self.stream.consume(there);
            length -= there;
        }
    }

    /// Where an upload goes on, with the digest that ends it.
    fn begin(&mut self, repository: &str, digest: &Digest) -> String {
        let answer = self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(answer.status, 202);
        let location = match answer.location.strip_prefix("http://") {
            Some(rest) => &rest[rest.find('/').unwrap()..],
            None => &answer.location,
        };
        let separator = if location.contains('?') { '&' } else { '?' };
        format!("{location}{separator}digest={digest}")
    }

    fn push(&mut self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = self.begin(repository, &digest);
        assert_eq!(
            self.call("PUT", &path, "Content-Type: application/octet-stream\r\n", content).status,
            201
        );
        digest
    }

    fn push_large(&mut self, repository: &str, blob: &Large) {
        let path = self.begin(repository, &blob.digest);
        self.head("PUT", &path, "Content-Type: application/octet-stream\r\n", blob.mib * MIB);
        blob.each(|piece| self.stream.get_mut().write_all(piece).unwrap());
        assert_eq!(self.answer(false).status, 201);
    }
}

/// A blob that is made anew each time: the same mebibyte with its number in front.
struct Large {
    mib: usize,
    seed: u64,
    digest: Digest,
}

impl Large {
    fn new(mib: usize, seed: u64) -> Self {
        let mut blob = Self { mib, seed, digest: Digest::sha256(b"") };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        blob.each(|piece| hasher.update(piece));
        blob.digest = hasher.finish();
        blob
    }

    fn each(&self, mut take: impl FnMut(&[u8])) {
        let mut piece: Vec<u8> =
            (0..MIB as u64).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13).to_le_bytes()[0]).collect();
        for n in 0..self.mib as u64 {
            piece[..8].copy_from_slice(&n.to_le_bytes());
            piece[8..16].copy_from_slice(&self.seed.to_le_bytes());
            take(&piece);
        }
    }
}

struct Server {
    child: Child,
    addr: SocketAddr,
    directory: PathBuf,
}

impl Server {
    /// Starts a server and gives the time until it answered.
    fn start(command: &str) -> (Self, Duration) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = std::env::temp_dir().join(format!("registry-bench-{port}"));
        fs::create_dir(&directory).unwrap();
        let command =
            command.replace("{port}", &port.to_string()).replace("{dir}", directory.to_str().unwrap());
        let log = File::create(directory.with_extension("log")).unwrap();
        let began = Instant::now();
        let child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { child, addr: ([127, 0, 0, 1], port).into(), directory };
        while TcpStream::connect(server.addr).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not start: {command}");
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(Client::new(server.addr).call("GET", "/v2/", "", b"").status, 200);
        (server, began.elapsed())
    }

    /// CPU seconds of the process so far.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }

    /// A field of the process's memory in MiB.
    fn memory(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap() / 1024.0
    }

    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// CPU milliseconds for each of `count` operations on all connections, and how many there were in a second.
    fn each(&self, count: usize, operation: impl Fn(&mut Client, usize) + Sync) -> (f64, f64) {
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::new(self.addr)).collect();
        let mut run = |count: usize| {
            thread::scope(|scope| {
                for (first, client) in clients.iter_mut().enumerate() {
                    let operation = &operation;
                    scope.spawn(move || {
                        (first..count).step_by(CONNECTIONS).for_each(|n| operation(client, n));
                    });
                }
            });
        };
        run(count / 10);
        let (cpu, began) = (self.cpu(), Instant::now());
        run(count);
        ((self.cpu() - cpu) * 1000.0 / count as f64, count as f64 / began.elapsed().as_secs_f64())
    }

    /// CPU and wall seconds.
    fn once(&self, operation: impl FnOnce()) -> (f64, f64) {
        let (cpu, began) = (self.cpu(), Instant::now());
        operation();
        (self.cpu() - cpu, began.elapsed().as_secs_f64())
    }

    /// The least CPU seconds of five times, and the wall seconds of that one: where the kernel's page cache is taken
    /// back by the host of a virtual machine, a write costs up to three times as much.
    fn best(&self, mut operation: impl FnMut()) -> (f64, f64) {
        let times = (0..5).map(|_| self.once(&mut operation));
        times.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_dir_all(&self.directory).unwrap();
        let _ = fs::remove_file(self.directory.with_extension("log"));
    }
}

fn manifest(config: &Digest, name: usize) -> String {
    let media_type = MediaType::OCI_MANIFEST;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{config}","size":2}}],"annotations":{{"name":"{name}"}}}}"#
    )
}

fn row(what: &str, figure: String) {
    println!("  {what:<44} {figure}");
}

fn measure(name: &str, command: &str) {
    println!("{name}");
    let (server, started) = Server::start(command);
    row("first answer after start, ms", format!("{:.0}", started.as_secs_f64() * 1000.0));
    thread::sleep(Duration::from_secs(1));
    let idle = server.memory("VmRSS:");
    row("idle RSS, MiB", format!("{idle:.1}"));

    let mut client = Client::new(server.addr);
    let config = client.push("bench/app", b"{}");
    let headers = format!("Content-Type: {}\r\n", MediaType::OCI_MANIFEST);
    let accept = format!("Accept: {}\r\n", MediaType::OCI_MANIFEST);
    let put = |client: &mut Client, repository: &str, tag: &str, json: &str| {
        let path = format!("/v2/{repository}/manifests/{tag}");
        assert_eq!(client.call("PUT", &path, &headers, json.as_bytes()).status, 201);
    };
    put(&mut client, "bench/app", "latest", &manifest(&config, 0));
    let blob = format!("/v2/bench/app/blobs/{config}");
    for (method, what, path) in [
        ("GET", "manifest GET", "/v2/bench/app/manifests/latest"),
        ("HEAD", "manifest HEAD", "/v2/bench/app/manifests/latest"),
        ("HEAD", "blob HEAD", blob.as_str()),
    ] {
        let (cpu, rate) = server.each(20_000, |client, _| {
            assert_eq!(client.call(method, path, &accept, b"").status, 200);
        });
        row(&format!("{what}, CPU ms"), format!("{cpu:.3}  ({rate:.0}/s)"));
    }
    let (cpu, rate) = server.each(1000, |client, n| {
        put(client, "bench/app", &format!("v{n}"), &manifest(&config, n + 1));
    });
    row("manifest PUT, CPU ms", format!("{cpu:.3}  ({rate:.0}/s)"));
    client.push("bench/tags", b"{}");
    for n in 0..1000 {
        put(&mut client, "bench/tags", &format!("tag-{n:04}"), &manifest(&config, 0));
    }
    let (cpu, rate) = server.each(500, |client, _| {
        assert_eq!(client.call("GET", "/v2/bench/tags/tags/list?n=1000", "", b"").status, 200);
    });
    row("tags/list of 1,000 tags, CPU ms", format!("{cpu:.3}  ({rate:.0}/s)"));

    let gib = Large::new(1024, 1);
    let (cpu, wall) = server.best(|| client.push_large("bench/large", &gib));
    row("push of 1 GiB, CPU s", format!("{cpu:.2}  ({wall:.1} s)"));
    let path = format!("/v2/bench/large/blobs/{}", gib.digest);
    let (cpu, wall) = server.best(|| assert_eq!(client.call("GET", &path, "", b"").length, 1024 * MIB));
    row("pull of 1 GiB, CPU s", format!("{cpu:.2}  ({wall:.1} s)"));

    let two = Large::new(2048, 2);
    server.forget_peak();
    let before = server.memory("VmRSS:");
    client.push_large("bench/large", &two);
    let peak = server.memory("VmHWM:");
    row("push of 2 GiB, peak RSS, MiB", format!("{peak:.1}  ({:+.1} above before)", peak - before));

    let (pushes, mib) = (50, std::env::var("PUSH_MIB").map_or(256, |mib| mib.parse().unwrap()));
    let blobs: Vec<Large> = (0..pushes).map(|n| Large::new(mib, 100 + n)).collect();
    server.forget_peak();
    let (cpu, wall) = server.once(|| {
        thread::scope(|scope| {
            for blob in &blobs {
                scope.spawn(|| Client::new(server.addr).push_large("bench/many", blob));
            }
        });
    });
    let peak = server.memory("VmHWM:");
    row(&format!("{pushes} pushes of {mib} MiB at once, peak RSS, MiB"), format!("{peak:.1}"));
    row("  CPU s for each GiB", format!("{:.2}  ({wall:.1} s)", cpu * 1024.0 / (pushes as f64 * mib as f64)));
}

/// Receives a body, hashes and writes it, and syncs the file; or sends that file. No registry that copies does with less.
fn bare(port: u16, directory: &Path) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let path = directory.join("body");
    for stream in listener.incoming() {
        let mut stream = BufReader::with_capacity(256 << 10, stream.unwrap());
        let (mut method, mut line, mut length) = (String::new(), String::new(), 0);
        while stream.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim_end().parse().unwrap();
            }
            if method.is_empty() {
                line.split(' ').next().unwrap().clone_into(&mut method);
            }
            line.clear();
        }
        let mut buffer = vec![0; 64 << 10];
        let mut file = None;
        if method == "PUT" {
            receive(&mut stream.by_ref().take(length), &mut buffer, &path);
        } else {
            file = File::open(&path).ok();
        }
        let length = file.as_ref().map_or(0, |file| file.metadata().unwrap().len());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        while let Some(count) = file.as_mut().map(|file| file.read(&mut buffer).unwrap()).filter(|n| *n > 0) {
            stream.get_mut().write_all(&buffer[..count]).unwrap();
        }
    }
}

fn receive(body: &mut impl Read, buffer: &mut [u8], path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    loop {
        let count = body.read(buffer).unwrap();
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).unwrap();
    }
    file.sync_all().unwrap();
}

fn main() {
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == BARE) {
        return bare(arguments[1].parse().unwrap(), Path::new(&arguments[2]));
    }
    let own = std::env::current_exe().unwrap();
    let example = own.parent().unwrap().parent().unwrap().join("examples/filesystem_registry");
    arguments.insert(0, format!("atcr-registry={} 127.0.0.1:{{port}} {{dir}}", example.display()));

    println!("bare loops: receive, hash, write, sync; read, send");
    let (server, _) = Server::start(&format!("{} {BARE} {{port}} {{dir}}", own.display()));
    let gib = Large::new(1024, 1);
    let (cpu, wall) = server.best(|| {
        let mut client = Client::new(server.addr);
        client.head("PUT", "/", "", gib.mib * MIB);
        gib.each(|piece| client.stream.get_mut().write_all(piece).unwrap());
        assert_eq!(client.answer(false).status, 200);
    });
    row("push of 1 GiB, CPU s", format!("{cpu:.2}  ({wall:.1} s)"));
    let (cpu, wall) = server.best(|| {
        assert_eq!(Client::new(server.addr).call("GET", "/", "", b"").length, 1024 * MIB);
    });
    row("pull of 1 GiB, CPU s", format!("{cpu:.2}  ({wall:.1} s)"));
    drop(server);
    for argument in &arguments {
        let (name, command) = argument.split_once('=').expect("NAME=COMMAND");
        measure(name, command);
    }
}
