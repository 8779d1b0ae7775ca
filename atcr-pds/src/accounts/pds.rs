use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::{Datetime, Did, Handle, Nsid};
use axum::Router;
use axum::middleware::from_fn_with_state;
use moka::future::Cache;

use super::auth::SessionAuth;
use super::limits::{self, Counters};
use super::oauth::{self, OAuth};
use super::password::Passwords;
use super::service_auth::{ServiceToken, check_audience, expiry};
use super::store::{Account, AccountStore};
use super::token::SessionTokens;
use super::{AccountError, PdsConfig, auth, routes};
use crate::blobs::{BlobStorage, Blobs, DirectoryBlobs, MemoryBlobs};
use crate::plc::PlcDirectory;
use crate::repo::KeyError;
use crate::store::{RepoStatus, SqliteStore};
use crate::xrpc::{self, BuiltinSchemas, Server};
use crate::{Clock, KeyStore, Repos};

/// Accounts looked at in one step when the server starts.
const STEP: i64 = 500;
/// Signing keys held in memory.
const KEYS: u64 = 10_000;

/// A personal data server with accounts. Cloning shares it.
#[derive(Clone)]
pub struct Pds(Arc<Inner>);

struct Inner {
    config: PdsConfig,
    did: Did,
    accounts: AccountStore,
    passwords: Passwords,
    counters: Counters,
    tokens: SessionTokens,
    oauth: OAuth,
    rotation_key: SigningKey,
    repos: Repos,
    blobs: Blobs,
}

impl fmt::Debug for Pds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pds").field("did", &self.0.did).finish_non_exhaustive()
    }
}

/// The signing keys of the accounts table.
struct AccountKeys {
    accounts: AccountStore,
    cache: Cache<Did, SigningKey>,
}

#[async_trait]
impl KeyStore for AccountKeys {
    async fn signing_key(&self, did: &Did) -> Result<SigningKey, KeyError> {
        if let Some(key) = self.cache.get(did).await {
            return Ok(key);
        }
        let unavailable =
            |cause: AccountError| KeyError::Unavailable { did: did.clone(), cause: cause.into() };
        let account = self.accounts.by_did(did).await.map_err(unavailable)?;
        let key = account.ok_or_else(|| KeyError::Missing(did.clone()))?.signing_key;
        self.cache.insert(did.clone(), key.clone()).await;
        Ok(key)
    }
}

impl Pds {
    /// Opens the server over its data directory, making what is missing. Needs a tokio runtime.
    pub async fn open(config: PdsConfig) -> Result<Self, AccountError> {
        let did = Did::web_from_url(&config.public_url)
            .ok_or_else(|| AccountError::PublicUrl(config.public_url.clone()))?;
        let dir = config.data_dir.as_deref();
        if let Some(dir) = dir {
            let failed = |cause| AccountError::DataDir { path: dir.display().to_string(), cause };
            let mut builder = tokio::fs::DirBuilder::new();
            // The databases hold every account's signing key.
            #[cfg(unix)]
            builder.mode(0o700);
            builder.recursive(true).create(dir).await.map_err(failed)?;
        }
        let file = |name: &str| dir.map(|dir: &Path| dir.join(name));
        let accounts = AccountStore::open(file("accounts.sqlite").as_deref()).await?;
        let store = match file("repos.sqlite") {
            Some(path) => SqliteStore::open(&path).await?,
            None => SqliteStore::in_memory().await?,
        };
        let storage: Arc<dyn BlobStorage> = match file("blobs") {
            Some(path) => Arc::new(DirectoryBlobs::open(path).await?),
            None => Arc::new(MemoryBlobs::default()),
        };
        let keys = AccountKeys { accounts: accounts.clone(), cache: Cache::new(KEYS) };
        let repos = Repos::open(Arc::new(store), Arc::new(keys)).await?;
        let secret = accounts.secret("session tokens").await?;
        let rotation_key = SigningKey::from_bytes(Curve::K256, &accounts.secret("plc rotation key").await?)?;
        let pds = Self(Arc::new(Inner {
            passwords: Passwords::new()?,
            counters: Counters::default(),
            oauth: OAuth::open(&config, &accounts).await?,
            tokens: SessionTokens::new(&secret, did.clone(), config.clock.clone()),
            blobs: Blobs::new(storage, config.blob_limit),
            rotation_key,
            repos,
            accounts,
            did,
            config,
        }));
        pds.catch_up().await?;
        Ok(pds)
    }

