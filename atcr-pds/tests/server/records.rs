use serde_json::{Value, json};

use crate::world::{ALICE, BOB, MANIFEST, World};

const PUT: &str = "com.atproto.repo.putRecord";
const CREATE: &str = "com.atproto.repo.createRecord";
const DELETE: &str = "com.atproto.repo.deleteRecord";
const APPLY: &str = "com.atproto.repo.applyWrites";

impl World {
    async fn write(&self, method: &str, mut input: Value) -> crate::world::Answer {
        if input.get("repo").is_none() {
            input["repo"] = json!(self.alice.did);
        }
        self.post_as(&self.alice.access, method, &input).await
    }

    async fn record(&self, collection: &str, rkey: &str) -> crate::world::Answer {
        let did = &self.alice.did;
        self.get(&format!("com.atproto.repo.getRecord?repo={did}&collection={collection}&rkey={rkey}")).await
    }
}

#[tokio::test]
async fn an_unknown_lexicon_is_taken_with_status_unknown_and_read_back() {
    let world = World::new().await;
    let put = world.put(MANIFEST, "one", json!({"digest": "sha256:x", "n": 7})).await.ok();
    assert_eq!(put["validationStatus"], "unknown");
    assert_eq!(put["uri"], format!("at://{}/{MANIFEST}/one", world.alice.did));
    assert!(put["commit"]["cid"].is_string() && put["commit"]["rev"].is_string());
    let read = world.record(MANIFEST, "one").await.ok();
    assert_eq!(read["cid"], put["cid"]);
    assert_eq!(read["value"], json!({"$type": MANIFEST, "digest": "sha256:x", "n": 7}));
    let by_handle =
        world.get(&format!("com.atproto.repo.getRecord?repo={ALICE}&collection={MANIFEST}&rkey=one")).await;
    assert_eq!(by_handle.ok(), read);
}

#[tokio::test]
async fn validate_is_obeyed() {
    let world = World::new().await;
    let input = |validate: bool| json!({"collection": MANIFEST, "rkey": "x", "record": {"v": validate}, "validate": validate});
    let skipped = world.write(PUT, input(false)).await.ok();
    assert!(skipped.get("validationStatus").is_none());
    let message = world.write(PUT, input(true)).await.fails(400, "InvalidRequest");
    assert_eq!(message, "Unknown lexicon type: com.example.manifest");
}

#[tokio::test]
async fn the_same_record_again_makes_no_commit() {
    let world = World::new().await;
    let first = world.put(MANIFEST, "one", json!({"a": 1})).await.ok();
    let again = world.put(MANIFEST, "one", json!({"a": 1})).await.ok();
    assert!(again.get("commit").is_none());
    assert_eq!(again["cid"], first["cid"]);
    assert_eq!(again["validationStatus"], "unknown");
    let latest = world.get(&format!("com.atproto.sync.getLatestCommit?did={}", world.alice.did)).await.ok();
    assert_eq!(latest["rev"], first["commit"]["rev"]);
}

#[tokio::test]
async fn records_outside_the_data_model_are_refused() {
    let world = World::new().await;
    for record in [
        json!({"n": 1.5}),
        json!({"n": 9_007_199_254_740_992_i64}),
        json!({"l": {"$link": "nonsense"}}),
        json!({"b": {"$bytes": "!"}}),
        json!({"$type": "io.atcr.other"}),
    ] {
        world.put(MANIFEST, "x", record).await.fails(400, "InvalidRequest");
    }
    let message = world.put("com.example.tag", "x", json!({"$type": "io.atcr.other"})).await;
    assert_eq!(
        message.fails(400, "InvalidRequest"),
        "Invalid $type: expected com.example.tag, got io.atcr.other"
    );
    world.put(MANIFEST, "x", json!([1])).await.fails(400, "InvalidRequest");
    world.put(MANIFEST, "max", json!({"n": 9_007_199_254_740_991_i64})).await.ok();
    world.put(MANIFEST, "bytes", json!({"b": {"$bytes": "aGk="}})).await.ok();
}

#[tokio::test]
async fn record_keys_and_collections_are_checked() {
    let world = World::new().await;
    world.put(MANIFEST, &"k".repeat(512), json!({})).await.ok();
    world.put(MANIFEST, "sha256:abc", json!({})).await.ok();
    for rkey in ["a/b", "", ".", "..", &"k".repeat(513)] {
        world.put(MANIFEST, rkey, json!({})).await.fails(400, "InvalidRequest");
    }
    world.put("notansid", "x", json!({})).await.fails(400, "InvalidRequest");
    let message =
        world.write(PUT, json!({"collection": MANIFEST, "record": {}})).await.fails(400, "InvalidRequest");
    assert!(message.contains("rkey"), "{message}");
}

