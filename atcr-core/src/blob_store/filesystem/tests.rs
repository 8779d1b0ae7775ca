use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::{byte_stream, contract};
use bytes::Bytes;

use super::*;

fn at(repository: &str) -> Access {
    Access::anonymous(repository.parse().unwrap())
}

async fn store() -> (FilesystemBlobStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (FilesystemBlobStore::open(directory.path()).await.unwrap(), directory)
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

fn uploads(directory: &tempfile::TempDir) -> Vec<PathBuf> {
    files(&directory.path().join("uploads"))
}

async fn append(store: &FilesystemBlobStore, upload: &UploadState, text: &'static str) -> UploadState {
    store.append(&at("a"), upload.clone(), byte_stream(text)).await.unwrap()
}

async fn begin(store: &FilesystemBlobStore) -> UploadState {
    store.begin(&at("a"), BeginUpload::default()).await.unwrap()
}

async fn push(store: &FilesystemBlobStore, access: &Access, text: &'static str) -> Digest {
    let digest = Digest::sha256(text.as_bytes());
    let begun = store.begin(access, BeginUpload::default()).await.unwrap();
    let sent = store.append(access, begun, byte_stream(text)).await.unwrap();
    store.finish(access, sent, &digest).await.unwrap();
    digest
}

async fn content(store: &FilesystemBlobStore, access: &Access, digest: &Digest) -> Option<String> {
    match store.open(access, digest, None).await {
        Ok(BlobContent::Stream { body, .. }) => {
            let pieces: Vec<Bytes> = body.try_collect().await.unwrap();
            Some(String::from_utf8(pieces.concat()).unwrap())
        }
        Err(StoreError::NotFound(_)) => None,
        other => panic!("{other:?}"),
    }
}

async fn keeps_the_contract_and_leaks_nothing() {
    let (store, directory) = store().await;
    contract::check(&store, &at("here/app"), &at("else/where"), &contract::never_redirects).await;
    // What the suite leaves open are the uploads that it does not end.
    let open = fs::read_dir(directory.path().join("uploads")).unwrap().count();
    assert_eq!(store.with_upload_idle(Duration::ZERO).sweep().await.unwrap(), open);
    assert_eq!(uploads(&directory), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn keeps_the_contract_on_one_thread() {
    keeps_the_contract_and_leaks_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_on_several_threads() {
    keeps_the_contract_and_leaks_nothing().await;
}

#[tokio::test]
async fn another_process_goes_on_with_an_upload() {
    let (store, directory) = store().await;
    let sent = append(&store, &begin(&store).await, "one ").await;
    let other = FilesystemBlobStore::open(directory.path()).await.unwrap();
    let sent = append(&other, &sent, "two").await;
    let digest = Digest::sha256(b"one two");
    store.finish(&at("a"), sent, &digest).await.unwrap();
    assert_eq!(content(&other, &at("a"), &digest).await.unwrap(), "one two");
    assert_eq!(uploads(&directory), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_a_killed_process_had_written_beyond_the_last_step_does_not_count() {
    let (store, directory) = store().await;
    let sent = append(&store, &begin(&store).await, "one ").await;
    let segment = uploads(&directory).into_iter().find(|path| !path.ends_with("journal")).unwrap();
    fs::write(&segment, "one half of somethi").unwrap();
    let digest = Digest::sha256(b"one ");
    let other = FilesystemBlobStore::open(directory.path()).await.unwrap();
    let more = append(&other, &sent, "two").await;
    other.finish(&at("a"), more, &Digest::sha256(b"one two")).await.unwrap();

    let sent = append(&store, &begin(&store).await, "one ").await;
    let segment = uploads(&directory).into_iter().find(|path| !path.ends_with("journal")).unwrap();
    fs::write(&segment, "one half of somethi").unwrap();
    other.finish(&at("a"), sent, &digest).await.unwrap();
    assert_eq!(content(&other, &at("a"), &digest).await.unwrap(), "one ");
}

#[tokio::test]
async fn an_upload_whose_bytes_were_lost_in_a_power_failure_is_unknown() {
    let (store, directory) = store().await;
    for damage in ["segment", "gone", "journal", "no journal"] {
        let sent = append(&store, &begin(&store).await, "abcdef").await;
        let journal = uploads(&directory).into_iter().find(|path| path.ends_with("journal")).unwrap();
        let segment = uploads(&directory).into_iter().find(|path| !path.ends_with("journal")).unwrap();
        match damage {
            "segment" => fs::write(segment, "abc").unwrap(),
            "gone" => fs::remove_file(segment).unwrap(),
            "journal" => fs::write(journal, "").unwrap(),
            _ => fs::remove_file(journal).unwrap(),
        }
        let append = store.append(&at("a"), sent.clone(), byte_stream("ghi")).await;
        assert!(matches!(append, Err(StoreError::UploadUnknown)), "{damage}: {append:?}");
        let finish = store.finish(&at("a"), sent, &Digest::sha256(b"abcdef")).await;
        assert!(matches!(finish, Err(StoreError::UploadUnknown)), "{damage}: {finish:?}");
        fs::remove_dir_all(directory.path().join("uploads")).unwrap();
        fs::create_dir(directory.path().join("uploads")).unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_was_killed_at_its_end_never_changes_the_blob() {
    let (store, directory) = store().await;
    let sent = append(&store, &begin(&store).await, "blob").await;
    let digest = Digest::sha256(b"blob");
    let segment = uploads(&directory).into_iter().find(|path| !path.ends_with("journal")).unwrap();
    // The blob has got its name, the upload has not ended.
    let blob = store.files.blob(&at("a").repository, &digest);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::hard_link(segment, blob).unwrap();
    let more = append(&store, &sent, " and more").await;
    assert_eq!(content(&store, &at("a"), &digest).await.unwrap(), "blob");
    let longer = Digest::sha256(b"blob and more");
    store.finish(&at("a"), more, &longer).await.unwrap();
    assert_eq!(content(&store, &at("a"), &longer).await.unwrap(), "blob and more");
    assert_eq!(content(&store, &at("a"), &digest).await.unwrap(), "blob");

    let sent = append(&store, &begin(&store).await, "blob").await;
    store.finish(&at("a"), sent, &digest).await.unwrap();
    assert_eq!(content(&store, &at("a"), &digest).await.unwrap(), "blob");
}

#[tokio::test]
async fn a_step_that_hangs_does_not_stop_its_repetition() {
    let (store, directory) = store().await;
    let sent = append(&store, &begin(&store).await, "start ").await;
    let (pieces, body) = tokio::sync::mpsc::channel::<Result<Bytes, crate::error::Source>>(1);
    let body = stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) }).boxed();
    let hanging = {
        let (store, sent) = (store.clone(), sent.clone());
        tokio::spawn(async move { store.append(&at("a"), sent, body).await })
    };
    pieces.send(Ok("lost".into())).await.unwrap();
    // Once there is room for another piece the first one was taken.
    let permit = pieces.reserve().await.unwrap();
    let repeated = append(&store, &sent, "kept").await;
    let repeated = append(&store, &repeated, " on").await;
    drop(permit);
    drop(pieces);
    // It comes to its end after all, and takes the place of what was there: the client asked for both.
    let late = hanging.await.unwrap();
    let (state, whole) = match late {
        Ok(late) => (late, "start lost"),
        Err(_) => (repeated.clone(), "start kept on"),
    };
    store.finish(&at("a"), state, &Digest::sha256(whole.as_bytes())).await.unwrap();
    assert_eq!(content(&store, &at("a"), &Digest::sha256(whole.as_bytes())).await.unwrap(), whole);
    assert_eq!(uploads(&directory), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn equal_blobs_are_one_file_and_go_with_the_last_repository() {
    let (store, directory) = store().await;
    let digest = push(&store, &at("a"), "shared").await;
    push(&store, &at("b"), "shared").await;
    store.mount(&at("c"), Some(&at("a").repository), &digest).await.unwrap().unwrap();
    let inode =
        |repository: &str| fs::metadata(store.files.blob(&at(repository).repository, &digest)).unwrap().ino();
    assert_eq!((inode("b"), inode("c")), (inode("a"), inode("a")));
    for repository in ["a", "b", "c"] {
        assert_eq!(content(&store, &at(repository), &digest).await.unwrap(), "shared");
        store.delete(&at(repository), &digest).await.unwrap();
        assert_eq!(content(&store, &at(repository), &digest).await, None);
    }
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_blob_that_was_cut_in_the_storage_is_healed_by_a_push() {
    let (store, _directory) = store().await;
    let digest = push(&store, &at("a"), "whole").await;
    fs::write(store.files.blob(&at("a").repository, &digest), "wh").unwrap();
    push(&store, &at("a"), "whole").await;
    assert_eq!(content(&store, &at("a"), &digest).await.unwrap(), "whole");
    push(&store, &at("b"), "whole").await;
    assert_eq!(content(&store, &at("b"), &digest).await.unwrap(), "whole");
}

#[tokio::test]
async fn a_mount_without_a_source_needs_discovery() {
    let (store, _directory) = store().await;
    let digest = push(&store, &at("a"), "blob").await;
    assert!(store.mount(&at("b"), None, &digest).await.unwrap().is_none());
    let store = store.with_discovery();
    assert!(store.mount(&at("b"), None, &digest).await.unwrap().is_some());
    assert_eq!(content(&store, &at("b"), &digest).await.unwrap(), "blob");
}

#[tokio::test]
async fn only_abandoned_uploads_are_swept() {
    let (store, directory) = store().await;
    let sent = append(&store, &begin(&store).await, "abc").await;
    assert_eq!(store.sweep().await.unwrap(), 0);
    store.status(&at("a"), &sent).await.unwrap();
    assert_eq!(store.clone().with_upload_idle(Duration::ZERO).sweep().await.unwrap(), 1);
    let status = store.status(&at("a"), &sent).await;
    assert!(matches!(status, Err(StoreError::UploadUnknown)), "{status:?}");
    assert_eq!(uploads(&directory), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_begin_sweeps_what_was_abandoned_before() {
    let (store, directory) = store().await;
    let abandoned = append(&store, &begin(&store).await, "abc").await;
    let reopened = FilesystemBlobStore::open(directory.path()).await.unwrap();
    let reopened = reopened.with_upload_idle(Duration::ZERO);
    assert!(reopened.sweep_is_due());
    assert!(!reopened.sweep_is_due());
    reopened.sweep().await.unwrap();
    assert!(store.status(&at("a"), &abandoned).await.is_err());
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full() {
    // Every write to this device fails as on a full disk.
    let error: StoreError =
        fs::write("/dev/full", "x").map_err(named("writing to", Path::new("/dev/full"))).unwrap_err().into();
    assert!(matches!(error, StoreError::StorageFull), "{error:?}");
}

#[tokio::test]
async fn distribution_4774_every_directory_with_a_new_entry_is_synced() {
    let (store, directory) = store().await;
    let access = at("alice.example/app");
    let upload = store.begin(&access, BeginUpload::default()).await.unwrap();
    let upload = store.append(&access, upload, byte_stream(b"layer".as_slice())).await.unwrap();
    let info = store.finish(&access, upload, &Digest::sha256(b"layer")).await.unwrap();

    let mut entry = store.files.blob(&access.repository, &info.digest);
    assert!(entry.is_file());
    while entry != directory.path() {
        let parent = entry.parent().unwrap().to_owned();
        assert!(crate::files::synced::has(&parent), "{} is new in {}", entry.display(), parent.display());
        entry = parent;
    }
}
