use std::time::Duration;

use atcr_core::oci::Reference;
use atcr_registry::index::{
    AccountStatus, Collection, Cursor, Event, IdentityChange, Index, IndexError, Lookup, PageRequest,
    RecordOp, RepoCommit, Since,
};

use crate::databases::{Place, both};
use crate::records::{did, manifest, name, record, rev, tag, written};

pub(crate) fn commit(repo: usize, number: usize, since: Since, records: &[(usize, usize, usize)]) -> Event {
    let ops = records
        .iter()
        .map(|&(kind, n, version)| {
            let (collection, rkey, value) = record(kind, n, version);
            written(collection, rkey, &value)
        })
        .collect();
    Event::Commit(RepoCommit { did: did(repo), rev: rev(number), since, data: None, ops })
}

async fn pulls(index: &Index) -> bool {
    let found = index.lookup(&did(0), &name(0), &Reference::Tag(tag(0))).await.unwrap();
    matches!(found, Lookup::Found(found) if found.bytes.as_ref() == Some(&manifest(1).bytes))
}

/// Alice has the manifest 1 in `app`, tagged `latest`.
pub(crate) fn push() -> Event {
    // A manifest record names the repositories of its number: 0 is `app`; the tag points at manifest 0 + 1.
    let (collection, rkey, mut value) = record(0, 1, 1);
    value["repository"] = "app".into();
    let (tag_collection, tag_rkey, tag) = record(2, 0, 1);
    let ops = vec![written(collection, rkey, &value), written(tag_collection, tag_rkey, &tag)];
    Event::Commit(RepoCommit { did: did(0), rev: rev(1), since: Since::Nothing, data: None, ops })
}

