//! Repos over SQLite on disk: durable writes, import, export. Each figure in a process of its own, so that the peak of
//! its memory is its own.
//!
//! `cargo bench -p atcr-pds --bench pds_engine [-- writes-1|writes-64|large|import|export]`
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::Did;
use atcr_pds::repo::Import;
use atcr_pds::repo::car::CarLimits;
use atcr_pds::{Expect, MemoryKeys, NewRepo, Repos, SqliteStore, Swap, Write};
use futures_util::{StreamExt as _, TryStreamExt as _};
use ipld_core::ipld::Ipld;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// The repo whose import is known to time out elsewhere.
const RECORDS: u32 = 128_260;

/// The first argument of a process that measures one figure.
const CHILD: &str = "figure";

struct World {
    repos: Repos,
    did: Did,
}

async fn open(file: &Path) -> World {
    let did: Did = "did:web:hold.example.com".parse().unwrap();
    let keys = MemoryKeys::default();
    keys.insert(did.clone(), SigningKey::from_bytes(Curve::K256, &[7; 32]).unwrap());
    let store = SqliteStore::open(file).await.unwrap();
    let repos = Repos::open(Arc::new(store), Arc::new(keys)).await.unwrap();
    if repos.info(&did).await.unwrap().is_none() {
        repos.create(&did, NewRepo::default()).await.unwrap();
    }
    World { repos, did }
}

fn write(n: u32) -> Write {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(n.to_be_bytes()));
    let text = |s: &str| Ipld::String(s.into());
    Write::Put {
        collection: "io.atcr.hold.layer".parse().unwrap(),
        value: Ipld::Map(
            [
                ("digest".to_owned(), text(&format!("sha256:{digest}"))),
                ("size".to_owned(), Ipld::Integer(123_456_789)),
                ("mediaType".to_owned(), text("application/vnd.oci.image.layer.v1.tar+gzip")),
                ("userDid".to_owned(), text("did:plc:ewvi7nxzyoun6zhxrhs64oiz")),
                ("createdAt".to_owned(), text("2026-11-20T21:43:48.449Z")),
            ]
            .into(),
        ),
        rkey: digest.parse().unwrap(),
        expect: Expect::Anything,
    }
}

/// Single-record commits from `tasks` callers; commits per second.
async fn writes(world: &World, tasks: u32, from: u32, count: u32) -> f64 {
    let begin = Instant::now();
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
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// A repo of many records, by imports of its own exports being the quickest way to make one.
async fn fill(world: &World, count: u32) {
    for from in (0..count).step_by(200) {
        let list = (from..count.min(from + 200)).map(write).collect();
        world.repos.apply_writes(&world.did, list, Swap::Anything).await.unwrap();
    }
}

/// The highest resident memory of this process so far, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) / 1024.0
}

async fn figure(name: &str, dir: &Path) {
    let car = dir.join("repo.car");
    match name {
        "writes-1" => {
            let world = open(&dir.join("one.sqlite")).await;
            println!("{name}: {:.0} commits/s", writes(&world, 1, 0, 3000).await);
        }
        "writes-64" => {
            let world = open(&dir.join("many.sqlite")).await;
            println!("{name}: {:.0} commits/s, {:.0} MiB", writes(&world, 64, 0, 60_000).await, peak());
        }
        "large" => {
            let world = open(&dir.join("large.sqlite")).await;
            let empty = writes(&world, 64, 0, 50_000).await;
            fill(&world, 1_000_000).await;
            let full = writes(&world, 64, 1_000_000, 100_000).await;
            println!(
                "{name}: {empty:.0} commits/s into nothing, {full:.0}/s into 1,000,000 records, {:.0} MiB",
                peak()
            );
        }
        "prepare" => {
            let world = open(&dir.join("source.sqlite")).await;
            fill(&world, RECORDS).await;
            let mut file = tokio::fs::File::create(&car).await.unwrap();
            let mut stream = world.repos.export(&world.did, None).await.unwrap();
            while let Some(chunk) = stream.next().await {
                file.write_all(&chunk.unwrap()).await.unwrap();
            }
            file.flush().await.unwrap();
        }
        "import" => {
            let world = open(&dir.join("target.sqlite")).await;
            let begin = Instant::now();
            let mut import = Import::new();
            import.read(tokio::fs::File::open(&car).await.unwrap(), CarLimits::default()).await.unwrap();
            let staged = begin.elapsed();
            let done = world.repos.import(&world.did, import).await.unwrap();
            println!(
                "{name}: {} records in {:.2} s ({:.2} s of it reading the file), {:.0} MiB",
                done.created,
                begin.elapsed().as_secs_f64(),
                staged.as_secs_f64(),
                peak()
            );
        }
        "export" => {
            let world = open(&dir.join("source.sqlite")).await;
            let begin = Instant::now();
            let stream = world.repos.export(&world.did, None).await.unwrap();
            let bytes = stream.try_fold(0, |n, chunk| async move { Ok(n + chunk.len()) }).await.unwrap();
            println!(
                "{name}: {RECORDS} records, {} MB in {:.2} s, {:.0} MiB",
                bytes / 1_000_000,
                begin.elapsed().as_secs_f64(),
                peak()
            );
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
    let dir = tempfile::tempdir().unwrap();
    let all = ["writes-1", "writes-64", "large", "prepare", "export", "import"];
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    for name in all {
        let prepares = name == "prepare" && (wanted("import") || wanted("export"));
        if wanted(name) || prepares {
            let program = std::env::current_exe().unwrap();
            let status = Command::new(program).arg(CHILD).arg(name).arg(dir.path()).status().unwrap();
            assert!(status.success(), "{name} failed");
        }
    }
}
