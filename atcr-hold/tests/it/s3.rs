//! The storage in S3, on a server that is strict and faulty on demand.

use std::time::Duration;

use atcr_auth::Clock;
use atcr_core::Source;
use atcr_core::oci::{ByteRange, Digest};
use atcr_hold::storage::{
    Addressing, Layout, Object, ObjectKey, ObjectStorage, Part, PartNumber, S3Config, S3Credentials,
    S3Storage, StorageError, StorageUpload, Usage,
};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::{Method, StatusCode};
use strict_s3::{ACCESS_KEY, BUCKET, Fault, Operation, REGION, Rules, SECRET_KEY, Server};
use url::Url;

use crate::client;
use crate::world::bytes;

pub(crate) fn config(server: &Server) -> S3Config {
    let mut config = S3Config::new(BUCKET);
    config.region = Some(REGION.to_owned());
    config.endpoint = Some(server.endpoint().parse().unwrap());
    config.credentials = S3Credentials::Static {
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: SECRET_KEY.to_owned(),
        session_token: None,
    };
    config
}

async fn storage(rules: Rules) -> (Server, S3Storage) {
    let server = Server::start(rules).await;
    let storage = S3Storage::open(config(&server)).await;
    (server, storage)
}

fn n(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap()
}

async fn put(storage: &S3Storage, upload: &StorageUpload, number: u32, content: &Bytes) -> Part {
    let mut body = stream::iter([Ok::<_, Source>(content.clone())]);
    storage.put_part(upload, n(number), Some(content.len() as u64), &mut body).await.unwrap()
}

async fn whole(storage: &S3Storage, key: &ObjectKey) -> Bytes {
    let size = storage.stat(key).await.unwrap().unwrap();
    let pieces = storage.read(key, ByteRange { start: 0, end: size }).await.unwrap();
    pieces.try_collect::<Vec<Bytes>>().await.unwrap().concat().into()
}

