use atcr_core::blob_store::{BeginUpload, BlobContent, BlobStore as _, ByteStream, UploadState, byte_stream};
use atcr_core::oci::{Algorithm, Digest};
use atcr_core::{Access, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::world::World;

fn content(length: usize) -> Bytes {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// In pieces that have nothing to do with parts.
fn body(content: &Bytes) -> ByteStream {
    let pieces: Vec<_> = content.chunks(70_001).map(|piece| Ok(content.slice_ref(piece))).collect();
    stream::iter(pieces).boxed()
}

/// An upload that has these chunks and is to be finished.
async fn uploaded(
    world: &World,
    access: &Access,
    chunks: impl IntoIterator<Item = ByteStream>,
) -> Result<UploadState, StoreError> {
    let mut upload = world.blobs.begin(access, BeginUpload::default()).await?;
    for chunk in chunks {
        upload = world.blobs.append(access, upload, chunk).await?;
    }
    Ok(upload)
}

/// Pushes a blob; gives its digest.
async fn push(world: &World, access: &Access, content: &Bytes) -> Digest {
    let digest = Digest::sha256(content);
    let upload = uploaded(world, access, [body(content)]).await.unwrap();
    assert_eq!(upload.offset, content.len() as u64);
    let info = world.blobs.finish(access, upload, &digest).await.unwrap();
    assert_eq!(info.size, content.len() as u64);
    digest
}

#[tokio::test]
async fn a_blob_goes_to_a_plain_hold_in_parts_with_their_receipts() {
    let world = World::new().await;
    let access = world.at("app");
    let content = content((17 << 20) + 13);
    let digest = push(&world, &access, &content).await;
    assert!(world.hold.stored.lock().unwrap().blobs[&digest.to_string()] == content);
    assert_eq!(world.blobs.stat(&access, &digest).await.unwrap().size, content.len() as u64);
    let opened = world.blobs.open(&access, &digest, None).await.unwrap();
    assert!(matches!(opened, BlobContent::Redirect(url) if url.path().ends_with(&digest.to_string())));
    let mounted = world.blobs.mount(&access, None, &digest).await.unwrap();
    assert_eq!(mounted.map(|info| info.size), Some(content.len() as u64));
}

/// A sha512 digest is longer than what a hold takes as the name of an upload.
#[tokio::test]
async fn a_blob_may_be_announced_by_a_digest_of_any_algorithm() {
    let world = World::new().await;
    let access = world.at("app");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, b"announced");
        let announced = BeginUpload { digest: Some(digest), ..BeginUpload::default() };
        let upload = world.blobs.begin(&access, announced).await.unwrap();
        let upload = world.blobs.append(&access, upload, byte_stream("announced")).await.unwrap();
        world.blobs.finish(&access, upload, &digest).await.unwrap();
        assert_eq!(world.blobs.stat(&access, &digest).await.unwrap().size, 9);
    }
}

#[tokio::test]
async fn large_chunks_go_on_and_their_hash_with_them() {
    let world = World::new().await;
    let access = world.at("app");
    let content = content((11 << 20) + 5);
    let digest = Digest::sha256(&content);
    let chunks = [content.slice(..6 << 20), content.slice(6 << 20..)].map(|chunk| body(&chunk));
    let upload = uploaded(&world, &access, chunks).await.unwrap();
    world.blobs.finish(&access, upload, &digest).await.unwrap();
    assert!(world.hold.stored.lock().unwrap().blobs[&digest.to_string()] == content);
}

/// The hold takes any digest; the registry does not.
#[tokio::test]
async fn a_plain_hold_is_not_believed_about_digests() {
    let world = World::new().await;
    let access = world.at("app");
    let upload = uploaded(&world, &access, [byte_stream("what was sent")]).await.unwrap();
    let claimed = Digest::sha256(b"what was meant");
    let finished = world.blobs.finish(&access, upload, &claimed).await;
    assert!(matches!(finished, Err(StoreError::DigestMismatch { .. })), "{finished:?}");
    let stored = world.hold.stored.lock().unwrap();
    assert!(stored.blobs.is_empty() && stored.uploads.is_empty());
}