#[tokio::test]
async fn a_body_may_have_a_million_bytes() {
    let world = World::new().await;
    world.put(MANIFEST, "big", json!({"text": "x".repeat(900_000)})).await.ok();
    let message = world.put(MANIFEST, "big", json!({"text": "x".repeat(1_000_000)})).await;
    assert_eq!(message.fails(413, "PayloadTooLargeError"), "request entity too large");
}

#[tokio::test]
async fn swaps_are_compared_and_name_what_they_found() {
    let world = World::new().await;
    let one = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let two = world.put(MANIFEST, "one", json!({"v": 2})).await.ok();
    let put =
        |swap: Value| json!({"collection": MANIFEST, "rkey": "one", "record": {"v": 3}, "swapRecord": swap});
    for stale in [one["cid"].clone(), Value::Null] {
        let message = world.write(PUT, put(stale)).await.fails(400, "InvalidSwap");
        assert_eq!(message, format!("Record was at {}", two["cid"].as_str().unwrap()));
    }
    let mut stale = put(two["cid"].clone());
    stale["swapCommit"] = one["commit"]["cid"].clone();
    let message = world.write(PUT, stale).await.fails(400, "InvalidSwap");
    assert_eq!(message, format!("Commit was at {}", two["commit"]["cid"].as_str().unwrap()));
    let three = world.write(PUT, put(two["cid"].clone())).await.ok();
    let fresh = json!({"collection": MANIFEST, "rkey": "new", "record": {}, "swapRecord": null,
        "swapCommit": three["commit"]["cid"]});
    world.write(PUT, fresh).await.ok();
    let stale = json!({"collection": MANIFEST, "rkey": "one", "swapRecord": two["cid"]});
    world.write(DELETE, stale).await.fails(400, "InvalidSwap");
}

