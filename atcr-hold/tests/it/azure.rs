//! The storage in Azure Blob Storage, on a server that is strict and faulty on demand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use atcr_core::Source;
use atcr_core::oci::{ByteRange, Digest};
use atcr_hold::storage::{
    AzureAccountKey, AzureConfig, AzureStorage, Layout, ObjectKey, ObjectStorage, Part, PartNumber,
    StorageError, StorageUpload, contract,
};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::{HeaderMap, Method};
use serde_json::json;
use strict_azure::{ACCOUNT, CONTAINER, Fault, KEY, Operation, Rules, Server};
use url::Url;

use crate::client;
use crate::direct::Target;
use crate::world::{World, bytes};

pub(crate) fn config(server: &Server) -> AzureConfig {
    let mut config = AzureConfig::new(ACCOUNT, AzureAccountKey::from_base64(KEY).unwrap(), CONTAINER);
    config.endpoint = Some(server.endpoint().parse().unwrap());
    config
}

async fn storage(rules: Rules) -> (Server, AzureStorage) {
    let server = Server::start(rules).await;
    let storage = AzureStorage::open(config(&server)).await.unwrap();
    (server, storage)
}

fn n(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap()
}

async fn whole(storage: &AzureStorage, key: &ObjectKey) -> Bytes {
    let size = storage.stat(key).await.unwrap().unwrap();
    let pieces = storage.read(key, ByteRange { start: 0, end: size }).await.unwrap();
    pieces.try_collect::<Vec<Bytes>>().await.unwrap().concat().into()
}

