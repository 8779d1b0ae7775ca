//! Faults of other registries' storage, each by its public name.

use std::fs;
use std::future::Future as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use atcr_core::blob_store::FilesystemBlobStore;
use atcr_core::oci::{Digest, MediaType};
use http::Method;

use crate::killed::Process;
use crate::support::{index, on_filesystem};

fn named(directory: &Path, name: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.ends_with(name) {
                found.push(path.clone());
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn zot_3963_a_disk_without_room_truncates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start_with_little_room(directory.path(), 256);
    let manifest =
        |n: u32| format!(r#"{{"schemaVersion":2,"manifests":[],"n":{n},"x":"{}"}}"#, "x".repeat(60_000));
    let headers = format!("Content-Type: {}\r\n", MediaType::OCI_INDEX);
    let mut kept = 0;
    let refused = loop {
        let path = format!("/v2/a/manifests/{kept}");
        let answer = process.call("PUT", &path, &headers, manifest(kept).as_bytes()).await;
        if answer.status() != 201 {
            break answer;
        }
        kept += 1;
    };
    assert_eq!((refused.status(), kept), (507, 4));
    let content = vec![7; 300 << 10];
    let digest = Digest::sha256(&content);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    process.call("POST", &path, "", &content).await.is(507);
    let small = format!(r#"{{"schemaVersion":2,"manifests":[],"n":{kept}}}"#);
    process.call("PUT", "/v2/a/manifests/small", &headers, small.as_bytes()).await.is(201);
    for restarted in [false, true] {
        let process = if restarted { &Process::start(directory.path()) } else { &process };
        for n in 0..kept {
            let answer = process.call("GET", &format!("/v2/a/manifests/{n}"), "", b"").await.is(200);
            assert!(answer.body == manifest(n).as_bytes());
        }
        process.call("GET", &format!("/v2/a/manifests/{kept}"), "", b"").await.is(404);
        process.call("HEAD", &format!("/v2/a/blobs/{digest}"), "", b"").await.is(404);
        let answer = process.call("GET", "/v2/a/manifests/small", "", b"").await.is(200);
        assert_eq!(answer.body, small.as_bytes());
        if restarted {
            process.call("POST", &path, "", &content).await.is(201);
        }
    }
}

#[tokio::test]
async fn distribution_4868_what_the_storage_has_lost_is_not_said_to_be_there() {
    let (peer, directory) = on_filesystem().await;
    let digest = peer.push_blob("a", b"abc").await;
    let path = format!("/v2/a/blobs/{digest}");
    peer.head(&path).await.is(200);
    peer.get(&path).await.is(200);
    for file in named(directory.path(), &digest.hex()) {
        fs::remove_file(file).unwrap();
    }
    peer.head(&path).await.is(404);
    peer.get(&path).await.is(404);
    peer.push_blob("a", b"abc").await;
    assert_eq!(peer.get(&path).await.is(200).body, "abc");
}

#[tokio::test]
async fn distribution_4793_a_client_that_leaves_leaves_nothing_half_done() {
    let (peer, _directory) = on_filesystem().await;
    let json = index(&[Digest::sha256(b"x")]);
    let tags = ["one", "two", "three"];
    for polls in 0..20 {
        let path = format!("/v2/a/manifests/{}?tag=one&tag=two&tag=three", Digest::sha256(json.as_bytes()));
        {
            let call = peer.call(Method::PUT, &path).header("content-type", MediaType::OCI_INDEX);
            let mut request = pin!(call.send(json.clone()));
            for _ in 0..polls {
                if request.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let mut there = Vec::new();
        for tag in tags {
            there.push(peer.head(&format!("/v2/a/manifests/{tag}")).await.status);
        }
        // The put may come to its end between two looks; it never ends in the middle.
        assert!(there.is_sorted_by_key(http::StatusCode::is_success), "{there:?}");
        let _ = peer.delete(&format!("/v2/a/manifests/{}", Digest::sha256(json.as_bytes()))).await;
    }
}

#[tokio::test]
async fn harbor_12975_15445_19308_and_20131_no_sweep_takes_what_is_or_will_be_referred_to() {
    let (peer, directory) = on_filesystem().await;
    let image = peer.push_image("a", "child", "layer of a child").await;
    peer.put_manifest("a", "index", MediaType::OCI_INDEX, &index(&[image])).await.is(201);
    peer.delete("/v2/a/manifests/child").await.is(202);
    let unreferenced = peer.push_blob("a", b"its manifest is still to come").await;
    let store = FilesystemBlobStore::open(directory.path()).await.unwrap();
    store.with_upload_idle(Duration::ZERO).sweep().await.unwrap();
    for digest in [Digest::sha256(b"{}"), Digest::sha256(b"layer of a child"), unreferenced] {
        peer.get(&format!("/v2/a/blobs/{digest}")).await.is(200);
    }
}
