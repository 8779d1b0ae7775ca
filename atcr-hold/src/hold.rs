use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use atcr_core::DidResolver;
use atcr_core::crypto::SigningKey;
use atcr_core::syntax::Did;
use atcr_pds::blobs::{Blobs, DEFAULT_BLOB_LIMIT, DirectoryBlobs};
use atcr_pds::xrpc::{BuiltinSchemas, Server};
use atcr_pds::{MemoryKeys, NewRepo, Repos, SqliteStore};
use axum::Router;
use url::Url;

use crate::access::{Roster, Tokens};
use crate::identity::{self, HoldIdentity};
use crate::repo::{CaptainSettings, HoldRepo};
use crate::signed_url::UrlSigner;
use crate::storage::{FilesystemStorage, ObjectStorage};
use crate::uploads::{Swept, UploadError, UploadLimits, Uploads};
use crate::{HoldError, database, xrpc};

/// How often [`Hold::maintain`] sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(15 * 60);
/// How long files of the hold's own repo are kept that no record refers to, in seconds.
const UNUSED_FILES: i64 = 24 * 3600;

/// What a hold is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HoldConfig {
    /// Where the hold is reached: `https://hold.example.com`. It is the hold's identity (did:web) and must not change.
    pub public_url: Url,
    /// Where keys, databases and, unless `storage` is set, blobs are kept. Made when it is not there.
    pub data_dir: PathBuf,
    /// Whose hold it is.
    pub owner: Did,
    /// Whether anyone may read. Default: no.
    pub public: bool,
    /// Whether any account may enrol as crew, and is enrolled by its first push. Default: no.
    pub allow_all_crew: bool,
    /// Where the storage is, for the captain record. Default: not said.
    pub region: Option<String>,
    /// The largest blob in bytes. Default: no limit.
    pub max_blob_size: Option<u64>,
    /// How long an upload may lie unused before it is swept. Default: 24 hours.
    pub upload_idle: Duration,
    /// How long a sender may be silent in the middle of a part. Default: one minute.
    pub silence: Duration,
    /// Where blobs are. Default: files in `data_dir/storage`.
    pub storage: Option<Arc<dyn ObjectStorage>>,
    /// The time. Default: the system's clock.
    pub clock: Clock,
}

impl HoldConfig {
    /// A private hold of `owner` with the defaults.
    pub fn new(public_url: Url, data_dir: impl Into<PathBuf>, owner: Did) -> Self {
        Self {
            public_url,
            data_dir: data_dir.into(),
            owner,
            public: false,
            allow_all_crew: false,
            region: None,
            max_blob_size: None,
            upload_idle: Duration::from_secs(24 * 3600),
            silence: Duration::from_secs(60),
            storage: None,
            clock: Clock::system(),
        }
    }
}

/// A hold. Cloning shares it.
///
/// All that was acknowledged is durable; opening a hold again on the same data, after whatever end, goes on with it.
/// One hold at a time uses a data directory; the last clone, and with it the router, gives it back.
#[derive(Clone)]
pub struct Hold {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) identity: HoldIdentity,
    pub(crate) clock: Clock,
    pub(crate) uploads: Uploads,
    pub(crate) signer: UrlSigner,
    pub(crate) repo: HoldRepo,
    pub(crate) roster: Roster,
    pub(crate) tokens: Tokens,
    pub(crate) pds: Router,
    files: Blobs,
    _lock: File,
}

