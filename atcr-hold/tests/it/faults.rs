use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::{ByteRange, Digest};
use atcr_hold::Hold;
use atcr_hold::storage::{
    Capabilities, MemoryStorage, Object, ObjectKey, ObjectStorage, OpenUpload, Part, PartBody, PartNumber,
    SignedRequest, StorageError, StorageUpload, Usage,
};
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Method;
use serde_json::json;
use url::Url;

use crate::world::{World, bytes};

/// A storage that does what a test tells it.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    inner: MemoryStorage,
    presign: bool,
    /// There is no room for parts, after the first bytes.
    parts_full: AtomicBool,
    /// There is no room when parts are joined.
    joining_full: AtomicBool,
    /// Relocation is done, but the answer is lost: what a process that is killed there leaves behind.
    relocation_lost: AtomicBool,
    /// As that, with the removal of an object.
    pub(crate) deletion_lost: AtomicBool,
    /// Nothing can be reached.
    down: AtomicBool,
    /// The hold verifies what waits after the storage has looked for an object, and before it says what it found.
    verifies: Mutex<Option<Hold>>,
}

impl Faulty {
    pub(crate) fn presigning() -> Self {
        Self { presign: true, ..Self::default() }
    }

    fn up(&self) -> Result<(), StorageError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StorageError::Failed { doing: "connecting".into(), source: "refused".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStorage for Faulty {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.presign = self.presign;
        capabilities
    }

    async fn begin_upload(&self) -> Result<StorageUpload, StorageError> {
        self.up()?;
        self.inner.begin_upload().await
    }

    async fn put_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError> {
        self.up()?;
        if self.parts_full.load(Ordering::SeqCst) {
            body.next().await;
            return Err(StorageError::Full);
        }
        self.inner.put_part(upload, number, size, body).await
    }

    async fn presign_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        _: Duration,
    ) -> Result<Option<SignedRequest>, StorageError> {
        let url = format!("https://bucket.example/{upload}/{number}").parse().unwrap();
        let headers = http::HeaderMap::new();
        let request = SignedRequest { method: Method::PUT, url, headers, etag: None };
        Ok(self.presign.then_some(request))
    }

    async fn list_parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError> {
        self.inner.list_parts(upload).await
    }

    async fn complete_upload(&self, upload: &StorageUpload, parts: &[Part]) -> Result<Object, StorageError> {
        self.up()?;
        if self.joining_full.load(Ordering::SeqCst) {
            return Err(StorageError::Full);
        }
        self.inner.complete_upload(upload, parts).await
    }

    async fn abort_upload(&self, upload: &StorageUpload) -> Result<(), StorageError> {
        self.up()?;
        self.inner.abort_upload(upload).await
    }

    async fn list_uploads(&self) -> Result<Vec<OpenUpload>, StorageError> {
        self.inner.list_uploads().await
    }

