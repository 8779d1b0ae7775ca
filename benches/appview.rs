//! The index of a registry: how fast it takes manifests in, finds them and searches them, and how fast events that are
//! not for it are passed over; the pages over it. One thread does the work (SQLite has threads of its own), so that CPU time is
//! per core.
//!
//! `cargo bench -p atcr-registry --features web --bench appview [-- MANIFESTS]`
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atcr_auth::pds_session::MemorySessionStore;
use atcr_auth::{AccountSessions, Clock};
use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::did_resolver::{DidDocument, HandleResolver, IdentityResolver, ResolveError, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::oci::{Digest, Reference};
use atcr_core::syntax::{Did, Handle, Tid};
use atcr_pds::{Expect, MemoryKeys, NewRepo, Repos, SqliteStore, Swap, Write};
use atcr_registry::Registry;
use atcr_registry::atproto::{BlobDelivery, Network};
use atcr_registry::index::{
    Collection, Cursor, Event, IdentityChange, Index, PageRequest, RecordOp, RepoCommit, Since,
};
use atcr_registry::ingest::{Ingest, IngestOptions, Known, Source, Verdict, passes};
use atcr_registry::web::WebUi;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use serde_json::json;
use tower::ServiceExt as _;

/// Manifests of one owner, and of one repository.
const OF_OWNER: usize = 100;
const OF_REPOSITORY: usize = 20;
/// Manifests by tag that one core is to give in a second.
const BY_TAG: u32 = 20_000;
/// Events of one transaction, as the ingest has it.
const BATCH: usize = 256;
const WORDS: [&str; 16] = [
    "web", "server", "proxy", "cache", "database", "worker", "queue", "metrics", "gateway", "scanner",
    "builder", "runner", "mirror", "backup", "editor", "shell",
];

fn did(owner: usize) -> Did {
    format!("did:plc:{owner:024}").parse().unwrap()
}

fn repository(n: usize) -> String {
    let number = n / OF_REPOSITORY;
    format!("{}-{}-{number}", WORDS[number % 16], WORDS[number / 16 % 16])
}

fn manifest(n: usize) -> (Vec<u8>, Digest) {
    let layer = |n: String| {
        let digest = Digest::sha256(n.as_bytes());
        json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 30_000_000 })
    };
    let content = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(&n.to_be_bytes()), "size": 7000 },
        "layers": [layer(format!("base {}", n % 50)), layer(format!("dependencies {}", n / 10)), layer(format!("program {n}"))],
    });
    let bytes = content.to_string().into_bytes();
    let digest = Digest::sha256(&bytes);
    (bytes, digest)
}

/// A push: a manifest and its tag in one commit.
fn push(n: usize) -> RepoCommit {
    let (bytes, digest) = manifest(n);
    let content: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let name = repository(n);
    let record = json!({
        "$type": "io.atcr.manifest", "repository": name, "digest": digest, "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "createdAt": "2026-01-02T03:04:05Z",
        "holdDid": "did:web:hold.example.com", "config": content["config"], "layers": content["layers"],
        "annotations": { "org.opencontainers.image.source": "https://example.com/source" },
        "manifestBytes": { "$bytes": base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes) },
    });
    let tag = json!({
        "$type": "io.atcr.tag", "repository": name, "tag": format!("v{}", n % OF_REPOSITORY), "manifestDigest": digest,
        "updatedAt": "2026-01-02T03:04:05Z",
    });
    let hash: [u8; 32] = digest.as_bytes().try_into().unwrap();
    let ops = vec![
        RecordOp::written(Collection::Manifest, digest.hex().parse().unwrap(), hash, record),
        RecordOp::written(
            Collection::Tag,
            format!("{name}_v{}", n % OF_REPOSITORY).parse().unwrap(),
            hash,
            tag,
        ),
    ];
    let rev = |n: usize| Tid::new(1_700_000_000_000_000 + n as u64, 1);
    let since = if n.is_multiple_of(OF_OWNER) { Since::Nothing } else { Since::Rev(rev(n - 1), None) };
    RepoCommit { did: did(n / OF_OWNER), rev: rev(n), since, data: None, ops }
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Some numbers in no order.
fn scattered(below: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    })
}

