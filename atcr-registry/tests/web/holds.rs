//! Holds that answer, and holds that do not.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atcr_core::did_resolver::{DidDocument, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use atcr_registry::hold_health::{HoldHealth, HoldHealthOptions};
use atcr_registry::index::{Collection, Since};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::world::{World, alice, bob, commit, hold, image, written};

const UP: usize = 0;
const BROKEN: usize = 1;
const SLOW: usize = 2;

/// A hold that is as it is told to be.
#[derive(Debug, Clone, Default)]
struct Fake {
    state: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Fake {
    async fn serve(&self) -> Url {
        async fn health(State(fake): State<Fake>) -> StatusCode {
            fake.asked.fetch_add(1, Ordering::SeqCst);
            match fake.state.load(Ordering::SeqCst) {
                UP => StatusCode::OK,
                BROKEN => StatusCode::BAD_GATEWAY,
                _ => pending().await,
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/xrpc/_health", get(health)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn is(&self, state: usize) {
        self.state.store(state, Ordering::SeqCst);
    }
}

fn document(did: &Did, url: &Url) -> DidDocument {
    let service = json!({ "id": "#atcr_hold", "type": "AtcrHoldService", "serviceEndpoint": url });
    serde_json::from_value(json!({ "id": did, "service": [service] })).unwrap()
}

fn other() -> Did {
    "did:web:other.example".parse().unwrap()
}

/// The holds of the world: one as it is told to be, and another one of which nothing is known but its name.
async fn world(fake: &Fake, options: HoldHealthOptions) -> (World, HoldHealth) {
    let resolver = Arc::new(StaticResolver::new([document(&hold(), &fake.serve().await)]));
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let mut health = None;
    let world = World::with(|ui, index| {
        let holds = HoldHealth::new(index.clone(), egress, resolver, other(), options);
        health = Some(holds.clone());
        ui.with_hold_health(holds)
    })
    .await;
    (world, health.unwrap())
}

fn quick() -> HoldHealthOptions {
    let mut options = HoldHealthOptions::default();
    options.timeout = Duration::from_millis(1500);
    options
}

const REPOSITORY: &str = "/r/alice.example/tools/app";

async fn of_manifest(world: &World) -> Value {
    let of = format!("owner=alice.example&repository=tools/app&digest={}", image().digest);
    world.json(&format!("/api/v1/manifest?{of}")).await["holdHealth"].clone()
}

#[tokio::test]
async fn a_hold_that_does_not_answer_is_said_until_it_comes_back() {
    let fake = Fake::default();
    let (world, holds) = world(&fake, quick()).await;
    let settings = json!({ "defaultHold": hold(), "createdAt": "2026-06-01T00:00:00Z" });
    let profile = vec![written(Collection::Profile, "self".parse().unwrap(), settings)];
    world.index.apply(&[commit(bob(), 5, Since::Unknown, profile)], None).await.unwrap();
    let manifest = format!("{REPOSITORY}@{}", image().digest);
    let pages = [("", REPOSITORY), ("", manifest.as_str()), ("bob", "/settings")];
    // Nobody has asked yet.
    assert_eq!(of_manifest(&world).await, Value::Null);
    for (who, path) in pages {
        assert!(!world.get_as(who, path).await.body.contains("not answering"), "{path}");
    }
    holds.check().await;
    assert_eq!(of_manifest(&world).await["answers"], true);
    for state in [BROKEN, SLOW] {
        fake.is(state);
        holds.check().await;
        let down = holds.of(&hold()).unwrap();
        assert!(!down.answers && down.since == down.checked_at, "{down:?}");
        holds.check().await;
        let still = holds.of(&hold()).unwrap();
        assert!(
            !still.answers && still.since == down.since && still.checked_at > down.checked_at,
            "{still:?}"
        );
        let said = of_manifest(&world).await;
        assert_eq!((&said["answers"], &said["since"]), (&false.into(), &json!(down.since)));
        for (who, path) in pages {
            let page = world.get_as(who, path).await.body;
            assert!(page.contains("not answering since") && page.contains("UTC"), "{path}: {page}");
        }
        fake.is(UP);
        holds.check().await;
        assert!(holds.of(&hold()).unwrap().answers);
        for (who, path) in pages {
            assert!(!world.get_as(who, path).await.body.contains("not answering"), "{path}");
        }
    }
    // One whose document is not to be had does not answer either.
    assert!(!holds.of(&other()).unwrap().answers);
}

#[tokio::test]
async fn only_holds_in_use_are_asked_and_old_answers_are_not_believed() {
    let fake = Fake::default();
    let mut options = quick();
    options.holds = 1;
    let (world, holds) = world(&fake, options).await;
    // There is room for one, and the registry's own default comes first.
    holds.check().await;
    assert_eq!(fake.asked.load(Ordering::SeqCst), 0);
    assert!(holds.of(&hold()).is_none() && holds.of(&other()).is_some());
    assert_eq!(world.index.holds_in_use(10).await.unwrap(), [hold()]);

    let mut options = quick();
    (options.interval, options.timeout) = (Duration::ZERO, Duration::ZERO);
    let (_, holds) = self::world(&fake, options).await;
    holds.check().await;
    assert!(holds.of(&hold()).is_none());
}

#[tokio::test]
async fn the_holds_of_most_accounts_come_first() {
    let (world, _) = world(&Fake::default(), quick()).await;
    for (number, who) in [alice(), bob()].into_iter().enumerate() {
        let settings = json!({ "defaultHold": other(), "createdAt": "2026-06-01T00:00:00Z" });
        let profile = vec![written(Collection::Profile, "self".parse().unwrap(), settings)];
        let number = 20 + number as u64;
        world.index.apply(&[commit(who, number, Since::Unknown, profile)], None).await.unwrap();
    }
    // Alice has three manifests in the one, and counts once.
    assert_eq!(world.index.holds_in_use(10).await.unwrap(), [other(), hold()]);
    assert_eq!(world.index.holds_in_use(1).await.unwrap(), [other()]);
}
