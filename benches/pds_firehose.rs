//! The event stream under many subscribers: real WebSocket clients over loopback, a tenth of which stop reading. The
//! server is a process of its own with one thread for all subscribers, so that its memory and its CPU time are its own.
//!
//! `cargo bench -p atcr-pds --bench pds_firehose [-- SUBSCRIBERS [EVENTS]]`; it takes `ulimit -n` of a little more than
//! one file per subscriber.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::Did;
use atcr_pds::blobs::{Blobs, MemoryBlobs};
use atcr_pds::xrpc::{ReadOnly, Server, StaticHost, SubscribeOptions};
use atcr_pds::{Expect, MemoryKeys, NewRepo, Repos, SqliteStore, Swap, Write};
use futures_util::StreamExt as _;
use ipld_core::ipld::Ipld;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The first argument of the process that serves.
const SERVER: &str = "serve";
/// A consumer that takes none of its bytes for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events of a new repo, before those that are counted.
const BEFORE: u64 = 4;

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

/// Says where it listens; makes as many commits as it is told, line by line; says its CPU time and its peak memory.
async fn serve() {
    let dir = tempfile::tempdir().unwrap();
    let did: Did = "did:web:hold.example.com".parse().unwrap();
    let keys = MemoryKeys::default();
    keys.insert(did.clone(), SigningKey::from_bytes(Curve::K256, &[7; 32]).unwrap());
    let store = SqliteStore::open(&dir.path().join("repos.sqlite")).await.unwrap();
    let repos = Repos::open(Arc::new(store), Arc::new(keys)).await.unwrap();
    repos.create(&did, NewRepo::default()).await.unwrap();
    let document = serde_json::from_value(serde_json::json!({ "id": did })).unwrap();
    let host = StaticHost::new(&document, 0).unwrap();
    let options = SubscribeOptions { send_timeout: PATIENCE, last_word: PATIENCE, ..Default::default() };
    let blobs = Blobs::new(Arc::new(MemoryBlobs::default()), 0);
    let server = Server::new(repos.clone(), blobs, Arc::new(host), Arc::new(ReadOnly));
    let router = server.with_subscribe_options(options).router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&listener.local_addr().unwrap().to_string());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if send.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    let mut made = 0;
    while let Some(line) = lines.recv().await {
        let count: u32 = line.parse().unwrap();
        let tasks = (0..64).map(|task| {
            let (repos, did) = (repos.clone(), did.clone());
            async move {
                for n in (made + task..made + count).step_by(64) {
                    repos.apply_writes(&did, vec![write(n)], Swap::Anything).await.unwrap();
                }
            }
        });
        futures_util::future::join_all(tasks).await;
        made += count;
        say(&format!("{} {}", cpu(), peak()));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The highest resident memory of this process so far, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) / 1024.0
}

type Client = WebSocketStream<TcpStream>;

/// A subscriber. One that is going to stall has a small window, so that its stream stands still soon.
async fn subscribe(address: SocketAddr, stalls: bool) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    if stalls {
        socket.set_recv_buffer_size(4096).unwrap();
    }
    let stream = socket.connect(address).await.unwrap();
    let url = format!("ws://{address}/xrpc/com.atproto.sync.subscribeRepos?cursor={BEFORE}");
    client_async(url, stream).await.unwrap().0
}

/// The sequence number in a frame; none in an error frame.
fn seq(frame: &[u8]) -> Option<u64> {
    let at = frame.windows(4).position(|w| w == b"\x63seq")? + 4;
    let number =
        |len: usize| Some(frame.get(at + 1..at + 1 + len)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
    match *frame.get(at)? {
        small @ 0..24 => Some(small.into()),
        24 => number(1),
        25 => number(2),
        26 => number(4),
        _ => None,
    }
}

/// Reads events until the last one; how many bytes they had.
async fn read(mut client: Client, last: u64) -> u64 {
    let (mut at, mut bytes) = (BEFORE, 0);
    while at < last {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(frame) => {
                assert_eq!(seq(&frame), Some(at + 1), "lost or doubled");
                at += 1;
                bytes += frame.len() as u64;
            }
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    bytes
}

/// How the stream of one that did not read ended: whether before the last event, and whether it was told why.
async fn end(mut client: Client, last: u64) -> (bool, bool) {
    let (mut at, mut told) = (BEFORE, false);
    while at < last
        && let Some(Ok(message)) = client.next().await
    {
        let Message::Binary(frame) = message else { continue };
        match seq(&frame) {
            Some(seq) => {
                assert_eq!(seq, at + 1, "skipped");
                at = seq;
            }
            None => told = true,
        }
    }
    (at < last, told)
}

async fn measure(subscribers: u32, events: u32) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg(SERVER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = server.stdin.take().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address: SocketAddr = lines.next().unwrap().parse().unwrap();
    let mut report = |count: u32| {
        writeln!(input, "{count}").unwrap();
        let line = lines.next().unwrap();
        let (cpu, peak) = line.split_once(' ').unwrap();
        (cpu.parse::<f64>().unwrap(), peak.parse::<f64>().unwrap())
    };
    let last = BEFORE + u64::from(events);
    let (mut readers, mut stalled) = (Vec::new(), Vec::new());
    for n in 0..subscribers {
        let client = subscribe(address, n % 10 == 0).await;
        if n % 10 == 0 {
            stalled.push(client);
        } else {
            readers.push(tokio::spawn(read(client, last)));
        }
    }
    let (before, idle) = report(0);
    let (begin, mine) = (Instant::now(), cpu());
    report(events);
    let (count, mut bytes) = (readers.len() as f64 * f64::from(events), 0);
    for reader in readers {
        bytes += reader.await.unwrap();
    }
    let wall = begin.elapsed().as_secs_f64();
    let (after, _) = report(0);
    // The clock of those that stall runs from when their buffers were full.
    tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
    let (_, peak) = report(0);
    let of_stalled = stalled.len();
    let (mut dropped, mut told) = (0, 0);
    for client in stalled {
        let (was_dropped, was_told) = end(client, last).await;
        dropped += u32::from(was_dropped);
        told += u32::from(was_told);
    }
    println!(
        "{subscribers} subscribers, {of_stalled} of them stalled, {events} commits of {:.1} kB",
        bytes as f64 / count / 1000.0
    );
    println!(
        "delivered: {count:.0} events, none lost; {:.0}/s of the server's CPU time, {:.0}/s of the clock",
        count / (after - before),
        count / wall
    );
    println!("CPU time: {:.1} s by the server, {:.1} s by its clients", after - before, cpu() - mine);
    println!("memory of the server: {idle:.0} MiB with all connected, {peak:.0} MiB at its peak");
    println!("of the stalled ones {dropped} were dropped, {told} read why");
    drop(input);
    server.wait().unwrap();
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if arguments.first().is_some_and(|a| a == SERVER) {
        return runtime.block_on(serve());
    }
    let number = |at: usize, default| arguments.get(at).map_or(default, |a| a.parse().unwrap());
    runtime.block_on(measure(number(0, 1000), number(1, 1500)));
}