#[tokio::test]
async fn an_account_that_is_away_is_in_no_answer_and_comes_back() {
    for place in both() {
        let index = place.open().await;
        index.apply(&[push()], None).await.unwrap();
        assert!(pulls(&index).await);
        for status in [AccountStatus::TakenDown, AccountStatus::Deactivated, AccountStatus::Suspended] {
            index.apply(&[Event::Account { did: did(0), status }], None).await.unwrap();
            assert!(!pulls(&index).await);
            assert!(index.recent(&PageRequest::first(9)).await.unwrap().items.is_empty());
            assert!(index.search("app", &PageRequest::first(9)).await.unwrap().items.is_empty());
            let active = AccountStatus::Active;
            index.apply(&[Event::Account { did: did(0), status: active }], None).await.unwrap();
            assert!(pulls(&index).await);
            assert!(
                !index.account(&did(0)).await.unwrap().unwrap().complete,
                "it may have changed while it was away"
            );
        }
    }
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing() {
    for place in both() {
        let index = place.open().await;
        let star = commit(1, 2, Since::Nothing, &[(5, 0, 1)]);
        index.apply(&[push(), star], None).await.unwrap();
        assert_eq!(index.repository(&did(0), &name(0)).await.unwrap().unwrap().stars, 1);
        let gone = |who| Event::Account { did: did(who), status: AccountStatus::Deleted };
        index.apply(&[gone(1)], None).await.unwrap();
        assert_eq!(index.repository(&did(0), &name(0)).await.unwrap().unwrap().stars, 0);
        index.apply(&[gone(0)], None).await.unwrap();
        assert!(!pulls(&index).await);
        assert!(index.manifest_bytes(&manifest(1).digest).await.unwrap().is_none());
        let history = index.history(&did(0), &name(0), None, &PageRequest::first(9)).await.unwrap();
        assert!(history.items.is_empty());
        // It may be made anew under the same DID.
        let active = Event::Account { did: did(0), status: AccountStatus::Active };
        index.apply(&[active, push()], None).await.unwrap();
        assert!(pulls(&index).await);
    }
}

#[tokio::test]
async fn a_gap_is_noticed_and_is_over_when_the_repo_was_read() {
    for place in both() {
        let index = place.open().await;
        index.apply(&[push()], None).await.unwrap();
        let missed = commit(0, 9, Since::Rev(rev(5), None), &[(2, 3, 2)]);
        assert_eq!(index.apply(&[missed], None).await.unwrap().missed, 1);
        assert_eq!(index.claim(9, Duration::from_secs(60)).await.unwrap(), [did(0)]);
        assert!(index.claim(9, Duration::from_secs(60)).await.unwrap().is_empty(), "one reader at a time");
        // A server that is behind does not fill it.
        let reading = index.begin_reading(&did(0), rev(4)).await.unwrap().unwrap();
        reading.finish("tree".to_owned()).await.unwrap();
        assert!(!index.account(&did(0)).await.unwrap().unwrap().complete);
        let reading = index.begin_reading(&did(0), rev(9)).await.unwrap().unwrap();
        let (collection, rkey, value) = record(2, 3, 2);
        reading.put(&[written(collection, rkey, &value)]).await.unwrap();
        reading.finish("tree".to_owned()).await.unwrap();
        assert!(index.account(&did(0)).await.unwrap().unwrap().complete);
        assert!(!pulls(&index).await, "what the repo does not have is gone");
        assert!(index.begin_reading(&did(0), rev(8)).await.unwrap().is_none(), "time does not run backwards");
    }
}

#[tokio::test]
async fn what_was_deleted_is_not_brought_back_by_an_old_event() {
    for place in both() {
        let index = place.open().await;
        let (collection, rkey, value) = record(2, 0, 1);
        let gone = RecordOp::gone(collection, rkey.clone());
        let gone =
            RepoCommit { did: did(0), rev: rev(7), since: Since::Unknown, data: None, ops: vec![gone] };
        index.apply(&[push(), Event::Commit(gone)], None).await.unwrap();
        assert!(!pulls(&index).await);
        let late = written(collection, rkey, &value);
        let late =
            RepoCommit { did: did(0), rev: rev(6), since: Since::Unknown, data: None, ops: vec![late] };
        assert_eq!(index.apply(&[Event::Commit(late), push()], None).await.unwrap().changed, 0);
        assert!(!pulls(&index).await);
    }
}

#[tokio::test]
async fn a_cursor_never_moves_backwards_and_never_without_its_events() {
    for place in both() {
        let index = place.open().await;
        let cursor = |seq| Cursor { source: "wss://relay.example".to_owned(), seq };
        index.apply(&[push()], Some(&cursor(7))).await.unwrap();
        index.apply(&[], Some(&cursor(3))).await.unwrap();
        assert_eq!(index.source("wss://relay.example").await.unwrap().seq, Some(7));
        index.close().await;
        assert!(index.apply(&[push()], Some(&cursor(9))).await.is_err());
        drop(index);
        assert_eq!(place.open().await.source("wss://relay.example").await.unwrap().seq, Some(7));
    }
}

#[tokio::test]
async fn a_lease_is_one_holders_until_it_runs_out() {
    for place in both() {
        let index = place.open().await;
        let minute = Duration::from_secs(60);
        assert!(index.lease("relay", "a", minute).await.unwrap());
        assert!(!index.lease("relay", "b", minute).await.unwrap());
        assert!(index.lease("relay", "a", minute).await.unwrap());
        index.release("b").await.unwrap();
        assert!(!index.lease("relay", "b", minute).await.unwrap());
        index.release("a").await.unwrap();
        assert!(index.lease("relay", "b", minute).await.unwrap());
    }
}

#[tokio::test]
async fn a_handle_is_one_accounts() {
    for place in both() {
        let index = place.open().await;
        let named = |who: usize| {
            let handle = Some("Alice.Example".parse().unwrap());
            Event::Identity(IdentityChange { did: did(who), handle, pds: None, document: None })
        };
        let handle = "alice.example".parse().unwrap();
        index.apply(&[named(0)], None).await.unwrap();
        assert_eq!(index.account_by_handle(&handle).await.unwrap().unwrap().did, did(0));
        index.apply(&[named(1)], None).await.unwrap();
        assert_eq!(index.account_by_handle(&handle).await.unwrap().unwrap().did, did(1));
        assert!(index.account(&did(0)).await.unwrap().unwrap().handle.is_none());
    }
}

#[tokio::test]
async fn an_sqlite_file_is_one_processes() {
    let place = Place::sqlite();
    let index = place.open().await;
    assert!(matches!(Index::open(&place.url).await, Err(IndexError::InUse(_))));
    index.close().await;
    drop(index);
    place.open().await;
    for url in ["index.sqlite", "mysql://x@y/z", "sqlite://"] {
        assert!(matches!(Index::open(url).await, Err(IndexError::Url(_))), "{url}");
    }
}

/// Two replicas write the same repos, in opposite orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_write_at_the_same_time_do_not_lose_anything() {
    let place = Place::postgres();
    let (one, two) = (place.open().await, place.open().await);
    let many = |index: Index, turn: bool| async move {
        for number in 1..30 {
            let mut batch: Vec<Event> = (0..3)
                .map(|repo| {
                    commit(
                        repo,
                        number,
                        Since::Unknown,
                        &[(2, number, number), (5, number, number), (0, number, 1)],
                    )
                })
                .collect();
            if turn {
                batch.reverse();
            }
            index.apply(&batch, None).await.unwrap();
        }
    };
    tokio::join!(many(one.clone(), false), many(two.clone(), true));
    let alone = Index::open("sqlite::memory:").await.unwrap();
    many(alone.clone(), false).await;
    for repo in 0..3 {
        for n in 0..3 {
            assert_eq!(
                one.repository(&did(repo), &name(n)).await.unwrap(),
                alone.repository(&did(repo), &name(n)).await.unwrap()
            );
            let all = PageRequest::first(200);
            assert_eq!(
                two.tags_by_date(&did(repo), &name(n), &all).await.unwrap(),
                alone.tags_by_date(&did(repo), &name(n), &all).await.unwrap()
            );
        }
    }
}

#[tokio::test]
async fn records_that_nobody_can_read_are_counted_and_not_shown() {
    for place in both() {
        let index = place.open().await;
        let applied =
            index.apply(&[commit(0, 1, Since::Nothing, &[(8, 0, 0), (2, 0, 1)])], None).await.unwrap();
        assert_eq!((applied.changed, applied.unreadable), (2, 1));
        assert_eq!(index.tags(&did(0), &name(0), None, 9).await.unwrap().unwrap(), [tag(0)]);
        assert_eq!(Collection::of("io.atcr.nothing"), None);
    }
}
