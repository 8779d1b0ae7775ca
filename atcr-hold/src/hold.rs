use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atcr_auth::Clock;
use atcr_core::DidResolver;
use atcr_core::crypto::{PublicKey, SigningKey};
use atcr_core::syntax::Did;
use atcr_pds::blobs::{Blobs, DEFAULT_BLOB_LIMIT, DirectoryBlobs};
use atcr_pds::xrpc::{BuiltinSchemas, Server};
use atcr_pds::{Crawlers, MemoryKeys, NewRepo, Repos, SqliteStore};
use axum::Router;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use sqlx::SqlitePool;
use url::Url;

use crate::access::{LegacyCrew, OldCrew, Roster, Tiers, Tokens};
use crate::identity::{self, Address, HoldIdentity, IdentityError, IdentityMethod, PlcAccount};
use crate::repo::{CaptainSettings, HoldRepo};
use crate::signed_url::UrlSigner;
use crate::storage::{FilesystemStorage, ObjectStorage};
use crate::uploads::{Swept, UNUSED, UploadError, UploadLimits, Uploads, Verification};
use crate::{HoldError, database, xrpc};

/// How often [`Hold::maintain`] sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(15 * 60);
/// How often a replica looks for what others wrote to the repo.
const NOTICE_EVERY: Duration = Duration::from_millis(500);
/// How long after a failed look at the directory the next one comes; it doubles each time, up to the second figure.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);
const SETTLE_AGAIN_MAX: Duration = Duration::from_secs(10 * 60);
/// What the hold knows besides its repo, in the data directory.
pub(crate) const DATABASE: &str = "hold.db";
/// The repo, in the data directory.
const REPO_FILE: &str = "repo.db";

/// What a hold is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HoldConfig {
    /// Where the hold is reached: `https://hold.example.com`. Of a did:web it is the identity, and must not change.
    pub public_url: Url,
    /// How the hold is named. Default: did:web.
    pub identity: IdentityMethod,
    /// Where keys, databases and, unless `storage` is set, blobs are kept. Made when it is not there.
    pub data_dir: PathBuf,
    /// The file with the key that signs the repo; made when it is not there. Default: `signing.key` in `data_dir`.
    pub signing_key: Option<PathBuf>,
    /// Relays that are asked to follow the hold's repo. Default: none.
    pub crawlers: Option<Crawlers>,
    /// Whose hold it is.
    pub owner: Did,
    /// Whether anyone may read. Default: no.
    pub public: bool,
    /// Whether any account may enrol as crew, and is enrolled by its first push. Default: no.
    pub allow_all_crew: bool,
    /// Where the storage is, for the captain record. Default: not said.
    pub region: Option<String>,
    /// Whether the crew records count that stand in the owner's repo in the shape of 2025, and how they are read.
    /// Default: they do not.
    pub legacy_crew: Option<LegacyCrew>,
    /// The largest blob in bytes. Default: no limit.
    pub max_blob_size: Option<u64>,
    /// When blobs are verified that did not come through the hold. Default: in the background.
    pub verification: Verification,
    /// How much members may store. Default: any number of bytes.
    pub tiers: Tiers,
    /// The AppView that may set the tiers of members (`updateCrewTier`). Default: none.
    pub appview: Option<Did>,
    /// Whether several processes on this machine, each of which says so, are this hold together: they share the data
    /// directory and the storage. Default: no.
    pub replicas: bool,
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
            identity: IdentityMethod::Web,
            data_dir: data_dir.into(),
            signing_key: None,
            crawlers: None,
            owner,
            public: false,
            allow_all_crew: false,
            region: None,
            legacy_crew: None,
            max_blob_size: None,
            verification: Verification::default(),
            tiers: Tiers::default(),
            appview: None,
            replicas: false,
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
/// One hold at a time uses a data directory, unless all of them are [replicas](HoldConfig::replicas); the last clone, and
/// with it the router, gives it back.
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
    pub(crate) appview: Option<Did>,
    replicas: bool,
    files: Blobs,
    pool: SqlitePool,
    signing_key: PublicKey,
    plc: Option<PlcAccount>,
    /// Whether the directory has been asked since the start.
    settled: AtomicBool,
    crawlers: Option<Crawlers>,
    _lock: File,
}

