//! What is known of blobs.

use std::sync::Arc;

use atcr_core::syntax::Datetime;
use atcr_pds::blobs::{BlobStorage, Blobs, DirectoryBlobs, MemoryBlobs};
use atcr_pds::cbor::{BlobRef, cid_for_raw};
use atcr_pds::{Expect, RepoError, Write};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use crate::world::{World, delete, path, put};

#[tokio::test]
async fn blobs_live_while_records_refer_to_them() {
    let world = World::in_memory().await;
    let (did, _) = world.repo("alice").await;
    let blob = BlobRef { cid: cid_for_raw(b"layer"), mime_type: "image/png".into(), size: 5 };
    let record = |blob: &BlobRef| Ipld::Map([("picture".to_owned(), blob.to_ipld())].into());
    let write = |rkey: &str, blob: &BlobRef| {
        let p = path(rkey);
        vec![Write::Put {
            collection: p.collection(),
            rkey: p.rkey(),
            value: record(blob),
            expect: Expect::Anything,
        }]
    };
    assert!(
        matches!(world.write(&did, write("a", &blob)).await, Err(RepoError::BlobNotFound(c)) if c == blob.cid)
    );
    world.repos.put_blob(&did, &blob).await.unwrap();
    let row = world.repos.blob(&did, &blob.cid).await.unwrap().unwrap();
    assert_eq!((row.blob, row.referenced), (blob.clone(), false));
    assert!(world.repos.list_blobs(&did, None, None, 10).await.unwrap().is_empty());
    let wrong = BlobRef { mime_type: "text/plain".into(), ..blob.clone() };
    assert!(matches!(world.write(&did, write("a", &wrong)).await, Err(RepoError::BlobMimeType { .. })));
    let wrong_size = BlobRef { size: 6, ..blob.clone() };
    assert!(matches!(world.write(&did, write("a", &wrong_size)).await, Err(RepoError::BlobSize { .. })));

    let before = world.head(&did).await.rev;
    world.write(&did, write("a", &blob)).await.unwrap();
    assert_eq!(world.repos.list_blobs(&did, Some(before), None, 10).await.unwrap(), [blob.cid]);
    let after = world.head(&did).await.rev;
    assert!(world.repos.list_blobs(&did, Some(after), None, 10).await.unwrap().is_empty());
    // Referenced once, what it is is no longer compared.
    world.write(&did, write("b", &wrong)).await.unwrap();
    let later: Datetime = "2999-01-01T00:00:00Z".parse().unwrap();
    assert!(world.repos.forget_blobs(later.clone(), 10).await.unwrap().is_empty());
    world.write(&did, vec![delete("a")]).await.unwrap();
    assert!(world.repos.blob(&did, &blob.cid).await.unwrap().unwrap().referenced);
    world.write(&did, vec![put("b", "no picture")]).await.unwrap();
    assert!(world.repos.list_blobs(&did, None, None, 10).await.unwrap().is_empty());
    let early: Datetime = "2001-01-01T00:00:00Z".parse().unwrap();
    assert!(world.repos.forget_blobs(early, 10).await.unwrap().is_empty(), "too young");
    assert_eq!(world.repos.forget_blobs(later, 10).await.unwrap(), [(did.clone(), blob.cid)]);
    assert_eq!(world.repos.blob(&did, &blob.cid).await.unwrap(), None);
    assert!(matches!(world.write(&did, write("a", &blob)).await, Err(RepoError::BlobNotFound(_))));
}

/// A crash between the bytes of an upload and the note of them leaves bytes that nobody knows of.
#[tokio::test]
async fn bytes_that_nobody_knows_of_are_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Arc::new(DirectoryBlobs::open(dir.path()).await.unwrap());
    for storage in [Arc::new(MemoryBlobs::default()) as Arc<dyn BlobStorage>, directory] {
        let world = World::in_memory().await;
        let (alice, _) = world.repo("alice").await;
        let (bob, _) = world.repo("bob").await;
        let blobs = Blobs::new(storage.clone(), 1000);
        let body =
            |text: &'static str| stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes()))]);
        let known = blobs.upload(&world.repos, &alice, "text/plain", false, body("known")).await.unwrap();
        for (did, text) in [(&alice, "lost"), (&bob, "known")] {
            let mut sink = storage.begin().await.unwrap();
            sink.write(Bytes::from_static(text.as_bytes())).await.unwrap();
            sink.finish(did, &cid_for_raw(text.as_bytes())).await.unwrap();
        }
        let listed: Vec<Cid> = storage.list(&alice).await.unwrap().try_collect().await.unwrap();
        assert_eq!(listed.len(), 2);
        let long_ago: Datetime = "2001-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(blobs.sweep(&world.repos, long_ago.clone()).await.unwrap(), 2);
        assert!(blobs.open(&alice, &known.cid).await.unwrap().is_some(), "young, and known");
        assert!(blobs.open(&alice, &cid_for_raw(b"lost")).await.unwrap().is_none());
        assert!(blobs.open(&bob, &known.cid).await.unwrap().is_none(), "known in another repo only");
        assert_eq!(blobs.sweep(&world.repos, long_ago).await.unwrap(), 0);
    }
}
