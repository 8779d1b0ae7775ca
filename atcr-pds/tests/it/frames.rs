//! Frames of the event stream: what is written is read, and what is not well-formed is refused.

use std::collections::BTreeMap;

use atcr_core::syntax::{Datetime, Tid};
use atcr_pds::cbor::{self, CborError, cid_for_cbor};
use atcr_pds::repo::{
    CommitEvent, EventKind, Frame, FrameError, Head, NewEvent, RepoOp, SequencedEvent, Since,
};
use atcr_pds::store::RepoStatus;
use bytes::Bytes;
use ipld_core::ipld::Ipld;

use crate::support::{value, vector};
use crate::world::{did, path};

type Map = BTreeMap<String, Ipld>;

fn text(text: &str) -> Ipld {
    Ipld::String(text.into())
}

fn encode(map: &Map) -> Bytes {
    cbor::encode(&Ipld::Map(map.clone())).unwrap()
}

fn frame(t: &str, body: &Map) -> Vec<u8> {
    let header = [("op".to_owned(), Ipld::Integer(1)), ("t".to_owned(), text(t))];
    [encode(&header.into()), encode(body)].concat()
}

fn commit() -> NewEvent {
    let op = |rkey, cid, prev| RepoOp { path: path(rkey), cid, prev };
    NewEvent::Commit(Box::new(CommitEvent {
        did: did("alice"),
        head: Head { cid: cid_for_cbor(b"commit"), rev: Tid::new(7, 1) },
        since: Some(Since { rev: Tid::new(6, 1), data: cid_for_cbor(b"data") }),
        ops: vec![
            op("a", Some(value(1)), None),
            op("b", Some(value(2)), Some(value(1))),
            op("c", None, Some(value(3))),
        ],
        blocks: Bytes::from_static(b"blocks"),
    }))
}

fn events() -> Vec<NewEvent> {
    let did = did("alice");
    vec![
        commit(),
        NewEvent::Sync { did: did.clone(), rev: Tid::new(7, 1), blocks: Bytes::from_static(b"x") },
        NewEvent::Identity { did: did.clone(), handle: Some("alice.test".parse().unwrap()) },
        NewEvent::Identity { did: did.clone(), handle: None },
        NewEvent::Account { did: did.clone(), status: RepoStatus::Active },
        NewEvent::Account { did, status: RepoStatus::Takendown },
    ]
}

/// The body of a commit as a map, to be spoiled.
fn body() -> Map {
    let event = commit().sequence(1, &Datetime::now()).unwrap();
    let Ipld::Map(map) = cbor::decode(&event.body).unwrap() else { panic!("a map") };
    map
}

#[test]
fn what_is_written_is_read() {
    let now = Datetime::now();
    for (event, seq) in events().into_iter().zip([1, 9, 255, 70_000, 1 << 40, (1 << 53) - 1]) {
        let written = event.sequence(seq, &now).unwrap().frame();
        let Frame::Event(read) = Frame::decode(&written).unwrap() else { panic!("an event") };
        assert_eq!((read.seq, &read.time), (seq, &now));
        assert_eq!(read.event.kind(), event.kind());
        assert_eq!(read.event.sequence(seq, &now).unwrap().frame(), written);
    }
}

#[test]
fn words_of_the_server_and_what_is_not_known_are_told_apart() {
    let info = frame("#info", &[("name".to_owned(), text("OutdatedCursor"))].into());
    assert!(matches!(
        Frame::decode(&info),
        Ok(Frame::Info { name, message: None }) if name == "OutdatedCursor"
    ));
    let header = encode(&[("op".to_owned(), Ipld::Integer(-1))].into());
    let error = [("error".to_owned(), text("ConsumerTooSlow")), ("message".to_owned(), text("x"))];
    let error = [header, encode(&error.into())].concat();
    assert!(matches!(
        Frame::decode(&error),
        Ok(Frame::Error { error, message: Some(_) }) if error == "ConsumerTooSlow"
    ));
    let reference = vector("reference-pds-0.5.35/frames/error-FutureCursor.bin");
    assert!(matches!(Frame::decode(&reference), Ok(Frame::Error { error, .. }) if error == "FutureCursor"));
    assert!(matches!(Frame::decode(&frame("#tomorrow", &Map::new())), Ok(Frame::Unknown)));
    let header = encode(&[("op".to_owned(), Ipld::Integer(2))].into());
    assert!(matches!(Frame::decode(&[header.as_ref(), &[0xa0]].concat()), Ok(Frame::Unknown)));
}

