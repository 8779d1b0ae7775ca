use atcr_pds::cbor::parse_cid;
use serde_json::{Value, json};

use crate::world::{Answer, MANIFEST, World};

const UNKNOWN: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

impl World {
    async fn sync(&self, method: &str, rest: &str) -> Answer {
        self.get(&format!("com.atproto.sync.{method}?did={}{rest}", self.alice.did)).await
    }
}

/// The CIDs of the blocks of a CAR file, without its header.
fn blocks(car: &[u8]) -> Vec<String> {
    let mut rest = car;
    let mut next = || {
        let (length, tail) = unsigned_varint::decode::usize(rest).ok()?;
        let (item, tail) = tail.split_at(length);
        rest = tail;
        Some(item)
    };
    next().expect("a header");
    let mut cids = Vec::new();
    while let Some(block) = next() {
        let cid = ipld_core::cid::Cid::read_bytes(&block[..36]).unwrap();
        assert!(atcr_pds::cbor::cid_matches(&cid, &block[36..]));
        cids.push(cid.to_string());
    }
    cids
}

#[tokio::test]
async fn an_unknown_repo_is_named_as_such() {
    let world = World::new().await;
    for method in ["getRepo", "getLatestCommit", "getRepoStatus", "listBlobs", "getHead", "getCheckout"] {
        let answer = world.get(&format!("com.atproto.sync.{method}?did={UNKNOWN}")).await;
        let message = answer.fails(400, "RepoNotFound");
        assert_eq!(message, format!("Could not find repo for DID: {UNKNOWN}"));
    }
    let path = format!("com.atproto.sync.getRecord?did={UNKNOWN}&collection={MANIFEST}&rkey=x");
    world.get(&path).await.fails(400, "RepoNotFound");
    world.get("com.atproto.sync.getRepo?did=nonsense").await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn a_repo_is_exported_whole_or_since_a_revision() {
    let world = World::new().await;
    let first = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let second = world.put(MANIFEST, "two", json!({"v": 2})).await.ok();
    let whole = world.sync("getRepo", "").await;
    assert_eq!(whole.header("content-type"), "application/vnd.ipld.car");
    assert_eq!(whole.header("content-length"), "");
    let all = blocks(&whole.body);
    assert_eq!(all[0], second["commit"]["cid"]);
    assert!(all.contains(&first["cid"].as_str().unwrap().to_owned()));
    let since = format!("&since={}", first["commit"]["rev"].as_str().unwrap());
    let newer = blocks(&world.sync("getRepo", &since).await.body);
    assert!(newer.contains(&second["cid"].as_str().unwrap().to_owned()));
    assert!(!newer.contains(&first["cid"].as_str().unwrap().to_owned()));
    let since = format!("&since={}", second["commit"]["rev"].as_str().unwrap());
    let none = world.sync("getRepo", &since).await;
    assert_eq!((none.body.len(), blocks(&none.body).len()), (59, 0));
    world.sync("getRepo", "&since=yesterday").await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn proofs_are_given_for_what_is_there_and_for_what_is_not() {
    let world = World::new().await;
    let put = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let rest = format!("&collection={MANIFEST}&rkey=");
    let present = world.sync("getRecord", &format!("{rest}one")).await;
    assert_eq!(present.header("content-type"), "application/vnd.ipld.car");
    let cids = blocks(&present.body);
    assert!(cids.contains(&put["cid"].as_str().unwrap().to_owned()));
    assert!(cids.contains(&put["commit"]["cid"].as_str().unwrap().to_owned()));
    let absent = world.sync("getRecord", &format!("{rest}none")).await;
    assert_eq!(absent.status, 200);
    assert!(!blocks(&absent.body).contains(&put["cid"].as_str().unwrap().to_owned()));
}

#[tokio::test]
async fn blocks_come_by_cid_and_missing_ones_are_named() {
    let world = World::new().await;
    let put = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let (record, commit) = (put["cid"].as_str().unwrap(), put["commit"]["cid"].as_str().unwrap());
    let found = world.sync("getBlocks", &format!("&cids={record}&cids={commit}")).await;
    let mut cids = blocks(&found.body);
    cids.sort();
    let mut wanted = vec![record.to_owned(), commit.to_owned()];
    wanted.sort();
    assert_eq!(cids, wanted);
    let missing = "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    let message = world.sync("getBlocks", &format!("&cids={record}&cids={missing}")).await;
    assert_eq!(message.fails(400, "InvalidRequest"), format!("Could not find cids: {missing}"));
    world.sync("getBlocks", "").await.fails(400, "InvalidRequest");
    world.sync("getBlocks", "&cids=nonsense").await.fails(400, "InvalidRequest");
    let many = "&cids=".to_owned() + &vec![record; 501].join("&cids=");
    world.sync("getBlocks", &many).await.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn repos_are_listed_in_pages() {
    let world = World::new().await;
    let put = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let first = world.get("com.atproto.sync.listRepos?limit=1").await.ok();
    assert_eq!(
        first["repos"],
        json!([{"did": world.alice.did, "head": put["commit"]["cid"], "rev": put["commit"]["rev"], "active": true}])
    );
    parse_cid(first["repos"][0]["head"].as_str().unwrap()).unwrap();
    let next = async |cursor: &Value| {
        world
            .get(&format!("com.atproto.sync.listRepos?limit=1&cursor={}", cursor.as_str().unwrap()))
            .await
            .ok()
    };
    let second = next(&first["cursor"]).await;
    assert_eq!(second["repos"][0]["did"], json!(world.bob.did));
    let third = next(&second["cursor"]).await;
    assert_eq!(third, json!({"repos": []}));
    world.get("com.atproto.sync.listRepos?cursor=x").await.fails(400, "InvalidRequest");

    let with = world.get(&format!("com.atproto.sync.listReposByCollection?collection={MANIFEST}")).await.ok();
    assert_eq!(with["repos"], json!([{"did": world.alice.did}]));
    let none = world.get("com.atproto.sync.listReposByCollection?collection=io.atcr.none").await.ok();
    assert_eq!(none, json!({"repos": []}));
}

#[tokio::test]
async fn the_deprecated_methods_answer_as_their_successors() {
    let world = World::new().await;
    let put = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    assert_eq!(world.sync("getHead", "").await.ok(), json!({"root": put["commit"]["cid"]}));
    let (checkout, repo) = (world.sync("getCheckout", "").await, world.sync("getRepo", "").await);
    assert_eq!(checkout.header("content-type"), "application/vnd.ipld.car");
    assert_eq!(checkout.body, repo.body);
}

#[tokio::test]
async fn a_repo_that_is_switched_off_is_not_served_but_its_status_is() {
    let world = World::new().await;
    let put = world.put(MANIFEST, "one", json!({"v": 1})).await.ok();
    let blob = world.upload(&world.bob.access, "text/plain", "x").await.ok()["blob"]["ref"]["$link"].clone();
    let did = &world.alice.did;
    world.post_as(&world.alice.access, "com.atproto.server.deactivateAccount", &json!({})).await.ok();
    let cid = put["cid"].as_str().unwrap();
    for (method, rest) in [
        ("getRepo", String::new()),
        ("getCheckout", String::new()),
        ("getHead", String::new()),
        ("getLatestCommit", String::new()),
        ("listBlobs", String::new()),
        ("getRecord", format!("&collection={MANIFEST}&rkey=one")),
        ("getBlocks", format!("&cids={cid}")),
        ("getBlob", format!("&cid={}", blob.as_str().unwrap())),
    ] {
        let message = world.sync(method, &rest).await.fails(400, "RepoDeactivated");
        assert_eq!(message, format!("Repo has been deactivated: {did}"), "{method}");
    }
    let status = world.sync("getRepoStatus", "").await.ok();
    assert_eq!(status, json!({"did": did, "active": false, "status": "deactivated"}));
    let listed = world.get("com.atproto.sync.listRepos").await.ok();
    assert_eq!(
        (&listed["repos"][0]["active"], &listed["repos"][0]["status"]),
        (&json!(false), &json!("deactivated"))
    );
    let with = world.get(&format!("com.atproto.sync.listReposByCollection?collection={MANIFEST}")).await.ok();
    assert_eq!(with["repos"], json!([]));
    let path = format!("com.atproto.repo.getRecord?repo={did}&collection={MANIFEST}&rkey=one");
    assert_eq!(world.get(&path).await.fails(400, "InvalidRequest"), "Could not locate record");
}

#[tokio::test]
async fn limits_and_cursors_of_lists_are_checked() {
    let world = World::new().await;
    let did = world.alice.did.clone();
    for (method, most) in [
        ("listRepos?", 1000),
        (&format!("listReposByCollection?collection={MANIFEST}&"), 2000),
        (&format!("listBlobs?did={did}&"), 1000),
    ] {
        for (limit, good) in [
            ("1".to_owned(), true),
            (most.to_string(), true),
            ((most + 1).to_string(), false),
            ("0".into(), false),
            ("-1".into(), false),
            ("x".into(), false),
            ("99999999999999999999".into(), false),
        ] {
            let answer = world.get(&format!("com.atproto.sync.{method}limit={limit}")).await;
            if good { drop(answer.ok()) } else { drop(answer.fails(400, "InvalidRequest")) }
        }
        world.get(&format!("com.atproto.sync.{method}cursor=no/cursor")).await.fails(400, "InvalidRequest");
    }
}
