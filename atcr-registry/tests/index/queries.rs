use atcr_core::syntax::RecordKey;
use atcr_registry::index::{Collection, Event, HoldRelation, IndexError, PageRequest, RepoCommit, Since};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::databases::both;
use crate::records::{at, blob, did, name, record, rev, tag, written};

fn event(repo: usize, number: usize, records: Vec<(Collection, RecordKey, Value)>) -> Event {
    let ops =
        records.into_iter().map(|(collection, rkey, value)| written(collection, rkey, &value)).collect();
    Event::Commit(RepoCommit { did: did(repo), rev: rev(number), since: Since::Unknown, data: None, ops })
}

fn key(text: &str) -> RecordKey {
    text.parse().unwrap()
}

#[tokio::test]
async fn lists_come_in_parts_that_leave_nothing_out() {
    for place in both() {
        let index = place.open().await;
        let tags = (0..25).map(|n| {
            let value = json!({
                "repository": format!("r{:02}", n / 2), "tag": format!("t{n}"), "updatedAt": at(n / 5),
                "manifestDigest": blob(n),
            });
            (Collection::Tag, key(&format!("k{n}")), value)
        });
        let stars = (0..13).map(|n| {
            let subject = json!({ "did": did(0), "repository": format!("r{n:02}") });
            (Collection::Star, key(&format!("s{n}")), json!({ "subject": subject, "createdAt": at(n / 4) }))
        });
        let events = [event(0, 1, tags.collect()), event(1, 1, stars.collect())];
        index.apply(&events, None).await.unwrap();
        for list in 0..5 {
            let mut names = Vec::new();
            let mut page = PageRequest::first(4);
            loop {
                let part = match list {
                    0 => index.recent(&page).await,
                    1 => index.popular(&page).await,
                    2 => index.repositories_of(&did(0), &page).await,
                    3 => index.starred_by(&did(1), &page).await,
                    _ => index.search("r", &page).await,
                }
                .unwrap();
                assert!(part.items.len() <= 4);
                names.extend(part.items.into_iter().map(|entry| entry.name.to_string()));
                match part.next {
                    Some(next) => page.cursor = Some(next),
                    None => break,
                }
            }
            let wanted: Vec<String> = (0..13).map(|n| format!("r{n:02}")).collect();
            let mut sorted = names.clone();
            sorted.sort();
            assert_eq!(sorted, wanted, "list {list}");
            if list == 0 {
                assert_eq!(names[0], "r12");
            }
        }
        let bad = PageRequest { limit: None, cursor: Some("nonsense".to_owned()) };
        assert!(matches!(index.recent(&bad).await, Err(IndexError::Cursor(_))));
        assert!(matches!(
            index.tags_by_date(&did(0), &name(0), &bad).await,
            Ok(_) | Err(IndexError::Cursor(_))
        ));
    }
}

#[tokio::test]
async fn a_record_from_the_future_is_not_the_newest_push() {
    for place in both() {
        let index = place.open().await;
        let mut events = Vec::new();
        for (n, time) in
            ["2025-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2025-01-02T00:00:00Z"].into_iter().enumerate()
        {
            let value =
                json!({ "repository": name(n), "tag": "x", "manifestDigest": blob(n), "updatedAt": time });
            events.push(event(0, n + 1, vec![(Collection::Tag, key(&format!("k{n}")), value)]));
        }
        index.apply(&events, None).await.unwrap();
        let recent = index.recent(&PageRequest::default()).await.unwrap().items;
        let names: Vec<_> = recent.into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [name(2), name(0)]);
    }
}

#[tokio::test]
async fn the_history_of_a_tag_says_where_it_was_and_when() {
    for place in both() {
        let index = place.open().await;
        let moved = |number: usize, to: usize| {
            let value = json!({ "repository": "app", "tag": "latest", "manifestDigest": blob(to), "updatedAt": at(number) });
            event(0, number, vec![(Collection::Tag, key("app_latest"), value)])
        };
        let gone = RepoCommit {
            did: did(0),
            rev: rev(4),
            since: Since::Unknown,
            data: None,
            ops: vec![atcr_registry::index::RecordOp::gone(Collection::Tag, key("app_latest"))],
        };
        let events = [moved(1, 1), moved(2, 1), moved(3, 2), Event::Commit(gone), moved(5, 1), moved(3, 2)];
        index.apply(&events, None).await.unwrap();
        let history = index.history(&did(0), &name(0), Some(&tag(0)), &PageRequest::default()).await.unwrap();
        let said: Vec<_> = history.items.iter().map(|moved| (moved.digest, moved.rev)).collect();
        assert_eq!(
            said,
            [(Some(blob(1)), rev(5)), (None, rev(4)), (Some(blob(2)), rev(3)), (Some(blob(1)), rev(1))]
        );
    }
}