#[test]
fn what_a_newer_server_adds_is_passed_over() {
    let mut more = body();
    more.insert("later".into(), Ipld::List(vec![Ipld::Null]));
    let Ok(Frame::Event(SequencedEvent { event, .. })) = Frame::decode(&frame("#commit", &more)) else {
        panic!("an event")
    };
    assert_eq!(event.kind(), EventKind::Commit);
    let account = |status: Option<&str>| {
        let mut body: Map = [
            ("seq".to_owned(), Ipld::Integer(1)),
            ("did".to_owned(), text(did("a").as_str())),
            ("time".to_owned(), text(Datetime::now().as_str())),
            ("active".to_owned(), Ipld::Bool(false)),
        ]
        .into();
        body.extend(status.map(|status| ("status".to_owned(), text(status))));
        let Ok(Frame::Event(SequencedEvent { event: NewEvent::Account { status, .. }, .. })) =
            Frame::decode(&frame("#account", &body))
        else {
            panic!("an event")
        };
        status
    };
    assert_eq!(account(Some("suspended")), RepoStatus::Suspended);
    for open in [None, Some("throttled"), Some("active")] {
        assert_eq!(account(open), RepoStatus::Deactivated);
    }
}

#[test]
fn commits_that_contradict_themselves_are_refused() {
    let with = |key: &str, value: Option<Ipld>| {
        let mut body = body();
        match value {
            Some(value) => body.insert(key.into(), value),
            None => body.remove(key),
        };
        Frame::decode(&frame("#commit", &body)).map(drop)
    };
    assert_eq!(with("blobs", None), Ok(()), "nothing is read from it");
    assert_eq!(with("tooBig", Some(Ipld::Bool(true))), Err(FrameError::TooBig));
    assert_eq!(with("prevData", None), Err(FrameError::PrevData));
    assert_eq!(with("since", Some(Ipld::Null)), Err(FrameError::PrevData));
    assert_eq!(with("seq", Some(Ipld::Integer(0))), Err(FrameError::Seq(0)));
    assert_eq!(with("seq", Some(Ipld::Integer(1 << 53))), Err(FrameError::Seq(1 << 53)));
    let large = Ipld::Bytes(vec![0; 2_000_001]);
    let too_large = FrameError::BlocksTooLarge { blocks: 2_000_001, limit: 2_000_000 };
    assert_eq!(with("blocks", Some(large)), Err(too_large));
    for (key, value) in [
        ("seq", None),
        ("seq", Some(Ipld::Integer(-1))),
        ("time", Some(text("yesterday"))),
        ("repo", Some(text("alice"))),
        ("rev", Some(Ipld::Null)),
        ("commit", Some(Ipld::Null)),
        ("blocks", Some(text("x"))),
        ("ops", Some(Ipld::Integer(0))),
    ] {
        assert!(matches!(with(key, value), Err(FrameError::Malformed(CborError::Shape(_)))), "{key}");
    }

    let op = |action: &str, path: &str, cid: bool, prev: bool| {
        let link = |is| if is { Ipld::Link(value(1)) } else { Ipld::Null };
        let fields =
            [("action", text(action)), ("path", text(path)), ("cid", link(cid)), ("prev", link(prev))];
        Ipld::Map(fields.map(|(k, v)| (k.to_owned(), v)).into())
    };
    let ops = |ops: Vec<Ipld>| with("ops", Some(Ipld::List(ops)));
    let a = "com.example.note/a";
    for (action, cid, prev) in [("create", true, false), ("update", true, true), ("delete", false, true)] {
        for (other_cid, other_prev) in [(true, true), (true, false), (false, true), (false, false)] {
            let outcome = ops(vec![op(action, a, other_cid, other_prev)]);
            if (other_cid, other_prev) == (cid, prev) {
                assert_eq!(outcome, Ok(()));
            } else {
                assert!(matches!(outcome, Err(FrameError::Operation { .. })), "{action}: {outcome:?}");
            }
        }
    }
    assert!(matches!(ops(vec![op("move", a, true, true)]), Err(FrameError::Operation { .. })));
    let twice = vec![op("create", a, true, false), op("delete", a, false, true)];
    assert!(matches!(ops(twice), Err(FrameError::Operation { .. })));
    for bad in ["a", "a/b/c", "com.example.note/..", "Com.example.note/a", ""] {
        assert!(matches!(ops(vec![op("create", bad, true, false)]), Err(FrameError::Path(_))), "{bad:?}");
    }
    let many = (0..201).map(|n| op("create", &format!("com.example.note/{n}"), true, false)).collect();
    assert_eq!(ops(many), Err(FrameError::TooManyOperations(201)));
}

#[test]
fn only_two_canonical_items_are_a_frame() {
    let good = commit().sequence(1, &Datetime::now()).unwrap().frame();
    for cut in 0..good.len() {
        assert!(matches!(Frame::decode(&good[..cut]), Err(FrameError::Malformed(_))), "cut at {cut}");
    }
    let behind = [&good[..], &[0xa0]].concat();
    assert!(matches!(Frame::decode(&behind), Err(FrameError::Malformed(CborError::Trailing { .. }))));
    // The keys of the header in the other order, as text would sort.
    let header = [&b"\xa2\x62op\x01\x61t\x67#commit"[..], cbor::split_first(&good).unwrap().1].concat();
    assert!(matches!(Frame::decode(&header), Err(FrameError::Malformed(CborError::NotCanonical { .. }))));
    assert!(matches!(Frame::decode(b"\x80\x80"), Err(FrameError::Malformed(CborError::Shape(_)))));
}