/// Sends a part by a signed URL, which it gives.
async fn signed_part(storage: &AzureStorage, upload: &StorageUpload, content: &Bytes) -> (Part, Url) {
    let signed = storage.presign_part(upload, n(1), Duration::from_secs(600)).await.unwrap().unwrap();
    let reply = client::send(signed.method, &signed.url, signed.headers, content.clone()).await;
    assert_eq!(reply.status, 201);
    (Part { number: n(1), size: content.len() as u64, etag: signed.etag.unwrap() }, signed.url)
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let servers = Mutex::new(Vec::new());
    contract::check(|| async {
        let mut rules = Rules::default();
        rules.page = 2;
        rules.copy_polls = 2;
        let (server, storage) = storage(rules).await;
        servers.lock().unwrap().push(server);
        storage
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_without_urls_in_the_layout_of_distribution_under_a_prefix() {
    let servers = Mutex::new(Vec::new());
    contract::check(|| async {
        let server = Server::start(Rules::default()).await;
        let mut config = config(&server);
        config.prefix = Some(ObjectKey::try_from("holds/one".to_owned()).unwrap());
        config.layout = Layout::Distribution;
        config.presign = false;
        servers.lock().unwrap().push(server);
        AzureStorage::open(config).await.unwrap()
    })
    .await;
}

/// Everything that the bearer of the URL of a part could try on the blob it became, and on the blob it names.
async fn attack(url: &Url, data: &str) {
    let evil = bytes(66, 1000);
    let block_blob =
        || HeaderMap::from_iter([("x-ms-blob-type".parse().unwrap(), "BlockBlob".parse().unwrap())]);
    let id = url.query_pairs().find(|(name, _)| name == "blockid").unwrap().1.into_owned();
    let list = format!("<BlockList><Latest>{id}</Latest></BlockList>");
    let signature: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(name, _)| name != "comp" && name != "blockid").collect();
    let mut bare = url.clone();
    bare.query_pairs_mut().clear().extend_pairs(&signature);
    let mut joining = bare.clone();
    joining.query_pairs_mut().append_pair("comp", "blocklist");
    let (host, _) = url.path().split_once("/atcr/").unwrap();
    for target in [url.path().to_owned(), format!("{host}/{data}")] {
        for (url, headers, body) in [
            (url, HeaderMap::new(), evil.clone()),
            (&bare, block_blob(), evil.clone()),
            (&joining, HeaderMap::new(), list.clone().into()),
        ] {
            let mut url = url.clone();
            url.set_path(&target);
            let reply = client::send(Method::PUT, &url, headers, body).await;
            assert!(target != *format!("{host}/{data}") || reply.status == 403, "{}", reply.status);
        }
        let mut url = bare.clone();
        url.set_path(&target);
        let reply = client::send(Method::DELETE, &url, HeaderMap::new(), Bytes::new()).await;
        assert_eq!(reply.status, 403);
    }
}

#[tokio::test]
async fn the_url_of_a_part_does_not_change_the_object_once_it_is_one() {
    let (_server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let content = bytes(1, 1000);
    let (part, url) = signed_part(&storage, &upload, &content).await;
    let object = storage.complete_upload(&upload, std::slice::from_ref(&part)).await.unwrap();
    attack(&url, object.key.as_str()).await;
    assert!(whole(&storage, &object.key).await == content);
    // Nor does completing it once more, now that other bytes stand where it was uploaded.
    storage.complete_upload(&upload, &[part]).await.unwrap();
    assert!(whole(&storage, &object.key).await == content);
    let key = storage.relocate(&object.key, &ObjectKey::of_blob(&Digest::sha256(&content))).await.unwrap();
    attack(&url, key.as_str()).await;
    assert!(whole(&storage, &key).await == content);
    // What was written to the place of the upload afterwards is found, and goes.
    let open = storage.list_uploads().await.unwrap();
    assert_eq!(open.iter().map(|open| &open.upload).collect::<Vec<_>>(), [&upload]);
    storage.abort_upload(&upload).await.unwrap();
    assert!(storage.list_uploads().await.unwrap().is_empty());
    assert!(whole(&storage, &key).await == content);
}

#[tokio::test]
async fn parts_that_are_exchanged_between_joining_and_copying_are_not_taken() {
    let (server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let (part, url) = signed_part(&storage, &upload, &bytes(1, 1000)).await;
    for nth in 1..=3 {
        server.fail(Operation::CopyBlob, nth, Fault::Unavailable);
    }
    storage.complete_upload(&upload, std::slice::from_ref(&part)).await.unwrap_err();
    let kept = storage.list_parts(&upload).await.unwrap();
    assert_eq!(kept, std::slice::from_ref(&part), "it can be completed still");
    let mut over = url;
    let query: Vec<(String, String)> =
        over.query_pairs().into_owned().filter(|(name, _)| name != "comp" && name != "blockid").collect();
    over.query_pairs_mut().clear().extend_pairs(query);
    let headers = HeaderMap::from_iter([("x-ms-blob-type".parse().unwrap(), "BlockBlob".parse().unwrap())]);
    let reply = client::send(Method::PUT, &over, headers, bytes(66, 1000)).await;
    assert_eq!(reply.status, 201, "it is their own upload");
    let error = storage.complete_upload(&upload, &[part]).await.unwrap_err();
    assert!(matches!(error, StorageError::PartUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_comes_to_the_same_end() {
    for operation in [Operation::PutBlockList, Operation::CopyBlob] {
        for presign in [true, false] {
            let server = Server::start(Rules::default()).await;
            let mut config = config(&server);
            config.presign = presign;
            let storage = AzureStorage::open(config).await.unwrap();
            let upload = storage.begin_upload().await.unwrap();
            let content = bytes(1, 300_000);
            let mut body = stream::iter([Ok::<_, Source>(content.clone())]);
            let part = storage.put_part(&upload, n(1), None, &mut body).await.unwrap();
            server.fail(operation, 1, Fault::AnswerLost);
            let object = storage.complete_upload(&upload, &[part]).await.unwrap();
            assert!(whole(&storage, &object.key).await == content, "{operation:?}");
        }
    }
}

#[tokio::test]
async fn what_azure_refuses_is_named_without_secrets() {
    let server = Server::start(Rules::default()).await;
    let mut wrong = config(&server);
    wrong.account_key = AzureAccountKey::from_base64("YW5vdGhlcg==").unwrap();
    assert!(!format!("{wrong:?}").contains("other"), "secrets are not printed");
    let error = AzureStorage::open(wrong).await.unwrap().begin_upload().await.unwrap_err().to_string();
    assert!(error.contains("AuthenticationFailed") && !error.contains("sig="), "{error}");
    let mut wrong = config(&server);
    wrong.container = "elsewhere".to_owned();
    let storage = AzureStorage::open(wrong).await.unwrap();
    let error = storage.begin_upload().await.unwrap_err().to_string();
    assert!(error.contains("ContainerNotFound"), "{error}");
    // That the container is missing is not taken for a blob that is.
    storage.stat(&ObjectKey::of_blob(&Digest::sha256(b""))).await.unwrap_err();
}

#[tokio::test]
async fn a_blob_goes_in_and_out_past_the_hold_and_cannot_be_overwritten_afterwards() {
    let (server, storage) = storage(Rules::default()).await;
    let storage = Arc::new(storage);
    let world = World::on(storage).await;
    let content = bytes(1, 1000);
    let digest = Digest::sha256(&content);
    let upload = world.initiate(&world.alice).await;
    let input = json!({"uploadId": upload, "partNumber": 1});
    let signed = world.post(&world.alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
    let target = Target::of(&signed);
    assert_eq!(target.put(&content).await.status, 201);
    let parts = json!([{"partNumber": 1, "etag": signed["etag"]}]);
    world.complete(&world.alice, &upload, &digest, parts).await.ok();
    world.hold.verify_pending().await.unwrap();
    assert_eq!(world.hold.unverified().await.unwrap(), 0);
    let data = server.blobs().into_iter().find(|name| name.ends_with("/data")).unwrap();
    attack(&target.url, &data).await;
    let answer = world.get(&world.blob_path(&digest)).await;
    assert_eq!(answer.status, 307);
    assert!(client::get(&answer.header("location").parse().unwrap(), None).await.body == content);
}
