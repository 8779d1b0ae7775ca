//! A did:plc hold, and a directory that is there, is not there, is slow, or lies.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atcr_core::crypto::{Curve, PublicKey, SigningKey};
use atcr_core::did_resolver::StaticResolver;
use atcr_core::syntax::Did;
use atcr_hold::identity::{self, IdentityError, IdentityMethod, PlcIdentity, UpdateOptions};
use atcr_hold::{Hold, HoldConfig, HoldError};
use atcr_pds::plc::directory::Directory;
use atcr_pds::plc::{LogEntry, Operation, PlcDirectory, PlcError, PlcService, PlcState, validate_log};
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::{Commit, EventKind};
use atcr_pds::{Clock, Swap};
use tempfile::TempDir;
use tokio::sync::Notify;

/// How the directory behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mood {
    Well,
    Down,
    /// Takes an operation and never answers.
    Silent,
    /// Takes an operation, and the answer is lost.
    Forgetful,
    /// Gives this in place of the log.
    Lying(Vec<LogEntry>),
}

struct Peer {
    directory: Directory,
    mood: Mutex<Mood>,
    took: Notify,
}

impl Peer {
    async fn new() -> Arc<Self> {
        let directory = Directory::open(None, Clock::system()).await.unwrap();
        Arc::new(Self { directory, mood: Mutex::new(Mood::Well), took: Notify::new() })
    }

    fn mood(&self) -> Mood {
        self.mood.lock().unwrap().clone()
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn log(&self, did: &Did) -> Vec<LogEntry> {
        self.directory.audit_log(did).await.unwrap()
    }

    async fn state(&self, did: &Did) -> PlcState {
        validate_log(did, &self.log(did).await).unwrap().unwrap()
    }
}

fn down() -> PlcError {
    PlcError::Unavailable("nobody answers".into())
}

#[async_trait]
impl PlcDirectory for Peer {
    async fn submit(&self, did: &Did, operation: &Operation) -> Result<(), PlcError> {
        let mood = self.mood();
        if mood == Mood::Down {
            return Err(down());
        }
        self.directory.submit(did, operation).await?;
        self.took.notify_one();
        match mood {
            Mood::Silent => std::future::pending().await,
            Mood::Forgetful => Err(down()),
            _ => Ok(()),
        }
    }

    async fn audit_log(&self, did: &Did) -> Result<Vec<LogEntry>, PlcError> {
        match self.mood() {
            Mood::Down => Err(down()),
            Mood::Lying(log) => Ok(log),
            _ => self.directory.audit_log(did).await,
        }
    }

    async fn last(&self, did: &Did) -> Result<Operation, PlcError> {
        self.directory.last(did).await
    }

    async fn document(&self, did: &Did) -> Result<serde_json::Value, PlcError> {
        self.directory.document(did).await
    }
}

/// A hold that is to have a did:plc.
struct World {
    directory: TempDir,
    peer: Arc<Peer>,
    config: HoldConfig,
}

const URL: &str = "https://hold.example.com";

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut PlcIdentity)) -> Self {
        let (directory, peer) = (tempfile::tempdir().unwrap(), Peer::new().await);
        let mut plc = PlcIdentity::new(peer.clone());
        change(&mut plc);
        let data = directory.path().join("hold");
        let mut config = HoldConfig::new(URL.parse().unwrap(), data, "did:plc:alice".parse().unwrap());
        config.identity = IdentityMethod::Plc(plc);
        Self { directory, peer, config }
    }

    async fn open(&self) -> Result<Hold, HoldError> {
        Hold::open(self.config.clone(), Arc::new(StaticResolver::default())).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.config.data_dir.join(name)
    }

    fn plc(&mut self) -> &mut PlcIdentity {
        let IdentityMethod::Plc(plc) = &mut self.config.identity else { panic!("a did:plc") };
        plc
    }

    /// Another signing key in the place of the first.
    fn replace_signing_key(&self) -> PublicKey {
        let key = SigningKey::generate(Curve::K256).unwrap();
        std::fs::write(self.path("signing.key"), key.to_bytes()).unwrap();
        key.public_key()
    }

    /// A DID that somebody has made elsewhere.
    async fn foreign(&self, rotation: &SigningKey) -> (Did, Operation) {
        let endpoint = "https://pds.example.com".to_owned();
        let kind = "AtprotoPersonalDataServer".to_owned();
        let state = PlcState {
            rotation_keys: vec![rotation.public_key().to_did_key()],
            verification_methods: [("atproto".to_owned(), rotation.public_key().to_did_key())].into(),
            also_known_as: vec!["at://hold.example.org".to_owned(), "https://hold.example.org".to_owned()],
            services: [("atproto_pds".to_owned(), PlcService { kind, endpoint })].into(),
        };
        let (did, genesis) = state.genesis(rotation);
        self.peer.directory.submit(&did, &genesis).await.unwrap();
        (did, genesis)
    }
}

