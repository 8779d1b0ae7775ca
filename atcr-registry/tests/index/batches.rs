//! Events that are taken in together leave the same behind as one by one.

use std::collections::HashSet;

use atcr_registry::index::{AccountStatus, Event, IdentityChange, Index, PageRequest};
use proptest::prelude::*;

use crate::databases::Place;
use crate::model::{World, Write, everything, writes};
use crate::records::{NAMES, did, name, rev};

/// What happens between the commits: after which of them, to whom, and what.
type Between = (usize, usize, usize);

fn between() -> impl Strategy<Value = Vec<Between>> {
    prop::collection::vec((0..40usize, 0..3usize, 0..7usize), 0..12)
}

fn other(whose: usize, what: usize) -> Event {
    let did = did(whose);
    let status = |status| Event::Account { did: did.clone(), status };
    match what {
        0 => status(AccountStatus::Deleted),
        1 => status(AccountStatus::TakenDown),
        2 => status(AccountStatus::Active),
        3 => Event::Missed { did, rev: None },
        4 => Event::Missed { did, rev: Some(rev(20)) },
        _ => {
            let handle = Some(format!("handle{what}.example").parse().unwrap());
            Event::Identity(IdentityChange { did, handle, pds: None, document: None })
        }
    }
}

/// All that [`everything`] leaves out because reading a repo whole cannot bring it back.
async fn also(index: &Index) -> Vec<String> {
    let mut said = Vec::new();
    for repo in 0..3 {
        let account = index.account(&did(repo)).await.unwrap();
        said.push(format!("{:?}", account.map(|a| (a.handle.clone(), a.active, a.complete))));
        let all = PageRequest::first(200);
        let moves = index.moves_since(&did(repo), jiff::Timestamp::UNIX_EPOCH, &all).await.unwrap().items;
        let mut moves: Vec<String> = moves.iter().map(|moved| format!("{moved:?}")).collect();
        // Those of one commit are in the order in which the repositories were made.
        moves.sort();
        said.extend(moves);
        for n in 0..NAMES.len() {
            let all = PageRequest::first(500);
            said.push(format!("{:?}", index.history(&did(repo), &name(n), None, &all).await.unwrap().items));
        }
    }
    for digest in (0..crate::records::MANIFESTS).map(|n| crate::records::manifest(n).digest) {
        said.push(format!("{:?}", index.manifest_bytes(&digest).await.unwrap()));
    }
    said.push(format!("{:?}", index.progress().await.unwrap()));
    said
}

fn check(place: fn() -> Place, writes: &[Write], between: &[Between], sizes: &[usize]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut events, mut known) = (Vec::new(), HashSet::new());
        for (number, commit) in World::new(writes).commits.into_iter().enumerate() {
            known.insert(commit.did.clone());
            events.push(Event::Commit(commit));
            // Of an account that was never heard of, the first commit is known to be the first in the same batch alone.
            let then =
                between.iter().filter(|(after, whose, _)| *after == number && known.contains(&did(*whose)));
            events.extend(then.map(|(_, whose, what)| other(*whose, *what)));
        }
        let place = place();
        let (together, single) = (place.open().await, Index::open("sqlite::memory:").await.unwrap());
        let mut counted = (0, 0);
        for event in &events {
            counted.0 += single.apply(std::slice::from_ref(event), None).await.unwrap().changed;
        }
        let (mut rest, mut sizes) = (&events[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(*sizes.next().unwrap().min(&rest.len()));
            counted.1 += together.apply(batch, None).await.unwrap().changed;
            rest = after;
        }
        assert_eq!(counted.0, counted.1);
        for (got, wanted) in everything(&together).await.iter().zip(&everything(&single).await) {
            assert_eq!(got, wanted);
        }
        assert_eq!(also(&together).await, also(&single).await);
        together.close().await;
    });
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..20usize, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_does_what_its_events_do_one_by_one_in_sqlite(
        writes in writes(), between in between(), sizes in sizes()
    ) {
        check(Place::sqlite, &writes, &between, &sizes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_does_what_its_events_do_one_by_one_in_postgres(
        writes in writes(), between in between(), sizes in sizes()
    ) {
        check(Place::postgres, &writes, &between, &sizes);
    }
}

/// More rows than one statement takes, and more bytes than wait at a time.
#[tokio::test]
async fn a_large_batch_is_written_whole() {
    use atcr_core::oci::Digest;
    use atcr_registry::index::{Collection, RecordOp, RepoCommit, Since};
    use serde_json::json;

    for place in crate::databases::both() {
        let index = place.open().await;
        let bodies: Vec<String> = (0..40)
            .map(|n| {
                json!({ "schemaVersion": 2, "padding": format!("{n} {}", "x".repeat(60_000)) }).to_string()
            })
            .collect();
        let layer = |n: usize| json!({ "mediaType": "layer", "digest": crate::records::blob(n), "size": n });
        let layers: Vec<_> = (0..150).map(layer).collect();
        let mut ops = Vec::new();
        for (n, body) in bodies.iter().enumerate() {
            let digest = Digest::sha256(body.as_bytes());
            let bytes = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, body);
            let record = json!({
                "$type": "io.atcr.manifest", "repository": "app", "digest": digest, "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "createdAt": crate::records::at(n),
                "layers": layers, "manifestBytes": { "$bytes": bytes },
            });
            let tag = json!({
                "$type": "io.atcr.tag", "repository": "app", "tag": format!("v{n}"), "manifestDigest": digest,
                "updatedAt": crate::records::at(n),
            });
            let hash = digest.as_bytes().try_into().unwrap();
            ops.push(RecordOp::written(Collection::Manifest, digest.hex().parse().unwrap(), hash, record));
            ops.push(RecordOp::written(Collection::Tag, format!("app_v{n}").parse().unwrap(), hash, tag));
        }
        let commit = RepoCommit { did: did(0), rev: rev(1), since: Since::Nothing, data: None, ops };
        let applied = index.apply(&[Event::Commit(commit)], None).await.unwrap();
        assert_eq!((applied.changed, applied.unreadable), (80, 0));
        let app = name(0);
        let manifests = index.manifests(&did(0), &app, &PageRequest::first(100)).await.unwrap().items;
        assert_eq!(manifests.len(), 40);
        for (n, body) in bodies.iter().enumerate() {
            let digest = Digest::sha256(body.as_bytes());
            assert_eq!(index.manifest_bytes(&digest).await.unwrap().unwrap(), body.as_bytes());
            assert_eq!(
                index.tags_of(&did(0), &app, &digest).await.unwrap(),
                [format!("v{n}").parse().unwrap()]
            );
        }
        for entry in &manifests {
            assert_eq!(index.layers(entry).await.unwrap().len(), 150);
        }
        let all = PageRequest::first(100);
        assert_eq!(index.history(&did(0), &app, None, &all).await.unwrap().items.len(), 40);
    }
}