impl Hold {
    /// Opens the hold, making everything that is not there: keys, the identity, databases, the repo with its captain
    /// record and the owner's crew record. Callers are looked up with `resolver`, which should cache. Needs a tokio
    /// runtime.
    ///
    /// A did:plc is registered at the first start, and its directory is brought up to date with the public URL and the
    /// signing key at each. A directory that cannot be reached stops the first start, and one with a new signing key;
    /// else the hold starts as who it is, and [`Hold::maintain`] asks again.
    pub async fn open(config: HoldConfig, resolver: Arc<dyn DidResolver>) -> Result<Self, HoldError> {
        let directory = config.data_dir.clone();
        tokio::fs::create_dir_all(&directory)
            .await
            .map_err(|source| HoldError::File { path: directory.clone(), source })?;
        let files = config.clone();
        // What is made at the first start is made by one.
        let starting = if config.replicas {
            let path = directory.join("starting.lock");
            Some(blocking(move || wait_for(&path)).await?)
        } else {
            None
        };
        let (lock, key, url_key, address, plc) = blocking(move || {
            let lock = lock(&files.data_dir, files.replicas)?;
            let address = Address::new(&files.public_url)?;
            let key = identity::signing_key(&signing_key_path(&files))?;
            let url_key = identity::secret(&files.data_dir.join("url.key"))?;
            let plc = match &files.identity {
                IdentityMethod::Web => None,
                IdentityMethod::Plc(plc) => {
                    Some(PlcAccount::open(&files.data_dir, plc, address.clone(), key.public_key())?)
                }
            };
            Ok((lock, key, url_key, address, plc))
        })
        .await?;
        let did = match &plc {
            Some(plc) => plc.did().clone(),
            None => address.did_web()?,
        };
        let public_key = key.public_key();
        let document = address.document(&did, &public_key)?;
        let identity = HoldIdentity::new(did.clone(), address, document);
        let pool = database::open(&directory.join(DATABASE)).await?;
        let storage = match config.storage {
            Some(storage) => storage,
            None => Arc::new(FilesystemStorage::open(directory.join("storage")).await?),
        };
        let limits = UploadLimits {
            max_blob_size: config.max_blob_size,
            silence: config.silence,
            idle: config.upload_idle,
        };
        let uploads = {
            let (tails, clock) = (directory.join("tails"), config.clock.clone());
            Uploads::open(storage, pool.clone(), tails, clock, limits, config.verification).await?
        };
        if !config.replicas {
            uploads.free_all().await?;
        }

        let repos = open_repos(&directory, &did, key).await?;
        let settled = match &plc {
            Some(plc) => settle_at_start(plc, &identity, &repos, &public_key).await?,
            None => true,
        };
        let (head, new) = match repos.info(&did).await? {
            Some(info) => (info.head, false),
            None => (repos.create(&did, NewRepo { handle: identity.handle().cloned() }).await?, true),
        };
        if settled {
            identity::announce(&repos, &pool, &identity, &public_key, new).await?;
        }
        let writing = config.replicas.then(|| directory.join("writing.lock"));
        let clock = config.clock.clone();
        let repo =
            HoldRepo::new(did.clone(), repos.clone(), pool.clone(), clock, head.rev, writing.as_deref());
        let settings = CaptainSettings {
            owner: config.owner.clone(),
            public: config.public,
            allow_all_crew: config.allow_all_crew,
            region: config.region,
        };
        repo.sync_captain(&settings).await?;
        repo.refresh_index().await?;

        let old_crew = config.legacy_crew.map(|source| {
            let url = identity.public_url().clone();
            OldCrew::new(source, config.owner.clone(), did.clone(), url, config.clock.clone())
        });
        let roster = Roster::new(repo.clone(), config.owner, config.tiers, old_crew);
        let tokens = Tokens::new(did, resolver, config.clock.clone(), roster.clone(), pool.clone());
        let files = DirectoryBlobs::open(directory.join("files")).await?;
        let files = Blobs::new(Arc::new(files), DEFAULT_BLOB_LIMIT);
        let pds = Server::new(repos, files.clone(), Arc::new(identity.clone()), Arc::new(tokens.clone()))
            .with_schemas(Arc::new(BuiltinSchemas))
            .router();
        drop(starting);
        let inner = Inner {
            identity,
            clock: config.clock,
            uploads,
            signer: UrlSigner::new(&url_key),
            repo,
            roster,
            tokens,
            pds,
            appview: config.appview,
            replicas: config.replicas,
            files,
            pool,
            signing_key: public_key,
            plc,
            settled: AtomicBool::new(settled),
            crawlers: config.crawlers,
            _lock: lock,
        };
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
        let before = self.inner.clock.unix().saturating_sub(UNUSED);
        let before = jiff::Timestamp::from_second(before).unwrap_or_default().into();
        let files = self.inner.files.sweep(self.repos(), before).await;
        files.map_err(|error| HoldError::Maintenance(error.into()))?;
        Ok(swept)
    }

