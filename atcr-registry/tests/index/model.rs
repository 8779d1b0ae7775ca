//! Whatever happens to the events on their way, the index ends up as one that was made from the repos themselves, and
//! says what a naive reader of the records would say.

use std::collections::{BTreeMap, BTreeSet};

use atcr_core::oci::Reference;
use atcr_core::records::{Record as _, TagRecord};
use atcr_core::syntax::RecordKey;
use atcr_registry::index::{
    Collection, Cursor, Event, Index, Lookup, PageRequest, RecordOp, RepoCommit, Since,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::databases::Place;
use crate::records::{MANIFESTS, NAMES, TAGS, did, manifest, name, record, rev, tag, written};

type Records = BTreeMap<(Collection, RecordKey), Value>;

/// What is done to a repo in one commit: whose, and records to write or to remove.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    repo: usize,
    changes: Vec<(usize, usize, usize, bool)>,
}

/// What happens to the stream.
#[derive(Debug, Clone)]
enum Step {
    /// So many events arrive, in batches of at most so many.
    Arrive(usize, usize),
    /// So many are lost.
    Lost(usize),
    /// The stream begins again so far back.
    Again(usize),
    /// The next commit was made here, and is written before it arrives.
    WriteThrough,
    /// The process ends, and the stream goes on from the cursor.
    Restart,
    /// Repos that must be read are read, as they are at their server.
    Heal,
    /// A reading that breaks off.
    Break,
}

pub(crate) fn writes() -> impl Strategy<Value = Vec<Write>> {
    let change = (0..9usize, 0..9usize, 0..12usize, prop::bool::weighted(0.25));
    let write = (0..3usize, prop::collection::vec(change, 1..4));
    prop::collection::vec(write.prop_map(|(repo, changes)| Write { repo, changes }), 1..40)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..16usize, 1..9usize).prop_map(|(n, together)| Step::Arrive(n, together)),
        1 => (1..4usize).prop_map(Step::Lost),
        1 => (1..12usize).prop_map(Step::Again),
        2 => Just(Step::WriteThrough),
        1 => Just(Step::Restart),
        1 => Just(Step::Heal),
        1 => Just(Step::Break),
    ];
    prop::collection::vec(step, 0..25)
}

/// The repos at their servers, and every commit that led there.
pub(crate) struct World {
    pub(crate) commits: Vec<RepoCommit>,
    /// Each repo after each of its commits: (number of the commit, records).
    states: [Vec<(usize, Records)>; 3],
}

impl World {
    pub(crate) fn new(writes: &[Write]) -> Self {
        let mut world = Self { commits: Vec::new(), states: Default::default() };
        for (number, write) in writes.iter().enumerate() {
            let before = world.states[write.repo].last().cloned();
            let mut records = before.as_ref().map(|(_, records)| records.clone()).unwrap_or_default();
            let mut ops: BTreeMap<(Collection, RecordKey), RecordOp> = BTreeMap::new();
            for &(kind, n, version, gone) in &write.changes {
                let (collection, rkey, value) = record(kind, n, version);
                let key = (collection, rkey.clone());
                if ops.contains_key(&key) {
                    continue;
                }
                if gone && records.remove(&key).is_some() {
                    ops.insert(key, RecordOp::gone(collection, rkey));
                } else if !gone && records.get(&key) != Some(&value) {
                    ops.insert(key.clone(), written(collection, rkey, &value));
                    records.insert(key, value);
                }
            }
            let since = match before {
                None => Since::Nothing,
                Some((number, _)) => Since::Rev(rev(number), Some(format!("tree {number}"))),
            };
            world.commits.push(RepoCommit {
                did: did(write.repo),
                rev: rev(number),
                since,
                data: Some(format!("tree {number}")),
                ops: ops.into_values().collect(),
            });
            world.states[write.repo].push((number, records));
        }
        world
    }

    /// A repo as its server has it when so many commits were made in the world.
    fn at(&self, repo: usize, made: usize) -> Option<&(usize, Records)> {
        self.states[repo].iter().rev().find(|(number, _)| *number < made)
    }

    fn last(&self, repo: usize) -> Records {
        self.states[repo].last().map(|(_, records)| records.clone()).unwrap_or_default()
    }

    async fn read(&self, index: &Index, repo: usize, made: usize, breaks: bool) {
        let Some((number, records)) = self.at(repo, made) else { return };
        let Some(reading) = index.begin_reading(&did(repo), rev(*number)).await.unwrap() else { return };
        let ops: Vec<RecordOp> = records
            .iter()
            .map(|((collection, rkey), value)| written(*collection, rkey.clone(), value))
            .collect();
        let put = if breaks { &ops[..ops.len() / 2] } else { &ops[..] };
        for piece in put.chunks(3) {
            reading.put(piece).await.unwrap();
        }
        if !breaks {
            reading.finish(format!("tree {number}")).await.unwrap();
        }
    }

