//! What every [`ObjectStorage`] must do, as a function that a test calls with an implementation.

use std::time::Duration;

use atcr_core::Source;
use atcr_core::blob_store::byte_stream;
use atcr_core::oci::{ByteRange, Digest};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{ObjectKey, ObjectStorage, Part, PartNumber, StorageError, StorageUpload, Usage};

/// Runs the whole suite, each check on a storage of its own that `open` gives.
pub async fn check<S, F>(open: impl Fn() -> F)
where
    S: ObjectStorage,
    F: Future<Output = S>,
{
    parts_in_order_become_an_object(&open().await).await;
    parts_in_any_order_become_an_object(&open().await).await;
    of_a_part_sent_twice_the_named_one_counts(&open().await).await;
    a_part_that_is_cut_off_leaves_nothing_behind(&open().await).await;
    parts_at_the_same_time_do_not_disturb_each_other(&open().await).await;
    a_part_still_on_its_way_does_not_change_the_object(&open().await).await;
    completion_names_what_is_missing_and_can_be_repeated(&open().await).await;
    relocation_replaces_and_can_be_repeated(&open().await).await;
    a_completed_upload_can_be_thrown_away(&open().await).await;
    an_upload_ends_by_abort(&open().await).await;
    ranges_are_exact(&open().await).await;
    signed_addresses_are_given_as_promised(&open().await).await;
}

/// A part number.
fn n(number: u32) -> PartNumber {
    PartNumber::new(number).expect("not zero")
}

/// Bytes that differ everywhere, for one seed or another.
fn bytes(seed: u8, length: usize) -> Bytes {
    let mut state = u64::from(seed) + 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes()[..5]);
    }
    bytes.truncate(length);
    bytes.into()
}

/// Bytes of a part that is not the last: as many more than the storage asks for.
fn inner(storage: &dyn ObjectStorage, seed: u8, more: usize) -> Bytes {
    let least = usize::try_from(storage.capabilities().min_part).expect("parts fit into memory");
    bytes(seed, least + more)
}

fn pieces(content: &Bytes) -> Vec<Result<Bytes, Source>> {
    content.chunks(70_001).map(|piece| Ok(content.slice_ref(piece))).collect()
}

/// Sends a part, with its size said beforehand when its number is even.
async fn put(storage: &dyn ObjectStorage, upload: &StorageUpload, number: u32, content: &Bytes) -> Part {
    let size = number.is_multiple_of(2).then_some(content.len() as u64);
    let mut body = stream::iter(pieces(content));
    let part = storage.put_part(upload, n(number), size, &mut body).await.expect("a part is taken in");
    assert_eq!((part.number, part.size), (n(number), content.len() as u64));
    part
}

async fn content(storage: &dyn ObjectStorage, key: &ObjectKey) -> Bytes {
    let size = storage.stat(key).await.expect("stat").expect("the object is there");
    let stream = storage.read(key, ByteRange { start: 0, end: size }).await.expect("the object is readable");
    let pieces: Vec<Bytes> = stream.try_collect().await.expect("all of it is readable");
    pieces.concat().into()
}

async fn complete(storage: &dyn ObjectStorage, upload: &StorageUpload, parts: &[Part], expected: &[Bytes]) {
    let object = storage.complete_upload(upload, parts).await.expect("the upload is completed");
    let expected = expected.concat();
    assert_eq!(object.size, expected.len() as u64);
    assert!(content(storage, &object.key).await == expected, "the object is its parts, in order");
}

async fn parts_in_order_become_an_object(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let contents =
        [inner(storage, 1, 300_000), inner(storage, 2, 0), inner(storage, 3, 1), bytes(4, 700_000)];
    let mut parts = Vec::new();
    for (content, number) in contents.iter().zip(1..) {
        parts.push(put(storage, &upload, number, content).await);
    }
    assert_eq!(storage.list_parts(&upload).await.expect("list"), parts);
    complete(storage, &upload, &parts, &contents).await;

    let empty = storage.begin_upload().await.expect("begin");
    complete(storage, &empty, &[], &[]).await;
}

