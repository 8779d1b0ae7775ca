//! Relays are asked to follow, and asked again, and nothing waits for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atcr_core::egress::{Egress, EgressPolicy};
use atcr_pds::crawlers::{CrawlerOptions, Crawlers};
use atcr_pds::{Repos, Swap};
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use url::Url;

use crate::world::World;

/// A relay that answers with these statuses, and then with 200; it says what it was asked.
struct Relay {
    url: Url,
    asked: mpsc::UnboundedReceiver<Value>,
}

#[derive(Clone)]
struct Answers(Arc<Mutex<VecDeque<u16>>>, mpsc::UnboundedSender<Value>);

impl Relay {
    async fn start(statuses: &[u16]) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let state = Answers(Arc::new(Mutex::new(statuses.iter().copied().collect())), sender);
        let router =
            Router::new().route("/xrpc/com.atproto.sync.requestCrawl", post(answer)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }
}

async fn answer(
    State(Answers(statuses, asked)): State<Answers>,
    Json(input): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let status = statuses.lock().unwrap().pop_front().unwrap_or(200);
    asked.send(input).unwrap();
    // The reference relay answers a success with nothing of interest.
    (StatusCode::from_u16(status).unwrap(), Json(json!({"error": "HostBanned", "message": "no"})))
}

fn crawlers(relays: &[&Relay], interval: Duration) -> Crawlers {
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let url = "https://hold.example.com".parse().unwrap();
    let mut options = CrawlerOptions::default();
    (options.interval, options.retry, options.retry_max) =
        (interval, Duration::from_millis(1), Duration::from_millis(4));
    Crawlers::new(egress, &url, relays.iter().map(|relay| relay.url.clone())).with_options(options)
}

fn run(crawlers: Crawlers, repos: &Repos) {
    let repos = repos.clone();
    tokio::spawn(async move { crawlers.run(&repos).await });
}

#[tokio::test]
async fn a_relay_is_told_the_host_name_until_it_takes_it() {
    let world = World::in_memory().await;
    // Broken, overloaded, refusing.
    let mut relay = Relay::start(&[500, 429, 400]).await;
    run(crawlers(&[&relay], Duration::from_secs(3600)), &world.repos);
    for _ in 0..4 {
        assert_eq!(relay.asked.recv().await.unwrap(), json!({"hostname": "hold.example.com"}));
    }
    // It has agreed, and is left alone though there are events.
    let (did, _) = world.repo("alice").await;
    world.repos.apply_writes(&did, Vec::new(), Swap::Anything).await.unwrap();
    assert!(relay.asked.is_empty());
}

#[tokio::test]
async fn a_relay_is_asked_again_when_there_is_news() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let mut relay = Relay::start(&[]).await;
    run(crawlers(&[&relay], Duration::from_millis(1)), &world.repos);
    for _ in 0..3 {
        relay.asked.recv().await.unwrap();
        world.repos.apply_writes(&did, Vec::new(), Swap::Anything).await.unwrap();
    }
    relay.asked.recv().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_is_silent_keeps_nobody_waiting() {
    let world = World::in_memory().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_sender, asked) = mpsc::unbounded_channel();
    let silent_relay =
        Relay { url: format!("http://{}", silent.local_addr().unwrap()).parse().unwrap(), asked };
    let mut relay = Relay::start(&[]).await;
    run(crawlers(&[&silent_relay, &relay], Duration::from_secs(3600)), &world.repos);
    relay.asked.recv().await.unwrap();
}

#[tokio::test]
async fn what_each_relay_answers_is_reported() {
    let (good, bad) = (Relay::start(&[]).await, Relay::start(&[400]).await);
    let answers = crawlers(&[&good, &bad], Duration::ZERO).request().await;
    assert!(answers[0].1.is_ok());
    let error = answers[1].1.as_ref().unwrap_err();
    assert_eq!((answers[1].0.clone(), error.name()), (bad.url, Some("HostBanned")));
}

#[test]
fn a_port_is_told_where_there_is_one() {
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    for (url, hostname) in [
        ("https://hold.example.com", "hold.example.com"),
        ("https://hold.example.com:443/", "hold.example.com"),
        ("http://localhost:5003", "localhost:5003"),
    ] {
        assert_eq!(Crawlers::new(egress.clone(), &url.parse().unwrap(), []).hostname(), hostname);
    }
}
