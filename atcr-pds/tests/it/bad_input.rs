//! Input that lies: each is told apart by its error, costs little memory, and leaves the store as it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use atcr_core::crypto::{Curve, PublicKey, SigningKey};
use atcr_core::syntax::{Did, Tid};
use atcr_pds::cbor::{self, CborError, cid_for_cbor};
use atcr_pds::repo::car::{self, CarError, CarLimits};
use atcr_pds::repo::mst::{MstError, NodeBlock, Nodes as _, height};
use atcr_pds::repo::{Commit, CommitError, Frame, FrameError, Import, MAX_RECORD_BYTES};
use atcr_pds::{RepoError, Write};
use bytes::Bytes;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use crate::support::{build, vector};
use crate::world::{World, create, did, note, path, put};

/// The layer of the highest key that is known: `com.example.note/k26625649`.
const HIGHEST: (&str, u8) = ("com.example.note/k26625649", 14);
/// Heads of bytes, text, a list and a map of four gibibytes each.
const FOUR_GIB: [&[u8]; 4] = [b"\x5b", b"\x7b", b"\x9b", b"\xbb"];

fn four_gib(head: &[u8]) -> Vec<u8> {
    [head, &(4u64 << 30).to_be_bytes()].concat()
}

/// A CAR of records, with its blocks as `change` leaves them: the commit, the nodes, the records.
fn file(records: &BTreeMap<String, Bytes>, change: impl FnOnce(&mut Vec<(Cid, Bytes)>)) -> Vec<u8> {
    let map: BTreeMap<&String, Cid> = records.iter().map(|(k, b)| (k, cid_for_cbor(b))).collect();
    let (root, nodes) = build(&map);
    let mut blocks: Vec<(Cid, Bytes)> =
        nodes.cids().map(|cid| (*cid, nodes.node(cid).unwrap().bytes().clone())).collect();
    blocks.extend(records.values().map(|b| (cid_for_cbor(b), b.clone())));
    signed(root, blocks, change)
}

fn signed(root: Cid, blocks: Vec<(Cid, Bytes)>, change: impl FnOnce(&mut Vec<(Cid, Bytes)>)) -> Vec<u8> {
    let key = SigningKey::from_bytes(Curve::K256, &[9; 32]).unwrap();
    let commit = Commit::sign(&did("other"), root, Tid::new(1, 1), &key).unwrap().encode().unwrap();
    let head = cid_for_cbor(&commit);
    let mut all = vec![(head, commit)];
    all.extend(blocks);
    change(&mut all);
    car::encode(&[head], all.iter().map(|(c, b)| (c, b))).to_vec()
}

fn record(text: &str) -> Bytes {
    let record = [("$type", "com.example.note"), ("text", text)];
    let map = record.map(|(k, v)| (k.to_owned(), Ipld::String(v.into())));
    cbor::encode(&Ipld::Map(map.into())).unwrap()
}

fn records() -> BTreeMap<String, Bytes> {
    (0..400).map(|n| (format!("com.example.note/k{n}"), record(&n.to_string()))).collect()
}

fn with(key: &str, bytes: Bytes) -> BTreeMap<String, Bytes> {
    let mut records = records();
    records.insert(key.into(), bytes);
    records
}

/// A node by hand.
fn node(left: Option<Cid>, key: Option<(&str, Option<Cid>)>) -> (Cid, Bytes) {
    let link = |cid: Option<Cid>| cid.map_or(Ipld::Null, Ipld::Link);
    let entries = key.into_iter().map(|(key, right)| {
        let fields = [
            ("p", Ipld::Integer(0)),
            ("k", Ipld::Bytes(key.as_bytes().to_vec())),
            ("v", Ipld::Link(cid_for_cbor(&record("x")))),
            ("t", link(right)),
        ];
        Ipld::Map(fields.map(|(k, v)| (k.to_owned(), v)).into())
    });
    let entries = Ipld::List(entries.collect());
    let fields = [("l".to_owned(), link(left)), ("e".to_owned(), entries)];
    let bytes = cbor::encode(&Ipld::Map(fields.into())).unwrap();
    (cid_for_cbor(&bytes), bytes)
}

/// A root of the highest layer, over a chain of nodes without entries that ends in a leaf.
fn chain(length: usize) -> Vec<u8> {
    assert_eq!(height(HIGHEST.0), HIGHEST.1);
    let mut blocks =
        vec![(cid_for_cbor(&record("x")), record("x")), node(None, Some(("com.example.note/k1", None)))];
    for _ in 0..length {
        blocks.push(node(Some(blocks.last().unwrap().0), None));
    }
    blocks.push(node(Some(blocks.last().unwrap().0), Some((HIGHEST.0, None))));
    signed(blocks.last().unwrap().0, blocks, |_| {})
}

