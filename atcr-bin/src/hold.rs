//! `atcr-hold serve`: one hold.

use std::path::PathBuf;
use std::sync::Arc;

use atcr_core::did_resolver::{CacheLimits, CachingResolver, NetworkResolver, PlcResolver, WebResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use atcr_hold::Hold;
use atcr_hold::storage::FilesystemStorage;
use url::Url;

use crate::Error;
use crate::config::{ConfigError, HoldConfig};
use crate::serve::{self, Shutdown};

/// What a hold is opened with.
pub(crate) struct HoldSettings {
    pub(crate) public_url: Url,
    pub(crate) data_dir: PathBuf,
    pub(crate) storage_dir: Option<PathBuf>,
    pub(crate) owner: Did,
    pub(crate) public: bool,
    pub(crate) allow_all_crew: bool,
    pub(crate) region: Option<String>,
    pub(crate) max_blob_size: Option<u64>,
    pub(crate) egress: Egress,
    pub(crate) plc_url: Url,
}

/// Serves a hold until SIGTERM or SIGINT.
pub async fn run(config: HoldConfig) -> Result<(), Error> {
    let public_url = config.server.public_url.ok_or(ConfigError::Required {
        key: "server.public_url",
        purpose: "the URL that everybody reaches the hold at, and its identity",
        env: "HOLD_SERVER_PUBLIC_URL",
    })?;
    let owner = config.registration.owner_did.ok_or(ConfigError::Required {
        key: "registration.owner_did",
        purpose: "the DID of the hold's captain",
        env: "HOLD_REGISTRATION_OWNER_DID",
    })?;
    let policy = if config.server.test_mode { EgressPolicy::development() } else { EgressPolicy::default() };
    let shutdown = Shutdown::on_signals()?;
    let listener = serve::listen(&config.server.addr).await?;
    let hold = open(HoldSettings {
        public_url,
        data_dir: config.database.path,
        storage_dir: config.storage.root_dir,
        owner,
        public: config.server.public,
        allow_all_crew: config.registration.allow_all_crew,
        region: config.registration.region,
        max_blob_size: config.storage.max_blob_size,
        egress: Egress::new(policy).map_err(Error::start("the egress gate"))?,
        plc_url: config.database.plc_directory_url,
    })
    .await?;
    tracing::info!(did = %hold.did(), addr = %config.server.addr, "the hold is ready");
    let maintenance = maintain(hold.clone(), shutdown.clone());
    let (served, maintained) = tokio::join!(serve::serve(listener, hold.router(), shutdown), maintenance);
    served.and(maintained)
}

/// Opens a hold.
pub(crate) async fn open(settings: HoldSettings) -> Result<Hold, Error> {
    let HoldSettings { egress, plc_url, .. } = &settings;
    let network = NetworkResolver::new(
        PlcResolver::new(egress.clone(), plc_url.clone()),
        WebResolver::new(egress.clone()),
    );
    let resolver = Arc::new(CachingResolver::new(network, CacheLimits::default()));
    let mut config = atcr_hold::HoldConfig::new(settings.public_url, settings.data_dir, settings.owner);
    if let Some(folder) = settings.storage_dir {
        let storage = FilesystemStorage::open(folder).await.map_err(Error::start("the storage"))?;
        config.storage = Some(Arc::new(storage));
    }
    config.public = settings.public;
    config.allow_all_crew = settings.allow_all_crew;
    config.region = settings.region;
    config.max_blob_size = settings.max_blob_size;
    Hold::open(config, resolver).await.map_err(Error::start("the hold"))
}

/// Keeps the hold tidy until the order to stop.
pub(crate) async fn maintain(hold: Hold, shutdown: Shutdown) -> Result<(), Error> {
    tokio::select! {
        () = hold.maintain() => {}
        () = shutdown.ordered() => {}
    }
    Ok(())
}
