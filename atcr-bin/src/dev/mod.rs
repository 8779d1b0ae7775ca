//! `atcr dev`: PLC directory, PDS with two accounts, hold and AppView in one process on loopback.
//!
//! It is the code of production, wired together: the services talk to each other over their ports as they would over
//! the network.

mod report;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::TrustedProxies;
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::{Did, Handle};
use atcr_core::xrpc::XrpcClient;
use atcr_hold::identity::{IdentityMethod, PlcIdentity};
use atcr_pds::Clock;
use atcr_pds::accounts::{EgressDocuments, Pds, PdsConfig};
use atcr_pds::plc::HttpDirectory;
use atcr_pds::plc::directory::Directory;
use atcr_registry::hold_health::HoldHealthOptions;
use atcr_registry::ingest::{IngestOptions, Source};
use atcr_registry::web::Brand;
use atcr_registry::{ConnectionLimits, Limits};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

use crate::Error;
use crate::appview::{self, AppViewSettings};
use crate::config::DidMethod;
use crate::hold;
use crate::serve::{self, Shutdown};

use report::{DevAccount, Ready};
use state::DevState;

/// What `atcr dev` is asked for.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The port of the AppView; 0 takes a free one.
    pub port: u16,
    /// Where everything is kept; a temporary folder when absent.
    pub data_dir: Option<PathBuf>,
    /// How the hold is named.
    pub hold_identity: DidMethod,
    /// One line of JSON on standard output instead of text for people.
    pub json: bool,
    /// Takes images some of whose blobs are not there.
    pub sparse_images: bool,
}

/// Runs the network until SIGTERM or SIGINT.
pub async fn run(options: DevOptions) -> Result<(), Error> {
    let shutdown = Shutdown::on_signals()?;
    let folder = DataDir::open(options.data_dir.clone())?;
    let network = Network::start(folder.path(), &options, &shutdown).await?;
    report::print(&network.ready, options.json)?;
    network.serve().await?;
    if !options.json {
        eprintln!("stopped");
    }
    Ok(())
}

/// The data folder, in use by this process alone.
enum DataDir {
    Kept { path: PathBuf, _lock: std::fs::File },
    Temporary(TempDir),
}

