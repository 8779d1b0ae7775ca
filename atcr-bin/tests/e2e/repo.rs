//! `atcr-hold repo export` and `repo import`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::Did;
use atcr_pds::repo::{Page, RecordPath};
use atcr_pds::{Expect, MemoryKeys, NewRepo, Repos, SqliteStore, Swap, Write};
use serde_json::json;

use crate::support::HoldProcess;

/// A CAR file with this many records of a repo that is none of ours.
async fn car(dir: &Path, count: u32) -> PathBuf {
    let did: Did = "did:web:other.example.com".parse().unwrap();
    let keys = MemoryKeys::default();
    keys.insert(did.clone(), SigningKey::generate(Curve::K256).unwrap());
    let folder = dir.join("source");
    std::fs::create_dir_all(&folder).unwrap();
    let store = SqliteStore::open(&folder.join("repo.db")).await.unwrap();
    let repos = Repos::open(Arc::new(store), Arc::new(keys)).await.unwrap();
    repos.create(&did, NewRepo::default()).await.unwrap();
    for first in (0..count).step_by(200) {
        let write = |n: u32| Write::Put {
            collection: "com.example.note".parse().unwrap(),
            rkey: format!("k{n:06}").parse().unwrap(),
            value: atcr_pds::cbor::json::record_from_json(
                &json!({"$type": "com.example.note", "text": format!("{n} {}", "x".repeat(300))}),
            )
            .unwrap(),
            expect: Expect::Anything,
        };
        let writes = (first..count.min(first + 200)).map(write).collect();
        repos.apply_writes(&did, writes, Swap::Anything).await.unwrap();
    }
    let file = dir.join("source.car");
    let mut out = std::fs::File::create(&file).unwrap();
    let mut car = atcr_hold::export_repo(&folder).await.unwrap();
    while let Some(piece) = futures_util::StreamExt::next(&mut car).await {
        out.write_all(&piece.unwrap()).unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    file
}

/// Every record with its CID.
async fn records(data_dir: &Path) -> Vec<(RecordPath, String)> {
    let store = SqliteStore::open(&data_dir.join("repo.db")).await.unwrap();
    let repos = Repos::open(Arc::new(store), Arc::new(MemoryKeys::default())).await.unwrap();
    let did = repos.list_repos(None, 1).await.unwrap().pop().unwrap().did;
    let mut all = Vec::new();
    for collection in repos.collections(&did).await.unwrap() {
        let mut cursor = None;
        loop {
            let page = Page { limit: 1000, cursor, reverse: true };
            let page = repos.list_records(&did, &collection, page).await.unwrap();
            let Some(last) = page.last() else { break };
            cursor = Some(last.path.rkey());
            all.extend(page.into_iter().map(|record| (record.path, record.cid.to_string())));
        }
    }
    all
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn import(hold: &HoldProcess, files: &[&Path]) -> Output {
    let mut args = vec!["repo", "import"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    hold.run(&args)
}

#[tokio::test]
async fn what_is_exported_from_a_running_hold_is_imported_into_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let hold = HoldProcess::new(&one, &[]);
    let car = car(dir.path(), 1000).await;
    let done = import(&hold, &[&car]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stderr(&done).contains("1000 records made"), "{}", stderr(&done));
    assert!(stderr(&done).contains("did:web:other.example.com"), "{}", stderr(&done));

    let (mut process, _) = hold.serve().await;
    let out = dir.path().join("out.car");
    assert!(hold.run(&["repo", "export", "--out", out.to_str().unwrap()]).status.success());
    let piped = hold.run(&["repo", "export"]);
    assert_eq!(piped.stdout, std::fs::read(&out).unwrap());
    // One repo has one writer.
    let busy = import(&hold, &[&out]);
    assert!(!busy.status.success() && stderr(&busy).contains("in use by another hold"), "{}", stderr(&busy));
    process.stop("TERM");
    let expected = records(&one).await;
    assert!(expected.len() > 1000, "captain and crew are records too");

    let other = HoldProcess::new(&two, &[]);
    assert!(import(&other, &[&out]).status.success());
    assert_eq!(records(&two).await, expected);
    let again = import(&other, &[&out]);
    assert!(stderr(&again).contains("0 records made, 0 replaced") && stderr(&again).contains("no commit"));
    // From standard input.
    let mut child = other.command(&["repo", "import", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&piped.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(records(&two).await, expected);
}

#[tokio::test]
async fn a_malformed_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("hold");
    let hold = HoldProcess::new(&data, &[]);
    let good = car(dir.path(), 300).await;
    let bytes = std::fs::read(&good).unwrap();
    assert!(import(&hold, &[&good]).status.success());
    let before = records(&data).await;
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let bad = dir.path().join("bad.car");
    for broken in [&b""[..], b"\xff\xff\xff\xff\x0f", b"not a CAR file", &bytes[..bytes.len() / 2], &flipped]
    {
        std::fs::write(&bad, broken).unwrap();
        let refused = import(&hold, &[&good, &bad]);
        assert!(!refused.status.success());
        let message = stderr(&refused);
        assert!(message.contains("bad.car cannot be taken over, and nothing was changed"), "{message}");
        assert!(message.contains("because:"), "{message}");
        assert_eq!(records(&data).await, before);
    }
    let fresh = HoldProcess::new(&dir.path().join("fresh"), &[]);
    assert!(!import(&fresh, &[&bad]).status.success());
    assert!(!dir.path().join("fresh").exists(), "nothing was made");
    let missing = import(&hold, &[Path::new("/nowhere.car")]);
    assert!(stderr(&missing).contains("/nowhere.car cannot be read"), "{}", stderr(&missing));
    let empty = HoldProcess::new(&dir.path().join("empty"), &[]).run(&["repo", "export"]);
    assert!(stderr(&empty).contains("holds no repo"), "{}", stderr(&empty));
}

#[tokio::test]
async fn an_import_that_is_killed_has_taken_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("hold");
    let hold = HoldProcess::new(&data, &[]);
    let first = car(dir.path(), 10).await;
    assert!(import(&hold, &[&first]).status.success());
    let before = records(&data).await;
    let many = car(dir.path(), 6000).await;
    let bytes = std::fs::read(&many).unwrap();

    // While it reads.
    let mut child = hold.command(&["repo", "import", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes[..bytes.len() / 2]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(records(&data).await, before);

    // While it writes, at one moment or another.
    let everything = before.len() + 5990;
    for wait in (0..40).map(|n| Duration::from_millis(20 + n * 40)) {
        let mut child = hold.command(&["repo", "import", many.to_str().unwrap()]).spawn().unwrap();
        tokio::time::sleep(wait).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let after = records(&data).await;
        assert!(after == before || after.len() == everything, "{} records", after.len());
        if after.len() == everything {
            break;
        }
    }
    assert!(import(&hold, &[&many]).status.success());
    assert_eq!(records(&data).await.len(), everything);
}
