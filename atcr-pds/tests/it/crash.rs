//! What was acknowledged survives the death of the process.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_pds::{MemoryKeys, NewRepo, Swap};

use crate::world::{Follower, World, did, put};

const FILE: &str = "ATCR_PDS_CRASH_DATABASE";

fn keys() -> (Arc<MemoryKeys>, SigningKey) {
    let key = SigningKey::from_bytes(Curve::K256, &[7; 32]).unwrap();
    let keys = MemoryKeys::default();
    keys.insert(did("alice"), key.clone());
    (Arc::new(keys), key)
}

/// The process that is killed: writes without end from several tasks and says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child process of acknowledged_writes_survive_a_kill"]
async fn writer_process() {
    let file = PathBuf::from(std::env::var_os(FILE).expect("started by the test"));
    let world = World::at(&file, keys().0).await;
    let did = did("alice");
    if world.repos.info(&did).await.unwrap().is_none() {
        world.repos.create(&did, NewRepo::default()).await.unwrap();
    }
    let round = world.repos.event_window().await.unwrap().end().to_string();
    let tasks = (0..8).map(|task| {
        let (repos, did, round) = (world.repos.clone(), did.clone(), round.clone());
        tokio::spawn(async move {
            for n in 0.. {
                let rkey = format!("r{round}-t{task}-{n}");
                repos.apply_writes(&did, vec![put(&rkey, &rkey)], Swap::Anything).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "done {rkey}").and_then(|()| out.flush()).unwrap();
            }
        })
    });
    futures_util::future::join_all(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let (keys, key) = keys();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::writer_process", "--ignored", "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let enough = acknowledged.len() + 60 + 37 * round;
        // The harness prints the name of the test on the same line, before the first word.
        let mut take = |lines: &mut dyn Iterator<Item = std::io::Result<String>>, all: bool| {
            while all || acknowledged.len() < enough {
                let Some(Ok(line)) = lines.next() else { break };
                if let Some((_, rkey)) = line.split_once("done ") {
                    acknowledged.push(rkey.to_owned());
                }
            }
        };
        take(&mut lines, false);
        child.kill().unwrap();
        take(&mut lines, true);
        assert!(!child.wait().unwrap().success());

        let world = World::at(&file, keys.clone()).await;
        let records = world.verify(&did("alice"), &key.public_key()).await;
        assert!(acknowledged.len() >= enough);
        for rkey in &acknowledged {
            assert!(records.contains_key(&format!("com.example.note/{rkey}")), "{rkey} is lost");
        }
        let mut follower = Follower::default();
        follower.follow(&world.repos, &HashMap::from([(did("alice"), key.public_key())])).await;
        assert_eq!(follower.repos[&did("alice")].records, records);
        world.store.close().await;
    }
}
