//! Webhooks on the page of settings and by the API.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::hooks::{Receiver, Reply};
use crate::world::World;

const SECRET: &str = "a secret of alice";

async fn hooks_of(world: &World, who: &str) -> Vec<Value> {
    let page = world.get_as(who, "/api/v1/webhooks").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert_eq!(page.headers["cache-control"], "private, no-store");
    let body: Value = serde_json::from_str(&page.body).unwrap();
    body["webhooks"].as_array().unwrap().clone()
}

async fn call(world: &World, who: &str, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let headers = [("content-type", "application/json")];
    let page = world.send(method, &format!("/api/v1{path}"), who, &headers, body.to_string()).await;
    (page.status, serde_json::from_str(&page.body).unwrap_or_default())
}

#[tokio::test]
async fn a_webhook_is_added_tested_and_deleted_on_the_page() {
    let (world, mut receiver) = (World::new().await, Receiver::new([Reply::Status(500)]).await);
    let before = world.get_as("alice", "/settings").await.body;
    assert!(before.contains("Add a webhook…"), "{before}");
    let fields = [("url", receiver.url.as_str()), ("secret", SECRET), ("push", "on"), ("scan_changed", "on")];
    let added = world.post("alice", "/settings/webhooks", &fields).await;
    assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.body);
    assert_eq!(added.headers["location"], "/settings#webhooks");
    let hook = &hooks_of(&world, "alice").await[0];
    assert_eq!((&hook["triggers"], &hook["signed"]), (&json!(["push", "scan:changed"]), &json!(true)));
    let id = hook["id"].as_str().unwrap();
    let page = world.get_as("alice", "/settings").await.body;
    assert!(page.contains("Nothing was sent yet.") && page.contains("scan:changed"), "{page}");

    for said in ["not delivered (answered 500)", ""] {
        let tested = world.post("alice", "/settings/webhooks/test", &[("id", id)]).await;
        let page = world.get_as("alice", "/settings").await.body;
        assert!(page.contains("Last: test") && page.contains(said), "{page}");
        assert!(!page.contains("nobody-may") && !page.contains(SECRET), "{page}");
        // Once in ten seconds.
        let expected = if said.is_empty() { StatusCode::CONFLICT } else { StatusCode::SEE_OTHER };
        assert_eq!(tested.status, expected, "{}", tested.body);
    }
    assert!(receiver.next().await.headers.contains_key("x-atcr-signature-256"));
    receiver.nothing_came();
    let api = Value::from(hooks_of(&world, "alice").await).to_string();
    assert!(!api.contains("nobody-may") && !api.contains(SECRET), "{api}");

    let deleted = world.post("alice", "/settings/webhooks/delete", &[("id", id)]).await;
    assert_eq!(deleted.status, StatusCode::SEE_OTHER);
    assert!(hooks_of(&world, "alice").await.is_empty());
}

#[tokio::test]
async fn webhooks_go_with_everything_else() {
    let world = World::new().await;
    let receivers = [Receiver::new([]).await, Receiver::new([]).await, Receiver::new([]).await];
    for (who, receiver) in ["alice", "alice", "bob"].into_iter().zip(&receivers) {
        world.post(who, "/settings/webhooks", &[("url", &receiver.url), ("push", "on")]).await;
    }
    assert_eq!(hooks_of(&world, "alice").await.len(), 2);
    world.post("alice", "/settings/delete", &[("confirm", "alice.example")]).await;
    assert!(hooks_of(&world, "alice").await.is_empty());
    assert_eq!(hooks_of(&world, "bob").await.len(), 1);
}

