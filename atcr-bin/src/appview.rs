//! `atcr-appview serve`: one registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::browser::LOGIN;
use atcr_auth::oauth::{ClientKeys, ClientRegistration, Es256Key};
use atcr_auth::pds_session::{SealingKey, SqliteSessionStore};
use atcr_auth::{
    AccountSessions, Clock, DeviceFlow, DeviceSignIn, NamespacePolicy, Network as Addresses, OAuthClient,
    TokenAuthorizer, TokenConfig, TokenEndpoint, TokenIssuer, TokenKeys, TokenVerifier, TrustedProxies,
    WebSignIn,
};
use atcr_core::ManifestStore;
use atcr_core::did_resolver::{
    CacheLimits, CachingResolver, DidResolver, DnsHandleResolver, HandleResolver, IdentityResolver,
    NetworkResolver, PlcResolver, WebResolver, XrpcHandleResolver,
};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use atcr_registry::atproto::{BlobDelivery, HoldBlobStore, Network, Welcome, indexed_identities};
use atcr_registry::hold_health::{HoldHealth, HoldHealthOptions};
use atcr_registry::index::{Index, IndexError};
use atcr_registry::ingest::{Ingest, IngestOptions};
use atcr_registry::web::{Brand, RegistryDomain, WebUi};
use atcr_registry::webhooks::{WebhookOptions, Webhooks};
use atcr_registry::{Limits, Registry, SessionKey, Sparse};
use axum::Router;
use axum::middleware::from_fn_with_state;
use url::Url;

use crate::config::{AppViewConfig, ConfigError};
use crate::serve::{self, Shutdown};
use crate::visitors::{PublicContent, SignedInVisitors};
use crate::{Error, audit, domains, keys};

/// What an AppView is opened with.
pub(crate) struct AppViewSettings {
    pub(crate) base_url: Url,
    pub(crate) default_hold: Did,
    pub(crate) brand: Brand,
    /// The names that it is reached by, beside that of its URL.
    pub(crate) domains: Vec<RegistryDomain>,
    /// How holds are asked whether they answer, if they are.
    pub(crate) health: Option<HoldHealthOptions>,
    pub(crate) data_dir: PathBuf,
    pub(crate) token_seconds: u64,
    pub(crate) plc_url: Url,
    pub(crate) handle_resolver: Option<Url>,
    pub(crate) egress: Egress,
    pub(crate) redirect_blobs: bool,
    pub(crate) trusted_proxies: Vec<Addresses>,
    pub(crate) limits: Limits,
    pub(crate) sparse_images: bool,
    /// The database of the index; the default one in `data_dir` is done without when another process has it.
    pub(crate) index: Option<String>,
    pub(crate) ingest: IngestOptions,
}

/// A registry that is open.
pub(crate) struct AppView {
    /// Everything that answers under its URL.
    pub(crate) router: Router,
    index: Option<(Index, Ingest)>,
    webhooks: Option<Webhooks>,
    health: Option<HoldHealth>,
}