#[tokio::test]
async fn only_the_owner_writes() {
    let world = World::new().await;
    let input = json!({"repo": world.bob.did, "collection": MANIFEST, "rkey": "x", "record": {}});
    world.write(PUT, input.clone()).await.fails(401, "AuthenticationRequired");
    world.post(PUT, &input).await.fails(401, "AuthMissing");
    world.post_as("garbage", PUT, &input).await.fails(400, "InvalidToken");
    let by_handle = json!({"repo": BOB, "collection": MANIFEST, "record": {}});
    world.write(CREATE, by_handle).await.fails(401, "AuthenticationRequired");
    let write = json!({"$type": "com.atproto.repo.applyWrites#delete", "collection": MANIFEST, "rkey": "x"});
    world
        .write(APPLY, json!({"repo": world.bob.did, "writes": [write]}))
        .await
        .fails(401, "AuthenticationRequired");
    // An empty list names no record, but it still makes a commit.
    world
        .write(APPLY, json!({"repo": world.bob.did, "writes": []}))
        .await
        .fails(401, "AuthenticationRequired");
    let nowhere = json!({"repo": "nobody.test", "collection": MANIFEST, "rkey": "x", "record": {}});
    world.write(PUT, nowhere).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn create_gives_a_growing_tid_and_refuses_a_key_in_use() {
    let world = World::new().await;
    let mut last = String::new();
    for _ in 0..3 {
        let made = world.write(CREATE, json!({"collection": "com.example.tag", "record": {}})).await.ok();
        let rkey = made["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        rkey.parse::<atcr_core::syntax::Tid>().unwrap();
        assert!(rkey > last);
        last = rkey;
    }
    let taken = json!({"collection": "com.example.tag", "rkey": last, "record": {}});
    world.write(CREATE, taken).await.fails(500, "InternalServerError");
}

#[tokio::test]
async fn missing_records_and_repos_are_told_apart() {
    let world = World::new().await;
    let cid = world.put(MANIFEST, "one", json!({"v": 1})).await.ok()["cid"].clone();
    world.put(MANIFEST, "one", json!({"v": 2})).await.ok();
    let did = &world.alice.did;
    let message = world.record(MANIFEST, "none").await.fails(400, "RecordNotFound");
    assert_eq!(message, format!("Could not locate record: at://{did}/{MANIFEST}/none"));
    let old = format!("one&cid={}", cid.as_str().unwrap());
    world.record(MANIFEST, &old).await.fails(400, "RecordNotFound");
    for repo in ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "nobody.test"] {
        let path = format!("com.atproto.repo.getRecord?repo={repo}&collection={MANIFEST}&rkey=one");
        assert_eq!(world.get(&path).await.fails(400, "InvalidRequest"), "Could not locate record");
        let path = format!("com.atproto.repo.listRecords?repo={repo}&collection={MANIFEST}");
        assert_eq!(
            world.get(&path).await.fails(400, "InvalidRequest"),
            format!("Could not find repo: {repo}")
        );
    }
}

#[tokio::test]
async fn lists_go_newest_first_in_pages() {
    let world = World::new().await;
    for n in 0..5 {
        world.put("com.example.seq", &format!("k{n}"), json!({"n": n})).await.ok();
    }
    let list = async |rest: &str| {
        let path = format!("com.atproto.repo.listRecords?repo={ALICE}&collection=com.example.seq{rest}");
        let page = world.get(&path).await.ok();
        let keys: Vec<String> = page["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect();
        (keys.join(" "), page.get("cursor").cloned())
    };
    assert_eq!(list("&limit=2").await, ("k4 k3".into(), Some(json!("k3"))));
    assert_eq!(list("&limit=2&cursor=k3").await, ("k2 k1".into(), Some(json!("k1"))));
    assert_eq!(list("&cursor=k1").await, ("k0".into(), Some(json!("k0"))));
    assert_eq!(list("&cursor=k0").await, (String::new(), None));
    assert_eq!(list("&reverse=true").await, ("k0 k1 k2 k3 k4".into(), Some(json!("k4"))));
    for bad in ["&limit=101", "&limit=0", "&limit=x", "&reverse=perhaps", "&cursor=a/b"] {
        let path = format!("com.atproto.repo.listRecords?repo={ALICE}&collection=com.example.seq{bad}");
        world.get(&path).await.fails(400, "InvalidRequest");
    }
    let empty =
        world.get(&format!("com.atproto.repo.listRecords?repo={ALICE}&collection=io.atcr.none")).await;
    assert_eq!(empty.ok(), json!({"records": []}));
}

#[tokio::test]
async fn deleting_what_is_not_there_succeeds_without_a_commit() {
    let world = World::new().await;
    world.put(MANIFEST, "one", json!({})).await.ok();
    let delete = json!({"collection": MANIFEST, "rkey": "one"});
    assert!(world.write(DELETE, delete.clone()).await.ok()["commit"]["rev"].is_string());
    assert_eq!(world.write(DELETE, delete).await.ok(), json!({}));
    world.record(MANIFEST, "one").await.fails(400, "RecordNotFound");
}

fn op(kind: &str, rkey: &str, value: Option<Value>) -> Value {
    let mut write = json!({"$type": format!("com.atproto.repo.applyWrites#{kind}"),
        "collection": "com.example.tag", "rkey": rkey});
    if let Some(value) = value {
        write["value"] = value;
    }
    write
}

#[tokio::test]
async fn many_writes_make_one_commit_or_none() {
    let world = World::new().await;
    world.put("com.example.tag", "u", json!({"v": 1})).await.ok();
    let before = world.put("com.example.tag", "d", json!({"v": 1})).await.ok();
    let writes = json!([
        op("create", "c", Some(json!({}))),
        op("update", "u", Some(json!({"v": 2}))),
        op("delete", "d", None)
    ]);
    let input = json!({"writes": writes, "swapCommit": before["commit"]["cid"]});
    let done = world.write(APPLY, input.clone()).await.ok();
    let kinds: Vec<&str> =
        done["results"].as_array().unwrap().iter().map(|r| r["$type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["create", "update", "delete"].map(|k| format!("com.atproto.repo.applyWrites#{k}Result"))
    );
    assert_eq!(done["results"][0]["validationStatus"], "unknown");
    assert!(done["results"][0]["cid"].is_string() && done["results"][2].get("cid").is_none());
    world.write(APPLY, input).await.fails(400, "InvalidSwap");
    for bad in [
        op("create", "u", Some(json!({}))),
        op("update", "none", Some(json!({}))),
        op("delete", "none", None),
    ] {
        let writes = json!([op("create", "never", Some(json!({}))), bad]);
        world.write(APPLY, json!({"writes": writes})).await.fails(500, "InternalServerError");
    }
    world.record("com.example.tag", "never").await.fails(400, "RecordNotFound");
    let empty = world.write(APPLY, json!({"writes": []})).await.ok();
    assert!(empty["commit"]["cid"].is_string());
}

#[tokio::test]
async fn two_hundred_writes_are_the_most() {
    let world = World::new().await;
    let writes = |n: usize| -> Vec<Value> {
        (0..n).map(|n| op("create", &format!("t{n}"), Some(json!({})))).collect()
    };
    let message = world.write(APPLY, json!({"writes": writes(201)})).await.fails(400, "InvalidRequest");
    assert_eq!(message, "Too many writes. Max: 200");
    assert_eq!(
        world.write(APPLY, json!({"writes": writes(200)})).await.ok()["results"].as_array().unwrap().len(),
        200
    );
}

#[tokio::test]
async fn a_repo_describes_itself() {
    let world = World::new().await;
    world.put(MANIFEST, "one", json!({})).await.ok();
    world.put("com.example.tag", "one", json!({})).await.ok();
    let described = world.get(&format!("com.atproto.repo.describeRepo?repo={ALICE}")).await.ok();
    assert_eq!(described["did"], json!(world.alice.did));
    assert_eq!(described["handle"], ALICE);
    assert_eq!(described["handleIsCorrect"], true);
    assert_eq!(described["collections"], json!([MANIFEST, "com.example.tag"]));
    assert_eq!(described["didDoc"]["id"], json!(world.alice.did));
}
