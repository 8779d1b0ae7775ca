//! What is measured.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use atcr_hold::storage::S3Storage;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::{Blob, Client, Took};
use crate::report::Report;
use crate::storage::World;
use crate::{MIB, Options, Task};

const KIB: u64 = 1 << 10;
/// Answers that are counted for the rate of redirects to one blob.
const REDIRECTS: usize = 20_000;
/// Blobs that are asked for once each.
const BLOBS: u64 = 4000;

pub(crate) async fn run(task: Task, options: &Options, world: &World, report: &mut Report) {
    match task {
        Task::Throughput => throughput(options, world, report).await,
        Task::Redirects if world.bucket.is_some() => redirects(options, world, report).await,
        // The hold sends the bytes itself.
        Task::Redirects => {}
        Task::Commit => commit(options, world, report).await,
        Task::Memory => memory(options, world, report).await,
    }
}

fn progress(bytes: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap()).with_message(what)
}

fn best(took: &[Took]) -> Duration {
    took.iter().map(|took| took.all).min().unwrap()
}

async fn throughput(options: &Options, world: &World, report: &mut Report) {
    let name = world.back_end.name();
    let size = options.size * MIB;
    let rounds = options.rounds as u64;
    let direct = match &world.bucket {
        Some(bucket) => Some(S3Storage::open(bucket.config()).await),
        None => None,
    };
    let bar = progress(size * rounds * if direct.is_some() { 2 } else { 1 }, "uploading");
    let client = Client::new(&world.hold, options.parallel, options.batch, bar.clone());
    let (mut through, mut past) = (Vec::new(), Vec::new());
    let (mut cpu, mut traffic) = (0.0, 0);
    for round in 0..rounds {
        let blob = Blob::new(size, options.part_size * MIB, round);
        if let Some(storage) = &direct {
            past.push(client.upload_directly(storage, &blob).await);
        }
        let before = (world.hold.cpu(), world.storage_traffic());
        through.push(client.upload(&blob).await);
        cpu += world.hold.cpu() - before.0;
        if let (Some(before), Some(now)) = (before.1, world.storage_traffic()) {
            traffic += now - before;
        }
    }
    bar.finish_and_clear();
    let rate = |took: &[Took]| options.size as f64 / best(took).as_secs_f64();
    report.add(
        name,
        format!("{} MiB through the hold, best of {rounds}", options.size),
        rate(&through),
        "MiB/s",
    );
    let gib = (size * rounds) as f64 / (1024 * MIB) as f64;
    if direct.is_some() {
        report.add(name, "the same client without a hold", rate(&past), "MiB/s");
        report.add(
            name,
            "with the hold, in parts of the time without",
            best(&through).div_duration_f64(best(&past)),
            "",
        );
        let wall: f64 = through.iter().map(|took| took.all.as_secs_f64()).sum();
        report.add(name, "CPU time of the hold, of the time of the uploads", cpu / wall * 100.0, "%");
        traffic += client.traffic.load(Ordering::Relaxed);
        report.add(
            name,
            "bytes from and to the hold, of those of the blobs",
            traffic as f64 / (size * rounds) as f64 * 100.0,
            "%",
        );
    }
    report.add(name, "CPU time of the hold", cpu / gib, "s/GiB");
}