/// A tree that hangs one subtree on both sides of its key: 2^n leaves of n nodes, if it were believed.
fn twice() -> Vec<u8> {
    let all = records();
    let low = all.keys().filter(|key| height(key) == 0).min().unwrap();
    let mut blocks = vec![(cid_for_cbor(&record("x")), record("x")), node(None, Some((low, None)))];
    let layer =
        |n: u8| (0..100_000).map(|i| format!("com.example.note/z{i}")).find(|key| height(key) == n).unwrap();
    for n in 1..6 {
        let below = Some(blocks.last().unwrap().0);
        blocks.push(node(below, Some((&layer(n), below))));
    }
    signed(blocks.last().unwrap().0, blocks, |_| {})
}

type Told = fn(&RepoError) -> bool;

/// Files that are to be imported: what they are, and what they are refused for.
fn files() -> Vec<(&'static str, Vec<u8>, Told)> {
    let not_canonical: Told = |e| matches!(e, RepoError::Cbor(CborError::NotCanonical { .. }));
    let truncated: Told = |e| matches!(e, RepoError::Cbor(CborError::Truncated { .. }));
    let misplaced: Told =
        |e| matches!(e, RepoError::Mst(MstError::NotCanonical { .. } | MstError::Unsorted(_)));
    let missing: Told = |e| matches!(e, RepoError::Car(CarError::Missing(_)));
    let too_large: Told = |e| matches!(e, RepoError::Car(CarError::TooLarge { .. }));
    let good = file(&records(), |_| {});
    let header = usize::from(good[0]) + 1;
    let lie = |at: usize| [&good[..at], &[0x80, 0x80, 0x80, 0x80, 0x10], &good[at..]].concat();
    let bytes = Bytes::from_static;
    let k7 = "com.example.note/k7";
    let mut files: Vec<(&str, Vec<u8>, Told)> = vec![
        (
            "a record with a float",
            file(&with(k7, bytes(b"\xa1\x61x\xfb?\xf8\0\0\0\0\0\0")), |_| {}),
            not_canonical,
        ),
        (
            "a record with keys out of order",
            file(&with(k7, bytes(b"\xa2\x61b\x01\x61a\x02")), |_| {}),
            not_canonical,
        ),
        (
            "a record with a number in a longer form",
            file(&with(k7, bytes(b"\xa1\x61a\x18\x01")), |_| {}),
            not_canonical,
        ),
        ("a record of an endless map", file(&with(k7, bytes(b"\xbf\xff")), |_| {}), not_canonical),
        ("a record that is cut off", file(&with(k7, bytes(b"\xa1\x61")), |_| {}), truncated),
        ("a record with something behind it", file(&with(k7, bytes(b"\xa0\xa0")), |_| {}), |e| {
            matches!(e, RepoError::Cbor(CborError::Trailing { .. }))
        }),
        ("a record that is a list", file(&with(k7, bytes(b"\x80")), |_| {}), |e| {
            matches!(e, RepoError::Cbor(CborError::Shape(_)))
        }),
        ("a record that is nested without end", file(&with(k7, vec![0x81; 500_000].into()), |_| {}), |e| {
            matches!(e, RepoError::Cbor(CborError::TooDeep))
        }),
        ("a record above the limit", file(&with(k7, record(&"x".repeat(MAX_RECORD_BYTES))), |_| {}), |e| {
            matches!(e, RepoError::RecordTooLarge { .. })
        }),
        ("a block above the limit", file(&with(k7, record(&"x".repeat(3 << 20))), |_| {}), too_large),
        ("no commit", file(&records(), |blocks| drop(blocks.remove(0))), missing),
        (
            "no root",
            file(&records(), |blocks| blocks.retain(|(_, b)| NodeBlock::decode(b.clone()).is_err())),
            missing,
        ),
        (
            "no records",
            file(&records(), |blocks| {
                blocks.retain(|(_, b)| {
                    cbor::decode_record(b).is_err()
                        || NodeBlock::decode(b.clone()).is_ok()
                        || Commit::decode(b).is_ok()
                });
            }),
            missing,
        ),
        ("a block under another's name", file(&records(), |blocks| blocks[1].1 = record("forged")), |e| {
            matches!(e, RepoError::Car(CarError::Hash(_)))
        }),
        ("a chain far below the lowest layer", chain(5000), misplaced),
        ("a chain one node too long", chain(usize::from(HIGHEST.1)), misplaced),
        ("a subtree that stands in two places", twice(), misplaced),
        ("a file that is cut off", good[..good.len() - 1].to_vec(), |e| {
            matches!(e, RepoError::Car(CarError::Truncated))
        }),
        ("a header of 4 GiB", lie(0), too_large),
        ("a section of 4 GiB", lie(header), too_large),
        ("a section of 2^64 bytes", [&good[..header], &[0xff; 9][..], &[1]].concat(), too_large),
        ("nothing at all", Vec::new(), |e| matches!(e, RepoError::Car(CarError::Truncated))),
    ];
    for head in FOUR_GIB {
        let record = [&b"\xa1\x61a"[..], &four_gib(head)].concat();
        files.push(("a record that promises 4 GiB", file(&with(k7, record.into()), |_| {}), truncated));
        let header = four_gib(head);
        let header = [&[u8::try_from(header.len()).unwrap()][..], &header].concat();
        files.push(("a header whose CBOR promises 4 GiB", header, |e| {
            matches!(e, RepoError::Car(CarError::Header(_)))
        }));
    }
    files
}

