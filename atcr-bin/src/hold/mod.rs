//! `atcr-hold`: one hold.

mod doctor;
mod identity;
mod repo;
mod settings;
mod storage;
mod upkeep;

use atcr_auth::TrustedProxies;
use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::Error;
use crate::audit;
use crate::config::HoldConfig;
use crate::serve::{self, Shutdown};

pub use doctor::DoctorCommand;
pub use identity::IdentityCommand;
pub use repo::RepoCommand;
pub use upkeep::StorageCommand;

pub(crate) use settings::Settings;
pub(crate) use storage::StorageSettings;

use atcr_hold::Hold;

/// Serves a hold until SIGTERM or SIGINT.
pub async fn run(config: HoldConfig) -> Result<(), Error> {
    let shutdown = Shutdown::on_signals()?;
    if config.audit.path.is_some() {
        serve::outlive_hangup()?;
    }
    let proxies: TrustedProxies = config.server.trusted_proxies.iter().copied().collect();
    let listener = serve::listen(&config.server.addr).await?;
    let (addr, connections) = (config.server.addr.clone(), config.connections.clone());
    let hold = Settings::new(config)?.open().await?;
    tracing::info!(did = %hold.did(), addr, "the hold is ready");
    let maintenance = maintain(hold.clone(), shutdown.clone());
    let router = router(&hold, proxies);
    let served = serve::serve(listener, router, connections.into(), shutdown);
    let (served, maintained) = tokio::join!(served, maintenance);
    served.and(maintained)
}

/// Everything that answers under the hold's URL.
pub(crate) fn router(hold: &Hold, proxies: TrustedProxies) -> Router {
    hold.router().layer(from_fn_with_state(proxies, audit::from_address))
}

/// Does the hold's own work until the order to stop.
pub(crate) async fn maintain(hold: Hold, shutdown: Shutdown) -> Result<(), Error> {
    tokio::select! {
        () = hold.maintain() => {}
        () = shutdown.ordered() => {}
    }
    Ok(())
}