    /// Verifies what was uploaded directly and waits for it, until nothing does, and gives the number of blobs that
    /// were read. [`Hold::maintain`] does it all the time.
    pub async fn verify_pending(&self) -> Result<u64, HoldError> {
        let worker = crate::uploads::worker_name().map_err(|_| HoldError::Random)?;
        let mut verified = 0;
        let next = || self.inner.uploads.verify_next(&worker);
        while next().await.map_err(|error| HoldError::Maintenance(error.into()))?.is_some() {
            verified += 1;
        }
        Ok(verified)
    }

    /// How many blobs wait to be verified.
    pub async fn unverified(&self) -> Result<u64, HoldError> {
        self.inner.uploads.waiting().await.map_err(|error| HoldError::Maintenance(error.into()))
    }

    /// Does what is due now and then, for ever: verifies, sweeps, asks relays to follow, and asks a directory again that
    /// could not be reached at the start. The embedding program runs it beside the router; dropping it is safe.
    pub async fn maintain(&self) {
        let sweep = async {
            loop {
                match self.sweep().await {
                    Ok(swept) if swept == Swept::default() => {}
                    Ok(swept) => tracing::info!(?swept, "idle uploads and unused blobs removed"),
                    Err(error) => tracing::warn!(%error, "the sweep failed; it is tried again later"),
                }
                tokio::time::sleep(SWEEP_EVERY).await;
            }
        };
        let crawl = async {
            if let Some(crawlers) = &self.inner.crawlers {
                crawlers.run(self.repos()).await;
            }
        };
        let workers = self.inner.uploads.verification().parallel.max(1);
        let verify =
            futures_util::future::join_all((0..workers).map(|_| self.inner.uploads.verify_for_ever()));
        tokio::join!(sweep, crawl, verify, self.notice(), self.settle());
    }

    /// Tells followers of what other replicas write.
    async fn notice(&self) {
        if !self.inner.replicas {
            return;
        }
        loop {
            if let Err(error) = self.repos().notice().await {
                tracing::warn!(%error, "what other replicas wrote could not be seen");
            }
            tokio::time::sleep(NOTICE_EVERY).await;
        }
    }

    /// Asks the directory until it has answered.
    async fn settle(&self) {
        let Some(plc) = &self.inner.plc else { return };
        let mut wait = SETTLE_AGAIN;
        while !self.inner.settled.load(Ordering::Acquire) {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(SETTLE_AGAIN_MAX);
            match self.settle_now(plc).await {
                Ok(()) => self.inner.settled.store(true, Ordering::Release),
                Err(error) => tracing::warn!(%error, again_in = ?wait, "the identity could not be checked"),
            }
        }
    }