    /// Makes the repos of accounts that were being made when the server stopped, and points the documents of all
    /// accounts here when the server has come under another URL.
    async fn catch_up(&self) -> Result<(), AccountError> {
        const PUBLIC_URL: &str = "public url";
        let url = self.config().public_url.as_str();
        let moved = self.accounts().setting(PUBLIC_URL).await?.is_some_and(|before| before != url);
        let mut after = None;
        loop {
            let accounts = self.accounts().page(after.as_ref(), STEP).await?;
            let Some(last) = accounts.last() else { break };
            after = Some(last.did.clone());
            for account in &accounts {
                if self.repos().info(&account.did).await?.is_none() {
                    self.make_repo(account).await?;
                }
                if moved {
                    self.update_endpoint(account).await?;
                }
            }
        }
        self.accounts().set(PUBLIC_URL, url).await
    }

    /// The server as an axum router: `com.atproto.{repo,sync,server,identity}.*`, the well-known documents and the
    /// OAuth provider.
    pub fn router(&self) -> Router {
        xrpc::complete(self.routes())
    }

    /// The routes alone, to be merged with others before [`xrpc::complete`] is called.
    pub fn routes(&self) -> Router {
        let auth = Arc::new(SessionAuth(self.clone()));
        let server = Server::new(
            self.repos().clone(),
            self.blobs().clone(),
            Arc::new(auth::PdsHost(self.clone())),
            auth,
        )
        .with_schemas(Arc::new(BuiltinSchemas))
        .with_subscribe_options(self.config().subscribe.clone());
        let routes = server
            .routes()
            .merge(routes::routes(self.clone()))
            .layer(from_fn_with_state(self.clone(), oauth::nonces))
            .merge(oauth::routes(self.clone()));
        match self.config().rate_limits {
            Some(_) => routes.layer(from_fn_with_state(self.clone(), limits::calls)),
            None => routes,
        }
    }

    /// The DID of the server itself.
    pub fn did(&self) -> &Did {
        &self.0.did
    }

    /// The repos of all accounts.
    pub fn repos(&self) -> &Repos {
        &self.0.repos
    }

    /// The blobs of all accounts.
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// The account of a handle on this server.
    pub async fn resolve_handle(&self, handle: &Handle) -> Result<Option<Did>, AccountError> {
        Ok(self.accounts().by_handle(handle).await?.map(|account| account.did))
    }

    /// A token by which `did` shows itself to the service `audience` (a DID, with or without `#service`), good for
    /// the XRPC method `method` only, or for any when it is left out. `exp` is in seconds since the Unix epoch.
    pub async fn service_token(
        &self,
        did: &Did,
        audience: &str,
        method: Option<&Nsid>,
        exp: Option<i64>,
    ) -> Result<String, AccountError> {
        check_audience(audience)?;
        let issued = self.clock().now();
        let expires = expiry(exp, method, issued)?;
        let key = self.account(did).await?.signing_key;
        ServiceToken { issuer: did, audience, method, issued, expires }.sign(&key)
    }

    /// Removes blobs that were uploaded before `before` and that no record refers to. Returns how many.
    pub async fn sweep_blobs(&self, before: jiff::Timestamp) -> Result<usize, AccountError> {
        use crate::blobs::UploadError;
        self.blobs().sweep(self.repos(), Datetime::from(before)).await.map_err(|error| match error {
            UploadError::Storage(error) => error.into(),
            UploadError::Repo(error) => error.into(),
            other => AccountError::Internal(other.to_string()),
        })
    }

    pub(super) async fn account(&self, did: &Did) -> Result<Account, AccountError> {
        self.accounts().by_did(did).await?.ok_or_else(|| AccountError::NotFound(did.clone()))
    }

    pub(super) async fn status(&self, did: &Did) -> Result<RepoStatus, AccountError> {
        let info = self.repos().info(did).await?;
        Ok(info.map_or(RepoStatus::Deleted, |info| info.status))
    }

    pub(super) fn config(&self) -> &PdsConfig {
        &self.0.config
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.config.clock
    }

    pub(super) fn plc(&self) -> &dyn PlcDirectory {
        &*self.0.config.plc
    }

    pub(super) fn accounts(&self) -> &AccountStore {
        &self.0.accounts
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(super) fn tokens(&self) -> &SessionTokens {
        &self.0.tokens
    }

    pub(super) fn oauth(&self) -> &OAuth {
        &self.0.oauth
    }

    pub(super) fn rotation_key(&self) -> &SigningKey {
        &self.0.rotation_key
    }
}