    async fn heal(&self, index: &Index, made: usize, breaks: bool) {
        let claimed = index.claim(10, std::time::Duration::ZERO).await.unwrap();
        for repo in 0..3 {
            if claimed.contains(&did(repo)) {
                self.read(index, repo, made, breaks).await;
            }
        }
    }
}

const SOURCE: &str = "wss://relay.example";

async fn deliver(index: &Index, world: &World, range: std::ops::Range<usize>, together: usize) {
    let mut at = range.start;
    for batch in world.commits[range].chunks(together) {
        at += batch.len();
        let cursor = Cursor { source: SOURCE.to_owned(), seq: i64::try_from(at).unwrap() };
        let events: Vec<Event> = batch.iter().cloned().map(Event::Commit).collect();
        index.apply(&events, Some(&cursor)).await.unwrap();
    }
}

async fn run(place: &Place, world: &World, steps: &[Step]) -> Index {
    let mut index = place.open().await;
    let (mut at, all) = (0, world.commits.len());
    for step in steps {
        match step {
            Step::Arrive(n, together) => {
                let end = (at + n).min(all);
                deliver(&index, world, at..end, *together).await;
                at = end;
            }
            Step::Lost(n) => at = (at + n).min(all),
            Step::Again(n) => at = at.saturating_sub(*n),
            Step::WriteThrough => {
                if let Some(commit) = world.commits.get(at) {
                    let commit = RepoCommit { since: Since::Unknown, data: None, ..commit.clone() };
                    index.apply(&[Event::Commit(commit)], None).await.unwrap();
                }
            }
            Step::Restart => {
                index.close().await;
                drop(index);
                index = place.open().await;
                let seq = index.source(SOURCE).await.unwrap().seq.unwrap_or(0);
                // The cursor is where the data are, never behind what was not applied.
                at = at.min(usize::try_from(seq).unwrap());
            }
            Step::Heal => world.heal(&index, (at + 2).min(all), false).await,
            Step::Break => world.heal(&index, (at + 1).min(all), true).await,
        }
    }
    deliver(&index, world, at..all, 5).await;
    // Those of whom every event was lost are found in the list of accounts.
    for repo in 0..3 {
        if world.at(repo, all).is_some() && index.account(&did(repo)).await.unwrap().is_none() {
            index.apply(&[Event::Missed { did: did(repo), rev: None }], None).await.unwrap();
        }
    }
    // What was lost at the very end shows with the next commit of that repo, or when it is read again.
    index.read_all_again().await.unwrap();
    for _ in 0..3 {
        world.heal(&index, all, false).await;
    }
    assert_eq!(index.progress().await.unwrap().waiting, 0);
    index
}

/// Everything that can be asked, in one order.
pub(crate) async fn everything(index: &Index) -> Vec<String> {
    let all = PageRequest::first(200);
    let mut said = Vec::new();
    let mut say = |what: &str, value: String| said.push(format!("{what}: {value}"));
    for repo in 0..3 {
        let owner = did(repo);
        for n in 0..NAMES.len() {
            let name = name(n);
            let at = format!("{owner}/{name}");
            say(&at, format!("{:?}", index.repository(&owner, &name).await.unwrap()));
            say(&at, format!("{:?}", index.tags(&owner, &name, None, 100).await.unwrap()));
            say(&at, format!("{:?}", index.tags_by_date(&owner, &name, &all).await.unwrap().items));
            let mut manifests = Vec::new();
            for entry in index.manifests(&owner, &name, &all).await.unwrap().items {
                let layers = index.layers(&entry).await.unwrap();
                let tags = index.tags_of(&owner, &name, &entry.digest).await.unwrap();
                let mut entry = entry;
                entry.id = 0;
                manifests.push(format!("{entry:?} {layers:?} {tags:?}"));
            }
            manifests.sort();
            say(&at, manifests.join("; "));
            for n in 0..MANIFESTS {
                let digest = manifest(n).digest;
                say(&at, format!("{:?}", index.lookup(&owner, &name, &digest.into()).await.unwrap()));
                let referrers = index.referrers(&owner, &name, &digest).await.unwrap();
                say(
                    &at,
                    format!(
                        "{:?}",
                        referrers.iter().map(|r| (r.digest, &r.artifact_type)).collect::<Vec<_>>()
                    ),
                );
            }
            for n in 0..TAGS.len() {
                say(&at, format!("{:?}", index.lookup(&owner, &name, &tag(n).into()).await.unwrap()));
                let moved =
                    index.history(&owner, &name, Some(&tag(n)), &PageRequest::first(1)).await.unwrap();
                say(&at, format!("{:?}", moved.items.first().and_then(|moved| moved.digest)));
            }
            for who in 0..3 {
                say(&at, format!("{:?}", index.has_starred(&did(who), &owner, &name).await.unwrap()));
            }
        }
        for n in 0..=MANIFESTS {
            say(
                "holds",
                format!("{:?}", index.holds_of_blob(&owner, &crate::records::blob(n)).await.unwrap()),
            );
        }
        say("profile", format!("{:?}", index.profile(&owner).await.unwrap()));
    }
    for query in ["app", "tools app", "number3", "words every", &manifest(1).digest.to_string()] {
        let mut found: Vec<String> = index
            .search(query, &all)
            .await
            .unwrap()
            .items
            .iter()
            .map(|entry| format!("{}/{}", entry.owner, entry.name))
            .collect();
        found.sort();
        say(query, format!("{found:?}"));
    }
    said
}