async fn import(world: &World, did: &Did, file: &[u8]) -> Result<(), RepoError> {
    let mut import = Import::new();
    import.read(file, CarLimits::default()).await?;
    world.repos.import(did, import).await.map(drop)
}

/// Every row of every table, as numbers, and where the repo is.
async fn state(world: &World, did: &Did, file: &Path) -> (Vec<i64>, Cid, Cid, u64) {
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    let mut counts = Vec::new();
    for table in ["repos", "blocks", "dropped", "records", "blobs", "blob_refs", "events"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        counts.push(sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap());
    }
    pool.close().await;
    let info = world.repos.info(did).await.unwrap().unwrap();
    (counts, info.head.cid, info.data, *world.repos.subscribe().borrow())
}

async fn all_files_are_refused(world: &World, alice: &Did, key: &PublicKey, database: &Path) {
    world.write(alice, vec![put("k7", "mine"), put("k8", "mine")]).await.unwrap();
    let before = state(world, alice, database).await;
    for (name, file, told) in files() {
        let error = import(world, alice, &file).await.expect_err(name);
        assert!(told(&error), "{name}: {error:?}");
        assert_eq!(state(world, alice, database).await, before, "{name}");
    }
    // And nothing of them stays in the way of what is good.
    world.write(alice, vec![create("after", "x")]).await.unwrap();
    assert_eq!(world.verify(alice, key).await.len(), 3);
}

#[tokio::test]
async fn a_file_that_lies_is_refused_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("repos.sqlite");
    let world = World::at(&database, Arc::default()).await;
    let (alice, key) = world.repo("alice").await;
    all_files_are_refused(&world, &alice, &key, &database).await;
}

#[tokio::test]
async fn blocks_that_nothing_refers_to_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("repos.sqlite");
    let world = World::at(&database, Arc::default()).await;
    let (alice, key) = world.repo("alice").await;
    let stray = record("nobody names me");
    let cid = cid_for_cbor(&stray);
    let more = file(&records(), |blocks| {
        let again = blocks.clone();
        blocks.push((cid, stray));
        blocks.extend(again);
    });
    import(&world, &alice, &more).await.unwrap();
    assert_eq!(world.verify(&alice, &key).await.len(), 400);
    let found = world.repos.get_blocks(&alice, &[cid]).await;
    assert!(matches!(found, Err(RepoError::BlocksNotFound(_))));
}

#[tokio::test]
async fn writes_beyond_the_limits_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("repos.sqlite");
    let world = World::at(&database, Arc::default()).await;
    let (alice, _) = world.repo("alice").await;
    world.write(&alice, vec![put("a", "x")]).await.unwrap();
    let before = state(&world, &alice, &database).await;
    let at = path("b");
    let write = |value: Ipld| vec![Write::Create { collection: at.collection(), rkey: at.rkey(), value }];
    let large = "x".repeat(1 << 20);
    let error = world.write(&alice, write(note(large.clone()))).await.unwrap_err();
    assert!(matches!(error, RepoError::RecordTooLarge { size, .. } if size > 1 << 20), "{error}");
    let error = world.write(&alice, vec![put("c", "x"), put("d", &large)]).await.unwrap_err();
    assert!(matches!(error, RepoError::RecordTooLarge { .. }), "{error}");
    assert_eq!(state(&world, &alice, &database).await, before);
}

