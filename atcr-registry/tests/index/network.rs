//! An index that follows a PDS over a wire that can be cut, and pulls that count what they ask for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atcr_auth::pds_session::{MemorySessionStore, SignIn as _};
use atcr_auth::{AccountSessions, Clock, PdsSessions};
use atcr_core::did_resolver::{
    CacheLimits, CachingResolver, DidResolver, HandleResolver, IdentityResolver, NetworkResolver,
    PlcResolver, WebResolver, XrpcHandleResolver,
};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::manifest_store::{ManifestStore, Page};
use atcr_core::oci::{Digest, Manifest, Reference, Tag};
use atcr_core::syntax::Did;
use atcr_core::{Access, Principal, StoreError};
use atcr_pds::accounts::{Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use atcr_registry::atproto::{
    BlobDelivery, IndexedManifestStore, Network, PdsManifestStore, indexed_identities,
};
use atcr_registry::index::{Index, PageRequest};
use atcr_registry::ingest::{Ingest, IngestOptions, Source};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::databases::{Place, both};
use crate::records::{manifest, tag};

/// How often each method was called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, usize>>>);

impl Counts {
    fn count(&self, router: Router) -> Router {
        let this = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            *this.0.lock().unwrap().entry(request.uri().path().to_owned()).or_default() += 1;
            next.run(request)
        }))
    }

    /// What was asked since the last time, but for what keeps the index current.
    pub(crate) fn asked(&self) -> BTreeMap<String, usize> {
        let mut counts = std::mem::take(&mut *self.0.lock().unwrap());
        counts.retain(|path, _| !path.starts_with("/xrpc/com.atproto.sync."));
        counts
    }
}

/// A port that leads to a server while it is not cut.
struct Wire {
    port: u16,
    server: u16,
    carrying: Option<JoinHandle<()>>,
}

impl Wire {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wire = Self { port: listener.local_addr().unwrap().port(), server, carrying: None };
        wire.carry(listener);
        wire
    }

    fn carry(&mut self, listener: TcpListener) {
        let server = self.server;
        self.carrying = Some(tokio::spawn(async move {
            // All of them end with this task.
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                });
            }
        }));
    }

    async fn cut(&mut self) {
        let carrying = self.carrying.take().unwrap();
        carrying.abort();
        carrying.await.ok();
    }

    async fn mend(&mut self) {
        self.carry(TcpListener::bind(("127.0.0.1", self.port)).await.unwrap());
    }
}

pub(crate) struct World {
    place: Place,
    egress: Egress,
    plc: Url,
    pds: Url,
    wires: [Wire; 2],
    pub(crate) counts: Counts,
    pub(crate) sessions: Arc<AccountSessions>,
    alice: Principal,
    pub(crate) users: Pds,
    /// Goes past the wires that are cut.
    pub(crate) elsewhere: PdsManifestStore,
}

