use http::{Method, StatusCode};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn unknown_methods_and_wrong_verbs_are_400() {
    let world = World::new().await;
    let message = world.get("io.atcr.hold.listThings").await.fails(400, "InvalidRequest");
    assert_eq!(message, "No service configured for io.atcr.hold.listThings");
    world.get("nonsense").await.fails(400, "InvalidRequest");
    let message = world.post("com.atproto.server.describeServer", &json!({})).await;
    assert_eq!(message.fails(400, "InvalidRequest"), "Incorrect HTTP method (POST) expected GET");
    let message = world.get("com.atproto.repo.putRecord").await;
    assert_eq!(message.fails(400, "InvalidRequest"), "Incorrect HTTP method (GET) expected POST");
    let stream = world.get("com.atproto.sync.subscribeRepos").await;
    stream.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn missing_parameters_name_the_method_and_the_parameter() {
    let world = World::new().await;
    let message = world.get("com.atproto.sync.getLatestCommit").await.fails(400, "InvalidRequest");
    assert_eq!(message, "Invalid com.atproto.sync.getLatestCommit params: Missing required key \"did\"");
    let message = world.get("com.atproto.sync.listRepos?limit=1001").await.fails(400, "InvalidRequest");
    assert_eq!(
        message,
        "Invalid com.atproto.sync.listRepos params: integer too big (maximum 1000, got 1001)"
    );
}

#[tokio::test]
async fn bodies_are_json_and_say_so() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.alice.access);
    let path = "/xrpc/com.atproto.repo.putRecord";
    world.raw(Method::POST, path, &[("authorization", &token)]).await.fails(400, "InvalidRequest");
    let text = [("authorization", token.as_str()), ("content-type", "text/plain")];
    world.raw(Method::POST, path, &text).await.fails(400, "InvalidRequest");
    let json = [("authorization", token.as_str()), ("content-type", "application/json")];
    world.raw(Method::POST, path, &json).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn every_origin_may_call() {
    let world = World::new().await;
    let path = "/xrpc/com.atproto.server.describeServer";
    assert_eq!(world.raw(Method::GET, path, &[]).await.header("access-control-allow-origin"), "*");
    let asked = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,dpop,content-type"),
    ];
    let preflight = world.raw(Method::OPTIONS, path, &asked).await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization,dpop,content-type");
    assert_eq!(preflight.header("access-control-allow-methods"), "GET,HEAD,PUT,PATCH,POST,DELETE");
    assert_eq!(preflight.header("access-control-max-age"), "86400");
    let refused = world.raw(Method::GET, "/xrpc/io.atcr.none", &[]).await;
    assert_eq!(refused.header("access-control-allow-origin"), "*", "errors as well");
}

#[tokio::test]
async fn the_server_describes_itself_and_is_healthy() {
    let world = World::new().await;
    let described = world.get("com.atproto.server.describeServer").await.ok();
    assert_eq!(
        described,
        json!({"did": "did:web:localhost%3A2583", "availableUserDomains": [".test"], "inviteCodeRequired": false,
            "blobUploadLimit": 5_242_880, "links": {}, "contact": {}})
    );
    assert!(world.get("_health").await.ok()["version"].is_string());
}