#[test]
fn signatures_that_are_none() {
    for curve in [Curve::K256, Curve::P256] {
        let key = SigningKey::from_bytes(curve, &[9; 32]).unwrap();
        let good = Commit::sign(&did("alice"), cid_for_cbor(b"x"), Tid::new(1, 1), &key).unwrap();
        good.verify(&did("alice"), &key.public_key()).unwrap();
        let n: [u8; 32] = data_encoding::HEXLOWER
            .decode(match curve {
                Curve::K256 => b"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
                Curve::P256 => b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
            })
            .unwrap()
            .try_into()
            .unwrap();
        let (r, s) = good.sig.split_at(32);
        // n - s signs as well as s does, for those who let it.
        let mut high = [0; 32];
        let mut borrow = 0;
        for i in (0..32).rev() {
            let difference = i16::from(n[i]) - i16::from(s[i]) - borrow;
            borrow = i16::from(difference < 0);
            high[i] = u8::try_from(difference.rem_euclid(256)).unwrap();
        }
        let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
        let mut flipped = good.sig.to_vec();
        flipped[40] ^= 1;
        for (name, sig) in [
            ("with a high S", [r, &high].concat()),
            ("in DER", der),
            ("with a bit turned", flipped),
            ("too short", good.sig[..63].to_vec()),
            ("too long", [&good.sig[..], &[0]].concat()),
            ("empty", Vec::new()),
            ("zero", vec![0; 64]),
            ("r and s swapped", [s, r].concat()),
            ("beyond the order of the curve", [&n[..], &n].concat()),
        ] {
            let mut forged = good.clone();
            forged.sig = sig.into();
            let read = Commit::decode(&forged.encode().unwrap()).unwrap();
            assert_eq!(read.verify(&did("alice"), &key.public_key()), Err(CommitError::Signature), "{name}");
        }
        let other = if curve == Curve::K256 { Curve::P256 } else { Curve::K256 };
        let other = SigningKey::from_bytes(other, &[9; 32]).unwrap().public_key();
        assert_eq!(good.verify(&did("alice"), &other), Err(CommitError::Signature));
    }
}

#[test]
fn a_promise_of_four_gibibytes_is_believed_nowhere() {
    let frame = vector("reference-pds-0.5.35/frames/010-commit.bin");
    let header = cbor::split_first(&frame).unwrap().0;
    for head in FOUR_GIB {
        let lie = four_gib(head);
        let field = [&b"\xa1\x61e"[..], &lie].concat();
        for bytes in [&lie, &field] {
            assert!(matches!(cbor::decode(bytes), Err(CborError::Truncated { .. })));
            assert!(matches!(Commit::decode(bytes), Err(CommitError::Malformed(_))));
            assert!(matches!(NodeBlock::decode(bytes.clone().into()), Err(MstError::NotCanonical { .. })));
            assert!(matches!(Frame::decode(bytes), Err(FrameError::Malformed(_))));
            let body = [header, bytes].concat();
            assert!(matches!(Frame::decode(&body), Err(FrameError::Malformed(_))));
        }
    }
    assert!(matches!(Frame::decode(&vec![0; 5_000_001]), Err(FrameError::TooLarge(5_000_001))));
}

/// Peak memory of this process, resident and virtual, in KiB.
fn peaks() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmHWM:"), field("VmPeak:"))
}

/// The process whose memory is measured.
#[tokio::test]
#[ignore = "a child process of lies_cost_little_memory"]
async fn lied_to_process() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("repos.sqlite");
    let world = World::at(&database, Arc::default()).await;
    let (alice, key) = world.repo("alice").await;
    import(&world, &alice, &file(&records(), |_| {})).await.unwrap();
    drop(files());
    let before = peaks();
    let (bob, bobs) = world.repo("bob").await;
    all_files_are_refused(&world, &bob, &bobs, &database).await;
    a_promise_of_four_gibibytes_is_believed_nowhere();
    let after = peaks();
    world.verify(&alice, &key).await;
    println!("peaks {} {}", after.0 - before.0, after.1 - before.1);
}

#[test]
fn lies_cost_little_memory() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bad_input::lied_to_process", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("peaks ")).expect("it says its peaks").1;
    let peaks: Vec<u64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
    // Resident: the files themselves, a few MiB each. Virtual: a thread's arena more, but no four gibibytes.
    assert!(peaks[0] < 64 << 10 && peaks[1] < 1 << 20, "{peaks:?} KiB more than before");
}