/// What a reader says who goes through all records for each question.
async fn agrees_with_a_naive_reader(index: &Index, world: &World) {
    for repo in 0..3 {
        let records = world.last(repo);
        let tags: Vec<(&RecordKey, TagRecord)> = records
            .iter()
            .filter(|((collection, _), _)| *collection == Collection::Tag)
            .filter_map(|((_, rkey), value)| Some((rkey, serde_json::from_value(value.clone()).ok()?)))
            .collect();
        for n in 0..NAMES.len() {
            let name = name(n);
            let here = |t: &&(&RecordKey, TagRecord)| t.1.repository == name;
            let names: BTreeSet<&str> = tags.iter().filter(here).map(|(_, tag)| tag.tag.as_str()).collect();
            let listed = index.tags(&did(repo), &name, None, 100).await.unwrap().unwrap_or_default();
            assert_eq!(listed.iter().map(AsRef::as_ref).collect::<BTreeSet<&str>>(), names);
            for text in names {
                let best = tags.iter().filter(here).filter(|(_, tag)| tag.tag.as_str() == text).max_by_key(
                    |(rkey, tag)| {
                        (
                            tag.rkey() == **rkey,
                            tag.written_at().map(atcr_core::syntax::Datetime::timestamp),
                            std::cmp::Reverse(*rkey),
                        )
                    },
                );
                let wanted = best.and_then(|(_, tag)| tag.manifest_digest());
                let has = |digest: &atcr_core::oci::Digest| {
                    records.keys().any(|(c, rkey)| {
                        *c == Collection::Manifest && *rkey == atcr_core::records::manifest_rkey(digest)
                    })
                };
                let wanted = wanted.filter(|digest| has(digest));
                let reference = Reference::Tag(text.parse().unwrap());
                let found = match index.lookup(&did(repo), &name, &reference).await.unwrap() {
                    Lookup::Found(found) => {
                        assert_eq!(
                            atcr_core::oci::Digest::sha256(found.bytes.as_ref().unwrap()),
                            found.digest
                        );
                        Some(found.digest)
                    }
                    Lookup::Missing => None,
                };
                assert_eq!(found, wanted, "{repo} {name}:{text}");
            }
            let stars = (0..3).filter(|who| {
                world.last(*who).iter().any(|((collection, _), value)| {
                    *collection == Collection::Star
                        && value["subject"] == serde_json::json!({ "did": did(repo), "repository": name })
                })
            });
            if let Some(entry) = index.repository(&did(repo), &name).await.unwrap() {
                assert_eq!(entry.stars, stars.count() as u64);
            }
        }
    }
    assert_eq!(Collection::Tag.nsid(), TagRecord::NSID);
}

fn check(place: fn() -> Place, writes: &[Write], steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(writes);
        let place = place();
        let index = run(&place, &world, steps).await;
        let fresh = Index::open("sqlite::memory:").await.unwrap();
        for repo in 0..3 {
            world.read(&fresh, repo, world.commits.len(), false).await;
        }
        let (got, wanted) = (everything(&index).await, everything(&fresh).await);
        for (got, wanted) in got.iter().zip(&wanted) {
            assert_eq!(got, wanted);
        }
        agrees_with_a_naive_reader(&index, &world).await;
        index.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_ends_as_the_repos_do_in_sqlite(writes in writes(), steps in steps()) {
        check(Place::sqlite, &writes, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_ends_as_the_repos_do_in_postgres(writes in writes(), steps in steps()) {
        check(Place::postgres, &writes, &steps);
    }
}
