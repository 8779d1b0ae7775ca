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
    for method in ["getRepo", "getLatestCommit", "getRepoStatus", "listBlobs"] {
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