async fn parts_in_any_order_become_an_object(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let contents: Vec<Bytes> =
        (1..=5).map(|seed| inner(storage, seed, 100_000 + usize::from(seed))).collect();
    let mut parts = Vec::new();
    for number in [3, 1, 2, 5, 4] {
        parts.push(put(storage, &upload, number, &contents[number as usize - 1]).await);
    }
    parts.sort_by_key(|part| part.number);
    assert_eq!(storage.list_parts(&upload).await.expect("list"), parts);
    complete(storage, &upload, &parts, &contents).await;
}

async fn of_a_part_sent_twice_the_named_one_counts(storage: &dyn ObjectStorage) {
    let replaces = storage.capabilities().replaces_parts;
    for named_again in [false, true] {
        for twice in 1..=3u32 {
            let upload = storage.begin_upload().await.expect("begin");
            let mut contents = [inner(storage, 1, 1000), inner(storage, 2, 2000), bytes(3, 3000)];
            let mut parts = Vec::new();
            for (content, number) in contents.iter().zip(1..) {
                parts.push(put(storage, &upload, number, content).await);
            }
            let at = twice as usize - 1;
            let other = inner(storage, 9, 1500);
            let again = put(storage, &upload, twice, &other).await;
            assert_ne!(again.etag, parts[at].etag, "other bytes have another ETag");
            assert_eq!(storage.list_parts(&upload).await.expect("list")[at], again, "the newest is listed");
            if !named_again && replaces {
                let error = storage.complete_upload(&upload, &parts).await.expect_err("it has been replaced");
                assert!(
                    matches!(&error, StorageError::PartUnknown { number, .. } if number.get() == twice),
                    "{error:?}"
                );
            }
            if named_again || replaces {
                parts[at] = again;
                contents[at] = other;
            }
            complete(storage, &upload, &parts, &contents).await;
        }
    }
}

async fn a_part_that_is_cut_off_leaves_nothing_behind(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let whole = inner(storage, 1, 1000);
    let first = put(storage, &upload, 1, &whole).await;
    for (number, size) in [(2, None), (3, Some(800_000)), (1, None), (1, Some(800_000))] {
        let cut: Vec<Result<Bytes, Source>> = vec![Ok(bytes(7, 400_000)), Err("connection reset".into())];
        let error = storage
            .put_part(&upload, n(number), size, &mut stream::iter(cut))
            .await
            .expect_err("it was cut off");
        assert!(matches!(error, StorageError::Body(_)), "{error:?}");
    }
    // Nor one of another size than was said.
    for size in [399_999, 400_001] {
        let mut body = stream::iter(pieces(&bytes(7, 400_000)));
        let error = storage.put_part(&upload, n(1), Some(size), &mut body).await.expect_err("it has another");
        assert!(matches!(error, StorageError::Body(_)), "{error:?}");
    }
    // Nor one whose sender is no longer waited for.
    for size in [None, Some(800_000)] {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut endless = stream::iter([Ok(bytes(8, 400_000))])
            .chain(stream::once(async move {
                drop(sender);
                std::future::pending::<Result<Bytes, Source>>().await
            }))
            .boxed();
        tokio::select! {
            _ = storage.put_part(&upload, n(2), size, &mut endless) => panic!("the body has no end"),
            _ = receiver => {}
        }
    }
    assert_eq!(storage.list_parts(&upload).await.expect("list"), std::slice::from_ref(&first));
    let second = put(storage, &upload, 2, &bytes(2, 10)).await;
    complete(storage, &upload, &[first, second], &[whole, bytes(2, 10)]).await;
}