/// A registry process.
pub(crate) struct Registry {
    pub(crate) store: IndexedManifestStore,
    pub(crate) index: Index,
    pub(crate) ingest: Ingest,
    running: Option<JoinHandle<()>>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

fn resolvers(egress: &Egress, plc: &Url, pds: &Url) -> (Arc<dyn DidResolver>, Arc<dyn HandleResolver>) {
    let network =
        NetworkResolver::new(PlcResolver::new(egress.clone(), plc.clone()), WebResolver::new(egress.clone()));
    let dids = CachingResolver::new(network, CacheLimits::default());
    (Arc::new(dids), Arc::new(XrpcHandleResolver::new(egress.clone(), pds.clone())))
}

fn network(egress: &Egress, identities: IdentityResolver, sessions: &Arc<AccountSessions>) -> Network {
    Network {
        egress: egress.clone(),
        identities,
        sessions: Arc::clone(sessions) as Arc<dyn PdsSessions>,
        // Nobody listens on port 1.
        default_hold: "did:web:localhost%3A1".parse().unwrap(),
        delivery: BlobDelivery::Redirect,
        public_url: "https://registry.example".parse().unwrap(),
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn local(port: u16) -> Url {
    format!("http://localhost:{port}").parse().unwrap()
}

impl World {
    pub(crate) async fn new(place: Place) -> Self {
        let counts = Counts::default();
        let serve = |listener, router: Router| {
            let router = counts.count(router);
            tokio::spawn(async move { axum::serve(listener, router).await });
        };
        let (plc_listener, plc_port) = listen().await;
        let directory = Directory::open(None, atcr_pds::Clock::system()).await.unwrap();
        serve(plc_listener, directory.router());
        let (pds_listener, pds_port) = listen().await;
        let wires = [Wire::to(plc_port).await, Wire::to(pds_port).await];
        let (plc, pds) = (local(wires[0].port), local(wires[1].port));
        let users = Pds::open(PdsConfig::new(pds.clone(), Arc::new(directory))).await.unwrap();
        for name in ["alice", "bob"] {
            let (handle, email) = (format!("{name}.test").parse().unwrap(), format!("{name}@example.test"));
            users.ensure_account(&handle, "password", &email).await.unwrap();
        }
        serve(pds_listener, users.router());

        let egress = Egress::new(EgressPolicy::development()).unwrap();
        let (dids, handles) = resolvers(&egress, &plc, &pds);
        let identities = IdentityResolver::new(dids, handles);
        let store = Arc::new(MemorySessionStore::default());
        let sessions =
            AccountSessions::new(identities.clone(), egress.clone(), store, Clock::system()).unwrap();
        let sessions = Arc::new(sessions);
        let alice = Principal::Account(sessions.sign_in("alice.test", "password").await.unwrap());
        let (elsewhere, _) = network(&egress, identities, &sessions).stores();
        Self { place, egress, plc, pds, wires, counts, sessions, alice, users, elsewhere }
    }

    /// A registry that has just started, and follows the PDS.
    async fn start(&self, freshness: Duration) -> Registry {
        let mut registry = self.open(freshness).await;
        registry.run();
        registry
    }

    /// The same before it begins to follow.
    async fn open(&self, freshness: Duration) -> Registry {
        let sources = vec![Source::Host(self.pds.clone())];
        self.open_with(sources, freshness, atcr_pds::Clock::system()).await
    }

    /// One that will follow these, and whose index has this clock.
    pub(crate) async fn open_with(
        &self,
        sources: Vec<Source>,
        freshness: Duration,
        clock: atcr_pds::Clock,
    ) -> Registry {
        let mut options = IngestOptions::default();
        options.sources = sources;
        options.freshness = freshness;
        let (dids, handles) = resolvers(&self.egress, &self.plc, &self.pds);
        let direct = IdentityResolver::new(Arc::clone(&dids), Arc::clone(&handles));
        let index = Index::open_with(&self.place.url, clock).await.unwrap();
        let ingest = Ingest::new(index.clone(), self.egress.clone(), direct, options);
        let known = indexed_identities(&index, &ingest, dids, handles);
        let (store, _) = network(&self.egress, known, &self.sessions).indexed_stores(&index, &ingest);
        Registry { store, index, ingest, running: None }
    }

    pub(crate) fn at(&self, name: &str) -> Access {
        Access::new(self.alice.clone(), format!("alice.test/{name}").parse().unwrap())
    }

    pub(crate) fn did(&self) -> Did {
        self.alice.did().unwrap().clone()
    }

    async fn cut(&mut self) {
        for wire in &mut self.wires {
            wire.cut().await;
        }
    }

    async fn mend(&mut self) {
        for wire in &mut self.wires {
            wire.mend().await;
        }
    }
}

impl Registry {
    pub(crate) fn run(&mut self) {
        self.running = Some(tokio::spawn(self.ingest.clone().run()));
    }

    /// Waits until something holds. What is waited for happens by itself, within seconds.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}: not in time"));
    }

    /// Until the account is known whole, with its identity, and its stream is at work.
    async fn knows(&self, did: &Did) {
        self.until("the account is known", || async {
            let account = self.index.account(did).await.unwrap();
            account.is_some_and(|account| {
                account.complete
                    && account.document.is_some()
                    && self.ingest.freshness().covers(account.pds.as_deref())
            })
        })
        .await;
    }

    pub(crate) async fn tagged(&self, access: &Access, tag: &Tag) -> Option<Digest> {
        match self.store.get(access, &Reference::Tag(tag.clone())).await {
            Ok(manifest) => {
                assert_eq!(Digest::sha256(&manifest.bytes), manifest.digest);
                Some(manifest.digest)
            }
            Err(StoreError::NotFound(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            running.await.ok();
        }
        self.ingest.hand_over().await.unwrap();
        self.index.close().await;
    }
}

/// One whose bytes stand in no record.
fn large() -> Manifest {
    let mut manifest = manifest(0);
    let mut content: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    content["padding"] = "x".repeat(100_000).into();
    manifest.bytes = content.to_string().into();
    manifest.digest = Digest::sha256(&manifest.bytes);
    manifest
}

async fn everything_known(registry: &Registry, world: &World) {
    let (app, latest) = (world.at("app"), tag(0));
    assert_eq!(registry.tagged(&app, &latest).await, Some(manifest(1).digest));
    assert_eq!(registry.tagged(&app, &tag(1)).await, Some(large().digest));
    let by_digest = registry.store.get(&app, &Reference::Digest(manifest(1).digest)).await.unwrap();
    assert_eq!(by_digest, manifest(1));
    let head = registry.store.head(&app, &Reference::Tag(latest)).await.unwrap();
    assert_eq!(head.size, manifest(1).bytes.len() as u64);
    assert_eq!(registry.store.tags(&app, &Page::default()).await.unwrap().items, [tag(0), tag(1)]);
    assert!(registry.store.referrers(&app, &manifest(1).digest).await.unwrap().is_empty());
}

async fn push_both(store: &dyn ManifestStore, world: &World) {
    store.put(&world.at("app"), manifest(1), &[tag(0)]).await.unwrap();
    store.put(&world.at("app"), large(), &[tag(1)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_image_is_pulled_without_asking_anybody() {
    for place in both() {
        let world = World::new(place).await;
        let registry = world.start(Duration::from_secs(60)).await;
        push_both(&registry.store, &world).await;
        registry.knows(&world.did()).await;
        world.counts.asked();
        everything_known(&registry, &world).await;
        assert_eq!(world.counts.asked(), BTreeMap::new());
        registry.stop().await;

        // Nor after a restart.
        let registry = world.start(Duration::from_secs(60)).await;
        registry.knows(&world.did()).await;
        world.counts.asked();
        everything_known(&registry, &world).await;
        assert_eq!(world.counts.asked(), BTreeMap::new());
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_everything_off_what_is_known_is_pulled_and_it_is_right_soon_after() {
    for place in both() {
        let mut world = World::new(place).await;
        push_both(&world.elsewhere, &world).await;
        let registry = world.start(Duration::from_secs(60)).await;
        registry.knows(&world.did()).await;
        everything_known(&registry, &world).await;
        registry.stop().await;
        let history = Duration::ZERO;

        world.cut().await;
        world.counts.asked();
        // It starts while everything is off, and counts nothing as current.
        let registry = world.start(history).await;
        everything_known(&registry, &world).await;
        assert_eq!(world.counts.asked(), BTreeMap::new());
        assert_eq!(registry.tagged(&world.at("app"), &tag(2)).await, None);
        let nobody = Access::anonymous("nobody.test/app".parse().unwrap());
        let answer = registry.store.get(&nobody, &Reference::Tag(tag(0))).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");

        world.mend().await;
        // Another registry pushes; nobody tells this one but the stream.
        world.elsewhere.put(&world.at("app"), manifest(2), &[tag(0)]).await.unwrap();
        world.elsewhere.delete_tag(&world.at("app"), &tag(1)).await.unwrap();
        let (did, name) = (world.did(), "app".parse().unwrap());
        registry
            .until("the index is right", || async {
                let tags =
                    registry.index.tags_by_date(&did, &name, &PageRequest::first(9)).await.unwrap().items;
                tags.len() == 1 && tags[0].digest == Some(manifest(2).digest)
            })
            .await;
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_here_is_read_here_at_once() {
    for place in both() {
        let world = World::new(place).await;
        let registry = world.start(Duration::from_secs(60)).await;
        for n in 0..6 {
            registry.store.put(&world.at("app"), manifest(n % 3), &[tag(0)]).await.unwrap();
            assert_eq!(registry.tagged(&world.at("app"), &tag(0)).await, Some(manifest(n % 3).digest));
        }
        registry.store.delete_tag(&world.at("app"), &tag(0)).await.unwrap();
        assert_eq!(registry.tagged(&world.at("app"), &tag(0)).await, None);
        registry.store.delete(&world.at("app"), &manifest(1).digest).await.unwrap();
        let gone = registry.store.get(&world.at("app"), &Reference::Digest(manifest(1).digest)).await;
        assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
        registry.stop().await;
    }
}

/// A replica that writes to a PDS and is killed before it tells the index leaves a client that tries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_again_is_read_here_at_once_although_its_pds_had_it() {
    for place in both() {
        let world = World::new(place).await;
        let (app, store) = (world.at("app"), &world.elsewhere);
        let mut registry = world.start(Duration::from_secs(60)).await;
        push_both(&registry.store, &world).await;
        registry.knows(&world.did()).await;
        let running = registry.running.take().unwrap();
        running.abort();
        running.await.ok();

        store.put(&app, manifest(2), &[tag(0)]).await.unwrap();
        assert_eq!(registry.tagged(&app, &tag(0)).await, Some(manifest(1).digest), "nobody has told");
        registry.store.put(&app, manifest(2), &[tag(0)]).await.unwrap();
        assert_eq!(registry.tagged(&app, &tag(0)).await, Some(manifest(2).digest));

        store.delete_tag(&app, &tag(1)).await.unwrap();
        assert!(registry.tagged(&app, &tag(1)).await.is_some(), "nobody has told");
        let gone = registry.store.delete_tag(&app, &tag(1)).await;
        assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
        assert_eq!(registry.tagged(&app, &tag(1)).await, None);
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_tag_left_is_removed_for_who_wants_that() {
    let world = World::new(Place::sqlite()).await;
    let registry = world.start(Duration::from_secs(60)).await;
    let app = world.at("app");
    let is_there =
        async |n: usize| registry.store.get(&app, &Reference::Digest(manifest(n).digest)).await.is_ok();
    registry.store.put(&app, manifest(0), &[tag(0)]).await.unwrap();
    registry.store.put(&app, manifest(1), &[tag(0)]).await.unwrap();
    assert!(is_there(0).await, "nobody asked for it");

    let (profile, own) = ("io.atcr.sailor.profile".parse().unwrap(), "self".parse().unwrap());
    let wish = |_: Option<serde_json::Value>| {
        Some(serde_json::json!({
            "$type": "io.atcr.sailor.profile", "createdAt": "2026-06-01T00:00:00Z", "autoRemoveUntagged": true,
        }))
    };
    registry.store.own_records().edit(&world.did(), &profile, &own, &wish).await.unwrap();
    registry.knows(&world.did()).await;
    registry.store.put(&app, manifest(1), &[tag(1)]).await.unwrap();
    registry.store.put(&app, manifest(2), &[tag(0)]).await.unwrap();
    assert!(is_there(1).await, "another tag points at it");
    registry.store.put(&app, manifest(2), &[tag(1)]).await.unwrap();
    assert!(!is_there(1).await);
    assert!(is_there(0).await && is_there(2).await, "only what a tag has left");
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_repository_is_asked_for_once_by_all_who_want_it() {
    let world = World::new(Place::sqlite()).await;
    push_both(&world.elsewhere, &world).await;
    let registry = world.open(Duration::from_secs(60)).await;
    world.counts.asked();
    let (app, latest) = (world.at("app"), Reference::Tag(tag(0)));
    let pulls = (0..50).map(|_| registry.store.get(&app, &latest));
    for pulled in futures_util::future::join_all(pulls).await {
        assert_eq!(pulled.unwrap(), manifest(1));
    }
    let asked = world.counts.asked();
    assert!(asked["/xrpc/com.atproto.repo.getRecord"] <= 4, "{asked:?}");
    let absent = Reference::Tag(tag(2));
    for _ in 0..20 {
        assert!(registry.store.get(&app, &absent).await.is_err());
    }
    let asked = world.counts.asked();
    assert!(asked.values().sum::<usize>() <= 4, "what is not there is remembered: {asked:?}");
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_one_stream_and_what_they_push() {
    let world = World::new(Place::postgres()).await;
    let (one, two) = (world.start(Duration::from_secs(60)).await, world.start(Duration::from_secs(60)).await);
    for n in 0..6 {
        let (here, there) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        here.store.put(&world.at("app"), manifest(n % 3), &[tag(0)]).await.unwrap();
        assert_eq!(there.tagged(&world.at("app"), &tag(0)).await, Some(manifest(n % 3).digest));
    }
    one.knows(&world.did()).await;
    let streams = world.counts.0.lock().unwrap().get("/xrpc/com.atproto.sync.subscribeRepos").copied();
    assert_eq!(streams, Some(1));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_switched_off_is_gone_until_it_is_back() {
    let world = World::new(Place::sqlite()).await;
    let registry = world.start(Duration::from_secs(60)).await;
    push_both(&registry.store, &world).await;
    registry.knows(&world.did()).await;
    let did = world.did();
    let active = |active: bool| {
        let (registry, did) = (&registry, &did);
        move || async move { registry.index.account(did).await.unwrap().unwrap().active == active }
    };
    world.users.repos().set_status(&did, atcr_pds::store::RepoStatus::Deactivated).await.unwrap();
    registry.until("it is away", active(false)).await;
    assert!(registry.index.recent(&PageRequest::first(9)).await.unwrap().items.is_empty());
    world.users.repos().set_status(&did, atcr_pds::store::RepoStatus::Active).await.unwrap();
    registry.until("it is back", active(true)).await;
    registry.knows(&did).await;
    everything_known(&registry, &world).await;
    registry.stop().await;
}
