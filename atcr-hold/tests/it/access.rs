use std::time::Duration;

use atcr_core::oci::Digest;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::world::{User, World, bytes, encoded, local};

impl World {
    /// Adds somebody to the crew, as the owner does.
    async fn add_crew(&self, member: &User, permissions: &[&str]) -> String {
        let record = json!({
            "$type": "io.atcr.hold.crew", "member": member.did, "role": "member", "permissions": permissions,
            "addedAt": "2026-01-01T00:00:00Z",
        });
        let input = json!({"repo": self.hold.did(), "collection": "io.atcr.hold.crew", "record": record});
        let output = self.post(&self.alice, "com.atproto.repo.createRecord", input).await.ok();
        output["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    async fn crew(&self) -> Vec<Value> {
        let path = "/xrpc/com.atproto.repo.listRecords?collection=io.atcr.hold.crew&limit=100&repo=";
        let listed = self.get(&format!("{path}{}", encoded(self.hold.did()))).await.ok();
        listed["records"].as_array().unwrap().iter().map(|record| record["value"].clone()).collect()
    }

    async fn writes(&self, user: &User) -> u16 {
        self.post(user, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await.status.as_u16()
    }
}

#[tokio::test]
async fn everyone_may_do_what_the_matrix_says_and_no_more() {
    for public in [true, false] {
        let world = World::with(|config| {
            config.public = public;
            config.appview = Some("did:web:appview.example".parse().unwrap());
        })
        .await;
        let digest = world.upload(&world.alice, &bytes(1, 1000)).await;
        let read = if public { 200 } else { 403 };
        let people = [
            ("did:plc:stranger", None, read, 403, 403),
            ("did:web:appview.example", None, read, 403, 403),
            ("did:plc:nothing", Some(&[][..]), read, 403, 403),
            ("did:plc:reader", Some(&["blob:read"]), 200, 403, 403),
            ("did:plc:writer", Some(&["blob:write"]), 200, 200, 403),
            ("did:plc:admin", Some(&["crew:admin"]), 200, 200, 200),
        ];
        let anonymous = world.get(&world.blob_path(&digest)).await.status;
        assert_eq!(anonymous, if public { 200 } else { 401 });
        let mut rows = vec![(world.user("did:plc:alice2"), read, 403, 403)];
        for (did, permissions, read, write, administer) in people {
            let user = world.user(did);
            if let Some(permissions) = permissions {
                world.add_crew(&user, permissions).await;
            }
            rows.push((user, read, write, administer));
        }
        for (user, read, write, administer) in &rows {
            assert_eq!(world.blob_as(user, &digest).await.status, *read, "{} reads", user.did);
            assert_eq!(world.writes(user).await, *write, "{} writes", user.did);
            let input =
                json!({"repo": world.hold.did(), "collection": "com.example.note", "record": {"a": 1}});
            let answer = world.post(user, "com.atproto.repo.createRecord", input).await;
            assert_eq!(answer.status, *administer, "{} administers", user.did);
            let input = json!({"userDid": "did:plc:reader", "tierRank": 0});
            let tier = world.post(user, "io.atcr.hold.updateCrewTier", input).await.status;
            // There are no tiers, which the AppView alone is told.
            let appview = user.did.as_str() == "did:web:appview.example";
            assert_eq!(tier, if appview { 400 } else { 403 }, "{} sets tiers", user.did);
        }
        assert_eq!(world.blob_as(&world.alice, &digest).await.status, 200);
    }
}

#[tokio::test]
async fn a_refusal_says_what_is_lacking_and_who_can_give_it() {
    let world = World::private().await;
    let answer = world.post(&world.bob, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await;
    let message = answer.refused(403, "Forbidden");
    assert!(message.contains("required: blob:write") && message.contains("did:plc:alice"), "{message}");
}

#[tokio::test]
async fn a_member_who_is_removed_is_out_at_once() {
    let world = World::private().await;
    let key = world.add_crew(&world.bob, &["blob:read", "blob:write"]).await;
    let digest = world.upload(&world.bob, &bytes(1, 10)).await;
    let input = json!({"repo": world.hold.did(), "collection": "io.atcr.hold.crew", "rkey": key});
    world.post(&world.alice, "com.atproto.repo.deleteRecord", input).await.ok();
    assert_eq!(world.writes(&world.bob).await, 403);
    assert_eq!(world.blob_as(&world.bob, &digest).await.status, 403);
    // And in again, also after a restart.
    world.add_crew(&world.bob, &["blob:write"]).await;
    let world = world.reopened().await;
    assert_eq!(world.writes(&world.bob).await, 200);
}

#[tokio::test]
async fn where_all_may_join_the_first_push_enrols() {
    let world = World::with(|config| config.allow_all_crew = true).await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    assert_eq!(world.blob_as(&world.bob, &digest).await.status, 403, "reading does not enrol");
    assert_eq!(world.crew().await.len(), 1);
    let calls = (0..5).map(|_| world.writes(&world.bob));
    assert!(futures_util::future::join_all(calls).await.iter().all(|status| *status == 200));
    let crew = world.crew().await;
    let records: Vec<_> = crew.iter().filter(|record| record["member"] == "did:plc:bob").collect();
    assert_eq!(records.len(), 1, "{crew:?}");
    assert_eq!(records[0]["permissions"], json!(["blob:read", "blob:write"]));
    assert_eq!(world.blob_as(&world.bob, &digest).await.status, 200);
    // Somebody whose rights were cut down does not get them back by asking.
    let reader = world.user("did:plc:reader");
    world.add_crew(&reader, &["blob:read"]).await;
    assert_eq!(world.writes(&reader).await, 403);
    let again = world.post(&reader, "io.atcr.hold.requestCrew", json!({})).await.ok();
    assert_eq!(again["status"], "already_member");
    assert_eq!(world.writes(&reader).await, 403);
}

#[tokio::test]
async fn who_enrols_becomes_a_member_and_nothing_more() {
    let closed = World::private().await;
    let answer = closed.post(&closed.bob, "io.atcr.hold.requestCrew", json!({})).await;
    answer.refused(403, "RegistrationDisabled");
    let captain = closed.post(&closed.alice, "io.atcr.hold.requestCrew", json!({})).await.ok();
    assert_eq!(captain["status"], "already_member");

    let open = World::with(|config| config.allow_all_crew = true).await;
    let greedy = json!({"role": "admin", "permissions": ["blob:read", "blob:write", "crew:admin", "x"]});
    let output = open.post(&open.bob, "io.atcr.hold.requestCrew", greedy).await.ok();
    assert_eq!(output["status"], "created");
    assert!(output["cid"].as_str().unwrap().starts_with("bafy"));
    let crew = open.crew().await;
    let bob = crew.iter().find(|record| record["member"] == "did:plc:bob").unwrap();
    assert_eq!((&bob["role"], &bob["permissions"]), (&json!("member"), &json!(["blob:read", "blob:write"])));
    let modest = open.user("did:plc:modest");
    open.post(&modest, "io.atcr.hold.requestCrew", json!({"permissions": ["blob:read"]})).await.ok();
    assert_eq!(open.writes(&modest).await, 403);
}

#[tokio::test]
async fn only_the_owner_changes_the_captain_record() {
    let world = World::private().await;
    let admin = world.user("did:plc:admin");
    world.add_crew(&admin, &["crew:admin"]).await;
    let captain = |owner: &User| {
        json!({"repo": world.hold.did(), "collection": "io.atcr.hold.captain", "rkey": "self", "record": {
            "owner": owner.did, "public": true, "allowAllCrew": false, "enableBlueskyPosts": false,
            "deployedAt": "2026-01-01T00:00:00Z",
        }})
    };
    let answer = world.post(&admin, "com.atproto.repo.putRecord", captain(&admin)).await;
    assert_eq!(answer.status, 403);
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    assert_eq!(world.get(&world.blob_path(&digest)).await.status, 401);
    world.post(&world.alice, "com.atproto.repo.putRecord", captain(&world.alice)).await.ok();
    assert_eq!(world.get(&world.blob_path(&digest)).await.status, 200, "the record counts at once");
}

#[tokio::test]
async fn a_token_is_for_this_hold_and_this_method() {
    let world = World::private().await;
    let method = "io.atcr.hold.initiateUpload";
    let hold = world.hold.did().as_str().to_owned();
    let send = async |token: String| {
        let request = Request::post(format!("/xrpc/{method}"))
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(json!({"digest": "x"}).to_string()));
        world.send(request.unwrap()).await
    };
    let bearer = |audience: &str, lxm| format!("Bearer {}", world.token_for(&world.alice, audience, lxm));
    send(bearer(&hold, Some(method))).await.ok();
    send(bearer(&hold, None)).await.ok();
    send(bearer(&format!("{hold}#atcr_hold"), Some(method))).await.ok();
    // Callers keep a token for as long as it lives.
    let kept = bearer(&hold, Some(method));
    send(kept.clone()).await.ok();
    send(kept.clone()).await.ok();
    world.clock.advance(Duration::from_secs(120));
    send(kept).await.refused(401, "JwtExpired");
    send(bearer("did:web:other.example", Some(method))).await.refused(401, "BadJwtAudience");
    send(bearer(&hold, Some("io.atcr.hold.abortUpload"))).await.refused(401, "BadJwtLexiconMethod");
    send("Basic YTpi".to_owned()).await.refused(401, "AuthRequired");
    send("Bearer nonsense".to_owned()).await.refused(401, "BadJwt");
    let unknown = World::private().await.user("did:plc:unknown");
    let token = format!("Bearer {}", world.token_for(&unknown, &hold, Some(method)));
    assert_eq!(send(token).await.status, 401);
}

#[tokio::test]
async fn a_caller_whose_key_was_replaced_is_known_by_the_new_one_alone() {
    let world = World::private().await;
    let before = world.user("did:plc:carol");
    world.add_crew(&before, &["blob:write"]).await;
    assert_eq!(world.writes(&before).await, 200);
    let after = world.user("did:plc:carol");
    assert_eq!(world.writes(&after).await, 200);
    assert_eq!(world.writes(&before).await, 401);
}

#[tokio::test]
async fn a_public_hold_looks_at_no_token() {
    let world = World::public().await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    for token in ["Bearer a-registry-token-for-somebody-else", "Basic YTpi", "", "Bearer"] {
        let request = Request::get(world.blob_path(&digest)).header(AUTHORIZATION, token).body(Body::empty());
        let answer = world.send(request.unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 10), "{token}");
    }
}

#[tokio::test]
async fn a_signed_address_reads_one_blob_of_a_private_hold() {
    let world = World::private().await;
    let (digest, other) =
        (world.upload(&world.alice, &bytes(1, 10)).await, world.upload(&world.alice, &bytes(2, 10)).await);
    let ask = async |user: &User, method: &str| {
        let token = world.token(user, Some("com.atproto.sync.getBlob"));
        let path = format!("{}&method={method}", world.blob_path(&digest));
        let request = Request::get(path).header(AUTHORIZATION, format!("Bearer {token}")).body(Body::empty());
        world.send(request.unwrap()).await
    };
    ask(&world.bob, "GET").await.refused(403, "Forbidden");
    let url = local(ask(&world.alice, "GET").await.ok()["url"].as_str().unwrap());
    // The registry's token comes along when a client is redirected to the same host.
    let request = Request::get(&url).header(AUTHORIZATION, "Bearer registry").body(Body::empty()).unwrap();
    assert_eq!(world.send(request).await.body, bytes(1, 10));
    assert_eq!(world.head(&url).await.header("content-length"), "10");
    let head = local(ask(&world.alice, "HEAD").await.ok()["url"].as_str().unwrap());
    assert_eq!(world.head(&head).await.status, 200);
    world.get(&head).await.refused(403, "InvalidSignature");
    let swapped = url.replace(&digest.hex(), &other.hex());
    assert_ne!(swapped, url);
    world.get(&swapped).await.refused(403, "InvalidSignature");
    world.get(&url.replace("expires=1", "expires=2")).await.refused(403, "InvalidSignature");
    let put = url.replace("com.atproto.sync.getBlob", "io.atcr.hold.uploadPart");
    assert_eq!(world.put(&put, "x").await.status, 400);
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(world.get(&url).await.status, 200, "at least a quarter of an hour");
    world.clock.advance(Duration::from_secs(5 * 60 + 1));
    world.get(&url).await.refused(403, "ExpiredUrl");
}

#[tokio::test]
async fn a_part_address_does_not_read_and_a_strangers_token_sends_nothing() {
    let world = World::private().await;
    let upload = world.initiate(&world.alice).await;
    let url = world.part_url(&world.alice, &upload, 1).await;
    let digest = Digest::sha256(b"x");
    let query = url.split_once('?').unwrap().1;
    let read = format!("{}&{query}", world.blob_path(&digest));
    world.get(&read).await.refused(403, "InvalidSignature");
    let token = world.token(&world.bob, None);
    let request = Request::put("/xrpc/io.atcr.hold.uploadPart")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("X-Upload-Id", &upload)
        .header("X-Part-Number", "1")
        .body(Body::from(Bytes::from_static(b"x")));
    world.send(request.unwrap()).await.refused(403, "Forbidden");
}