/// What a figure is to be, and what it is: the goal in brackets, `MISSED` where it is not reached.
fn beside(goal: &str, is_reached: bool) -> String {
    format!(" [goal: {goal}{}]", if is_reached { "" } else { "; MISSED" })
}

/// Prints the times of many pieces of work and gives how many fit into a second of CPU time, and the p99.
fn report(what: &str, mut times: Vec<Duration>, cpu: Duration) -> (f64, Duration) {
    times.sort();
    let at = |thousandth: usize| times[(times.len() - 1) * thousandth / 1000];
    println!(
        "{what}: {:.0}/s by the clock, {:.1} CPU us each; p50 {:?}, p99 {:?}, longest {:?}",
        times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / times.len() as f64,
        at(500),
        at(990),
        at(1000)
    );
    (times.len() as f64 / cpu.as_secs_f64(), at(990))
}

async fn measured<F: Future>(what: &str, count: usize, mut work: impl FnMut(usize) -> F) -> (f64, Duration) {
    let (before, mut times) = (cpu(), Vec::with_capacity(count));
    for n in 0..count {
        let began = Instant::now();
        black_box(work(n).await);
        times.push(began.elapsed());
    }
    report(what, times, cpu().saturating_sub(before))
}

/// One piece of work after the other, each due at its time: what is late because another one took long counts as slow.
/// Gives the p99.
async fn paced<F: Future>(
    what: &str,
    each_second: u32,
    count: usize,
    mut work: impl FnMut(usize) -> F,
) -> Duration {
    let (began, mut times) = (Instant::now(), Vec::with_capacity(count));
    let mut due = began;
    for n in 0..count {
        due += Duration::from_secs(1) / each_second;
        while Instant::now() < due {
            // Whatever else runs on this thread goes on.
            tokio::task::yield_now().await;
        }
        black_box(work(n).await);
        times.push(due.elapsed());
    }
    times.sort();
    let at = |thousandth: usize| times[(times.len() - 1) * thousandth / 1000];
    println!(
        "{what}, {each_second} each second: p50 {:?}, p99 {:?}, longest {:?}",
        at(500),
        at(990),
        at(1000)
    );
    at(990)
}

async fn fill(index: &Index, manifests: usize) {
    let (began, before) = (Instant::now(), cpu());
    let mut batch: Vec<Event> = Vec::with_capacity(BATCH + 1);
    for n in 0..manifests {
        if n.is_multiple_of(OF_OWNER) {
            let handle = Some(format!("user{}.example.com", n / OF_OWNER).parse().unwrap());
            let did = did(n / OF_OWNER);
            batch.push(Event::Identity(IdentityChange { did, handle, pds: None, document: None }));
        }
        batch.push(Event::Commit(push(n)));
        if batch.len() >= BATCH || n + 1 == manifests {
            let cursor =
                Cursor { source: "wss://relay.example".to_owned(), seq: i64::try_from(n).unwrap() + 1 };
            index.apply(&batch, Some(&cursor)).await.unwrap();
            batch.clear();
        }
        if n > 0 && n.is_multiple_of(100_000) {
            println!("  {n} manifests after {:.0?}, peak {} MiB", began.elapsed(), peak());
        }
    }
    let (took, most) = (began.elapsed(), Duration::from_secs(600).mul_f64(manifests as f64 / 1e6));
    println!(
        "{manifests} manifests and as many tags from their JSON: {took:.1?} by the clock{}, {:.1?} CPU, peak {} MiB{}",
        beside(&format!("{most:.0?}, a million in 10 minutes"), took <= most),
        cpu().saturating_sub(before),
        peak(),
        beside("256 MiB", peak() <= 256)
    );
}

