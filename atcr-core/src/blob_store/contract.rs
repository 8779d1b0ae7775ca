//! What every [`BlobStore`] must do, as a function that a test calls with an implementation.
//!
//! ```no_run
//! # async fn test(store: &dyn atcr_core::BlobStore, here: atcr_core::Access, elsewhere: atcr_core::Access) {
//! use atcr_core::blob_store::contract;
//!
//! contract::check(store, &here, &elsewhere, &contract::never_redirects).await;
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use url::Url;

use super::{BeginUpload, BlobContent, BlobStore, ByteStream, UploadState, byte_stream};
use crate::access::Access;
use crate::error::StoreError;
use crate::oci::{Algorithm, ByteRange, Digest, RangeRequest};

/// Fetches what a store redirected to, with this `Range`; `None` when the answer was 416.
pub type Follow<'a> = &'a (
        dyn Fn(Url, Option<RangeRequest>) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send>> + Send + Sync
    );

/// For a store that gives the bytes itself.
pub fn never_redirects(
    url: Url,
    _: Option<RangeRequest>,
) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send>> {
    panic!("the store redirected to {:?}", url.host_str())
}

/// Runs the suite against an empty store.
///
/// `here` and `elsewhere` are one caller at two repositories, who may do everything in both; nothing was ever put
/// into either.
pub async fn check(store: &dyn BlobStore, here: &Access, elsewhere: &Access, follow: Follow<'_>) {
    let suite = Suite { store, here, elsewhere, follow };
    suite.keeps_what_was_uploaded().await;
    suite.gives_the_ranges_that_are_asked_for().await;
    suite.shows_nothing_before_the_end().await;
    suite.refuses_content_of_another_digest().await;
    suite.forgets_a_body_that_was_cut_off().await;
    suite.survives_a_dropped_append().await;
    suite.ends_an_upload_once().await;
    suite.ends_an_aborted_upload().await;
    suite.never_mixes_two_continuations().await;
    suite.takes_the_same_content_twice_at_once().await;
    suite.mounts_between_repositories().await;
    suite.deletes_from_one_repository().await;
}

struct Suite<'a> {
    store: &'a dyn BlobStore,
    here: &'a Access,
    elsewhere: &'a Access,
    follow: Follow<'a>,
}

