use std::fs;

use super::super::contract;
use super::*;
use crate::oci::MediaType;

fn at(repository: &str) -> Access {
    Access::anonymous(repository.parse().unwrap())
}

async fn store() -> (FilesystemManifestStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (FilesystemManifestStore::open(directory.path()).await.unwrap(), directory)
}

fn manifest(name: &str) -> Manifest {
    let bytes =
        Bytes::from(format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"name":"{name}"}}}}"#));
    Manifest { digest: Digest::sha256(&bytes), media_type: MediaType::OCI_INDEX.parse().unwrap(), bytes }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

async fn put(store: &FilesystemManifestStore, name: &str, tags: &[&str]) -> Manifest {
    let manifest = manifest(name);
    let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
    store.put(&at("a"), manifest.clone(), &tags).await.unwrap();
    manifest
}

async fn tags(store: &FilesystemManifestStore) -> Vec<String> {
    let listing = store.tags(&at("a"), &Page::default()).await.unwrap();
    listing.items.iter().map(Tag::to_string).collect()
}

fn log(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("repositories/a/manifests")
}

#[tokio::test]
async fn keeps_the_contract() {
    let (store, _directory) = store().await;
    contract::check(&store, &at("here/app"), &at("else/where")).await;
}

#[tokio::test]
async fn keeps_everything_over_a_restart() {
    let (store, directory) = store().await;
    let (one, two) = (put(&store, "one", &["1", "latest"]).await, put(&store, "two", &["latest"]).await);
    put(&store, "three", &["3"]).await;
    store.delete_tag(&at("a"), &tag("3")).await.unwrap();
    store.delete(&at("a"), &manifest("three").digest).await.unwrap();
    let reopened = FilesystemManifestStore::open(directory.path()).await.unwrap();
    assert_eq!(reopened.get(&at("a"), &tag("1").into()).await.unwrap(), one);
    assert_eq!(reopened.get(&at("a"), &tag("latest").into()).await.unwrap(), two);
    assert_eq!(tags(&reopened).await, ["1", "latest"]);
    assert!(reopened.get(&at("a"), &manifest("three").digest.into()).await.is_err());
}

#[tokio::test]
async fn sees_at_once_what_another_process_did() {
    let (store, directory) = store().await;
    let other = FilesystemManifestStore::open(directory.path()).await.unwrap();
    put(&store, "one", &["1"]).await;
    assert_eq!(tags(&other).await, ["1"]);
    put(&other, "two", &["2"]).await;
    assert_eq!(tags(&store).await, ["1", "2"]);
    store.delete(&at("a"), &manifest("two").digest).await.unwrap();
    assert!(other.head(&at("a"), &manifest("two").digest.into()).await.is_err());
    assert_eq!(tags(&other).await, ["1"]);
}

#[tokio::test]
async fn a_record_that_is_not_whole_is_as_if_it_had_never_been() {
    let (store, directory) = store().await;
    put(&store, "one", &["1"]).await;
    let before = fs::read(log(&directory)).unwrap();
    put(&store, "two", &["1", "2"]).await;
    let after = fs::read(log(&directory)).unwrap();
    for cut in before.len()..after.len() {
        fs::write(log(&directory), &after[..cut]).unwrap();
        let killed = FilesystemManifestStore::open(directory.path()).await.unwrap();
        assert_eq!(tags(&killed).await, ["1"], "cut at {cut}");
        assert_eq!(killed.get(&at("a"), &tag("1").into()).await.unwrap(), manifest("one"));
    }
    // A power failure can also leave zeros where the bytes were to be.
    for zeros in [1, 20, after.len() - before.len()] {
        let mut damaged = after.clone();
        let from = damaged.len() - zeros;
        damaged[from..].fill(0);
        fs::write(log(&directory), &damaged).unwrap();
        let killed = FilesystemManifestStore::open(directory.path()).await.unwrap();
        assert_eq!(tags(&killed).await, ["1"], "{zeros} zeros");
    }
    // The next write takes the place of what is not whole.
    let killed = FilesystemManifestStore::open(directory.path()).await.unwrap();
    put(&killed, "three", &["3"]).await;
    assert_eq!(tags(&FilesystemManifestStore::open(directory.path()).await.unwrap()).await, ["1", "3"]);
}