impl DataDir {
    fn open(path: Option<PathBuf>) -> Result<Self, Error> {
        let Some(path) = path else {
            let folder = tempfile::Builder::new().prefix("atcr-dev-").tempdir();
            return folder.map(Self::Temporary).map_err(Error::file("a temporary folder", "created"));
        };
        std::fs::create_dir_all(&path).map_err(Error::file(&path, "created"))?;
        // The lock goes with the process, however it ends.
        let lock_path = path.join("lock");
        let lock = std::fs::File::create(&lock_path).map_err(Error::file(&lock_path, "created"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self::Kept { path, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(std::fs::TryLockError::Error(error)) => Err(Error::file(lock_path, "locked")(error)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept { path, .. } => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// The running services.
struct Network {
    ready: Ready,
    servers: JoinSet<Result<(), Error>>,
}

impl Network {
    async fn start(data_dir: &Path, options: &DevOptions, shutdown: &Shutdown) -> Result<Self, Error> {
        let mut state = DevState::load(data_dir)?;
        let registry = listen(options.port).await?;
        let registry_port = port_of(&registry)?;
        let plc = listen_again(&mut state.plc_port, registry_port, 1).await?;
        let pds = listen_again(&mut state.pds_port, registry_port, 2).await?;
        let hold = listen_again(&mut state.hold_port, registry_port, 3).await?;
        state.save(data_dir)?;

        let mut servers = JoinSet::new();
        let serve =
            |listener, router| serve::serve(listener, router, ConnectionLimits::default(), shutdown.clone());

        let plc_url = local_url(&plc)?;
        let directory = Directory::open(Some(&data_dir.join("plc.sqlite")), Clock::system())
            .await
            .map_err(Error::start("the PLC directory"))?;
        servers.spawn(serve(plc, directory.router()));

        let egress = Egress::new(EgressPolicy::development()).map_err(Error::start("the egress gate"))?;
        let pds_url = local_url(&pds)?;
        let mut config = PdsConfig::new(pds_url.clone(), Arc::new(directory));
        config.data_dir = Some(data_dir.join("pds"));
        config.client_documents = Some(Arc::new(EgressDocuments::new(egress.clone())));
        let users = Pds::open(config).await.map_err(Error::start("the PDS"))?;
        let mut accounts = Vec::new();
        for (handle, password) in &state.passwords {
            let did = ensure_account(&users, handle, password).await?;
            accounts.push(DevAccount { handle: handle.clone(), did, password: password.clone() });
        }
        servers.spawn(serve(pds, users.router()));
        servers.spawn(sweep_blobs(users, shutdown.clone()));

        let hold_url = local_url(&hold)?;
        let owner = accounts.first().map(|account| account.did.clone());
        let owner =
            owner.ok_or(Error::Start { what: "the hold", source: "there is no account to own it".into() })?;
        let mut hold_config = atcr_hold::HoldConfig::new(hold_url.clone(), data_dir.join("hold"), owner);
        hold_config.public = true;
        hold_config.allow_all_crew = true;
        if options.hold_identity == DidMethod::Plc {
            let directory = HttpDirectory::new(egress.clone(), plc_url.clone());
            hold_config.identity = IdentityMethod::Plc(PlcIdentity::new(Arc::new(directory)));
        }
        let settings = hold::Settings {
            hold: hold_config,
            storage: hold::StorageSettings::Filesystem(None),
            egress: egress.clone(),
            plc_url: plc_url.clone(),
            legacy_crew: false,
        };
        let opened = settings.open().await?;
        let hold_did = opened.did().clone();
        servers.spawn(serve(hold, hold::router(&opened, TrustedProxies::default())));
        servers.spawn(hold::maintain(opened, shutdown.clone()));

        let appview_url =
            Url::parse(&format!("http://127.0.0.1:{registry_port}")).map_err(Error::start("the AppView"))?;
        let mut ingest = IngestOptions::default();
        ingest.sources = vec![Source::Host(pds_url.clone()), Source::Host(hold_url.clone())];
        let mut appview = appview::open(AppViewSettings {
            base_url: appview_url.clone(),
            default_hold: hold_did.clone(),
            brand: Brand::new("atcr dev"),
            domains: Vec::new(),
            health: Some(HoldHealthOptions::default()),
            data_dir: data_dir.join("appview"),
            token_seconds: 300,
            plc_url: plc_url.clone(),
            handle_resolver: Some(pds_url.clone()),
            egress: egress.clone(),
            redirect_blobs: true,
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            sparse_images: options.sparse_images,
            index: None,
            ingest,
        })
        .await?;
        servers.spawn(appview.keep_current(shutdown.clone()));
        servers.spawn(serve(registry, appview.router));

        let ready = Ready {
            registry: format!("127.0.0.1:{registry_port}"),
            appview: appview_url,
            pds: pds_url,
            plc: plc_url,
            hold: hold_url.clone(),
            hold_did,
            accounts,
        };
        wait_until_up(&egress, hold_url).await?;
        Ok(Self { ready, servers })
    }

    /// Until every service has ended; the first failure ends all.
    async fn serve(mut self) -> Result<(), Error> {
        while let Some(ended) = self.servers.join_next().await {
            ended.map_err(Error::start("a service"))??;
        }
        Ok(())
    }
}

async fn ensure_account(pds: &Pds, handle: &Handle, password: &str) -> Result<Did, Error> {
    let email = format!("{}@example.test", handle.as_str().split('.').next().unwrap_or_default());
    pds.ensure_account(handle, password, &email).await.map_err(Error::start("the accounts"))
}

/// Removes blobs that were uploaded to the PDS and that no record took up, once an hour, until the order to stop.
async fn sweep_blobs(pds: Pds, shutdown: Shutdown) -> Result<(), Error> {
    const HOUR: Duration = Duration::from_secs(3600);
    let sweep = async {
        loop {
            tokio::time::sleep(HOUR).await;
            let before = jiff::Timestamp::now() - HOUR;
            if let Err(error) = pds.sweep_blobs(before).await {
                tracing::warn!(%error, "unused blobs could not be removed; it is tried again later");
            }
        }
    };
    tokio::select! {
        () = sweep => {}
        () = shutdown.ordered() => {}
    }
    Ok(())
}

/// The services answer each other before anybody is told that they do.
async fn wait_until_up(egress: &Egress, hold: Url) -> Result<(), Error> {
    let client = XrpcClient::new(egress.clone(), hold);
    let health: Result<serde_json::Value, _> = client.query("_health", &()).await;
    health.map(|_| ()).map_err(Error::start("the hold"))
}

async fn listen(port: u16) -> Result<TcpListener, Error> {
    serve::listen(&format!("127.0.0.1:{port}")).await
}

/// Listens on the port of the last time, which DIDs and documents name; the first time on the one `offset` after the
/// registry's, or any free one.
async fn listen_again(kept: &mut Option<u16>, registry: u16, offset: u16) -> Result<TcpListener, Error> {
    if let Some(port) = *kept {
        return listen(port).await;
    }
    let wanted = listen(registry.saturating_add(offset)).await;
    let listener = match wanted {
        Ok(listener) => listener,
        Err(_) => listen(0).await?,
    };
    *kept = Some(port_of(&listener)?);
    Ok(listener)
}

fn port_of(listener: &TcpListener) -> Result<u16, Error> {
    listener.local_addr().map(|addr| addr.port()).map_err(Error::start("a listener"))
}

/// Services name each other by `localhost`: a did:web may have a port for that host only.
fn local_url(listener: &TcpListener) -> Result<Url, Error> {
    Url::parse(&format!("http://localhost:{}", port_of(listener)?)).map_err(Error::start("a listener"))
}
