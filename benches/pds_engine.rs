//! Repos over SQLite on disk: durable writes, import, export; and the engine in memory, for peers that have nothing
//! else. Each figure in a process of its own, so that the peak of its memory is its own.
//!
//! `cargo bench -p atcr-pds --bench pds_engine [-- memory|writes-1|writes-64|large|import]`
//!
//! `-- files DIR` leaves the CAR file that the peers in `benches/peers` read.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::{Did, Tid};
use atcr_pds::cbor::{self, cid_for_cbor};
use atcr_pds::repo::car::{self, CarLimits};
use atcr_pds::repo::mst::{Builder, NodeBlock, NodeMap, Tree, covering};
use atcr_pds::repo::{Commit, Import};
use atcr_pds::{Expect, MemoryKeys, NewRepo, Repos, SqliteStore, Swap, Write};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use sha2::{Digest as _, Sha256};

/// The repo whose import is known to time out elsewhere.
const RECORDS: u32 = 128_260;
/// What a large repo has, and what is written into it.
const LARGE: u32 = 1_000_000;
const INSERTS: u32 = 100_000;
/// Commits into an empty repo in memory, here and by the peers.
const COMMITS: u32 = 20_000;

const COLLECTION: &str = "io.atcr.hold.layer";

/// The first argument of a process that measures one figure.
const CHILD: &str = "figure";

struct World {
    repos: Repos,
    did: Did,
}

fn did() -> Did {
    "did:web:hold.example.com".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_bytes(Curve::K256, &[7; 32]).unwrap()
}

async fn open(file: &Path) -> World {
    let did = did();
    let keys = MemoryKeys::default();
    keys.insert(did.clone(), key());
    let store = SqliteStore::open(file).await.unwrap();
    let repos = Repos::open(Arc::new(store), Arc::new(keys)).await.unwrap();
    if repos.info(&did).await.unwrap().is_none() {
        repos.create(&did, NewRepo::default()).await.unwrap();
    }
    World { repos, did }
}

fn rkey(n: u32) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(n.to_be_bytes()))
}

fn record(n: u32) -> Ipld {
    let text = |s: &str| Ipld::String(s.into());
    Ipld::Map(
        [
            ("$type".to_owned(), text(COLLECTION)),
            ("digest".to_owned(), text(&format!("sha256:{}", rkey(n)))),
            ("size".to_owned(), Ipld::Integer(123_456_789)),
            ("mediaType".to_owned(), text("application/vnd.oci.image.layer.v1.tar+gzip")),
            ("userDid".to_owned(), text("did:plc:ewvi7nxzyoun6zhxrhs64oiz")),
            ("createdAt".to_owned(), text("2026-11-20T21:43:48.449Z")),
        ]
        .into(),
    )
}

fn write(n: u32) -> Write {
    Write::Put {
        collection: COLLECTION.parse().unwrap(),
        rkey: rkey(n).parse().unwrap(),
        value: record(n),
        expect: Expect::Anything,
    }
}

