//! A PLC directory and a PDS on loopback, with alice signed in, and a hold.

use std::sync::Arc;

use atcr_auth::pds_session::{MemorySessionStore, SignIn as _};
use atcr_auth::{AccountSessions, Clock, PdsSessions};
use atcr_core::did_resolver::{
    IdentityResolver, NetworkResolver, PlcResolver, WebResolver, XrpcHandleResolver,
};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::{Access, Principal};
use atcr_pds::accounts::{Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use atcr_registry::atproto::{BlobDelivery, HoldBlobStore, Network, PdsManifestStore};
use axum::Router;
use tokio::net::TcpListener;
use url::Url;

use crate::plain_hold::PlainHold;

pub(crate) struct World {
    pub(crate) manifests: PdsManifestStore,
    pub(crate) blobs: HoldBlobStore,
    pub(crate) hold: PlainHold,
    pub(crate) sessions: Arc<AccountSessions>,
    pub(crate) pds: Pds,
    alice: Principal,
}

pub(crate) async fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    (listener, url.parse().unwrap())
}

pub(crate) fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}

impl World {
    pub(crate) async fn new() -> Self {
        let (plc_listener, plc) = listen().await;
        let directory = Directory::open(None, atcr_pds::Clock::system()).await.unwrap();
        serve(plc_listener, directory.router());

        let (pds_listener, pds_url) = listen().await;
        let pds = Pds::open(PdsConfig::new(pds_url.clone(), Arc::new(directory))).await.unwrap();
        pds.ensure_account(&"alice.test".parse().unwrap(), "password", "alice@example.test").await.unwrap();
        serve(pds_listener, pds.router());

        let egress = Egress::new(EgressPolicy::development()).unwrap();
        let dids =
            NetworkResolver::new(PlcResolver::new(egress.clone(), plc), WebResolver::new(egress.clone()));
        let handles = XrpcHandleResolver::new(egress.clone(), pds_url);
        let identities = IdentityResolver::new(Arc::new(dids), Arc::new(handles));
        let store = Arc::new(MemorySessionStore::default());
        let sessions =
            AccountSessions::new(identities.clone(), egress.clone(), store, Clock::system()).unwrap();
        let sessions = Arc::new(sessions);
        let alice = Principal::Account(sessions.sign_in("alice.test", "password").await.unwrap());

        let hold = PlainHold::start().await;
        let network = Network {
            egress,
            identities,
            sessions: Arc::clone(&sessions) as Arc<dyn PdsSessions>,
            default_hold: hold.did.clone(),
            delivery: BlobDelivery::Redirect,
            public_url: "https://registry.example".parse().unwrap(),
        };
        let (manifests, blobs) = network.stores();
        Self { manifests, blobs, hold, sessions, pds, alice }
    }

    /// Alice at one of her repositories.
    pub(crate) fn at(&self, name: &str) -> Access {
        Access::new(self.alice.clone(), format!("alice.test/{name}").parse().unwrap())
    }
}
