use atcr_core::crypto::PublicKey;
use atcr_core::did_resolver::DidDocument;
use atcr_pds::cbor::cid_matches;
use atcr_pds::repo::Commit;
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::mst::{NodeMap, Range, list};
use serde_json::json;

use crate::world::{World, bytes, encoded};

impl World {
    async fn latest(&self) -> String {
        let did = encoded(self.hold.did());
        let latest = self.get(&format!("/xrpc/com.atproto.sync.getLatestCommit?did={did}")).await.ok();
        latest["rev"].as_str().unwrap().to_owned()
    }

    async fn captain(&self) -> serde_json::Value {
        let did = encoded(self.hold.did());
        let path =
            format!("/xrpc/com.atproto.repo.getRecord?repo={did}&collection=io.atcr.hold.captain&rkey=self");
        self.get(&path).await.ok()["value"].clone()
    }
}

#[tokio::test]
async fn the_first_start_makes_an_identity_and_a_repo() {
    let world = World::with(|config| config.region = Some("eu-north".to_owned())).await;
    let document: DidDocument =
        serde_json::from_value(world.get("/.well-known/did.json").await.ok()).unwrap();
    assert_eq!(document.id, *world.hold.did());
    assert_eq!(document.service("atcr_hold").unwrap().as_str(), "http://localhost:5002/");
    assert_eq!(world.get("/.well-known/atproto-did").await.body, world.hold.did().as_str());
    let did = encoded(world.hold.did());
    let repo = world.get(&format!("/xrpc/com.atproto.repo.describeRepo?repo={did}")).await.ok();
    assert_eq!(repo["collections"], json!(["io.atcr.hold.captain", "io.atcr.hold.crew"]));
    let captain = world.captain().await;
    assert_eq!(captain["owner"], "did:plc:alice");
    assert_eq!((&captain["public"], &captain["allowAllCrew"]), (&json!(false), &json!(false)));
    assert_eq!((&captain["enableBlueskyPosts"], &captain["region"]), (&json!(false), &json!("eu-north")));
    let path = format!("/xrpc/com.atproto.repo.listRecords?repo={did}&collection=io.atcr.hold.crew");
    let crew = world.get(&path).await.ok();
    let owner = &crew["records"][0]["value"];
    assert_eq!((&owner["member"], &owner["role"]), (&json!("did:plc:alice"), &json!("admin")));
    assert_eq!(owner["permissions"], json!(["blob:read", "blob:write", "crew:admin"]));
}

#[tokio::test]
async fn a_start_commits_only_what_the_configuration_has_changed() {
    let world = World::private().await;
    let (rev, deployed) = (world.latest().await, world.captain().await["deployedAt"].clone());
    let mut world = world.reopened().await;
    assert_eq!(world.latest().await, rev);
    world.config.public = true;
    world.config.allow_all_crew = true;
    let world = world.reopened().await;
    let captain = world.captain().await;
    assert_eq!((&captain["public"], &captain["allowAllCrew"]), (&json!(true), &json!(true)));
    assert_eq!(captain["deployedAt"], deployed);
    assert_ne!(world.latest().await, rev);
}

#[tokio::test]
async fn the_repo_can_be_fetched_and_verified() {
    let world = World::public().await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    let manifest = json!({"mediaType": "", "config": {"digest": digest, "size": 10}});
    let input = json!({"repository": "app", "userDid": "did:plc:alice", "manifestDigest": digest,
        "manifest": manifest});
    world.post(&world.alice, "io.atcr.hold.notifyManifest", input).await.ok();
    let did = encoded(world.hold.did());
    let answer = world.get(&format!("/xrpc/com.atproto.sync.getRepo?did={did}")).await;
    assert_eq!(answer.header("content-type"), "application/vnd.ipld.car");
    let document: DidDocument =
        serde_json::from_value(world.get("/.well-known/did.json").await.ok()).unwrap();
    let key = document.signing_key().unwrap();
    let records = verified(&answer.body, &world, &key);
    for collection in ["captain", "crew", "layer", "stats"] {
        let records = records.iter().filter(|path| path.starts_with(&format!("io.atcr.hold.{collection}/")));
        assert_eq!(records.count(), 1, "{collection}");
    }
}

/// The paths of the records in a CAR of the hold's repo, after its signature, its tree and its blocks are checked.
fn verified(car: &bytes::Bytes, world: &World, key: &PublicKey) -> Vec<String> {
    let car = read_slice(car.clone(), CarLimits::default()).unwrap();
    let commit = Commit::decode(car.block(&car.roots[0]).unwrap()).unwrap();
    commit.verify(world.hold.did(), key).unwrap();
    let mut nodes = NodeMap::default();
    for block in car.blocks.values() {
        // Records are no nodes.
        let _ = nodes.insert_bytes(block.clone());
    }
    let entries = list(&nodes, &commit.data, &Range::default()).unwrap();
    for (path, cid) in &entries {
        assert!(cid_matches(cid, car.block(cid).unwrap()), "{path}");
    }
    entries.into_iter().map(|(path, _)| path.to_string()).collect()
}

#[tokio::test]
async fn strangers_write_nothing() {
    let world = World::with(|config| {
        config.public = true;
        config.allow_all_crew = true;
    })
    .await;
    let rev = world.latest().await;
    let input = json!({"repo": world.hold.did(), "collection": "io.atcr.hold.crew", "rkey": "x", "record": {
        "member": "did:plc:bob", "role": "admin", "permissions": ["crew:admin"], "addedAt": "2026-01-01T00:00:00Z",
    }});
    for method in ["com.atproto.repo.putRecord", "com.atproto.repo.createRecord"] {
        world.post(&world.bob, method, input.clone()).await.refused(403, "Forbidden");
    }
    assert_eq!(world.latest().await, rev);
}

#[tokio::test]
async fn a_token_writes_to_the_repo_once() {
    let world = World::private().await;
    let method = "com.atproto.repo.createRecord";
    let token = world.token(&world.alice, Some(method));
    let input = json!({"repo": world.hold.did(), "collection": "com.example.note", "record": {"a": 1}});
    let send = async || {
        let request = http::Request::post(format!("/xrpc/{method}"))
            .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(input.to_string().into());
        world.send(request.unwrap()).await
    };
    send().await.ok();
    send().await.refused(401, "JwtReplayed");
}

#[tokio::test]
async fn two_holds_do_not_share_a_directory() {
    let world = World::private().await;
    let resolver = std::sync::Arc::new(atcr_core::did_resolver::StaticResolver::default());
    let second = atcr_hold::Hold::open(world.config.clone(), resolver).await;
    assert!(matches!(second, Err(atcr_hold::HoldError::InUse { .. })));
    world.reopened().await;
}