#[tokio::test]
async fn a_blob_is_looked_for_at_its_hold_its_successor_and_other_holds_of_the_owner() {
    for place in both() {
        let index = place.open().await;
        let (collection, rkey, mut value) = record(0, 0, 1);
        value["holdDid"] = "did:web:old.example".into();
        let captain = |successor: &str| json!({ "owner": did(0), "public": true, "successor": successor });
        let web =
            |name: &str| -> atcr_core::syntax::Did { format!("did:web:{name}.example").parse().unwrap() };
        let of_hold = |hold: &str, rkey: &str, collection, value: Value| {
            let ops = vec![written(collection, key(rkey), &value)];
            Event::Commit(RepoCommit { did: web(hold), rev: rev(1), since: Since::Nothing, data: None, ops })
        };
        let layer = json!({ "digest": blob(0), "size": 1, "userDid": did(0), "createdAt": at(0) });
        let mut other = record(0, 3, 1);
        other.2["holdDid"] = "did:web:other.example".into();
        let events = [
            event(0, 1, vec![(collection, rkey, value), other]),
            of_hold("old", "self", Collection::Captain, captain("did:web:new.example")),
            // A circle, which must end.
            of_hold("new", "self", Collection::Captain, captain("did:web:old.example")),
            of_hold("other", "3k", Collection::Layer, layer.clone()),
            // Nobody chose this one.
            of_hold("liar", "3k", Collection::Layer, layer),
        ];
        index.apply(&events, None).await.unwrap();
        assert_eq!(
            index.holds_of_blob(&did(0), &blob(0)).await.unwrap(),
            [web("new"), web("old"), web("other")]
        );
        assert!(index.hold_has(&web("other"), &did(0), &blob(0)).await.unwrap());
        assert!(!index.hold_has(&web("new"), &did(0), &blob(0)).await.unwrap());
        assert!(index.holds_of_blob(&did(1), &blob(0)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn holds_are_offered_to_their_captain_their_crew_and_to_everybody() {
    for place in both() {
        let index = place.open().await;
        let hold = |name: &str, owner: usize, open: bool, crew: Option<usize>| {
            let captain =
                json!({ "owner": did(owner), "public": false, "allowAllCrew": open, "deployedAt": at(0) });
            let mut ops = vec![written(Collection::Captain, RecordKey::this(), &captain)];
            if let Some(member) = crew {
                let value = json!({ "member": did(member), "role": "member", "permissions": ["blob:write"], "addedAt": at(0) });
                ops.push(written(Collection::Crew, key("m"), &value));
            }
            let hold = format!("did:web:{name}.example").parse().unwrap();
            Event::Commit(RepoCommit { did: hold, rev: rev(1), since: Since::Nothing, data: None, ops })
        };
        let events = [
            hold("a", 1, true, None),
            hold("b", 1, false, Some(0)),
            hold("c", 0, false, None),
            hold("d", 1, false, None),
        ];
        index.apply(&events, None).await.unwrap();
        let offered = index.holds_for(&did(0)).await.unwrap();
        let offered: Vec<_> = offered.iter().map(|choice| (choice.hold.as_str(), choice.relation)).collect();
        assert_eq!(
            offered,
            [
                ("did:web:c.example", HoldRelation::Captain),
                ("did:web:b.example", HoldRelation::Crew),
                ("did:web:a.example", HoldRelation::Open)
            ]
        );
        let crew = index.crew(&"did:web:b.example".parse().unwrap()).await.unwrap();
        assert_eq!(
            (&crew[0].member, crew[0].permissions.as_slice()),
            (&did(0), &["blob:write".to_owned()][..])
        );
    }
}

#[tokio::test]
async fn what_happened_since_a_time_comes_in_parts_in_its_order() {
    for place in both() {
        let index = place.open().await;
        let mut events = vec![event(0, 20, vec![record(0, 0, 1)])];
        for n in 0..9 {
            let value = json!({
                "repository": name(0), "tag": tag(n), "updatedAt": at(n / 2), "manifestDigest": blob(n),
            });
            events.push(event(0, n, vec![(Collection::Tag, key(&format!("k{}", n % 3)), value)]));
        }
        let scan = |n: usize| {
            let value = json!({
                "manifest": format!("at://{}/io.atcr.manifest/{}", did(0), blob(n).hex()), "repository": name(0),
                "userDid": did(0), "critical": n, "high": 0, "medium": 0, "low": 0, "total": n, "scannedAt": at(n / 3),
            });
            (Collection::Scan, key(&format!("scan:{n}")), value)
        };
        events.push(event(2, 1, (0..9).map(scan).collect()));
        // Nobody has made this one the hold of anything.
        events.push(event(1, 1, vec![scan(3)]));
        index.apply(&events, None).await.unwrap();

        let micros = |n: usize| i64::try_from(rev(n).micros()).unwrap();
        for from in [0, 4, 9] {
            let (since, mut page) =
                (Timestamp::from_microsecond(micros(from)).unwrap(), PageRequest::first(2));
            let mut found = Vec::new();
            loop {
                let part = index.moves_since(&did(0), since, &page).await.unwrap();
                found.extend(part.items.into_iter().map(|moved| (moved.digest, moved.rev, moved.written_at)));
                page.cursor = part.next;
                if page.cursor.is_none() {
                    break;
                }
            }
            let wanted: Vec<_> =
                (from..9).map(|n| (Some(blob(n)), rev(n), at(n / 2).parse().unwrap())).collect();
            assert_eq!(found, wanted);
        }
        for (from, wanted) in [(0, vec![6, 7, 8, 3, 4, 5, 0, 1, 2]), (1, vec![6, 7, 8, 3, 4, 5]), (3, vec![])]
        {
            let (since, mut page) = (at(from).parse().unwrap(), PageRequest::first(2));
            let mut found = Vec::new();
            loop {
                let part = index.scans_since(&did(0), since, &page).await.unwrap();
                found.extend(part.items.into_iter().map(|scan| {
                    assert_eq!(
                        (scan.hold, scan.digest),
                        (did(2), blob(usize::try_from(scan.counts.total).unwrap()))
                    );
                    scan.counts.critical
                }));
                page.cursor = part.next;
                if page.cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, wanted);
        }
        let bad = PageRequest { limit: None, cursor: Some("1:2".to_owned()) };
        let refused = index.scans_since(&did(0), Timestamp::UNIX_EPOCH, &bad).await;
        assert!(matches!(refused, Err(IndexError::Cursor(_))));
    }
}
