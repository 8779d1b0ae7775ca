//! One session, many processes, `kill -9`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::oauth::{ClientKeys, ClientRegistration, Es256Key};
use atcr_auth::pds_session::{SealingKey, SqliteSessionStore};
use atcr_auth::{AccountSessions, Clock, OAuthClient, PdsSessions as _, SessionError};
use atcr_core::did_resolver::{
    CacheLimits, CachingResolver, IdentityResolver, PlcResolver, XrpcHandleResolver,
};
use atcr_core::egress::{Egress, EgressPolicy};
use serde_json::Value;

use super::world::*;

const KEY: [u8; 32] = [7; 32];
const OK: &str = "done";
const GONE: &str = "no session";
/// What a process says begins with this; the test harness around it says other things.
const SAYS: &str = "says: ";

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn open(path: &Path) -> SqliteSessionStore {
    SqliteSessionStore::open(path, SealingKey::new(&KEY)).await.unwrap()
}

/// A registry's process: for each line that it reads it does something in the account's name, and says how that went.
#[tokio::test]
#[ignore = "a process that the other tests start"]
async fn process() {
    let text = std::env::var("ATCR_TEST_PROCESS").expect("started by the other tests");
    let given: Value = serde_json::from_str(&text).unwrap();
    let text = |name: &str| given[name].as_str().unwrap();
    let store = open(text("store").as_ref()).await;
    let mut policy = EgressPolicy::development();
    policy.total_timeout = Duration::from_secs(5);
    let egress = Egress::new(policy).unwrap();
    let ahead = given["ahead"].as_i64().unwrap();
    let clock = if ahead == 0 { Clock::system() } else { Clock::manual(Clock::system().unix() + ahead) };
    let keys = ClientKeys::new(Es256Key::generate().unwrap());
    let registration = ClientRegistration::new(&REGISTRY.parse().unwrap(), "ATCR test", keys).unwrap();
    let plc = PlcResolver::new(egress.clone(), text("plc").parse().unwrap());
    let handles = XrpcHandleResolver::new(egress.clone(), text("pds").parse().unwrap());
    let dids = CachingResolver::new(plc, CacheLimits::default());
    let identities = IdentityResolver::new(Arc::new(dids), Arc::new(handles));
    let client = OAuthClient::new(registration, egress.clone(), clock.clone());
    let sessions = AccountSessions::new(identities, egress, Arc::new(store), clock).unwrap();
    let sessions = sessions.with_oauth(client);
    let did = text("did").parse().unwrap();
    println!("\n{SAYS}ready");
    for order in std::io::stdin().lines() {
        order.unwrap();
        match sessions.query(&did, "com.atproto.server.getSession", &[]).await {
            Ok(_) => println!("{SAYS}{OK}"),
            Err(SessionError::NoSession(_)) => println!("{SAYS}{GONE}"),
            Err(error) => println!("{SAYS}{error}"),
        }
    }
}