async fn parts_at_the_same_time_do_not_disturb_each_other(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let contents: Vec<Bytes> = (1..=6).map(|seed| inner(storage, seed, 300_000)).collect();
    let puts = contents.iter().zip(1..).map(|(content, number)| put(storage, &upload, number, content));
    let mut parts = futures_util::future::join_all(puts).await;
    parts.sort_by_key(|part| part.number);
    complete(storage, &upload, &parts, &contents).await;
}

async fn a_part_still_on_its_way_does_not_change_the_object(storage: &dyn ObjectStorage) {
    for size in [None, Some(800_000)] {
        let upload = storage.begin_upload().await.expect("begin");
        let contents = [inner(storage, 1, 100_000), bytes(2, 50_000)];
        let mut parts = vec![put(storage, &upload, 1, &contents[0]).await];
        let (more, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, Source>>();
        let mut receiver = tokio_stream(receiver);
        more.send(Ok(bytes(8, 400_000))).expect("somebody listens");
        let mut slow = Box::pin(storage.put_part(&upload, n(2), size, &mut receiver));
        for _ in 0..20 {
            let pending = futures_util::poll!(slow.as_mut()).is_pending();
            assert!(pending, "its body goes on");
            tokio::task::yield_now().await;
        }
        parts.push(put(storage, &upload, 2, &contents[1]).await);
        let object = storage.complete_upload(&upload, &parts).await.expect("the upload is completed");
        let wanted = ObjectKey::try_from("blob/late".to_owned()).expect("a key");
        let key = storage.relocate(&object.key, &wanted).await.expect("relocate");
        more.send(Ok(bytes(9, 400_000))).expect("somebody listens");
        drop(more);
        assert!(slow.await.is_err(), "a part of a completed upload is refused");
        assert!(content(storage, &key).await == contents.concat(), "the object has not changed");
    }
}

fn tokio_stream<T>(
    receiver: tokio::sync::mpsc::UnboundedReceiver<T>,
) -> impl futures_util::Stream<Item = T> + Unpin + Send
where
    T: Send,
{
    Box::pin(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}

async fn completion_names_what_is_missing_and_can_be_repeated(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let content = inner(storage, 1, 1000);
    let part = put(storage, &upload, 1, &content).await;
    let missing = Part { number: n(2), size: 1, etag: "0".into() };
    let error =
        storage.complete_upload(&upload, &[part.clone(), missing]).await.expect_err("part 2 is missing");
    assert!(matches!(&error, StorageError::PartUnknown { number, .. } if number.get() == 2), "{error:?}");
    for _ in 0..2 {
        complete(storage, &upload, std::slice::from_ref(&part), std::slice::from_ref(&content)).await;
    }
    let late = storage.put_part(&upload, n(2), None, &mut byte_stream("late")).await;
    assert!(matches!(late, Err(StorageError::UploadUnknown(_))) || late.is_ok());
    complete(storage, &upload, std::slice::from_ref(&part), std::slice::from_ref(&content)).await;
}

async fn relocation_replaces_and_can_be_repeated(storage: &dyn ObjectStorage) {
    let content_of = bytes(1, 5000);
    let wanted = ObjectKey::of_blob(&Digest::sha256(&content_of));
    assert_eq!(storage.stat(&wanted).await.expect("stat"), None);
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let upload = storage.begin_upload().await.expect("begin");
        let part = put(storage, &upload, 1, &content_of).await;
        let object = storage.complete_upload(&upload, &[part]).await.expect("complete");
        assert_eq!(storage.usage().await.expect("usage").objects, keys.len() as u64, "it may not stay yet");
        for _ in 0..2 {
            let key = storage.relocate(&object.key, &wanted).await.expect("relocate");
            assert!(key == wanted || key == object.key);
            assert!(content(storage, &key).await == content_of);
            keys.insert(key);
        }
        assert!(storage.list_uploads().await.expect("list").is_empty(), "nothing of it is left");
        // A late abort, by whoever did not learn of the end.
        storage.abort_upload(&upload).await.expect("abort");
        for key in &keys {
            assert!(content(storage, key).await == content_of, "what was relocated stays");
        }
    }
    let count = keys.len() as u64;
    assert_eq!(storage.usage().await.expect("usage"), Usage { objects: count, bytes: count * 5000 });
    for key in &keys {
        storage.delete(key).await.expect("delete");
        storage.delete(key).await.expect("delete what is gone");
        assert_eq!(storage.stat(key).await.expect("stat"), None);
        let gone = storage.read(key, ByteRange { start: 0, end: 1 }).await;
        assert!(matches!(gone.err(), Some(StorageError::ObjectUnknown(_))));
    }
    assert_eq!(storage.usage().await.expect("usage"), Usage::default());
}

/// What was completed and then aborted leaves nothing.
async fn a_completed_upload_can_be_thrown_away(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let part = put(storage, &upload, 1, &bytes(1, 1000)).await;
    let object = storage.complete_upload(&upload, &[part]).await.expect("complete");
    storage.abort_upload(&upload).await.expect("abort");
    assert_eq!(storage.stat(&object.key).await.expect("stat"), None);
    assert_eq!(storage.usage().await.expect("usage"), Usage::default());
    assert!(storage.list_uploads().await.expect("list").is_empty());
}

async fn an_upload_ends_by_abort(storage: &dyn ObjectStorage) {
    let kept = storage.begin_upload().await.expect("begin");
    let gone = storage.begin_upload().await.expect("begin");
    put(storage, &gone, 1, &bytes(1, 1000)).await;
    put(storage, &gone, 3, &bytes(1, 1000)).await;
    storage.abort_upload(&gone).await.expect("abort");
    storage.abort_upload(&gone).await.expect("abort what is gone");
    let open = storage.list_uploads().await.expect("list");
    assert_eq!(open.iter().map(|open| &open.upload).collect::<Vec<_>>(), [&kept]);
    let unknown = |result: Result<(), StorageError>| {
        assert!(matches!(result, Err(StorageError::UploadUnknown(_))), "{result:?}");
    };
    unknown(storage.put_part(&gone, n(1), None, &mut byte_stream("x")).await.map(drop));
    unknown(storage.list_parts(&gone).await.map(drop));
    unknown(storage.complete_upload(&gone, &[]).await.map(drop));
    unknown(
        storage
            .put_part(&StorageUpload("../../etc".into()), n(1), None, &mut byte_stream("x"))
            .await
            .map(drop),
    );
}

async fn ranges_are_exact(storage: &dyn ObjectStorage) {
    let upload = storage.begin_upload().await.expect("begin");
    let whole = bytes(1, 600_000);
    let part = put(storage, &upload, 1, &whole).await;
    let object = storage.complete_upload(&upload, &[part]).await.expect("complete");
    for (start, end) in [(0, 1), (0, 600_000), (599_999, 600_000), (262_143, 262_145), (5, 5)] {
        let stream = storage.read(&object.key, ByteRange { start, end }).await.expect("read");
        let read: Vec<Bytes> = stream.try_collect().await.expect("read");
        let bounds = usize::try_from(start).expect("small")..usize::try_from(end).expect("small");
        assert!(read.concat() == whole[bounds], "{start}..{end}");
    }
}

async fn signed_addresses_are_given_as_promised(storage: &dyn ObjectStorage) {
    let promised = storage.capabilities().presign;
    let upload = storage.begin_upload().await.expect("begin");
    let part = storage.presign_part(&upload, n(1), Duration::from_secs(60)).await.expect("presign");
    assert_eq!(part.is_some(), promised);
    let key = ObjectKey::of_blob(&Digest::sha256(b""));
    let get = storage.presign_get(&key, Duration::from_secs(60)).await.expect("presign");
    assert_eq!(get.is_some(), promised);
}