    async fn settle_now(&self, plc: &PlcAccount) -> Result<(), HoldError> {
        let Inner { identity, pool, signing_key, .. } = &*self.inner;
        let state = plc.settle().await?;
        identity.set_document(plc.document(&state));
        identity::announce(self.repos(), pool, identity, signing_key, false).await
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("did", self.did()).finish_non_exhaustive()
    }
}

/// Two processes that write one repo would tear its history apart. The system gives the lock back when the file is
/// closed, however the process ends.
///
/// Replicas take turns (see `HoldRepo::alone`), and share the lock.
pub(crate) fn lock(directory: &Path, replicas: bool) -> Result<File, HoldError> {
    let path = directory.join("lock");
    let file = lock_file(&path)?;
    let locked = if replicas { file.try_lock_shared() } else { file.try_lock() };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HoldError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(HoldError::File { path, source }),
    }
}

/// Waits until no other process has locked the file.
pub(crate) fn wait_for(path: &Path) -> Result<File, HoldError> {
    let file = lock_file(path)?;
    file.lock().map_err(|source| HoldError::File { path: path.to_owned(), source })?;
    Ok(file)
}

fn lock_file(path: &Path) -> Result<File, HoldError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.map_err(|source| HoldError::File { path: path.to_owned(), source })
}

/// The file of the signing key.
pub(crate) fn signing_key_path(config: &HoldConfig) -> PathBuf {
    config.signing_key.clone().unwrap_or_else(|| config.data_dir.join("signing.key"))
}

/// Opens the store of the hold's repo. A store has the repo of one identity: what stands in it for another is not the
/// hold's.
async fn open_repos(directory: &Path, did: &Did, key: SigningKey) -> Result<Repos, HoldError> {
    let keys = MemoryKeys::default();
    keys.insert(did.clone(), key);
    let store = SqliteStore::open(&directory.join(REPO_FILE)).await?;
    let repos = Repos::open(Arc::new(store), Arc::new(keys)).await?;
    if let Some(other) = repos.list_repos(None, 2).await?.into_iter().find(|repo| repo.did != *did) {
        let (path, configured) = (directory.to_owned(), did.clone());
        return Err(HoldError::OtherIdentity { path, stored: other.did, configured });
    }
    Ok(repos)
}

/// Brings the directory up to date. False when it cannot be asked now and the hold can start all the same.
async fn settle_at_start(
    plc: &PlcAccount,
    identity: &HoldIdentity,
    repos: &Repos,
    key: &PublicKey,
) -> Result<bool, HoldError> {
    let error = match plc.settle().await {
        Ok(state) => {
            plc.remember()?;
            identity.set_document(plc.document(&state));
            return Ok(true);
        }
        Err(error) => error,
    };
    if !plc.is_known() {
        return Err(error.into());
    }
    if let Some(info) = repos.info(plc.did()).await?
        && identity::key_was_replaced(repos, identity, info.head, key).await?
    {
        return Err(IdentityError::KeyNotPublished { source: Box::new(error) }.into());
    }
    if !error.is_transient() {
        return Err(error.into());
    }
    tracing::warn!(%error, did = %plc.did(), "the hold starts as who it was; the directory is asked again later");
    Ok(false)
}

/// The hold's repo as a CAR file, also while the hold runs. Memory does not depend on its size.
pub async fn export_repo(
    data_dir: &Path,
) -> Result<BoxStream<'static, Result<Bytes, atcr_pds::RepoError>>, HoldError> {
    let path = data_dir.join(REPO_FILE);
    let missing = || HoldError::NoRepo { path: data_dir.to_owned() };
    if !tokio::fs::try_exists(&path).await.map_err(|source| HoldError::File { path: path.clone(), source })? {
        return Err(missing());
    }
    let store = SqliteStore::open(&path).await?;
    let repos = Repos::open(Arc::new(store), Arc::new(MemoryKeys::default())).await?;
    let repo = repos.list_repos(None, 1).await?.pop().ok_or_else(missing)?;
    Ok(repos.export(&repo.did, None).await?)
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HoldError> + Send + 'static,
) -> Result<T, HoldError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(HoldError::Maintenance(error.into())),
    }
}