#[tokio::test]
async fn the_api_does_with_webhooks_what_the_page_does() {
    let (world, mut receiver) = (World::new().await, Receiver::new([]).await);
    let wanted = json!({ "url": receiver.url, "triggers": ["push", "scan:all"] });
    let (status, hook) = call(&world, "alice", Method::POST, "/webhooks", &wanted).await;
    assert_eq!(status, StatusCode::OK, "{hook}");
    assert_eq!((&hook["signed"], &hook["lastDelivery"]), (&json!(false), &Value::Null));
    let at = format!("/webhooks/{}", hook["id"].as_str().unwrap());
    let (status, tested) = call(&world, "alice", Method::POST, &format!("{at}/test"), &json!({})).await;
    assert_eq!((status, &tested["state"]), (StatusCode::OK, &json!("delivered")), "{tested}");
    assert!(!receiver.next().await.headers.contains_key("x-atcr-signature-256"));
    assert_eq!(hooks_of(&world, "alice").await[0]["lastDelivery"], tested);
    assert_eq!(call(&world, "alice", Method::DELETE, &at, &json!({})).await.0, StatusCode::OK);
    assert_eq!(call(&world, "alice", Method::DELETE, &at, &json!({})).await.0, StatusCode::NOT_FOUND);
    for wrong in [
        json!({ "url": "https://10.0.0.1/hook", "triggers": ["push"] }),
        json!({ "url": "http://ci.example/hook", "triggers": ["push"] }),
        json!({ "url": "nowhere", "triggers": ["push"] }),
        json!({ "url": "https://ci.example/hook", "triggers": [] }),
        json!({ "url": "https://ci.example/hook", "triggers": ["pull"] }),
        json!({ "url": "https://ci.example/hook", "triggers": ["push"], "secret": "x".repeat(257) }),
    ] {
        let (status, error) = call(&world, "alice", Method::POST, "/webhooks", &wrong).await;
        assert_eq!((status, &error["error"]), (StatusCode::BAD_REQUEST, &json!("InvalidRequest")), "{wrong}");
    }
}

#[tokio::test]
async fn webhooks_of_somebody_else_are_not_there() {
    let (world, mut receiver) = (World::new().await, Receiver::new([]).await);
    let wanted = json!({ "url": receiver.url, "triggers": ["push"] });
    let (_, hook) = call(&world, "alice", Method::POST, "/webhooks", &wanted).await;
    let id = hook["id"].as_str().unwrap();
    assert!(hooks_of(&world, "bob").await.is_empty());
    assert!(!world.get_as("bob", "/settings").await.body.contains(id));
    for path in ["/settings/webhooks/test", "/settings/webhooks/delete"] {
        assert_eq!(world.post("bob", path, &[("id", id)]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let at = format!("/webhooks/{id}");
    for (method, path) in [(Method::DELETE, at.clone()), (Method::POST, format!("{at}/test"))] {
        assert_eq!(call(&world, "bob", method, &path, &json!({})).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(hooks_of(&world, "alice").await.len(), 1);
    receiver.nothing_came();
}

#[tokio::test]
async fn a_form_of_another_site_adds_tests_and_deletes_no_webhook() {
    let (world, mut receiver) = (World::new().await, Receiver::new([]).await);
    let wanted = json!({ "url": receiver.url, "triggers": ["push"] });
    let (_, hook) = call(&world, "alice", Method::POST, "/webhooks", &wanted).await;
    let id = hook["id"].as_str().unwrap();
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (headers, token) in [
        (vec![form], ""),
        (vec![form], "token+of+bob"),
        (vec![form, ("origin", "https://evil.example")], "token+of+alice"),
        (vec![form, ("sec-fetch-site", "cross-site")], "token+of+alice"),
    ] {
        for path in ["/settings/webhooks", "/settings/webhooks/test", "/settings/webhooks/delete"] {
            let body = format!("csrf={token}&id={id}&url=https://evil.example/&push=on");
            let page = world.send(Method::POST, path, "alice", &headers, body).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{path} {headers:?} {token}");
        }
    }
    for (method, path) in [
        (Method::POST, "/api/v1/webhooks".to_owned()),
        (Method::DELETE, format!("/api/v1/webhooks/{id}")),
        (Method::POST, format!("/api/v1/webhooks/{id}/test")),
    ] {
        let headers = [("content-type", "application/json"), ("origin", "https://evil.example")];
        let page = world.send(method, &path, "alice", &headers, wanted.to_string()).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
    }
    // A body that a form can send is none that the API takes.
    let plain = [("content-type", "text/plain")];
    let page = world.send(Method::POST, "/api/v1/webhooks", "alice", &plain, wanted.to_string()).await;
    assert_eq!(page.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for path in ["/settings/webhooks", "/settings/webhooks/test", "/settings/webhooks/delete"] {
        assert_eq!(world.get_as("alice", path).await.status, StatusCode::METHOD_NOT_ALLOWED);
        let page = world.send(Method::POST, path, "", &[form], Body::from("url=x")).await;
        assert_eq!(page.headers["location"], "/sign-in?return_to=/settings");
    }
    assert_eq!(hooks_of(&world, "alice").await.len(), 1);
    receiver.nothing_came();
}