    async fn relocate(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        let relocated = self.inner.relocate(from, wanted).await;
        if self.relocation_lost.swap(false, Ordering::SeqCst) {
            return Err(StorageError::Failed { doing: "moving".into(), source: "killed".into() });
        }
        relocated
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError> {
        self.up()?;
        let found = self.inner.stat(key).await;
        let hold = self.verifies.lock().unwrap().take();
        if let Some(hold) = hold {
            assert_eq!(hold.verify_pending().await.unwrap(), 1);
        }
        found
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        self.inner.read(key, range).await
    }

    async fn presign_get(&self, key: &ObjectKey, _: Duration) -> Result<Option<Url>, StorageError> {
        Ok(self.presign.then(|| format!("https://bucket.example/{key}").parse().unwrap()))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.inner.delete(key).await?;
        if self.deletion_lost.swap(false, Ordering::SeqCst) {
            return Err(StorageError::Failed { doing: "removing".into(), source: "killed".into() });
        }
        Ok(())
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.inner.usage().await
    }
}

impl World {
    /// Uploads a blob by the method for parts of the hold's own, whatever addresses the storage gives.
    pub(crate) async fn upload_through_the_hold(&self, content: &Bytes) -> Digest {
        let upload = self.initiate(&self.alice).await;
        let token = self.token(&self.alice, None);
        let request = http::Request::put("/xrpc/io.atcr.hold.uploadPart")
            .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
            .header("X-Upload-Id", &upload)
            .header("X-Part-Number", "1")
            .body(Body::from(content.clone()));
        self.send(request.unwrap()).await.ok();
        let digest = Digest::sha256(content);
        self.complete(&self.alice, &upload, &digest, json!([])).await.ok();
        digest
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_upload_goes_on_when_there_is_room() {
    let storage = Arc::new(Faulty::default());
    let world = World::on(storage.clone()).await;
    let alice = &world.alice;
    let before = world.upload(alice, &bytes(9, 1000)).await;
    let upload = world.initiate(alice).await;
    let content = [bytes(1, 1000), bytes(2, 1000)];
    world.part(alice, &upload, 1, &content[0]).await;
    storage.parts_full.store(true, Ordering::SeqCst);
    let url = world.part_url(alice, &upload, 2).await;
    let message = world.put(&url, content[1].clone()).await.refused(507, "StorageFull");
    assert!(message.contains("operator"), "{message}");
    storage.parts_full.store(false, Ordering::SeqCst);
    world.put(&url, content[1].clone()).await.ok();
    let digest = Digest::sha256(&content.concat());
    storage.joining_full.store(true, Ordering::SeqCst);
    world.complete(alice, &upload, &digest, json!([])).await.refused(507, "StorageFull");
    world.get(&world.blob_path(&digest)).await.refused(404, "BlobNotFound");
    // What it becomes is fixed now.
    world.put(&url, "something else").await.refused(409, "InvalidUploadId");
    let other = Digest::sha256(b"other");
    world.complete(alice, &upload, &other, json!([])).await.refused(409, "InvalidUploadId");
    storage.joining_full.store(false, Ordering::SeqCst);
    world.complete(alice, &upload, &digest, json!([])).await.ok();
    assert_eq!(world.get(&world.blob_path(&digest)).await.body, content.concat());
    assert_eq!(world.get(&world.blob_path(&before)).await.body, bytes(9, 1000));
}

#[tokio::test]
async fn a_completion_that_was_killed_on_the_way_is_finished_by_the_next() {
    let storage = Arc::new(Faulty::default());
    let world = World::on(storage.clone()).await;
    let upload = world.initiate(&world.alice).await;
    let content = bytes(1, 1000);
    world.part(&world.alice, &upload, 1, &content).await;
    let digest = Digest::sha256(&content);
    storage.relocation_lost.store(true, Ordering::SeqCst);
    let answer = world.complete(&world.alice, &upload, &digest, json!([])).await;
    answer.refused(503, "StorageUnavailable");
    let world = world.reopened().await;
    world.complete(&world.alice, &upload, &digest, json!([])).await.ok();
    assert_eq!(world.get(&world.blob_path(&digest)).await.body, content);
    assert_eq!(storage.usage().await.unwrap(), Usage { objects: 1, bytes: 1000 });
}

#[tokio::test]
async fn a_storage_that_is_down_is_said_to_be() {
    let storage = Arc::new(Faulty::default());
    let world = World::on(storage.clone()).await;
    let digest = world.upload(&world.alice, &bytes(1, 10)).await;
    storage.down.store(true, Ordering::SeqCst);
    let answer = world.get(&world.blob_path(&digest)).await;
    assert!(answer.refused(503, "StorageUnavailable").contains("try again"));
    assert!(!answer.header("retry-after").is_empty());
    let answer = world.post(&world.alice, "io.atcr.hold.initiateUpload", json!({"digest": "x"})).await;
    answer.refused(503, "StorageUnavailable");
    storage.down.store(false, Ordering::SeqCst);
    assert_eq!(world.get(&world.blob_path(&digest)).await.status, 200);
}

/// Its uploader, who was told that it is there, must see it at every moment: a manifest that names it is refused else.
#[tokio::test]
async fn a_blob_that_is_verified_while_it_is_looked_for_is_there() {
    for public in [true, false] {
        let storage = Arc::new(Faulty::presigning());
        let world = World::with(|config| {
            config.public = public;
            config.storage = Some(storage.clone());
        })
        .await;
        let alice = &world.alice;
        let upload = world.initiate(alice).await;
        // With an address of the storage given out, what passes through the hold proves nothing.
        let input = json!({"uploadId": upload, "partNumber": 1});
        world.post(alice, "io.atcr.hold.getPartUploadUrl", input).await.ok();
        let part = http::Request::put("/xrpc/io.atcr.hold.uploadPart")
            .header(http::header::AUTHORIZATION, format!("Bearer {}", world.token(alice, None)))
            .header("X-Upload-Id", &upload)
            .header("X-Part-Number", "1")
            .body(Body::from(bytes(1, 1000)));
        world.send(part.unwrap()).await.ok();
        let digest = Digest::sha256(&bytes(1, 1000));
        world.complete(alice, &upload, &digest, json!([])).await.ok();
        assert_eq!(world.hold.unverified().await.unwrap(), 1);
        *storage.verifies.lock().unwrap() = Some(world.hold.clone());
        assert_eq!(world.blob_as(alice, &digest).await.status, 307, "public: {public}");
        assert_eq!(world.hold.unverified().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_sender_that_falls_silent_is_not_waited_for() {
    let world = World::with(|config| config.silence = Duration::from_millis(50)).await;
    let upload = world.initiate(&world.alice).await;
    let url = world.part_url(&world.alice, &upload, 1).await;
    let silent = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes(1, 1000))])
        .chain(futures_util::stream::pending());
    world.put(&url, Body::from_stream(silent)).await.refused(408, "UploadFailed");
    world.put(&url, bytes(1, 1000)).await.ok();
    let digest = Digest::sha256(&bytes(1, 1000));
    world.complete(&world.alice, &upload, &digest, json!([])).await.ok();
}

/// The hash of parts that were acknowledged before the machine lost power may be of bytes that the disk does not have.
#[tokio::test]
async fn after_a_power_failure_nothing_is_believed_unread() {
    let world = World::public().await;
    let content = [bytes(1, 300_000), bytes(2, 300_000)];
    let digest = Digest::sha256(&content.concat());
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let upload = world.initiate(&world.alice).await;
        for (piece, number) in content.iter().zip(1..) {
            world.part(&world.alice, &upload, number, piece).await;
        }
        uploads.push(upload);
    }
    // One of the two files has lost its last blocks, and the machine's next run has another name.
    let folder = world.config.data_dir.join("storage/uploads");
    let open = world.hold.storage().list_uploads().await.unwrap();
    let data = folder.join(&open[0].upload.0).join("data");
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.set_len(500_000).unwrap();
    file.set_len(600_000).unwrap();
    let pool = world.database().await;
    sqlx::query("update meta set value = 'another run' where key = 'boot'").execute(&pool).await.unwrap();
    pool.close().await;
    let world = world.reopened().await;
    let mut outcomes = Vec::new();
    for upload in &uploads {
        let answer = world.complete(&world.alice, upload, &digest, json!([])).await;
        outcomes.push(answer.status.as_u16());
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [200, 400], "the whole one is taken, the damaged one is not");
    assert_eq!(world.get(&world.blob_path(&digest)).await.body, content.concat());
}