#[tokio::test]
async fn a_damaged_manifest_is_an_error_and_never_given_out() {
    let (store, directory) = store().await;
    let one = put(&store, "one", &["1"]).await;
    put(&store, "two", &["2"]).await;
    let mut bytes = fs::read(log(&directory)).unwrap();
    let at_one = bytes.windows(one.bytes.len()).position(|window| window == one.bytes).unwrap();
    bytes[at_one + 5] ^= 1;
    fs::write(log(&directory), bytes).unwrap();
    let reopened = FilesystemManifestStore::open(directory.path()).await.unwrap();
    let read = reopened.get(&at("a"), &tag("1").into()).await;
    assert!(matches!(read, Err(StoreError::Internal(_))), "{read:?}");
    assert_eq!(reopened.get(&at("a"), &tag("2").into()).await.unwrap(), manifest("two"));
}

#[tokio::test]
async fn a_log_of_dead_records_is_made_anew() {
    let (store, directory) = store().await;
    let padding = "x".repeat(100_000);
    let other = FilesystemManifestStore::open(directory.path()).await.unwrap();
    let kept = put(&store, "kept", &["kept", "also"]).await;
    for n in 0..30 {
        put(&store, &format!("{n}{padding}"), &["moving"]).await;
        store.delete(&at("a"), &manifest(&format!("{n}{padding}")).digest).await.unwrap();
    }
    assert!(fs::metadata(log(&directory)).unwrap().len() < 2 << 20);
    for store in [&store, &other, &FilesystemManifestStore::open(directory.path()).await.unwrap()] {
        assert_eq!(tags(store).await, ["also", "kept"]);
        assert_eq!(store.get(&at("a"), &tag("kept").into()).await.unwrap(), kept);
    }
}

#[tokio::test]
async fn a_log_of_nothing_is_made_anew_and_the_repository_stays() {
    let (store, directory) = store().await;
    let other = FilesystemManifestStore::open(directory.path()).await.unwrap();
    let large = "x".repeat(2 << 20);
    put(&store, &large, &["large"]).await;
    store.delete(&at("a"), &manifest(&large).digest).await.unwrap();
    assert!(fs::metadata(log(&directory)).unwrap().len() < 100);
    for store in [&store, &other, &FilesystemManifestStore::open(directory.path()).await.unwrap()] {
        assert_eq!(tags(store).await, Vec::<String>::new());
    }
    let small = put(&store, "small", &["small"]).await;
    assert_eq!(other.get(&at("a"), &tag("small").into()).await.unwrap(), small);
}

#[tokio::test]
async fn a_log_of_another_format_is_refused_and_left_alone() {
    let (store, directory) = store().await;
    put(&store, "one", &["1"]).await;
    let later = [b"atcr manifests 2", "whatever comes".as_bytes()].concat();
    fs::write(log(&directory), &later).unwrap();
    let reopened = FilesystemManifestStore::open(directory.path()).await.unwrap();
    assert!(matches!(reopened.tags(&at("a"), &Page::default()).await, Err(StoreError::Internal(_))));
    let put = reopened.put(&at("a"), manifest("two"), &[]).await;
    assert!(matches!(put, Err(StoreError::Internal(_))), "{put:?}");
    assert_eq!(fs::read(log(&directory)).unwrap(), later);
}

#[tokio::test]
async fn two_processes_that_write_at_once_lose_nothing() {
    let (store, directory) = store().await;
    let other = FilesystemManifestStore::open(directory.path()).await.unwrap();
    let push = |store: FilesystemManifestStore, name: &'static str| async move {
        for n in 0..20 {
            put(&store, &format!("{name}{n}"), &[&format!("{name}{n:02}")]).await;
        }
    };
    tokio::join!(push(store.clone(), "x"), push(other, "y"));
    let expected: Vec<_> =
        ["x", "y"].iter().flat_map(|name| (0..20).map(move |n| format!("{name}{n:02}"))).collect();
    assert_eq!(tags(&store).await, expected);
}

#[tokio::test]
async fn a_manifest_that_is_there_takes_only_the_room_of_its_tag() {
    let (store, directory) = store().await;
    let name = "x".repeat(10_000);
    put(&store, &name, &["1"]).await;
    let before = fs::metadata(log(&directory)).unwrap().len();
    put(&store, &name, &["2"]).await;
    assert!(fs::metadata(log(&directory)).unwrap().len() - before < 500);
    assert_eq!(tags(&store).await, ["1", "2"]);
}
