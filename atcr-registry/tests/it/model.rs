//! Uploads against a model: whatever the order of steps, whichever replica serves them, and however often it is started
//! anew, what comes out is what a byte string would have become.

use std::sync::Arc;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::{FilesystemBlobStore, MemoryBlobStore};
use atcr_core::manifest_store::{FilesystemManifestStore, MemoryManifestStore};
use atcr_core::oci::Digest;
use atcr_registry::{Registry, SessionKey};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::Peer;

#[derive(Debug, Clone)]
enum Step {
    Append {
        chunk: Vec<u8>,
        ranged: bool,
    },
    OutOfOrder {
        chunk: Vec<u8>,
        by: u64,
    },
    CutOff {
        chunk: Vec<u8>,
    },
    /// Goes on from an earlier state, whose later answers the client has lost.
    DoOver {
        back: usize,
        chunk: Vec<u8>,
    },
    Progress {
        back: usize,
    },
    Finish {
        last: Vec<u8>,
    },
    FinishWrong {
        last: Vec<u8>,
    },
    Cancel,
    OtherReplica,
    /// The replica is started anew over the same storage.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let chunk = || prop::collection::vec(any::<u8>(), 1..200);
    let step = prop_oneof![
        6 => (chunk(), any::<bool>()).prop_map(|(chunk, ranged)| Step::Append { chunk, ranged }),
        1 => (chunk(), 1..50_u64).prop_map(|(chunk, by)| Step::OutOfOrder { chunk, by }),
        1 => chunk().prop_map(|chunk| Step::CutOff { chunk }),
        2 => (0..5_usize, chunk()).prop_map(|(back, chunk)| Step::DoOver { back, chunk }),
        2 => (0..5_usize).prop_map(|back| Step::Progress { back }),
        2 => prop::collection::vec(any::<u8>(), 0..100).prop_map(|last| Step::Finish { last }),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(|last| Step::FinishWrong { last }),
        1 => Just(Step::Cancel),
        2 => Just(Step::OtherReplica),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// The model: the content after each step of the upload, with the location that stands for it.
struct Model {
    states: Vec<(String, Vec<u8>)>,
    lost: Vec<String>,
}

impl Model {
    async fn begin(peer: &Peer, mut lost: Vec<String>, ended: Vec<(String, Vec<u8>)>) -> Self {
        lost.extend(ended.into_iter().map(|(location, _)| location));
        Self { states: vec![(peer.begin("a").await, Vec::new())], lost }
    }

    fn current(&self) -> (&str, &[u8]) {
        let (location, content) = self.states.last().unwrap();
        (location, content)
    }

    fn back(&self, steps: usize) -> usize {
        self.states.len() - 1 - steps.min(self.states.len() - 1)
    }
}

fn last_byte(content: &[u8]) -> String {
    format!("0-{}", content.len().saturating_sub(1))
}

/// Where the replicas keep what they have.
enum Storage {
    Memory(Arc<MemoryBlobStore>, Arc<MemoryManifestStore>),
    Directory(TempDir),
}

impl Storage {
    fn memory() -> Self {
        Self::Memory(Arc::default(), Arc::default())
    }

    async fn replica(&self) -> Peer {
        let registry = Registry::builder()
            .authorizer(Arc::new(OpenAuthorizer::default()))
            .session_key(SessionKey::from_bytes([7; 32]));
        let registry = match self {
            Self::Memory(blobs, manifests) => {
                registry.manifests(Arc::clone(manifests) as _).blobs(Arc::clone(blobs) as _)
            }
            Self::Directory(directory) => registry
                .manifests(Arc::new(FilesystemManifestStore::open(directory.path()).await.unwrap()))
                .blobs(Arc::new(FilesystemBlobStore::open(directory.path()).await.unwrap())),
        };
        Peer::new(registry.build().unwrap())
    }

    /// Nothing is left of uploads that have ended.
    fn assert_no_upload_is_left(&self) {
        if let Self::Directory(directory) = self {
            assert_eq!(std::fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0);
        }
    }
}

async fn run(steps: Vec<Step>, storage: Storage) {
    let (mut peer, mut other) = (storage.replica().await, storage.replica().await);
    let mut model = Model::begin(&peer, Vec::new(), Vec::new()).await;
    for step in steps {
        let (location, content) = model.current();
        let (location, content) = (location.to_owned(), content.to_vec());
        let finish = |content: &[u8]| format!("{location}?digest={}", Digest::sha256(content));
        match step {
            Step::Append { chunk, ranged } => {
                let content = [content, chunk.clone()].concat();
                let mut call = peer.call(Method::PATCH, &location);
                if ranged {
                    call = call.header(
                        "content-range",
                        &format!("{}-{}", content.len() - chunk.len(), content.len() - 1),
                    );
                }
                let answer = call.send(chunk).await.is(202);
                assert_eq!(answer.header("range"), last_byte(&content));
                model.states.push((answer.location(), content));
            }
            Step::OutOfOrder { chunk, by } => {
                let start = content.len() as u64 + by;
                let range = format!("{start}-{}", start + chunk.len() as u64 - 1);
                let call = peer.call(Method::PATCH, &location).header("content-range", &range);
                let answer = call.send(chunk).await.fails(416, "BLOB_UPLOAD_INVALID");
                assert_eq!(answer.header("range"), last_byte(&content));
                model.states.push((answer.location(), content));
            }
            Step::CutOff { chunk } => {
                let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                let body = Body::from_stream(stream::iter([Ok(Bytes::from(chunk)), Err(reset)]));
                peer.patch(&location, body).await.fails(400, "BLOB_UPLOAD_INVALID");
            }
            Step::DoOver { back, chunk } => {
                let at = model.back(back);
                let (location, content) = model.states[at].clone();
                let answer = peer.patch(&location, chunk.clone()).await.is(202);
                // Tokens of one state and the same length are one state: only what was appended since is lost.
                let since = model.states.split_off(at + 1);
                let (same, lost): (Vec<_>, Vec<_>) =
                    since.into_iter().partition(|(_, c)| c.len() == content.len());
                model.states.extend(same);
                model.lost.extend(lost.into_iter().map(|(location, _)| location));
                model.states.push((answer.location(), [content, chunk].concat()));
            }
            Step::Progress { back } => {
                let (location, content) = &model.states[model.back(back)];
                let answer = peer.get(location).await.is(204);
                assert_eq!(answer.header("range"), last_byte(content));
            }
            Step::Finish { last } => {
                let content = [content, last.clone()].concat();
                let blob = peer.put(&finish(&content), last).await.is(201).location();
                assert_eq!(peer.get(&blob).await.is(200).body, content);
                assert_eq!(other.get(&blob).await.is(200).body, content);
                model = Model::begin(&peer, model.lost, model.states).await;
            }
            Step::FinishWrong { last } => {
                let wrong = [&content[..], &last, b"?"].concat();
                peer.put(&finish(&wrong), last).await.fails(400, "DIGEST_INVALID");
                peer.head(&format!("/v2/a/blobs/{}", Digest::sha256(&wrong))).await.is(404);
                // The bytes of the closing PUT took the place of what an earlier state's successors had.
            }
            Step::Cancel => {
                peer.delete(&location).await.is(204);
                model = Model::begin(&peer, model.lost, model.states).await;
            }
            Step::OtherReplica => std::mem::swap(&mut peer, &mut other),
            Step::Restart => peer = storage.replica().await,
        }
        if let Some(lost) = model.lost.last() {
            peer.get(lost).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
            peer.patch(lost, "x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    peer.delete(model.current().0).await.is(204);
    storage.assert_no_upload_is_left();
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_is_a_byte_string_in_memory(steps in steps()) {
        block_on(run(steps, Storage::memory()));
    }
}

proptest! {
    // Each step is synced to the disk.
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_is_a_byte_string_on_the_filesystem(steps in steps()) {
        block_on(run(steps, Storage::Directory(tempfile::tempdir().unwrap())));
    }
}