fn identity_error(error: HoldError) -> IdentityError {
    match error {
        HoldError::Identity(error) => error,
        error => panic!("{error}"),
    }
}

/// The kinds of the events behind `seq`.
async fn events(hold: &Hold, seq: u64) -> Vec<EventKind> {
    hold.repos().events_after(seq, 100).await.unwrap().iter().map(|event| event.kind).collect()
}

fn newest(hold: &Hold) -> u64 {
    *hold.repos().subscribe().borrow()
}

/// Whether the newest commit is signed by the key that the directory has.
async fn verify_head(hold: &Hold, key: &str) {
    let head = hold.repos().info(hold.did()).await.unwrap().unwrap().head;
    let car = hold.repos().get_blocks(hold.did(), &[head.cid]).await.unwrap();
    let car = read_slice(car, CarLimits::default()).unwrap();
    let commit = Commit::decode(car.block(&head.cid).unwrap()).unwrap();
    commit.verify(hold.did(), &PublicKey::from_did_key(key).unwrap()).unwrap();
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_did_plc_is_registered_once_and_stays() {
    let world = World::new().await;
    let hold = world.open().await.unwrap();
    let did = hold.did().clone();
    assert_eq!(std::fs::read_to_string(world.path("did.txt")).unwrap(), format!("{did}\n"));
    assert_eq!(mode(&world.path("rotation.key")), 0o600);
    let state = world.peer.state(&did).await;
    assert_eq!(state.also_known_as, ["at://hold.example.com"]);
    assert_eq!(state.services["atproto_pds"].kind, "AtprotoPersonalDataServer");
    assert_eq!(state.services["atcr_hold"].kind, "AtcrHoldService");
    assert_eq!(state.services["atcr_hold"].endpoint, URL);
    assert_eq!(state.rotation_keys.len(), 1);
    verify_head(&hold, &state.verification_methods["atproto"]).await;
    let seq = newest(&hold);
    drop(hold);
    // The key that signs operations is needed only when there is something to sign.
    std::fs::remove_file(world.path("rotation.key")).unwrap();
    let hold = world.open().await.unwrap();
    assert_eq!((hold.did(), newest(&hold)), (&did, seq));
    assert_eq!(world.peer.log(&did).await.len(), 1);
    assert!(!world.path("rotation.key").exists(), "a new one could sign nothing");
}

#[tokio::test]
async fn no_end_of_the_first_start_makes_a_second_identity() {
    let world = World::new().await;
    world.peer.be(Mood::Down);
    let error = identity_error(world.open().await.unwrap_err());
    assert!(error.is_transient(), "{error}");
    let genesis: Operation =
        serde_json::from_slice(&std::fs::read(world.path("plc-genesis.json")).unwrap()).unwrap();
    assert!(!world.path("did.txt").exists());

    // The directory takes the operation, and the process dies before it hears of it.
    world.peer.be(Mood::Silent);
    let (config, resolver) = (world.config.clone(), Arc::new(StaticResolver::default()));
    let opening = tokio::spawn(async move { Hold::open(config, resolver).await });
    world.peer.took.notified().await;
    opening.abort();
    assert!(opening.await.unwrap_err().is_cancelled());
    assert!(!world.path("did.txt").exists());

    world.peer.be(Mood::Well);
    let hold = world.open().await.unwrap();
    assert_eq!(*hold.did(), genesis.did());
    assert_eq!(world.peer.log(hold.did()).await.len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again() {
    let mut world = World::new().await;
    world.peer.be(Mood::Forgetful);
    assert!(identity_error(world.open().await.unwrap_err()).is_transient());
    // The configuration may change in between: the identity stays, and is brought up to date.
    world.config.public_url = "https://other.example.com".parse().unwrap();
    let recovery = SigningKey::generate(Curve::P256).unwrap().public_key();
    world.plc().recovery_key = Some(recovery.clone());
    world.peer.be(Mood::Well);
    let hold = world.open().await.unwrap();
    assert_eq!(world.peer.log(hold.did()).await.len(), 2);
    let state = world.peer.state(hold.did()).await;
    assert_eq!(state.services["atproto_pds"].endpoint, "https://other.example.com");
    assert_eq!(state.rotation_keys[0], recovery.to_did_key());
}

#[tokio::test]
async fn the_document_follows_the_public_url() {
    let mut world = World::new().await;
    let hold = world.open().await.unwrap();
    let (did, seq) = (hold.did().clone(), newest(&hold));
    drop(hold);
    world.config.public_url = "https://new.example.com".parse().unwrap();
    let hold = world.open().await.unwrap();
    assert_eq!(events(&hold, seq).await, [EventKind::Identity]);
    let state = world.peer.state(&did).await;
    for service in ["atproto_pds", "atcr_hold"] {
        assert_eq!(state.services[service].endpoint, "https://new.example.com");
    }
    assert_eq!(state.also_known_as, ["at://new.example.com"]);
    drop(hold);
    let hold = world.open().await.unwrap();
    assert_eq!((hold.did(), events(&hold, seq).await.len(), world.peer.log(&did).await.len()), (&did, 1, 2));
}

#[tokio::test]
async fn followers_are_told_though_the_process_died_after_the_update() {
    let mut world = World::new().await;
    let hold = world.open().await.unwrap();
    let seq = newest(&hold);
    drop(hold);
    world.config.public_url = "https://new.example.com".parse().unwrap();
    // The directory has the update, the hold never came to its repo.
    world.peer.be(Mood::Silent);
    let (config, resolver) = (world.config.clone(), Arc::new(StaticResolver::default()));
    let opening = tokio::spawn(async move { Hold::open(config, resolver).await });
    world.peer.took.notified().await;
    opening.abort();
    let _ = opening.await;
    world.peer.be(Mood::Well);
    let hold = world.open().await.unwrap();
    assert_eq!(events(&hold, seq).await, [EventKind::Identity]);
    assert_eq!(world.peer.log(hold.did()).await.len(), 2);
}

#[tokio::test]
async fn a_known_hold_starts_while_the_directory_is_down_and_asks_again() {
    let mut world = World::new().await;
    let hold = world.open().await.unwrap();
    let (did, seq) = (hold.did().clone(), newest(&hold));
    drop(hold);
    world.config.public_url = "https://new.example.com".parse().unwrap();
    world.peer.be(Mood::Down);
    let hold = world.open().await.unwrap();
    assert_eq!((hold.did(), newest(&hold)), (&did, seq));
    let mut changes = hold.repos().subscribe();
    world.peer.be(Mood::Well);
    tokio::select! {
        () = hold.maintain() => {}
        changed = changes.wait_for(|newest| *newest > seq) => drop(changed.unwrap()),
    }
    assert_eq!(events(&hold, seq).await, [EventKind::Identity]);
    assert_eq!(world.peer.state(&did).await.services["atcr_hold"].endpoint, "https://new.example.com");
}

#[tokio::test]
async fn a_replaced_signing_key_is_published_and_then_signs() {
    let world = World::new().await;
    let hold = world.open().await.unwrap();
    let (did, seq) = (hold.did().clone(), newest(&hold));
    drop(hold);
    let old = std::fs::read(world.path("signing.key")).unwrap();
    let new = world.replace_signing_key();

    // Nobody could verify what it signs.
    world.peer.be(Mood::Down);
    let error = identity_error(world.open().await.unwrap_err());
    assert!(matches!(&error, IdentityError::KeyNotPublished { .. }), "{error}");
    let replaced = std::fs::read(world.path("signing.key")).unwrap();
    std::fs::write(world.path("signing.key"), &old).unwrap();
    let hold = world.open().await.unwrap();
    assert_eq!(newest(&hold), seq, "the old key goes on");
    drop(hold);

    std::fs::write(world.path("signing.key"), replaced).unwrap();
    world.peer.be(Mood::Well);
    let hold = world.open().await.unwrap();
    assert_eq!(events(&hold, seq).await, [EventKind::Identity, EventKind::Commit]);
    assert_eq!(world.peer.state(&did).await.verification_methods["atproto"], new.to_did_key());
    verify_head(&hold, &new.to_did_key()).await;
    drop(hold);
    let hold = world.open().await.unwrap();
    assert_eq!(events(&hold, seq).await.len(), 2, "once");
}

#[tokio::test]
async fn a_did_web_hold_tells_of_its_new_key_too() {
    let mut world = World::new().await;
    world.config.identity = IdentityMethod::Web;
    let hold = world.open().await.unwrap();
    let seq = newest(&hold);
    drop(hold);
    let new = world.replace_signing_key();
    let hold = world.open().await.unwrap();
    assert_eq!(events(&hold, seq).await, [EventKind::Identity, EventKind::Commit]);
    verify_head(&hold, &new.to_did_key()).await;
}

#[tokio::test]
async fn a_did_that_exists_is_adopted_with_its_rotation_key() {
    let mut world = World::new().await;
    let rotation = SigningKey::generate(Curve::P256).unwrap();
    let (did, _) = world.foreign(&rotation).await;
    world.plc().did = Some(did.clone());
    let path = world.directory.path().join("mine.key");
    std::fs::write(&path, rotation.to_multikey()).unwrap();
    world.plc().rotation_key = Some(path);
    let hold = world.open().await.unwrap();
    assert_eq!(*hold.did(), did);
    let state = world.peer.state(&did).await;
    assert_eq!(state.also_known_as, ["at://hold.example.com", "https://hold.example.org"]);
    assert_eq!(state.services["atcr_hold"].endpoint, URL);
    verify_head(&hold, &state.verification_methods["atproto"]).await;
    drop(hold);
    // It is the data directory's from now on.
    world.plc().did = None;
    assert_eq!(*world.open().await.unwrap().did(), did);
    world.plc().did = Some("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap());
    let error = identity_error(world.open().await.unwrap_err());
    assert!(matches!(error, IdentityError::OtherDid { .. }), "{error}");
}

#[tokio::test]
async fn without_a_rotation_key_it_says_what_somebody_has_to_sign() {
    let mut world = World::new().await;
    let rotation = SigningKey::generate(Curve::K256).unwrap();
    let (did, genesis) = world.foreign(&rotation).await;
    world.plc().did = Some(did.clone());
    let error = identity_error(world.open().await.unwrap_err());
    let text = error.to_string();
    let IdentityError::NeedsSignature { operation, .. } = error else { panic!("{error}") };
    assert!(text.contains("https://pds.example.com") && text.contains(&genesis.cid().to_string()), "{text}");
    assert!(operation.get("sig").is_none());
    assert!(!world.path("did.txt").exists() && !world.path("rotation.key").exists());

    // Somebody signs just that, and it starts.
    let state: PlcState = serde_json::from_value(operation).unwrap();
    let signed = state.follow(&genesis, &rotation);
    let report = identity::submit(&world.config, &signed).await.unwrap();
    assert!(report.plc.unwrap().differences.is_empty());
    assert_eq!(*world.open().await.unwrap().did(), did);
}

#[tokio::test]
async fn what_does_not_follow_from_signatures_is_not_believed() {
    let world = World::new().await;
    let hold = world.open().await.unwrap();
    let (did, seq) = (hold.did().clone(), newest(&hold));
    drop(hold);
    let log = world.peer.log(&did).await;
    let stranger = SigningKey::generate(Curve::K256).unwrap();
    let (other, _) = world.foreign(&stranger).await;
    let of_another = world.peer.log(&other).await;
    let under_our_name = of_another.iter().cloned().map(|entry| LogEntry { did: did.clone(), ..entry });
    let mut with_other_keys = log.clone();
    let Operation::Update(update) = &mut with_other_keys[0].operation else { panic!("an update") };
    update.verification_methods.insert("atproto".into(), stranger.public_key().to_did_key());
    with_other_keys[0].cid = with_other_keys[0].operation.cid().to_string();
    let mut continued = log.clone();
    let state = world.peer.state(&did).await.follow(&log[0].operation, &stranger);
    continued.push(LogEntry { cid: state.cid().to_string(), operation: state, ..log[0].clone() });
    for lie in [of_another.clone(), under_our_name.collect(), with_other_keys, continued, Vec::new()] {
        world.peer.be(Mood::Lying(lie));
        let error = identity_error(world.open().await.unwrap_err());
        assert!(matches!(error, IdentityError::Untrue { .. }), "{error}");
    }
    // A log that is true but old leads to an operation that the directory does not take; nothing is lost.
    world.peer.be(Mood::Well);
    let hold = world.open().await.unwrap();
    assert_eq!((hold.did(), newest(&hold), world.peer.log(&did).await.len()), (&did, seq, 1));
}

#[tokio::test]
async fn a_directory_that_has_forgotten_the_did_is_told_again() {
    let mut world = World::new().await;
    let did = world.open().await.unwrap().did().clone();
    world.config.public_url = "https://new.example.com".parse().unwrap();
    drop(world.open().await.unwrap());
    world.peer = Peer::new().await;
    let peer = world.peer.clone();
    world.plc().directory = peer;
    let hold = world.open().await.unwrap();
    assert_eq!((hold.did(), world.peer.log(&did).await.len()), (&did, 2));
    assert_eq!(world.peer.state(&did).await.services["atcr_hold"].endpoint, "https://new.example.com");
}

#[tokio::test]
async fn a_did_that_was_given_up_or_is_unknown_is_no_identity() {
    let mut world = World::new().await;
    let rotation = SigningKey::generate(Curve::K256).unwrap();
    let (did, genesis) = world.foreign(&rotation).await;
    world.peer.directory.submit(&did, &Operation::tombstone(&genesis, &rotation)).await.unwrap();
    world.plc().did = Some(did);
    let error = identity_error(world.open().await.unwrap_err());
    assert!(matches!(error, IdentityError::Tombstoned { .. }), "{error}");
    world.plc().did = Some("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap());
    let error = identity_error(world.open().await.unwrap_err());
    assert!(matches!(error, IdentityError::NotRegistered { .. }), "{error}");
    world.plc().did = Some("did:web:hold.example.com".parse().unwrap());
    let error = identity_error(world.open().await.unwrap_err());
    assert!(matches!(error, IdentityError::NotPlc { .. }), "{error}");
}

#[tokio::test]
async fn a_data_directory_has_one_identity() {
    let mut world = World::new().await;
    let plc = world.config.identity.clone();
    world.config.identity = IdentityMethod::Web;
    drop(world.open().await.unwrap());
    world.config.identity = plc;
    let error = world.open().await.unwrap_err();
    assert!(matches!(error, HoldError::OtherIdentity { .. }), "{error}");
    world.config.identity = IdentityMethod::Web;
    world.config.public_url = "https://new.example.com".parse().unwrap();
    let error = world.open().await.unwrap_err();
    assert!(error.to_string().contains("did:web:hold.example.com"), "{error}");
    world.config.public_url = URL.parse().unwrap();
    world.open().await.unwrap();
}

#[tokio::test]
async fn the_operators_key_takes_a_lost_rotation_key_out() {
    let recovery = SigningKey::generate(Curve::K256).unwrap();
    let world = World::with(|plc| plc.recovery_key = Some(recovery.public_key())).await;
    let hold = world.open().await.unwrap();
    let did = hold.did().clone();
    let [first, lost] = &world.peer.state(&did).await.rotation_keys[..] else { panic!("two keys") };
    assert_eq!(*first, recovery.public_key().to_did_key());
    let busy = identity::update(&world.config, UpdateOptions::default()).await.unwrap_err();
    assert!(matches!(busy, HoldError::InUse { .. }), "{busy}");
    drop(hold);

    let new = SigningKey::generate(Curve::K256).unwrap();
    std::fs::write(world.path("rotation.key"), new.to_multikey()).unwrap();
    let mut options = UpdateOptions::default();
    options.drop_rotation_keys = vec![lost.clone()];
    let error = identity_error(identity::update(&world.config, options.clone()).await.unwrap_err());
    assert!(matches!(error, IdentityError::NeedsSignature { .. }), "{error}");
    options.sign_with = Some(recovery.clone());
    let mut all = options.clone();
    all.drop_rotation_keys.extend([first.clone(), new.public_key().to_did_key()]);
    let error = identity_error(identity::update(&world.config, all).await.unwrap_err());
    assert!(matches!(error, IdentityError::NoRotationKey { .. }), "{error}");
    let report = identity::update(&world.config, options).await.unwrap().plc.unwrap();
    let keys = [&recovery, &new].map(|key| key.public_key().to_did_key());
    assert_eq!(report.state.unwrap().rotation_keys, keys);
    assert!(report.may_sign && report.differences.is_empty());
    assert_eq!(*world.open().await.unwrap().did(), did);
}

#[tokio::test]
async fn what_is_shown_is_found_without_touching_anything() {
    let mut world = World::new().await;
    let report = identity::inspect(&world.config).await.unwrap();
    assert!(report.did.is_none() && !world.config.data_dir.exists());
    let hold = world.open().await.unwrap();
    world.config.public_url = "https://new.example.com".parse().unwrap();
    let report = identity::inspect(&world.config).await.unwrap();
    let plc = report.plc.unwrap();
    let fields: Vec<&str> = plc.differences.iter().map(|difference| &*difference.field).collect();
    assert_eq!(fields, ["services.atcr_hold", "services.atproto_pds", "alsoKnownAs"]);
    assert!(plc.may_sign && plc.operation.is_some());
    assert_eq!(world.peer.log(hold.did()).await.len(), 1);
    world.peer.be(Mood::Down);
    let plc = identity::inspect(&world.config).await.unwrap().plc.unwrap();
    assert!(plc.state.is_none() && plc.problem.is_some());
}

/// Copies a folder with databases that are just being closed. What their logs say goes over into them before a log is
/// taken away, so the logs are copied first.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let entries = || std::fs::read_dir(from).unwrap().map(Result::unwrap);
    let ends = |name: &OsStr, end: &str| name.to_string_lossy().ends_with(end);
    for log in entries().filter(|entry| ends(&entry.file_name(), "-wal")) {
        match std::fs::copy(log.path(), to.join(log.file_name())) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
    for entry in entries() {
        let name = entry.file_name();
        if ["-wal", "-shm"].iter().any(|end| ends(&name, end)) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn after_an_old_backup_revisions_go_on_growing() {
    let world = World::new().await;
    let hold = world.open().await.unwrap();
    let did = hold.did().clone();
    drop(hold);
    let backup = world.directory.path().join("backup");
    copy(&world.config.data_dir, &backup);
    let hold = world.open().await.unwrap();
    for _ in 0..3 {
        hold.repos().apply_writes(&did, Vec::new(), Swap::Anything).await.unwrap();
    }
    let (rev, seq) = (hold.repos().info(&did).await.unwrap().unwrap().head.rev, newest(&hold));
    drop(hold);
    std::fs::remove_dir_all(&world.config.data_dir).unwrap();
    copy(&backup, &world.config.data_dir);
    let hold = world.open().await.unwrap();
    assert_eq!(*hold.did(), did);
    // Followers who have seen more are told so (FutureCursor), and begin anew.
    assert!(newest(&hold) < seq);
    hold.repos().apply_writes(&did, Vec::new(), Swap::Anything).await.unwrap();
    assert!(hold.repos().info(&did).await.unwrap().unwrap().head.rev > rev);
}