async fn search(index: &Index, manifests: usize) {
    let mut numbers = scattered(manifests);
    let queries: Vec<String> = (0..1000)
        .map(|n| {
            let some = numbers.next().unwrap();
            match n % 6 {
                0 => WORDS[some % 16].to_owned(),
                1 => WORDS[some % 16][..2].to_owned(),
                2 => format!("{} {}", WORDS[some % 16], WORDS[some / 16 % 16]),
                3 => format!("user{}", some / OF_OWNER),
                4 => manifest(some).1.hex()[..12].to_owned(),
                _ => repository(some),
            }
        })
        .collect();
    let page = PageRequest::first(20);
    let (_, p99) = measured("search, words, beginnings, handles and digests", queries.len(), |n| {
        let (query, page) = (&queries[n], &page);
        async move { index.search(query, page).await.unwrap() }
    })
    .await;
    println!("  p99 {p99:?}{}", beside("50 ms", p99 <= Duration::from_millis(50)));
    measured("the front page: recent and popular", 200, |_| async {
        (index.recent(&page).await.unwrap(), index.popular(&page).await.unwrap())
    })
    .await;
}

#[derive(Debug)]
struct Nobody;

#[async_trait::async_trait]
impl HandleResolver for Nobody {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        Err(ResolveError::NotFound(handle.to_string()))
    }
}

async fn pull(index: &Index, manifests: usize) {
    let mut numbers = scattered(manifests);
    let wanted: Vec<_> = (0..5000)
        .map(|_| {
            let n = numbers.next().unwrap();
            let tag = Reference::Tag(format!("v{}", n % OF_REPOSITORY).parse().unwrap());
            (did(n / OF_OWNER), repository(n).parse().unwrap(), tag)
        })
        .collect();
    let look = |n: usize| {
        let (owner, name, tag) = &wanted[n % wanted.len()];
        async move { index.lookup(owner, name, tag).await.unwrap() }
    };
    measured("manifest by tag, from SQLite", wanted.len(), look).await;
    measured("manifest by tag, known", 200_000, look).await;

    // The whole of it, as a request to the registry.
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let identities =
        IdentityResolver::new(Arc::new(StaticResolver::new(Vec::<DidDocument>::new())), Arc::new(Nobody));
    let store = Arc::new(MemorySessionStore::default());
    let sessions = AccountSessions::new(identities.clone(), egress.clone(), store, Clock::system()).unwrap();
    let relay = Source::Relay("http://127.0.0.1:1".parse().unwrap());
    let mut options = IngestOptions::default();
    options.sources.push(relay);
    options.freshness = Duration::from_secs(3600);
    let ingest = Ingest::new(index.clone(), egress.clone(), identities.clone(), options);
    // One that has said something before: otherwise every repo would have to be read again.
    let cursor = Cursor { source: "relay http://127.0.0.1:1".to_owned(), seq: 1 };
    index.apply(&[], Some(&cursor)).await.unwrap();
    index.source_is_alive("relay http://127.0.0.1:1").await.unwrap();
    let running = tokio::spawn(ingest.clone().run());
    while !ingest.freshness().covers(None) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let network = Network {
        egress,
        identities,
        sessions: Arc::new(sessions),
        default_hold: "did:web:hold.example.com".parse().unwrap(),
        delivery: BlobDelivery::Redirect,
        public_url: "https://registry.example.com".parse().unwrap(),
    };
    let (manifests, blobs) = network.indexed_stores(index, &ingest);
    let registry = Registry::builder()
        .manifests(Arc::new(manifests))
        .blobs(Arc::new(blobs))
        .authorizer(Arc::new(OpenAuthorizer::default()))
        .build()
        .unwrap();
    let router = registry.router();
    let paths: Vec<String> = wanted
        .iter()
        .map(|(owner, name, tag)| format!("/v2/{}/{name}/manifests/{tag}", owner.to_hyphenated()))
        .collect();
    let get = |n: usize| {
        let request = http::Request::get(&paths[n % paths.len()]).body(Body::empty()).unwrap();
        let router = router.clone();
        async move {
            let answer = router.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            to_bytes(answer.into_body(), 1 << 20).await.unwrap()
        }
    };
    measured("GET of a manifest by tag through the registry, the first time", paths.len(), get).await;
    let (rate, _) = measured("GET of a manifest by tag through the registry", 100_000, get).await;
    println!(
        "  {rate:.0} per CPU second{}",
        beside(&format!("{BY_TAG}/s on one core"), rate >= f64::from(BY_TAG))
    );
    let p99 = paced("GET of a manifest by tag through the registry", BY_TAG / 2, 50_000, get).await;
    println!("  p99 {p99:?}{}", beside("5 ms at half that rate", p99 <= Duration::from_millis(5)));
    running.abort();
}

