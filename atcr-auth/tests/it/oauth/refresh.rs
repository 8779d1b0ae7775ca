use atcr_auth::{PdsSessions as _, SessionError};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::world::*;

const GET_SESSION: &str = "com.atproto.server.getSession";

async fn signed_in() -> (World, Registry) {
    let world = World::start().await;
    let registry = world.registry();
    registry.sign_in(&world, &mut registry.visitor(), ALICE).await;
    (world, registry)
}

/// The access token's time is up.
async fn expire(world: &World, registry: &Registry) {
    let (mut session, _) = registry.store.get(&world.alice).await.unwrap().unwrap();
    session.oauth.as_mut().unwrap().expires_at = 0;
    registry.store.put(&session).await.unwrap();
}

#[tokio::test]
async fn one_refresh_serves_all_who_need_it() {
    let (world, registry) = signed_in().await;
    for round in 1..=5 {
        expire(&world, &registry).await;
        let calls = (0..50).map(|_| registry.sessions.query(&world.alice, GET_SESSION, &[]));
        for result in join_all(calls).await {
            result.unwrap();
        }
        assert_eq!(world.wire.calls(TOKEN), 1 + round);
    }
}

#[tokio::test]
async fn a_token_that_the_pds_refuses_is_refreshed_before_its_time() {
    let (world, registry) = signed_in().await;
    let body = br#"{"error":"invalid_token","message":"Invalid token"}"#.to_vec();
    world.wire.lie_once(
        "/xrpc/com.atproto.server.getSession",
        Lie::Instead(StatusCode::UNAUTHORIZED, HeaderMap::new(), body),
    );
    registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap();
    assert_eq!(world.wire.calls(TOKEN), 2);
}

#[tokio::test]
async fn a_lost_answer_costs_the_session_at_most_and_says_so_by_name() {
    let (world, registry) = signed_in().await;
    expire(&world, &registry).await;
    world.wire.lie_once(TOKEN, Lie::Lost);
    let error = registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // The token is spent; the server takes its return for theft (the reference does, too).
    let error = registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap_err();
    assert!(matches!(&error, SessionError::NoSession(did) if did == &world.alice), "{error}");
    assert!(error.to_string().contains("sign in again"), "{error}");
    assert_eq!(world.wire.calls(TOKEN), 3, "the code, the lost one, and one more");
    registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap_err();
    assert_eq!(world.wire.calls(TOKEN), 3, "and none after that");
}

#[tokio::test]
async fn only_the_server_ends_a_session() {
    let (world, registry) = signed_in().await;
    for (status, body) in [
        (400, r#"{"error":"invalid_client","error_description":"no applicable key"}"#),
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"invalid_dpop_proof"}"#),
        (400, r#"{"error":"invalid_request"}"#),
        (400, "<html>"),
        (302, ""),
        (429, r#"{"error":"rate_limited"}"#),
        (500, r#"{"error":"invalid_grant_store_is_down"}"#),
        (503, ""),
    ] {
        // A fresh session each time: the wire passes the request on before it lies.
        registry.sign_in(&world, &mut registry.visitor(), ALICE).await;
        expire(&world, &registry).await;
        let lie = Lie::Instead(StatusCode::from_u16(status).unwrap(), HeaderMap::new(), body.into());
        world.wire.lie_once(TOKEN, lie);
        let error = registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap_err();
        assert!(!matches!(error, SessionError::NoSession(_)), "{status} {body}: {error}");
        assert!(registry.store.get(&world.alice).await.unwrap().is_some(), "{status} {body}");
    }
    let lie = Lie::Json(Box::new(|answer| answer["sub"] = json!("did:plc:ewvi7nxzyoun6zhxrhs64oiz")));
    registry.sign_in(&world, &mut registry.visitor(), ALICE).await;
    expire(&world, &registry).await;
    world.wire.lie_once(TOKEN, lie);
    let error = registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap_err();
    assert!(matches!(error, SessionError::NoSession(_)), "somebody else's tokens: {error}");
}

#[tokio::test]
async fn clocks_that_differ_are_named() {
    let (world, registry) = signed_in().await;
    expire(&world, &registry).await;
    let theirs = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(7);
    let date = theirs.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())]);
    let body = br#"{"error":"invalid_dpop_proof","error_description":"iat"}"#.to_vec();
    world.wire.lie_once(TOKEN, Lie::Instead(StatusCode::BAD_REQUEST, headers, body));
    let error = registry.sessions.query(&world.alice, GET_SESSION, &[]).await.unwrap_err().to_string();
    assert!(error.contains("this machine's clock is 4") && error.contains("s behind"), "{error}");
}
