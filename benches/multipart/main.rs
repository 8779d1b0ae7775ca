//! Throughput of multipart uploads: through a hold whose storage is a bucket, straight to that bucket by the same
//! client, and through a hold that keeps files. Beside it what the hold itself does meanwhile: CPU time, memory, bytes.
//!
//! `cargo bench -p atcr-hold --bench multipart -- --help`
//!
//! The hold is a process of its own. The bucket is that of `strict-s3` in this process, or any other by `--endpoint`.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod client;
mod hold;
mod report;
mod storage;
mod tasks;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::storage::BackEnd;

const MIB: u64 = 1 << 20;

/// Measures multipart uploads through a hold, beside the same client without one.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench -p atcr-hold --bench multipart --")]
struct Options {
    /// What to measure; everything when not given.
    #[arg(long, value_enum)]
    only: Vec<Task>,
    /// The storage behind the hold; may be repeated.
    #[arg(long, value_enum, default_values = ["strict-s3", "filesystem"])]
    back_end: Vec<BackEnd>,
    /// The size of a blob in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    size: u64,
    /// The size of a part in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    part_size: u64,
    /// How many parts are on their way at a time.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// How many parts' addresses are asked for in one call, where the hold can do that, as an AppView does. 1 is the
    /// protocol as it was published.
    #[arg(long, default_value_t = 8)]
    batch: u32,
    /// How often each upload is done, by turns; the best one counts. The bucket in memory keeps them all.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The size of the large blob whose commit is timed, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 5120)]
    large: u64,
    /// When the hold reads back what went to the bucket directly.
    #[arg(long, value_enum, default_value_t = Verified::Background)]
    verify: Verified,
    /// How many uploads there are at once while memory is watched, of 16 MiB each in parts of 5 MiB, one after the other.
    #[arg(long, default_value_t = 100)]
    uploads: usize,
    /// Where a bucket is, for `--back-end s3`.
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    endpoint: Option<url::Url>,
    /// The bucket.
    #[arg(long, default_value = "blobs")]
    bucket: String,
    /// Its region.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// The access key to it.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", default_value = "")]
    access_key: String,
    /// The secret of the key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", default_value = "", hide_env_values = true)]
    secret_key: String,
    /// Where files are written, in a directory that is removed afterwards. Default: the system's temporary one.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Writes the figures there too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// When blobs are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
enum Verified {
    /// Before an upload is acknowledged.
    Sync,
    /// Afterwards, at the cost of what is measured meanwhile.
    Background,
    /// Never.
    Trust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    /// One large blob after the other.
    Throughput,
    /// Answers that send a reader to the storage.
    Redirects,
    /// The end of a large upload against that of a small one.
    Commit,
    /// Many uploads at once.
    Memory,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == hold::ROLE) {
        return hold::run(&arguments[2]).await;
    }
    let options = Options::parse();
    let mut report = Report::default();
    for back_end in &options.back_end {
        let world = storage::World::start(&options, *back_end).await;
        for task in Task::value_variants() {
            if options.only.is_empty() || options.only.contains(task) {
                tasks::run(*task, &options, &world, &mut report).await;
            }
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report.json()).unwrap();
    }
}