async fn pages(index: &Index, manifests: usize) {
    let base = "https://registry.example.com".parse().unwrap();
    let router = WebUi::new(index.clone(), &base, "Registry").router();
    let mut numbers = scattered(manifests);
    let mut some = || numbers.next().unwrap();
    let repository_of = |n: usize| format!("/r/user{}.example.com/{}", n / OF_OWNER, repository(n));
    let kinds: [(&str, Vec<String>); 6] = [
        ("home", vec!["/".to_owned(), "/?sort=popular".to_owned()]),
        ("search", WORDS.map(|word| format!("/search?q={word}")).into()),
        ("account", (0..200).map(|_| format!("/u/user{}.example.com", some() / OF_OWNER)).collect()),
        ("repository", (0..200).map(|_| repository_of(some())).collect()),
        ("history", (0..200).map(|_| format!("{}?view=history", repository_of(some()))).collect()),
        (
            "manifest",
            (0..200).map(|_| some()).map(|n| format!("{}@{}", repository_of(n), manifest(n).1)).collect(),
        ),
    ];
    for (kind, paths) in &kinds {
        let largest = std::cell::Cell::new(0);
        let (router, largest) = (&router, &largest);
        measured(&format!("page: {kind}"), 400, |n| {
            let request = http::Request::get(&paths[n % paths.len()]).body(Body::empty()).unwrap();
            async move {
                let answer = router.clone().oneshot(request).await.unwrap();
                assert_eq!(answer.status(), 200);
                let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
                largest.set(largest.get().max(body.len()));
            }
        })
        .await;
        println!("  at most {} bytes", largest.get());
    }
}

async fn filter() {
    let owner = did(0);
    let keys = MemoryKeys::default();
    keys.insert(owner.clone(), SigningKey::generate(Curve::K256).unwrap());
    let repos = Repos::open(Arc::new(SqliteStore::in_memory().await.unwrap()), Arc::new(keys)).await.unwrap();
    repos.create(&owner, NewRepo::default()).await.unwrap();
    for n in 0..500 {
        let post = json!({ "$type": "app.bsky.feed.post", "text": "x".repeat(120), "createdAt": "2026-01-02T03:04:05Z", "n": n });
        let write = Write::Put {
            collection: "app.bsky.feed.post".parse().unwrap(),
            rkey: Tid::new(1_700_000_000_000_000 + n, 1).to_string().parse().unwrap(),
            value: atcr_pds::cbor::json::from_json(&post).unwrap(),
            expect: Expect::Anything,
        };
        repos.apply_writes(&owner, vec![write], Swap::Anything).await.unwrap();
    }
    let frames: Vec<_> =
        repos.events_after(100, 1000).await.unwrap().iter().map(|event| event.frame()).collect();
    let known = Known::default();
    for n in 1..100_000 {
        known.insert(did(n).as_str());
    }
    let (began, before, mut passed, mut bytes) = (Instant::now(), cpu(), 0_u64, 0);
    while began.elapsed() < Duration::from_secs(3) {
        for frame in &frames {
            assert!(matches!(passes(frame, &known), Verdict::Pass(_)));
            passed += 1;
            bytes += frame.len();
        }
    }
    let cpu = cpu().saturating_sub(before);
    let rate = passed as f64 / cpu.as_secs_f64();
    println!(
        "events of others passed over: {rate:.0} per CPU second{}, {} bytes each, 100,000 accounts known",
        beside("30,000/s on one core", rate >= 30_000.0),
        bytes as u64 / passed
    );
}

fn main() {
    let manifests = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        filter().await;
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(&format!("sqlite://{}/index.sqlite", folder.path().display())).await.unwrap();
        fill(&index, manifests).await;
        search(&index, manifests).await;
        pull(&index, manifests).await;
        pages(&index, manifests).await;
        println!("peak {} MiB; the file has {} MiB", peak(), {
            std::fs::metadata(folder.path().join("index.sqlite")).unwrap().len() >> 20
        });
    });
}
