use atcr_pds::accounts::{Limit, PdsConfig, RateLimits};
use serde_json::json;

use crate::world::{ALICE, Answer, World};

fn limits(change: impl FnOnce(&mut RateLimits)) -> impl FnOnce(&mut PdsConfig) {
    |config| {
        let mut limits = RateLimits::default();
        change(&mut limits);
        config.rate_limits = Some(limits);
    }
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!(answer.fails(429, "RateLimitExceeded"), "Rate Limit Exceeded");
    assert_eq!(answer.header("ratelimit-remaining"), "0");
}

#[tokio::test]
async fn nothing_is_limited_unless_it_is_asked_for() {
    let world = World::new().await;
    for n in 0..1100 {
        world.upload(&world.alice.access, "text/plain", vec![b'x'; n]).await.ok();
    }
}

#[tokio::test]
async fn uploads_are_counted_until_the_window_is_over() {
    let world = World::with(|config| config.rate_limits = Some(RateLimits::reference())).await;
    for _ in 0..1000 {
        world.upload(&world.alice.access, "text/plain", "x").await.ok();
    }
    let answer = world.upload(&world.alice.access, "text/plain", "x").await;
    refused(&answer);
    assert_eq!(answer.header("ratelimit-limit"), "1000");
    assert_eq!(answer.header("ratelimit-policy"), "1000;w=86400");
    assert_eq!(answer.header("ratelimit-reset"), (world.now() + 86400).to_string());
    world.advance(86400);
    let session = world.pds.create_session(ALICE, crate::world::PASSWORD).await.unwrap();
    world.upload(&session.access_jwt, "text/plain", "x").await.ok();
}

#[tokio::test]
async fn writes_cost_by_what_they_do_and_count_by_account() {
    let world = World::with(limits(|limits| limits.writes = vec![Limit { points: 10, seconds: 60 }])).await;
    let create = |n: u32| {
        json!({"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.tag",
            "rkey": format!("t{n}"), "value": {}})
    };
    let apply = async |person: &crate::world::Person, writes: Vec<serde_json::Value>| {
        let input = json!({"repo": person.did, "writes": writes});
        world.post_as(&person.access, "com.atproto.repo.applyWrites", &input).await
    };
    apply(&world.alice, vec![create(1), create(2)]).await.ok();
    world.put("com.example.tag", "t1", json!({"v": 1})).await.ok();
    world.put("com.example.tag", "t1", json!({"v": 2})).await.ok();
    refused(&world.put("com.example.tag", "t1", json!({"v": 3})).await);
    apply(&world.bob, vec![create(1)]).await.ok();
}

#[tokio::test]
async fn log_ins_are_counted_before_the_password_is_checked() {
    let world = World::with(limits(|limits| limits.sessions = vec![Limit { points: 2, seconds: 60 }])).await;
    let try_with = async |identifier: &str| {
        let input = json!({"identifier": identifier, "password": "wrong"});
        world.post("com.atproto.server.createSession", &input).await
    };
    for _ in 0..2 {
        try_with(ALICE).await.fails(401, "AuthenticationRequired");
    }
    refused(&try_with(ALICE).await);
    try_with("bob.test").await.fails(401, "AuthenticationRequired");
}

#[tokio::test]
async fn every_call_counts_towards_the_limit_of_calls() {
    let world = World::with(limits(|limits| limits.calls = vec![Limit { points: 3, seconds: 60 }])).await;
    for _ in 0..3 {
        world.get("com.atproto.server.describeServer").await.ok();
    }
    refused(&world.get("com.atproto.server.describeServer").await);
    world.advance(60);
    world.get("com.atproto.server.describeServer").await.ok();
}