/// An object of one small part.
async fn object(storage: &S3Storage, content: &Bytes) -> (StorageUpload, Object) {
    let upload = storage.begin_upload().await.unwrap();
    let part = put(storage, &upload, 1, content).await;
    let object = storage.complete_upload(&upload, &[part]).await.unwrap();
    (upload, object)
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let servers = std::sync::Mutex::new(Vec::new());
    atcr_hold::storage::contract::check(|| async {
        let mut rules = Rules::default();
        rules.page = 2;
        let (server, storage) = storage(rules).await;
        servers.lock().unwrap().push(server);
        storage
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_in_the_layout_of_distribution_under_a_prefix() {
    let servers = std::sync::Mutex::new(Vec::new());
    atcr_hold::storage::contract::check(|| async {
        let mut rules = Rules::default();
        rules.max_copy = 6 << 20;
        rules.bare_etags = true;
        let server = Server::start(rules).await;
        let mut config = config(&server);
        config.prefix = Some(ObjectKey::try_from("holds/one".to_owned()).unwrap());
        config.layout = Layout::Distribution;
        config.copy_limit = 6 << 20;
        config.presign = false;
        servers.lock().unwrap().push(server);
        S3Storage::open(config).await
    })
    .await;
}

/// The name of the bucket in the host is no name that a resolver here knows, so the requests are sent by hand.
#[tokio::test]
async fn the_bucket_may_stand_in_the_host() {
    let (server, storage) = storage(Rules::default()).await;
    let mut config = config(&server);
    config.endpoint = Some(server.named_endpoint().parse().unwrap());
    config.addressing = Addressing::VirtualHost;
    let by_host = S3Storage::open(config).await;
    let upload = storage.begin_upload().await.unwrap();
    let life = Duration::from_secs(60);
    let mut part = by_host.presign_part(&upload, n(1), life).await.unwrap().unwrap();
    let mut sent_by_hand = |mut url: Url| {
        let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        assert!(host.starts_with("bucket.localhost:"), "{host}");
        part.headers.insert(http::header::HOST, host.parse().unwrap());
        url.set_host(Some("127.0.0.1")).unwrap();
        (url, part.headers.clone())
    };
    let (url, headers) = sent_by_hand(part.url.clone());
    let answer = client::send(Method::PUT, &url, headers, Bytes::from_static(b"bytes")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let object = storage.complete_upload(&upload, &storage.list_parts(&upload).await.unwrap()).await.unwrap();
    let url = by_host.presign_get(&object.key, life).await.unwrap().unwrap();
    let (url, headers) = sent_by_hand(url);
    assert_eq!(client::send(Method::GET, &url, headers, Bytes::new()).await.body, "bytes");
}

#[tokio::test]
async fn a_signed_url_has_the_token_of_credentials_that_are_lent() {
    let server = Server::start(Rules::default()).await;
    let mut config = config(&server);
    if let S3Credentials::Static { session_token, .. } = &mut config.credentials {
        *session_token = Some("a/token+of=them".to_owned());
    }
    let storage = S3Storage::open(config).await;
    let upload = storage.begin_upload().await.unwrap();
    let part = storage.presign_part(&upload, n(1), Duration::from_secs(60)).await.unwrap().unwrap();
    let query = part.url.query().unwrap();
    assert!(query.contains("&X-Amz-Security-Token=a%2Ftoken%2Bof%3Dthem"), "{query}");
    let answer = client::send(part.method, &part.url, part.headers, Bytes::from_static(b"bytes")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test]
async fn parts_go_in_and_blobs_come_out_by_signed_urls_alone() {
    let (server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let contents = [bytes(1, 5 << 20), bytes(2, 5 << 20), bytes(3, 1000)];
    let mut parts = Vec::new();
    for (content, number) in contents.iter().zip(1..) {
        let signed =
            storage.presign_part(&upload, n(number), Duration::from_secs(60)).await.unwrap().unwrap();
        let answer = client::send(signed.method, &signed.url, signed.headers, content.clone()).await;
        assert_eq!(answer.status, StatusCode::OK);
        let etag = answer.headers["etag"].to_str().unwrap().trim_matches('"').to_owned();
        parts.push(Part { number: n(number), size: 0, etag });
    }
    let object = storage.complete_upload(&upload, &parts).await.unwrap();
    assert_eq!(object.size, (10 << 20) + 1000);
    let url = storage.presign_get(&object.key, Duration::from_secs(60)).await.unwrap().unwrap();
    let answer = client::get(&url, Some("bytes=5242879-5242880")).await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(&answer.body[..], [contents[0][(5 << 20) - 1], contents[1][0]]);
    // Nothing else was signed: not another part, not another method, not another object.
    let signed = storage.presign_part(&upload, n(1), Duration::from_secs(60)).await.unwrap().unwrap();
    let other = signed.url.as_str().replace("partNumber=1", "partNumber=2").parse().unwrap();
    let answer = client::send(Method::PUT, &other, signed.headers, Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = client::send(Method::DELETE, &url, http::HeaderMap::new(), Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(whole(&storage, &object.key).await == contents.concat());
    drop(server);
}

#[tokio::test]
async fn a_signed_url_ends_with_its_life() {
    let server = Server::start(Rules::default()).await;
    let mut config = config(&server);
    let clock = Clock::manual(Clock::system().unix() - 3600);
    config.clock = clock.clone();
    config.url_window = Duration::from_secs(1);
    let storage = S3Storage::open(config).await;
    let (upload, object) = object(&storage, &bytes(1, 10)).await;
    let url = storage.presign_get(&object.key, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(client::get(&url, None).await.status, StatusCode::FORBIDDEN);
    let part = storage.presign_part(&upload, n(1), Duration::from_secs(60)).await.unwrap().unwrap();
    let answer = client::send(part.method, &part.url, part.headers, Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    clock.advance(Duration::from_secs(3600));
    let url = storage.presign_get(&object.key, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(client::get(&url, None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_object_has_one_url_for_a_while_so_that_it_can_be_cached() {
    let server = Server::start(Rules::default()).await;
    let mut config = config(&server);
    let clock = Clock::manual(1_700_000_100);
    config.clock = clock.clone();
    config.url_window = Duration::from_secs(600);
    config.pull_zone = Some("https://cdn.example/zone".parse().unwrap());
    let storage = S3Storage::open(config).await;
    let key = ObjectKey::of_blob(&Digest::sha256(b""));
    let life = Duration::from_secs(900);
    let first = storage.presign_get(&key, life).await.unwrap().unwrap();
    assert!(
        first.as_str().starts_with("https://cdn.example/zone/bucket/docker/registry/v2/blobs/sha256/e3/")
    );
    assert!(first.query().unwrap().contains("X-Amz-Expires=1500"), "{first}");
    clock.advance(Duration::from_secs(299));
    assert_eq!(storage.presign_get(&key, life).await.unwrap().unwrap(), first);
    clock.advance(Duration::from_secs(1));
    assert_ne!(storage.presign_get(&key, life).await.unwrap().unwrap(), first);
    // Parts are not cached, and go straight to the storage.
    let upload = storage.begin_upload().await.unwrap();
    let part = storage.presign_part(&upload, n(1), life).await.unwrap().unwrap();
    assert!(part.url.as_str().starts_with(&server.endpoint()), "{}", part.url);
    assert!(part.url.query().unwrap().contains("X-Amz-Expires=900"), "{}", part.url);
}

#[tokio::test]
async fn a_storage_that_is_busy_is_asked_again() {
    let (server, storage) = storage(Rules::default()).await;
    for operation in [
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::CompleteMultipartUpload,
        Operation::HeadObject,
        Operation::PutObject,
        Operation::GetObject,
        Operation::ListObjects,
    ] {
        server.fail(operation, 1, Fault::Unavailable);
    }
    let content = bytes(1, 100_000);
    let (_, object) = object(&storage, &content).await;
    let wanted = ObjectKey::of_blob(&Digest::sha256(&content));
    storage.relocate(&object.key, &wanted).await.unwrap();
    assert!(whole(&storage, &object.key).await == content);
    assert_eq!(storage.usage().await.unwrap(), Usage { objects: 1, bytes: 100_000 });
}

#[tokio::test]
async fn a_part_that_the_storage_refuses_for_the_moment_is_said_to_have_failed() {
    let (server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let content = bytes(1, 6 << 20);
    // It passes through and cannot be sent again.
    server.fail(Operation::UploadPart, 1, Fault::Unavailable);
    let mut body = stream::iter([Ok::<_, Source>(content.clone())]);
    let error = storage.put_part(&upload, n(1), Some(6 << 20), &mut body).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    let part = put(&storage, &upload, 1, &content).await;
    // It is gathered first, and sent again.
    server.fail(Operation::UploadPart, 1, Fault::Unavailable);
    let mut body = stream::iter([Ok::<_, Source>(content.clone())]);
    assert_eq!(storage.put_part(&upload, n(2), None, &mut body).await.unwrap().etag, part.etag);
}

#[tokio::test]
async fn an_error_in_a_body_of_200_is_an_error() {
    let (server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let content = bytes(1, 1000);
    let part = [put(&storage, &upload, 1, &content).await];
    for nth in 1..=3 {
        server.fail(Operation::CompleteMultipartUpload, nth, Fault::ErrorInBody);
    }
    let error = storage.complete_upload(&upload, &part).await.unwrap_err();
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert!(server.objects().is_empty());
    let object = storage.complete_upload(&upload, &part).await.unwrap();
    assert!(whole(&storage, &object.key).await == content);
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_found_out() {
    let (server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let part = [put(&storage, &upload, 1, &bytes(1, 1000)).await];
    server.fail(Operation::CompleteMultipartUpload, 1, Fault::AnswerLost);
    let object = storage.complete_upload(&upload, &part).await.unwrap();
    assert_eq!(object.size, 1000);
    // And by two at once.
    let upload = storage.begin_upload().await.unwrap();
    let part = [put(&storage, &upload, 1, &bytes(2, 1000)).await];
    let both = tokio::join!(storage.complete_upload(&upload, &part), storage.complete_upload(&upload, &part));
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    // By another process, which has nothing but the name of the upload.
    let other = S3Storage::open(config(&server)).await;
    assert_eq!(other.complete_upload(&upload, &part).await.unwrap().size, 1000);
}

#[tokio::test]
async fn what_is_wrong_with_the_parts_is_said() {
    let (server, storage) = storage(Rules::default()).await;
    let upload = storage.begin_upload().await.unwrap();
    let small =
        [put(&storage, &upload, 1, &bytes(1, 1000)).await, put(&storage, &upload, 2, &bytes(2, 10)).await];
    let error = storage.complete_upload(&upload, &small).await.unwrap_err();
    assert!(matches!(&error, StorageError::PartSize { size: 1000, .. }), "{error:?}");
    let large = put(&storage, &upload, 1, &bytes(1, 5 << 20)).await;
    server.lose_part(2);
    let parts = [large.clone(), small[1].clone()];
    let error = storage.complete_upload(&upload, &parts).await.unwrap_err();
    assert!(matches!(&error, StorageError::PartUnknown { number, .. } if number.get() == 2), "{error:?}");
    let again = put(&storage, &upload, 2, &bytes(2, 10)).await;
    storage.complete_upload(&upload, &[large, again]).await.unwrap();
}

#[tokio::test]
async fn a_bucket_of_distribution_is_read_as_it_is() {
    let (server, storage) = storage(Rules::default()).await;
    let content = bytes(1, 10_000);
    let key = ObjectKey::of_blob(&Digest::sha256(&content));
    server.put(key.as_str(), content.clone());
    server.put("docker/registry/v2/repositories/x/_layers/sha256/ab/link", "sha256:ab");
    assert!(whole(&storage, &key).await == content);
    let url = storage.presign_get(&key, Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(client::get(&url, None).await.body == content);
    assert_eq!(storage.usage().await.unwrap(), Usage { objects: 1, bytes: 10_000 });
}

#[tokio::test]
async fn the_layout_of_distribution_is_written_by_copies_in_ranges_where_one_is_too_small() {
    let mut rules = Rules::default();
    rules.max_copy = 6 << 20;
    let server = Server::start(rules).await;
    let mut config = config(&server);
    config.layout = Layout::Distribution;
    config.copy_limit = 6 << 20;
    let storage = S3Storage::open(config).await;
    for (size, copies, parts) in [(6 << 20, 1, 0), ((6 << 20) + 1, 0, 2), (20 << 20, 0, 4)] {
        let content = bytes(1, size);
        let upload = storage.begin_upload().await.unwrap();
        let part = put(&storage, &upload, 1, &content).await;
        let object = storage.complete_upload(&upload, &[part]).await.unwrap();
        let wanted = ObjectKey::of_blob(&Digest::sha256(&content));
        let before = [Operation::CopyObject, Operation::UploadPartCopy].map(|kind| server.count(kind));
        assert_eq!(storage.relocate(&object.key, &wanted).await.unwrap(), wanted);
        let after = [Operation::CopyObject, Operation::UploadPartCopy].map(|kind| server.count(kind));
        assert_eq!([after[0] - before[0], after[1] - before[1]], [copies, parts], "{size}");
        assert!(server.object(wanted.as_str()).unwrap() == content);
        assert_eq!(server.objects().len(), 1, "the original is gone");
        storage.delete(&wanted).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_fails_leaves_the_original_and_can_be_done_again() {
    let mut rules = Rules::default();
    rules.max_copy = 6 << 20;
    let server = Server::start(rules).await;
    let mut config = config(&server);
    config.layout = Layout::Distribution;
    config.copy_limit = 6 << 20;
    let storage = S3Storage::open(config).await;
    for (size, operation) in [(1000, Operation::CopyObject), (7 << 20, Operation::UploadPartCopy)] {
        let content = bytes(3, size);
        let (_, object) = object(&storage, &content).await;
        let wanted = ObjectKey::of_blob(&Digest::sha256(&content));
        for nth in 1..=6 {
            server.fail(operation, nth, Fault::ErrorInBody);
        }
        storage.relocate(&object.key, &wanted).await.unwrap_err();
        assert!(whole(&storage, &object.key).await == content);
        assert_eq!((storage.stat(&wanted).await.unwrap(), server.open_uploads()), (None, 0));
        // What is left of the faults.
        while storage.relocate(&object.key, &wanted).await.is_err() {}
        assert!(whole(&storage, &wanted).await == content);
    }
}

#[tokio::test]
async fn a_completed_object_says_what_it_is() {
    let (server, storage) = storage(Rules::default()).await;
    let content = bytes(1, 1000);
    let (_, object) = object(&storage, &content).await;
    let wanted = ObjectKey::of_blob(&Digest::sha256(&content));
    assert_eq!(storage.relocate(&object.key, &wanted).await.unwrap(), object.key, "nothing is copied");
    let location = object.key.as_str().replace("/data", "/location");
    assert_eq!(server.object(&location).unwrap(), wanted.as_str());
}

#[tokio::test]
async fn uploads_of_others_in_the_bucket_are_left_alone() {
    let (server, storage) = storage(Rules::default()).await;
    let mut theirs = config(&server);
    theirs.prefix = Some(ObjectKey::try_from("other".to_owned()).unwrap());
    let theirs = S3Storage::open(theirs).await;
    theirs.begin_upload().await.unwrap();
    let ours = storage.begin_upload().await.unwrap();
    let open = storage.list_uploads().await.unwrap();
    assert_eq!(open.iter().map(|open| &open.upload).collect::<Vec<_>>(), [&ours]);
}

#[tokio::test]
async fn a_storage_that_does_not_answer_is_not_waited_for() {
    let server = Server::start(Rules::default()).await;
    let mut config = config(&server);
    config.timeout = Duration::from_millis(200);
    let storage = S3Storage::open(config).await;
    for nth in 1..=3 {
        server.fail(Operation::HeadObject, nth, Fault::Silence);
    }
    let key = ObjectKey::of_blob(&Digest::sha256(b""));
    let error = storage.stat(&key).await.unwrap_err();
    assert!(matches!(&error, StorageError::Failed { .. }), "{error:?}");
}

#[tokio::test]
async fn wrong_credentials_and_buckets_are_told_apart_from_what_is_missing() {
    let server = Server::start(Rules::default()).await;
    let mut wrong = config(&server);
    wrong.credentials = S3Credentials::Static {
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: "another".to_owned(),
        session_token: None,
    };
    assert!(!format!("{wrong:?}").contains("another"), "secrets are not printed");
    let error = S3Storage::open(wrong).await.begin_upload().await.unwrap_err();
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    let mut wrong = config(&server);
    wrong.bucket = "elsewhere".to_owned();
    let error = S3Storage::open(wrong).await.begin_upload().await.unwrap_err();
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}

/// One line for a person, not what the SDK knows of the request.
#[tokio::test]
async fn a_storage_that_is_none_is_said_in_a_line() {
    let server = Server::start(Rules::default()).await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let page = axum::Router::new().fallback(|| async { (StatusCode::BAD_GATEWAY, "<h1>a proxy</h1>\r\n") });
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    tokio::spawn(axum::serve(proxy, page).into_future());
    for (at, said) in [(nobody, "Connection refused"), (address, "502: <h1>a proxy</h1> (")] {
        let mut config = config(&server);
        config.endpoint = Some(format!("http://{at}").parse().unwrap());
        let error = S3Storage::open(config).await.begin_upload().await.unwrap_err().to_string();
        assert!(error.contains(said) && error.len() < 250 && !error.contains(['{', '\n']), "{error}");
    }
}

/// The answer to a HEAD has no body that says what is wrong; only 404 says that nothing is there.
#[tokio::test]
async fn a_bucket_that_refuses_to_look_has_not_said_that_there_is_nothing() {
    let (server, storage) = storage(Rules::default()).await;
    let (_, object) = object(&storage, &bytes(1, 10)).await;
    server.fail(Operation::HeadObject, 1, Fault::BadRequest);
    let error = storage.stat(&object.key).await.unwrap_err();
    assert!(error.to_string().contains("400"), "{error}");
    assert_eq!(storage.stat(&object.key).await.unwrap(), Some(10));
}

#[tokio::test]
async fn what_a_killed_process_left_in_the_spool_goes_and_nothing_else() {
    let server = Server::start(Rules::default()).await;
    let spool = tempfile::tempdir().unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(48 * 3600);
    for (name, age) in [(".atcr-part-old", Some(old)), (".atcr-part-new", None), ("theirs", Some(old))] {
        let file = std::fs::File::create(spool.path().join(name)).unwrap();
        if let Some(age) = age {
            file.set_modified(age).unwrap();
        }
    }
    let mut config = config(&server);
    config.spool_dir = spool.path().to_owned();
    let storage = S3Storage::open(config).await;
    let names = || {
        let entries = std::fs::read_dir(spool.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [".atcr-part-new", "theirs"]);
    // A part of an unknown size is gathered there while it comes, and leaves nothing, whether it is cut off or not.
    let upload = storage.begin_upload().await.unwrap();
    let pieces = [Ok(bytes(1, 1 << 20)), Err::<_, Source>("connection reset".into())];
    storage.put_part(&upload, n(1), None, &mut stream::iter(pieces)).await.unwrap_err();
    let pieces = [Ok::<_, Source>(bytes(1, 1 << 20))];
    storage.put_part(&upload, n(1), None, &mut stream::iter(pieces)).await.unwrap();
    assert_eq!(names(), [".atcr-part-new", "theirs"]);
}