impl Hold {
    /// Opens the hold, making everything that is not there: keys, databases, the repo with its captain record and the
    /// owner's crew record. Callers are looked up with `resolver`, which should cache. Needs a tokio runtime.
    pub async fn open(config: HoldConfig, resolver: Arc<dyn DidResolver>) -> Result<Self, HoldError> {
        let directory = config.data_dir;
        tokio::fs::create_dir_all(&directory)
            .await
            .map_err(|source| HoldError::File { path: directory.clone(), source })?;
        let keys = directory.clone();
        let (lock, key, url_key) = blocking(move || {
            let lock = lock(&keys)?;
            let signing_key = identity::signing_key(&keys.join("signing.key"))?;
            Ok((lock, signing_key, identity::secret(&keys.join("url.key"))?))
        })
        .await?;
        let identity = HoldIdentity::new(&config.public_url, &key.public_key())?;
        let did = identity.did().clone();
        let pool = database::open(&directory.join("hold.db")).await?;
        let storage = match config.storage {
            Some(storage) => storage,
            None => Arc::new(FilesystemStorage::open(directory.join("storage")).await?),
        };
        let limits = UploadLimits {
            max_blob_size: config.max_blob_size,
            silence: config.silence,
            idle: config.upload_idle,
        };
        let uploads = Uploads::open(storage, pool.clone(), config.clock.clone(), limits).await?;

        let (repos, head) = open_repo(&directory, &identity, key).await?;
        let repo = HoldRepo::new(did.clone(), repos.clone(), pool, config.clock.clone(), head);
        let settings = CaptainSettings {
            owner: config.owner.clone(),
            public: config.public,
            allow_all_crew: config.allow_all_crew,
            region: config.region,
        };
        repo.sync_captain(&settings).await?;
        repo.refresh_index().await?;

        let roster = Roster::new(repo.clone(), config.owner);
        let tokens = Tokens::new(did, resolver, config.clock.clone(), roster.clone());
        let files = DirectoryBlobs::open(directory.join("files")).await?;
        let files = Blobs::new(Arc::new(files), DEFAULT_BLOB_LIMIT);
        let pds = Server::new(repos, files.clone(), Arc::new(identity.clone()), Arc::new(tokens.clone()))
            .with_schemas(Arc::new(BuiltinSchemas))
            .router();
        let signer = UrlSigner::new(&url_key);
        let clock = config.clock;
        let inner = Inner { identity, clock, uploads, signer, repo, roster, tokens, pds, files, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The hold's identity.
    pub fn did(&self) -> &Did {
        self.inner.identity.did()
    }

    /// Where the hold is reached.
    pub fn public_url(&self) -> &Url {
        self.inner.identity.public_url()
    }

    /// The hold's repo, for reading and for the embedding program's own records.
    pub fn repos(&self) -> &Repos {
        self.inner.repo.repos()
    }

    /// Where the hold's blobs are.
    pub fn storage(&self) -> &Arc<dyn ObjectStorage> {
        self.inner.uploads.storage()
    }

    /// Everything the hold answers: `io.atcr.hold.*`, the methods of its PDS, `/.well-known/did.json`. It stands at
    /// the root of the public URL; to be merged into another router, take [`Router::fallback_service`] or route by
    /// host name, since `/xrpc/*` and `/.well-known/*` are the hold's.
    pub fn router(&self) -> Router {
        xrpc::router(self)
    }

    /// Removes uploads that were not used for [`HoldConfig::upload_idle`], what crashes left behind, and blobs that
    /// were deleted from every repository and that nobody has asked for in a day.
    pub async fn sweep(&self) -> Result<Swept, HoldError> {
        self.inner.repo.refresh_index().await?;
        let swept = self.inner.uploads.sweep().await.map_err(|error| match error {
            UploadError::Storage(error) => error.into(),
            error => HoldError::Maintenance(error.into()),
        })?;
        let before = self.inner.clock.unix().saturating_sub(UNUSED_FILES);
        let before = jiff::Timestamp::from_second(before).unwrap_or_default().into();
        let files = self.inner.files.sweep(self.repos(), before).await;
        files.map_err(|error| HoldError::Maintenance(error.into()))?;
        Ok(swept)
    }

    /// Sweeps now and then, for ever. The embedding program runs it beside the router; dropping it is safe.
    pub async fn maintain(&self) {
        loop {
            match self.sweep().await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(swept) => tracing::info!(?swept, "idle uploads and unused blobs removed"),
                Err(error) => tracing::warn!(%error, "the sweep failed; it is tried again later"),
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("did", self.did()).finish_non_exhaustive()
    }
}

/// Two processes that write one repo would tear its history apart. The system gives the lock back when the file is
/// closed, however the process ends.
fn lock(directory: &Path) -> Result<File, HoldError> {
    let path = directory.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| HoldError::File { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HoldError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(HoldError::File { path, source }),
    }
}

async fn open_repo(
    directory: &Path,
    identity: &HoldIdentity,
    key: SigningKey,
) -> Result<(Repos, atcr_core::syntax::Tid), HoldError> {
    let did = identity.did();
    let keys = MemoryKeys::default();
    keys.insert(did.clone(), key);
    let store = SqliteStore::open(&directory.join("repo.db")).await?;
    let repos = Repos::open(Arc::new(store), Arc::new(keys)).await?;
    let head = match repos.info(did).await? {
        Some(info) => info.head,
        None => repos.create(did, NewRepo { handle: identity.handle().cloned() }).await?,
    };
    Ok((repos, head.rev))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HoldError> + Send + 'static,
) -> Result<T, HoldError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(HoldError::Maintenance(error.into())),
    }
}