/// One of them, from outside.
struct Process {
    child: Child,
    orders: ChildStdin,
    answers: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Process {
    async fn start(world: &World, store: &Path, ahead: i64) -> Self {
        let given = serde_json::json!({
            "store": store, "ahead": ahead, "pds": world.url, "plc": world.plc, "did": world.alice,
        });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["oauth::many_processes::process", "--exact", "--ignored", "--nocapture"])
            .env("ATCR_TEST_PROCESS", given.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                let Ok(line) = line else { return };
                let said = line.split_once(SAYS).map(|(_, said)| said.to_owned());
                if said.is_some_and(|said| sender.send(said).is_err()) {
                    return;
                }
            }
        });
        let ready = async { while answers.recv().await.expect("the process starts") != "ready" {} };
        tokio::time::timeout(Duration::from_secs(60), ready).await.expect("the process starts");
        let orders = child.stdin.take().unwrap();
        Self { child, orders, answers }
    }

    fn order(&mut self) {
        self.orders.write_all(b"go\n").unwrap();
    }

    /// How its order went; nothing when it has died.
    async fn answer(&mut self) -> Option<String> {
        let answer = tokio::time::timeout(Duration::from_secs(90), self.answers.recv());
        answer.await.expect("nobody hangs")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn sign_in(world: &World, registry: &Registry) {
    registry.sign_in(world, &mut registry.visitor(), ALICE).await;
}

/// Makes the session need a refresh; gives the tokens spent so far.
async fn expire(world: &World, registry: &Registry) -> usize {
    let (mut session, _) = registry.store.get(&world.alice).await.unwrap().expect("a session");
    session.oauth.as_mut().unwrap().expires_at = 0;
    registry.store.put(&session).await.unwrap();
    world.wire.successes(TOKEN)
}

/// `ATCR_REFRESH_PROCESSES=64 ATCR_REFRESH_ROUNDS=1000` is the full measure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_round_one_process_of_many_redeems_the_token_and_deaths_cost_a_sign_in_at_most() {
    let (processes, rounds) = (number("ATCR_REFRESH_PROCESSES", 8), number("ATCR_REFRESH_ROUNDS", 20));
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    let keys = ClientKeys::new(Es256Key::generate().unwrap());
    let registry = world.registry_with(REGISTRY, Arc::new(open(&path).await), keys);
    sign_in(&world, &registry).await;
    let mut all = Vec::new();
    for _ in 0..processes {
        all.push(Process::start(&world, &path, 0).await);
    }
    // So often half of them die while they are at it.
    let deadly_each = (rounds / 10).max(10);
    let (mut killed, mut lost) = (0, 0);
    for round in 1..=rounds {
        let before = expire(&world, &registry).await;
        for process in &mut all {
            process.order();
        }
        let deadly = round % deadly_each == 0;
        if deadly {
            // In every other one, not before the server has answered somebody.
            while round % (2 * deadly_each) == 0 && world.wire.successes(TOKEN) == before {
                tokio::task::yield_now().await;
            }
            for process in all.iter_mut().step_by(2) {
                process.kill();
                killed += 1;
            }
        }
        let mut answers = Vec::new();
        for (n, process) in all.iter_mut().enumerate() {
            if !(deadly && n % 2 == 0) {
                answers.push(process.answer().await.expect("a live process answers"));
            }
        }
        let redeemed = world.wire.successes(TOKEN) - before;
        if deadly {
            // A process that died with the answer in its hands has spent the token, and nobody else knows: the next
            // one presents it once more, is refused, and all hear the same.
            assert_eq!(redeemed, 1, "round {round}: {answers:?}");
            let same =
                answers.iter().all(|answer| *answer == OK) || answers.iter().all(|answer| *answer == GONE);
            assert!(same, "round {round}: {answers:?}");
            if answers.iter().any(|answer| answer == GONE) {
                lost += 1;
                sign_in(&world, &registry).await;
            }
            for process in all.iter_mut().step_by(2) {
                *process = Process::start(&world, &path, 0).await;
            }
        } else {
            assert_eq!(redeemed, 1, "round {round}: {answers:?}");
            assert!(answers.iter().all(|answer| answer == OK), "round {round}: {answers:?}");
        }
    }
    println!("{processes} processes, {rounds} rounds, {killed} killed, {lost} sessions lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_between_answer_and_save_leaves_a_lease_that_runs_out() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    let keys = ClientKeys::new(Es256Key::generate().unwrap());
    let registry = world.registry_with(REGISTRY, Arc::new(open(&path).await), keys);
    sign_in(&world, &registry).await;
    let before = expire(&world, &registry).await;
    world.wire.lie_once(TOKEN, Lie::Never);
    let mut first = Process::start(&world, &path, 0).await;
    first.order();
    while world.wire.successes(TOKEN) == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.kill();
    // By the clock of the second one the lease has run out. It is the reference's rule that a token which comes twice
    // ends its session: whoever asks is told to sign in again, and nobody hangs.
    let mut second = Process::start(&world, &path, 60).await;
    second.order();
    assert_eq!(second.answer().await.as_deref(), Some(GONE));
    assert_eq!(world.wire.successes(TOKEN) - before, 1, "the server gave tokens once");
    sign_in(&world, &registry).await;
    second.order();
    assert_eq!(second.answer().await.as_deref(), Some(OK));
}