async fn redirects(options: &Options, world: &World, report: &mut Report) {
    let client = Client::new(&world.hold, options.parallel, options.batch, ProgressBar::hidden());
    let blobs: Vec<Blob> = (0..BLOBS).map(|seed| Blob::new(KIB, MIB, 1000 + seed)).collect();
    let bar = progress(BLOBS * KIB, "uploading what is redirected to");
    stream::iter(&blobs)
        .for_each_concurrent(options.parallel, |blob| async {
            client.upload(blob).await;
            // Others than the uploader see it once it is verified. A HEAD is answered without a signature.
            let waiting = Instant::now();
            while !client.is_public(blob).await {
                assert!(
                    waiting.elapsed() < Duration::from_secs(60),
                    "a blob was not verified within a minute"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bar.inc(KIB);
        })
        .await;
    bar.finish_and_clear();
    let name = world.back_end.name();
    let hot = std::iter::repeat_n(&blobs[0], REDIRECTS);
    for (what, asked) in
        [("to a blob each", blobs.iter().collect()), ("to one blob", hot.collect::<Vec<_>>())]
    {
        let before = world.hold.cpu();
        let began = Instant::now();
        ask_for_all(world, &asked, options.parallel).await;
        let rates =
            [world.hold.cpu() - before, began.elapsed().as_secs_f64()].map(|took| asked.len() as f64 / took);
        report.add(name, format!("redirects {what}, for each second of the hold's CPU time"), rates[0], "/s");
        report.add(name, format!("redirects {what}, by the clock"), rates[1], "/s");
    }
}

/// Asks for blobs, on so many connections.
async fn ask_for_all(world: &World, blobs: &[&Blob], connections: usize) {
    let port = world.hold.url.port().unwrap();
    let requests: Vec<String> = blobs
        .iter()
        .map(|blob| {
            format!(
                "GET /xrpc/com.atproto.sync.getBlob?did=did%3Aweb%3A127.0.0.1%253A{port}&cid={} HTTP/1.1\r\n\
                 Host: 127.0.0.1:{port}\r\n\r\n",
                blob.digest
            )
        })
        .collect();
    let asked: Vec<_> = requests
        .chunks(requests.len().div_ceil(connections))
        .map(|requests| {
            let requests = requests.to_vec();
            tokio::task::spawn_blocking(move || ask(port, &requests))
        })
        .collect();
    for asked in asked {
        asked.await.unwrap();
    }
}

/// Sends requests one after the other on one connection. Each must be answered with a redirect.
fn ask(port: u16, requests: &[String]) {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let mut line = String::new();
    for request in requests {
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        line.clear();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 307"), "{line}");
        let mut length = 0;
        while line.trim_end() != "" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim_end().parse().unwrap();
            }
        }
        stream.by_ref().take(length).read_to_end(&mut Vec::new()).unwrap();
    }
}

async fn commit(options: &Options, world: &World, report: &mut Report) {
    let sizes = [5, options.large];
    let rounds = options.rounds as u64;
    let bar = progress(sizes.iter().sum::<u64>() * MIB * rounds, "committing");
    let client = Client::new(&world.hold, options.parallel, options.batch, bar.clone());
    let mut least = [Duration::MAX; 2];
    for round in 0..rounds {
        for (size, least) in sizes.iter().zip(&mut least) {
            let blob = Blob::new(size * MIB, options.part_size * MIB, 2000 + round);
            *least = client.upload(&blob).await.commit.min(*least);
        }
    }
    bar.finish_and_clear();
    let name = world.back_end.name();
    for (size, least) in sizes.iter().zip(least) {
        report.add(
            name,
            format!("commit of {size} MiB, best of {rounds}"),
            least.as_secs_f64() * 1000.0,
            "ms",
        );
    }
    report.add(name, "the large one in parts of the small one", least[1].div_duration_f64(least[0]), "");
}

async fn memory(options: &Options, world: &World, report: &mut Report) {
    let blob_size = 16 * MIB;
    let bar = progress(options.uploads as u64 * blob_size, "uploading at once");
    let client = Client::new(&world.hold, 1, options.batch, bar.clone());
    world.hold.forget_peak();
    let before = world.hold.memory("VmRSS:");
    let cpu = world.hold.cpu();
    stream::iter(0..options.uploads as u64)
        .for_each_concurrent(None, |seed| {
            let client = &client;
            async move {
                client.upload(&Blob::new(blob_size, 5 * MIB, 3000 + seed)).await;
            }
        })
        .await;
    bar.finish_and_clear();
    let name = world.back_end.name();
    report.add(name, "memory of the hold before", before, "MiB");
    report.add(
        name,
        format!("the most during {} uploads at once", options.uploads),
        world.hold.memory("VmHWM:"),
        "MiB",
    );
    let gib = options.uploads as f64 * blob_size as f64 / (1024 * MIB) as f64;
    report.add(name, "CPU time of the hold meanwhile", (world.hold.cpu() - cpu) / gib, "s/GiB");
}