#[tokio::test]
async fn a_small_chunk_that_was_not_the_last_is_an_error_that_says_what_to_do() {
    let world = World::new().await;
    let access = world.at("app");
    let upload = uploaded(&world, &access, [byte_stream("small")]).await.unwrap();
    let added = world.blobs.append(&access, upload.clone(), byte_stream("more")).await;
    assert!(
        matches!(&added, Err(StoreError::Unsupported(message)) if message.contains("chunk size")),
        "{added:?}"
    );
    world.blobs.finish(&access, upload, &Digest::sha256(b"small")).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_cut_off_does_not_count() {
    let world = World::new().await;
    let access = world.at("app");
    let upload = uploaded(&world, &access, []).await.unwrap();
    let cut = stream::iter([Ok(content(6 << 20)), Err("gone".into())]).boxed();
    let added = world.blobs.append(&access, upload.clone(), cut).await;
    assert!(matches!(added, Err(StoreError::BodyInterrupted(_))), "{added:?}");
    let whole = content(7 << 20);
    let upload = world.blobs.append(&access, upload, body(&whole)).await.unwrap();
    world.blobs.finish(&access, upload, &Digest::sha256(&whole)).await.unwrap();
}

#[tokio::test]
async fn an_aborted_upload_is_unknown() {
    let world = World::new().await;
    let access = world.at("app");
    let upload = uploaded(&world, &access, []).await.unwrap();
    world.blobs.status(&access, &upload).await.unwrap();
    world.blobs.abort(&access, upload.clone()).await.unwrap();
    let status = world.blobs.status(&access, &upload).await;
    assert!(matches!(status, Err(StoreError::UploadUnknown)), "{status:?}");
}

#[tokio::test]
async fn a_hold_that_does_not_delete_blobs_is_named() {
    let world = World::new().await;
    let access = world.at("app");
    let digest = push(&world, &access, &Bytes::from_static(b"kept")).await;
    let refused = world.blobs.delete(&access, &digest).await;
    let named = |message: &str| message.contains(world.hold.did.as_str());
    assert!(matches!(&refused, Err(StoreError::Unsupported(message)) if named(message)), "{refused:?}");
    assert_eq!(world.blobs.stat(&access, &digest).await.unwrap().size, 4);
}

#[tokio::test]
async fn the_addresses_of_several_parts_are_asked_for_at_once_where_the_hold_gives_them() {
    let world = World::new().await;
    let access = world.at("app");
    world.hold.stored.lock().unwrap().batch = true;
    let content = content((40 << 20) + 13);
    let digest = push(&world, &access, &content).await;
    let stored = world.hold.stored.lock().unwrap();
    assert!(stored.blobs[&digest.to_string()] == content);
    assert_eq!(stored.asked, 1, "for six parts");
}

#[tokio::test]
async fn a_part_whose_address_expired_is_sent_again_by_a_new_one() {
    let world = World::new().await;
    let access = world.at("app");
    for (batch, asked) in [(false, 5), (true, 3)] {
        {
            let mut stored = world.hold.stored.lock().unwrap();
            (stored.batch, stored.asked, stored.refused) = (batch, 0, vec![2, 3]);
        }
        let content = content((17 << 20) + 13 + usize::from(batch));
        let digest = push(&world, &access, &content).await;
        let stored = world.hold.stored.lock().unwrap();
        assert!(stored.blobs[&digest.to_string()] == content);
        assert!(stored.asked <= asked, "asked {} times", stored.asked);
    }
    // Not for ever.
    world.hold.stored.lock().unwrap().refused = vec![1; 10];
    let refused = uploaded(&world, &access, [byte_stream("x")]).await;
    assert!(matches!(refused, Err(StoreError::Denied(_))), "{refused:?}");
    assert_eq!(world.hold.stored.lock().unwrap().refused.len(), 6);
}

/// A hold that has not verified a blob yet has it for its uploader alone.
#[tokio::test]
async fn a_blob_of_ones_own_is_asked_for_by_name_where_nobody_else_sees_it() {
    let world = World::new().await;
    let access = world.at("app");
    let digest = push(&world, &access, &Bytes::from_static(b"mine")).await;
    world.hold.stored.lock().unwrap().unverified = true;
    assert_eq!(world.blobs.stat(&access, &digest).await.unwrap().size, 4);
    assert!(world.blobs.mount(&access, None, &digest).await.unwrap().is_some());
    let anonymous = atcr_core::Access::new(atcr_core::Principal::Anonymous, access.repository.clone());
    let hidden = world.blobs.stat(&anonymous, &digest).await;
    assert!(matches!(hidden, Err(StoreError::NotFound(_))), "{hidden:?}");
    // One that turned out to be something else is missing, so that clients push it again, and says why.
    world.hold.stored.lock().unwrap().quarantined = Some("the bytes have another digest".to_owned());
    let locked_away = world.blobs.open(&access, &digest, None).await;
    assert!(
        matches!(&locked_away, Err(StoreError::NotFound(why)) if why.contains("another digest")),
        "{locked_away:?}"
    );
}