/// Content that differs with each name, and in each block.
fn content(name: &str, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 64);
    let mut block = Digest::sha256(name.as_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(block.as_bytes());
        block = Digest::sha256(block.as_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

fn cut_off(bytes: Bytes) -> ByteStream {
    stream::iter([Ok(bytes), Err("the connection was reset".into())]).boxed()
}

impl Suite<'_> {
    async fn begin(&self, options: BeginUpload) -> UploadState {
        let state = self.store.begin(self.here, options).await.expect("an upload begins");
        assert_eq!(state.offset, 0, "a new upload has no bytes");
        state
    }

    async fn append(&self, state: UploadState, bytes: &Bytes) -> UploadState {
        let before = state.offset;
        let state = self.store.append(self.here, state, byte_stream(bytes.clone())).await;
        let state = state.expect("an append succeeds");
        assert_eq!(state.offset, before + bytes.len() as u64, "an append counts every byte");
        assert!(state.state.len() <= 4096, "the state has {} bytes, more than 4 KiB", state.state.len());
        state
    }

    async fn upload(&self, bytes: &Bytes, algorithm: Algorithm) -> Digest {
        let digest = Digest::of(algorithm, bytes);
        let state = self.begin(BeginUpload { algorithm: Some(algorithm), ..BeginUpload::default() }).await;
        let state = self.append(state, bytes).await;
        let info = self.store.finish(self.here, state, &digest).await.expect("an upload ends");
        assert_eq!((info.digest, info.size), (digest, bytes.len() as u64));
        digest
    }

    /// The bytes of a blob; `None` when the store does not have it or not the range.
    async fn read(&self, access: &Access, digest: &Digest, range: Option<RangeRequest>) -> Option<Bytes> {
        match self.store.open(access, digest, range).await {
            Ok(BlobContent::Stream { size, range: given, body }) => {
                let whole = ByteRange { start: 0, end: size };
                let expected = range.map_or(Some(whole), |range| range.resolve(size));
                assert_eq!(Some(given), expected, "the range that was asked for");
                let pieces: Vec<Bytes> = body.try_collect().await.expect("the body arrives whole");
                let bytes = Bytes::from(pieces.concat());
                assert_eq!(bytes.len() as u64, given.len(), "as many bytes as were announced");
                Some(bytes)
            }
            Ok(BlobContent::Redirect(url)) => (self.follow)(url, range).await,
            Err(StoreError::NotFound(_) | StoreError::RangeNotSatisfiable { .. }) => None,
            Err(other) => panic!("opening {digest} failed: {other}"),
        }
    }

    async fn assert_has(&self, access: &Access, digest: &Digest, bytes: &Bytes) {
        let info = self.store.stat(access, digest).await.expect("the blob is there");
        assert_eq!((info.digest, info.size), (*digest, bytes.len() as u64));
        assert_eq!(self.read(access, digest, None).await.as_ref(), Some(bytes), "the bytes of {digest}");
    }

    async fn assert_has_not(&self, access: &Access, digest: &Digest) {
        let stat = self.store.stat(access, digest).await;
        assert!(
            matches!(stat, Err(StoreError::NotFound(_))),
            "{digest} is not there, but stat gives {stat:?}"
        );
        assert_eq!(self.read(access, digest, None).await, None, "{digest} is not there");
    }

    async fn keeps_what_was_uploaded(&self) {
        for (name, length) in [("empty", 0), ("byte", 1), ("block", 128), ("large", (1 << 20) + 7)] {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let bytes = content(&format!("keeps {name} {algorithm}"), length);
                let digest = self.upload(&bytes, algorithm).await;
                self.assert_has(self.here, &digest, &bytes).await;
            }
        }
        let bytes = content("pieces", 100_000);
        let digest = Digest::sha256(&bytes);
        let options = BeginUpload { digest: Some(digest), size: Some(100_000), algorithm: None };
        let mut state = self.begin(options).await;
        for chunk in [0..1, 1..1, 1..70_000, 70_000..100_000] {
            let pieces: Vec<_> =
                bytes.slice(chunk).chunks(999).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
            let body = stream::iter(pieces).boxed();
            state = self.store.append(self.here, state, body).await.expect("a chunk is taken");
        }
        self.store.finish(self.here, state, &digest).await.expect("an upload in chunks ends");
        self.assert_has(self.here, &digest, &bytes).await;
    }

    async fn gives_the_ranges_that_are_asked_for(&self) {
        use RangeRequest::{From, FromTo, Last};
        let bytes = content("ranges", 5000);
        let digest = self.upload(&bytes, Algorithm::Sha256).await;
        for (range, expected) in [
            (FromTo(0, 0), 0..1),
            (FromTo(500, 1499), 500..1500),
            (FromTo(2000, 9000), 2000..5000),
            (From(0), 0..5000),
            (From(4999), 4999..5000),
            (Last(1), 4999..5000),
            (Last(9000), 0..5000),
        ] {
            let read = self.read(self.here, &digest, Some(range)).await;
            assert_eq!(read, Some(bytes.slice(expected)), "{range:?}");
        }
        for range in [From(5000), FromTo(5000, 6000), FromTo(500, 0), Last(0)] {
            assert_eq!(self.read(self.here, &digest, Some(range)).await, None, "{range:?}");
        }
    }

    async fn shows_nothing_before_the_end(&self) {
        let bytes = content("unfinished", 1000);
        let digest = Digest::sha256(&bytes);
        self.assert_has_not(self.here, &digest).await;
        let state = self.begin(BeginUpload { digest: Some(digest), ..BeginUpload::default() }).await;
        self.assert_has_not(self.here, &digest).await;
        let state = self.append(state, &bytes).await;
        self.assert_has_not(self.here, &digest).await;
        self.store.status(self.here, &state).await.expect("the upload goes on");
        self.store.finish(self.here, state, &digest).await.expect("the upload ends");
        self.assert_has(self.here, &digest, &bytes).await;
    }

    async fn refuses_content_of_another_digest(&self) {
        let (bytes, other) = (content("wrong", 3000), Digest::sha256(b"something else"));
        let state = self.begin(BeginUpload::default()).await;
        let state = self.append(state, &bytes).await;
        let result = self.store.finish(self.here, state, &other).await;
        assert!(matches!(result, Err(StoreError::DigestMismatch { .. })), "a wrong digest gives {result:?}");
        self.assert_has_not(self.here, &other).await;
        self.assert_has_not(self.here, &Digest::sha256(&bytes)).await;
    }

    async fn forgets_a_body_that_was_cut_off(&self) {
        let bytes = content("cut off", 10_000);
        let digest = Digest::sha256(&bytes);
        let state = self.begin(BeginUpload::default()).await;
        let state = self.append(state, &bytes.slice(..4000)).await;
        let result = self.store.append(self.here, state.clone(), cut_off(bytes.slice(4000..6000))).await;
        assert!(matches!(result, Err(StoreError::BodyInterrupted(_))), "a cut body gives {result:?}");
        self.store.status(self.here, &state).await.expect("the upload survives a cut body");
        let state = self.append(state, &bytes.slice(4000..)).await;
        self.store.finish(self.here, state, &digest).await.expect("nothing of a cut body counts");
        self.assert_has(self.here, &digest, &bytes).await;
    }

    async fn survives_a_dropped_append(&self) {
        let bytes = content("dropped", 10_000);
        let digest = Digest::sha256(&bytes);
        let state = self.begin(BeginUpload::default()).await;
        let state = self.append(state, &bytes.slice(..3000)).await;

        // The body gives one piece and then hangs; once the store waits for more, its future is dropped.
        let (hangs, mut hung) = tokio::sync::oneshot::channel::<()>();
        let (mut piece, mut hangs) = (Some(bytes.slice(3000..5000)), Some(hangs));
        let body = stream::poll_fn(move |_| {
            if let Some(piece) = piece.take() {
                return Poll::Ready(Some(Ok(piece)));
            }
            hangs.take().map(|hangs| hangs.send(()));
            Poll::Pending
        });
        let append = self.store.append(self.here, state.clone(), body.boxed());
        match future::select(append, &mut hung).await {
            future::Either::Left((result, _)) => panic!("the append ended before its body: {result:?}"),
            future::Either::Right((waiting, _)) => waiting.expect("the store reads on"),
        }
        let state = self.append(state, &bytes.slice(3000..)).await;
        self.store.finish(self.here, state, &digest).await.expect("nothing of a dropped append counts");
        self.assert_has(self.here, &digest, &bytes).await;
    }

    async fn ends_an_upload_once(&self) {
        let bytes = content("once", 2000);
        let digest = Digest::sha256(&bytes);
        let state = self.begin(BeginUpload::default()).await;
        let state = self.append(state, &bytes).await;
        for _ in 0..2 {
            let info = self.store.finish(self.here, state.clone(), &digest).await;
            assert_eq!(info.expect("ending it again succeeds").size, 2000);
        }
        let status = self.store.status(self.here, &state).await;
        assert!(matches!(status, Err(StoreError::UploadUnknown)), "an ended upload gives {status:?}");
        let append = self.store.append(self.here, state, byte_stream("more")).await;
        assert!(matches!(append, Err(StoreError::UploadUnknown)), "an ended upload takes {append:?}");
        self.assert_has(self.here, &digest, &bytes).await;
    }

    async fn ends_an_aborted_upload(&self) {
        let bytes = content("aborted", 2000);
        let state = self.begin(BeginUpload::default()).await;
        let state = self.append(state, &bytes).await;
        self.store.abort(self.here, state.clone()).await.expect("an upload is aborted");
        let status = self.store.status(self.here, &state).await;
        assert!(matches!(status, Err(StoreError::UploadUnknown)), "an aborted upload gives {status:?}");
        let finish = self.store.finish(self.here, state, &Digest::sha256(&bytes)).await;
        assert!(matches!(finish, Err(StoreError::UploadUnknown)), "an aborted upload ends with {finish:?}");
        self.assert_has_not(self.here, &Digest::sha256(&bytes)).await;
    }

    /// A client that did not get the answer to a step repeats it from the state before. What the lost answer's state
    /// is good for is up to the store, but never for content that is neither one nor the other.
    async fn never_mixes_two_continuations(&self) {
        let [start, one, two] = [("start", 1000), ("one", 3000), ("two", 2000)].map(|(n, l)| content(n, l));
        let state = self.begin(BeginUpload::default()).await;
        let state = self.append(state, &start).await;
        let first = self.append(state.clone(), &one).await;
        let second = self.append(state, &two).await;
        let expected = Bytes::from([&start[..], &two[..]].concat());
        let digest = Digest::sha256(&expected);
        self.store.finish(self.here, second, &digest).await.expect("the repeated step counts");
        self.assert_has(self.here, &digest, &expected).await;

        let expected = Bytes::from([&start[..], &one[..]].concat());
        let digest = Digest::sha256(&expected);
        match self.store.finish(self.here, first, &digest).await {
            Ok(_) => self.assert_has(self.here, &digest, &expected).await,
            Err(_) => self.assert_has_not(self.here, &digest).await,
        }
    }

    async fn takes_the_same_content_twice_at_once(&self) {
        let bytes = content("twice", 5000);
        let digest = Digest::sha256(&bytes);
        let (one, two) = (self.begin(BeginUpload::default()).await, self.begin(BeginUpload::default()).await);
        let one = self.append(one, &bytes).await;
        let two = self.append(two, &bytes).await;
        let both = future::join(
            self.store.finish(self.here, one, &digest),
            self.store.finish(self.here, two, &digest),
        );
        let (one, two) = both.await;
        assert!(one.is_ok() && two.is_ok(), "two uploads of one blob: {one:?}, {two:?}");
        self.assert_has(self.here, &digest, &bytes).await;
    }

    async fn mounts_between_repositories(&self) {
        let bytes = content("mount", 4000);
        let digest = self.upload(&bytes, Algorithm::Sha256).await;
        let from = Some(&self.here.repository);
        let absent = Digest::sha256(b"never uploaded");
        let mounted = self.store.mount(self.elsewhere, from, &absent).await;
        assert!(matches!(mounted, Ok(None)), "a blob that is nowhere cannot be mounted: {mounted:?}");
        self.assert_has_not(self.elsewhere, &absent).await;

        match self.store.mount(self.elsewhere, from, &digest).await.expect("a mount does not fail") {
            Some(info) => {
                assert_eq!((info.digest, info.size), (digest, 4000));
                self.assert_has(self.elsewhere, &digest, &bytes).await;
            }
            None => self.assert_has_not(self.elsewhere, &digest).await,
        }
    }

    async fn deletes_from_one_repository(&self) {
        let bytes = content("delete", 4000);
        let digest = self.upload(&bytes, Algorithm::Sha256).await;
        let from = Some(&self.here.repository);
        let mounted = self.store.mount(self.elsewhere, from, &digest).await.expect("a mount does not fail");
        self.store.delete(self.here, &digest).await.expect("a blob is deleted");
        self.assert_has_not(self.here, &digest).await;
        if mounted.is_some() {
            self.assert_has(self.elsewhere, &digest, &bytes).await;
            self.store.delete(self.elsewhere, &digest).await.expect("the other repository's blob is deleted");
            self.assert_has_not(self.elsewhere, &digest).await;
        }
        let again = self.store.delete(self.here, &digest).await;
        assert!(matches!(again, Err(StoreError::NotFound(_))), "a second deletion gives {again:?}");
        let uploaded_again = self.upload(&bytes, Algorithm::Sha256).await;
        self.assert_has(self.here, &uploaded_again, &bytes).await;
    }
}