impl AppView {
    /// Keeps the index current, and tells of what it takes in, until the order to stop.
    pub(crate) fn keep_current(
        &mut self,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (index, webhooks, health) = (self.index.take(), self.webhooks.take(), self.health.take());
        async move {
            // The index stays open for requests that are under way.
            let Some((_, ingest)) = index else { return Ok(()) };
            let tell = async {
                match webhooks {
                    Some(webhooks) => webhooks.run().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ingest.clone().run() => {}
                () = tell => {}
                () = ask_holds(health) => {}
                () = shutdown.ordered() => {}
            }
            ingest.hand_over().await.map_err(Error::start("the index"))
        }
    }
}

/// Serves a registry until SIGTERM or SIGINT.
pub async fn run(config: AppViewConfig) -> Result<(), Error> {
    let brand = config.brand()?;
    let base_url = config.server.base_url.ok_or(ConfigError::Required {
        key: "server.base_url",
        purpose: "the URL that clients reach the registry at",
        env: "ATCR_SERVER_BASE_URL",
    })?;
    let default_hold = config.server.default_hold_did.ok_or(ConfigError::Required {
        key: "server.default_hold_did",
        purpose: "the hold for the blobs of people who have chosen none",
        env: "ATCR_SERVER_DEFAULT_HOLD_DID",
    })?;
    let policy = if config.server.test_mode { EgressPolicy::development() } else { EgressPolicy::default() };
    let shutdown = Shutdown::on_signals()?;
    if config.audit.path.is_some() {
        serve::outlive_hangup()?;
    }
    let listener = serve::listen(&config.server.addr).await?;
    let mut appview = open(AppViewSettings {
        base_url,
        default_hold,
        brand,
        domains: config.server.registry_domains,
        health: config.health.into(),
        data_dir: config.auth.data_dir,
        token_seconds: config.auth.token_seconds,
        plc_url: config.identity.plc_directory_url,
        handle_resolver: config.identity.handle_resolver_url,
        egress: Egress::new(policy).map_err(Error::start("the egress gate"))?,
        redirect_blobs: config.registry.redirect_blobs,
        trusted_proxies: config.server.trusted_proxies,
        limits: config.requests.into(),
        sparse_images: config.registry.sparse_images,
        index: config.index.url,
        ingest: config.ingest.into(),
    })
    .await?;
    let current = tokio::spawn(appview.keep_current(shutdown.clone()));
    tracing::info!(addr = %config.server.addr, "the registry is ready");
    let served = serve::serve(listener, appview.router, config.connections.into(), shutdown).await;
    current.await.map_err(Error::start("the index"))??;
    served
}

/// Opens a registry.
pub(crate) async fn open(settings: AppViewSettings) -> Result<AppView, Error> {
    let AppViewSettings { base_url, default_hold, data_dir, egress, .. } = settings;
    let secret = |name: &str| data_dir.join(name);

    let (dids, handles) = resolvers(&egress, settings.plc_url, settings.handle_resolver)?;
    let identities = IdentityResolver::new(Arc::clone(&dids), Arc::clone(&handles));
    let index = open_index(settings.index, &data_dir).await?.map(|index| {
        let ingest = Ingest::new(index.clone(), egress.clone(), identities.clone(), settings.ingest);
        (index, ingest)
    });
    let sealing = SealingKey::new(&keys::load_or_create::<32>(&secret("sessions.key"))?);
    let store = SqliteSessionStore::open(&secret("sessions.sqlite"), sealing)
        .await
        .map_err(Error::start("the store of sessions"))?;
    let store = Arc::new(store);
    let sessions = AccountSessions::new(identities.clone(), egress.clone(), store.clone(), Clock::system());
    let welcome = Welcome::new(egress.clone(), identities.clone(), default_hold.clone());
    let mut sessions = sessions.map_err(Error::start("the sessions"))?.on_sign_in(Arc::new(welcome));
    match ClientRegistration::new(&base_url, &settings.brand.name, client_keys(&data_dir)?) {
        Ok(registration) => {
            let client = OAuthClient::new(registration, egress.clone(), Clock::system());
            sessions = sessions.with_oauth(client);
        }
        Err(error) => tracing::warn!(%error, "nobody can sign in with a browser"),
    }
    let web_sign_in = WebSignIn::new(sessions.clone(), store.clone(), Clock::system());
    let sessions = Arc::new(sessions);
    let mut login_url = base_url.clone();
    login_url.set_path(LOGIN);
    let sign_in = DeviceSignIn::new(store.clone(), sessions.clone(), login_url, Clock::system());

    let token_keys = Arc::new(token_keys(&data_dir)?);
    let mut tokens = TokenConfig::new(base_url.authority());
    tokens.lifetime = Duration::from_secs(settings.token_seconds);
    let issuer = TokenIssuer::new(Arc::clone(&token_keys), tokens.clone(), Clock::system());
    let verifier = TokenVerifier::new(token_keys, tokens, Clock::system());
    // Whoever signs in is looked up now; whose images are pulled may be known.
    let known = match &index {
        Some((index, ingest)) => indexed_identities(index, ingest, dids, handles),
        None => identities,
    };
    let policy = Arc::new(NamespacePolicy::new(known.clone()));
    let token_endpoint = TokenEndpoint::new(issuer, verifier.clone(), Arc::new(sign_in), policy.clone());
    let proxies: TrustedProxies = settings.trusted_proxies.into_iter().collect();
    let token_endpoint = token_endpoint.with_trusted_proxies(proxies.clone());

    let delivery = if settings.redirect_blobs { BlobDelivery::Redirect } else { BlobDelivery::Proxy };
    let public_url = base_url.clone();
    let health = settings.health.zip(index.as_ref()).map(|(options, (index, _))| {
        let dids = Arc::clone(known.dids());
        HoldHealth::new(index.clone(), egress.clone(), dids, default_hold.clone(), options)
    });
    let gate = egress.clone();
    let network = Network { egress, identities: known, sessions, default_hold, delivery, public_url };
    let domains = settings.domains;
    let other_names: Vec<String> = domains.iter().map(|domain| domain.host().to_owned()).collect();
    let (mut pages, mut webhooks) = (None, None);
    let (manifests, blobs): (Arc<dyn ManifestStore>, HoldBlobStore) = if let Some((index, ingest)) = &index {
        let (manifests, blobs) = network.indexed_stores(index, ingest);
        let blobs = blobs.also_called(other_names);
        let records = manifests.own_records();
        let content = PublicContent::new(index.clone(), &blobs, records.clone());
        let hooks = open_webhooks(&data_dir, index, gate, &base_url).await?;
        webhooks = Some(hooks.clone());
        let ui = WebUi::new(index.clone(), &base_url, &settings.brand.name);
        let mut ui = ui.with_brand(settings.brand).with_domains(domains.clone());
        if let Some(health) = &health {
            ui = ui.with_hold_health(health.clone());
        }
        pages = Some((ui.with_content(Arc::new(content)).with_webhooks(hooks), records));
        (Arc::new(manifests), blobs)
    } else {
        let (manifests, blobs) = network.stores();
        (Arc::new(manifests), blobs.also_called(other_names))
    };
    let registry = Registry::builder()
        .manifests(Arc::clone(&manifests))
        .blobs(Arc::new(blobs))
        .authorizer(Arc::new(TokenAuthorizer::new(verifier, policy, &base_url)))
        .limits(settings.limits)
        .sparse(Sparse { images: settings.sparse_images, ..Sparse::default() })
        .session_key(SessionKey::from_bytes(keys::load_or_create(&secret("uploads.key"))?))
        .build()
        .map_err(Error::start("the registry"))?;
    let mut router = registry.router().merge(token_endpoint.router());
    if let Some(web_sign_in) = web_sign_in {
        let browsers = web_sign_in.browsers().clone();
        pages = pages.map(|(ui, records)| {
            let visitors = SignedInVisitors { browsers: browsers.clone(), records: records.clone() };
            (ui.with_visitors(Arc::new(visitors), manifests), records)
        });
        let devices = DeviceFlow::new(&base_url, store, browsers, Clock::system());
        let (web_sign_in, devices) = (
            web_sign_in.with_trusted_proxies(proxies.clone()),
            devices.with_trusted_proxies(proxies.clone()),
        );
        router = router.merge(web_sign_in.router()).merge(devices.router());
    }
    if let Some((ui, _)) = pages {
        router = router.merge(ui.router());
    }
    let router = router.layer(from_fn_with_state(proxies, audit::from_address));
    let router = domains::pages_at_one_place(router, &base_url, domains);
    Ok(AppView { router, index, webhooks, health })
}

/// Asks holds whether they answer, without an end.
async fn ask_holds(health: Option<HoldHealth>) {
    match health {
        Some(health) => health.run().await,
        None => std::future::pending().await,
    }
}

/// The webhooks beside the keys, which replicas that share this folder share, too.
async fn open_webhooks(
    data_dir: &Path,
    index: &Index,
    egress: Egress,
    base_url: &Url,
) -> Result<Webhooks, Error> {
    let key = SealingKey::new(&keys::load_or_create::<32>(&data_dir.join("webhooks.key"))?);
    let (path, options) = (data_dir.join("webhooks.sqlite"), WebhookOptions::default());
    let opened = Webhooks::open(&path, key, index.clone(), egress, base_url, options).await;
    opened.map_err(Error::start("the store of webhooks"))
}

/// The index that is set, or one beside the keys. Replicas that share this folder and have no other setting do without,
/// but for the first one.
async fn open_index(url: Option<String>, data_dir: &Path) -> Result<Option<Index>, Error> {
    let is_set = url.is_some();
    let url = url.unwrap_or_else(|| format!("sqlite://{}", data_dir.join("index.sqlite").display()));
    match Index::open(&url).await {
        Ok(index) => Ok(Some(index)),
        Err(IndexError::InUse(path)) if !is_set => {
            tracing::warn!(
                path,
                "another replica has the index; this one asks PDSs. Set index.url to share one in PostgreSQL"
            );
            Ok(None)
        }
        Err(error) => Err(Error::start("the index")(error)),
    }
}

/// The key that signs registry tokens, and another one that is taken too while there is one: the former key, or on
/// replicas that are still to follow the coming one.
fn token_keys(data_dir: &Path) -> Result<TokenKeys, Error> {
    let read = |path: &Path| {
        TokenKeys::from_bytes(&keys::load_or_create::<32>(path)?).map_err(Error::start("the token key"))
    };
    let keys = read(&data_dir.join("token.key"))?;
    let previous = data_dir.join("token.previous.key");
    if !previous.exists() {
        return Ok(keys);
    }
    Ok(keys.with_previous(&read(&previous)?))
}

/// The key by which the registry proves to authorization servers who it is, and the one before it while there is one.
fn client_keys(data_dir: &Path) -> Result<ClientKeys, Error> {
    let read = |bytes: [u8; 32]| Es256Key::from_bytes(&bytes).map_err(Error::start("the OAuth client key"));
    let keys = ClientKeys::new(read(keys::load_or_create(&data_dir.join("oauth.key"))?)?);
    let previous = data_dir.join("oauth.previous.key");
    if !previous.exists() {
        return Ok(keys);
    }
    Ok(keys.with_previous(read(keys::load_or_create(&previous)?)?))
}

type Resolvers = (Arc<dyn DidResolver>, Arc<dyn HandleResolver>);

/// Who is who: DIDs by the network, handles by the DNS or by the service that the configuration names.
fn resolvers(egress: &Egress, plc_url: Url, handle_resolver: Option<Url>) -> Result<Resolvers, Error> {
    let network =
        NetworkResolver::new(PlcResolver::new(egress.clone(), plc_url), WebResolver::new(egress.clone()));
    let handles: Arc<dyn HandleResolver> = if let Some(service) = handle_resolver {
        Arc::new(XrpcHandleResolver::new(egress.clone(), service))
    } else {
        let dns = DnsHandleResolver::from_system(egress.clone());
        Arc::new(dns.map_err(Error::start("the DNS resolver"))?)
    };
    let dids = CachingResolver::new(network, CacheLimits::default());
    Ok((Arc::new(dids), handles))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atcr_core::Principal;

    #[tokio::test]
    async fn a_token_key_is_replaced_without_refusing_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let config = TokenConfig::new("registry.example");
        let open = || Arc::new(token_keys(dir.path()).unwrap());
        let issue = |keys: &Arc<TokenKeys>| {
            let issuer = TokenIssuer::new(Arc::clone(keys), config.clone(), Clock::system());
            issuer.issue(&Principal::Anonymous, &[]).unwrap().token
        };
        let verifier =
            |keys: &Arc<TokenKeys>| TokenVerifier::new(Arc::clone(keys), config.clone(), Clock::system());
        let first = open();
        let old = issue(&first);

        // The coming key is known everywhere before the first replica signs by it.
        keys::load_or_create::<32>(&file("token.previous.key")).unwrap();
        let waiting = open();
        assert_eq!(waiting.key_id(), first.key_id());
        std::fs::rename(file("token.key"), file("token.former.key")).unwrap();
        std::fs::rename(file("token.previous.key"), file("token.key")).unwrap();
        std::fs::rename(file("token.former.key"), file("token.previous.key")).unwrap();
        let rotated = open();
        assert_ne!(rotated.key_id(), first.key_id());
        let new = issue(&rotated);
        for token in [&old, &new] {
            verifier(&rotated).verify(token).await.unwrap();
            verifier(&waiting).verify(token).await.unwrap();
        }
        std::fs::remove_file(file("token.previous.key")).unwrap();
        let last = open();
        verifier(&last).verify(&new).await.unwrap();
        assert!(verifier(&last).verify(&old).await.is_err(), "the former key is gone");
    }
}