/// Single-record commits from `tasks` callers.
async fn writes(world: &World, tasks: u32, from: u32, count: u32) -> String {
    let begin = Clock::start();
    let handles: Vec<_> = (0..tasks)
        .map(|task| {
            let (repos, did) = (world.repos.clone(), world.did.clone());
            tokio::spawn(async move {
                for n in (from + task..from + count).step_by(tasks as usize) {
                    repos.apply_writes(&did, vec![write(n)], Swap::Anything).await.unwrap();
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
    begin.rate(count, "commits")
}

/// A repo as a CAR file, made without a store.
fn file(path: &Path, count: u32) {
    let mut keys: Vec<(String, u32)> = (0..count).map(|n| (format!("{COLLECTION}/{}", rkey(n)), n)).collect();
    keys.sort_unstable();
    let block = |n: u32| cbor::encode(&record(n)).unwrap();
    let mut nodes: Vec<(Cid, Bytes)> = Vec::new();
    let mut builder = Builder::new(|node: NodeBlock| nodes.push((*node.cid(), node.bytes().clone())));
    for (key, n) in &keys {
        builder.push(key, cid_for_cbor(&block(*n))).unwrap();
    }
    let root = builder.finish().unwrap();
    let commit = Commit::sign(&did(), root, Tid::new(1, 1), &key()).unwrap().encode().unwrap();
    let head = cid_for_cbor(&commit);
    let mut out = BufWriter::new(File::create(path).unwrap());
    out.write_all(&car::header(&[head])).unwrap();
    let mut section = BytesMut::new();
    let mut put = |cid: &Cid, bytes: &[u8]| {
        section.clear();
        car::section(&mut section, cid, bytes);
        out.write_all(&section).unwrap();
    };
    put(&head, &commit);
    for (cid, bytes) in nodes.iter().rev() {
        put(cid, bytes);
    }
    for (_, n) in &keys {
        let bytes = block(*n);
        put(&cid_for_cbor(&bytes), &bytes);
    }
    out.flush().unwrap();
}

async fn import(world: &World, file: &Path) -> String {
    let begin = Clock::start();
    let mut import = Import::new();
    import.read(tokio::fs::File::open(file).await.unwrap(), CarLimits::default()).await.unwrap();
    let done = world.repos.import(&world.did, import).await.unwrap();
    format!("{} records in {}", done.created, begin.time())
}

/// Commits of one record each, with all that a consumer needs, and nowhere to keep them but memory.
fn memory() -> String {
    let (did, key) = (did(), key());
    let mut nodes = NodeMap::default();
    let empty = Tree::default().write().unwrap();
    for node in empty.nodes {
        nodes.insert(node);
    }
    let mut root = empty.root;
    let begin = Clock::start();
    for n in 0..COMMITS {
        let path = format!("{COLLECTION}/{}", rkey(n));
        let record = cbor::encode(&record(n)).unwrap();
        let mut tree = Tree::open(root);
        tree.set(&nodes, &path, cid_for_cbor(&record)).unwrap();
        let written = tree.write().unwrap();
        for node in &written.added {
            nodes.insert(node.clone());
        }
        for cid in &written.removed {
            nodes.remove(cid);
        }
        root = written.root;
        let commit = Commit::sign(&did, root, Tid::new(u64::from(n) + 1, 1), &key).unwrap().encode().unwrap();
        let proof = covering(&nodes, &root, [path.as_str()]).unwrap();
        let head = cid_for_cbor(&commit);
        let slice = [(&head, &commit)].into_iter().chain(proof.iter().map(|n| (n.cid(), n.bytes())));
        std::hint::black_box(car::encode(&[head], slice));
    }
    begin.rate(COMMITS, "commits")
}

/// Wall time and the CPU time of this process.
struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn time(&self) -> String {
        format!("{:.2} s ({:.2} CPU s)", self.0.elapsed().as_secs_f64(), cpu() - self.1)
    }

    fn rate(&self, count: u32, what: &str) -> String {
        let count = f64::from(count);
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), cpu() - self.1);
        format!("{:.0} {what}/s ({:.0} CPU µs each)", count / wall, cpu / count * 1e6)
    }
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces: user and system time are the 12th and 13th, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The highest resident memory of this process so far.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0);
    format!("{:.0} MiB", kib / 1024.0)
}

async fn figure(name: &str, dir: &Path) {
    let (small, large) = (dir.join("repo.car"), dir.join("large.car"));
    match name {
        "memory" => println!("{name}: {}", memory()),
        "writes-1" => {
            let world = open(&dir.join("one.sqlite")).await;
            println!("{name}: {}", writes(&world, 1, 0, 3000).await);
        }
        "writes-64" => {
            let world = open(&dir.join("many.sqlite")).await;
            println!("{name}: {}, {}", writes(&world, 64, 0, 60_000).await, peak());
        }
        "empty" => {
            let world = open(&dir.join("empty.sqlite")).await;
            println!("{INSERTS} inserts into nothing: {}, {}", writes(&world, 64, 0, INSERTS).await, peak());
        }
        "make-large" => {
            file(&large, LARGE);
            let world = open(&dir.join("large.sqlite")).await;
            println!("a large repo: {}", import(&world, &large).await);
        }
        "large" => {
            let world = open(&dir.join("large.sqlite")).await;
            let rate = writes(&world, 64, LARGE, INSERTS).await;
            println!("{INSERTS} inserts into {LARGE}: {rate}, {}", peak());
        }
        "files" => file(&small, RECORDS),
        "import" => {
            let world = open(&dir.join("repo.sqlite")).await;
            println!("{name}: {}, {}", import(&world, &small).await, peak());
        }
        "export" => {
            let world = open(&dir.join("repo.sqlite")).await;
            let begin = Clock::start();
            let stream = world.repos.export(&world.did, None).await.unwrap();
            let bytes = stream.try_fold(0, |n, chunk| async move { Ok(n + chunk.len()) }).await.unwrap();
            let megabytes = bytes / 1_000_000;
            println!("{name}: {RECORDS} records, {megabytes} MB in {}, {}", begin.time(), peak());
        }
        other => panic!("no figure {other:?}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [figure_of, name, dir] = &arguments[..]
        && figure_of == CHILD
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(figure(name, Path::new(dir)));
    }
    if let [files, dir] = &arguments[..]
        && files == "files"
    {
        return file(&Path::new(dir).join("repo.car"), RECORDS);
    }
    let dir = tempfile::tempdir().unwrap();
    // Each figure with the processes that it takes.
    let all: [(&str, &[&str]); 5] = [
        ("memory", &["memory"]),
        ("writes-1", &["writes-1"]),
        ("writes-64", &["writes-64"]),
        ("large", &["empty", "make-large", "large"]),
        ("import", &["files", "import", "export"]),
    ];
    for (name, steps) in all {
        if !arguments.is_empty() && !arguments.iter().any(|a| a == name) {
            continue;
        }
        for step in steps {
            let program = std::env::current_exe().unwrap();
            let status = Command::new(program).arg(CHILD).arg(step).arg(dir.path()).status().unwrap();
            assert!(status.success(), "{step} failed");
        }
    }
}
