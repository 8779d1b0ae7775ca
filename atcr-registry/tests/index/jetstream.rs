//! Jetstream, compressed and not.

use std::sync::Arc;
use std::time::Duration;

use atcr_core::did_resolver::{IdentityResolver, StaticResolver};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_registry::index::{Collection, Index};
use atcr_registry::ingest::{Ingest, IngestOptions, Source};
use axum::extract::ws::Message;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::databases::Place;
use crate::records::{did, name, record, rev, tag};
use crate::streams::{Scripted, serve};

/// The one in the crate, as it goes over the wire.
const DICTIONARY: &[u8] = include_bytes!("../../src/ingest/jetstream/zstd_dictionary");

fn compressed(text: &str) -> Message {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(3, DICTIONARY).unwrap();
    Message::Binary(compressor.compress(text.as_bytes()).unwrap().into())
}

/// Alice has written a tag.
fn tagged(n: usize) -> String {
    let (collection, rkey, value): (Collection, _, Value) = record(2, 3 * n, 1);
    let cid =
        cid::Cid::new_v1(0x71, cid::multihash::Multihash::wrap(0x12, &crate::records::cid(&value)).unwrap());
    let event = json!({
        "did": did(0), "time_us": 1_750_000_000_000_000_u64 + n as u64, "kind": "commit",
        "commit": {
            "rev": rev(n + 1), "operation": "create", "collection": collection.nsid(), "rkey": rkey,
            "record": value, "cid": cid.to_string(),
        },
    });
    event.to_string()
}

struct Following {
    index: Index,
    server: Scripted,
    running: JoinHandle<()>,
    _place: Place,
}

async fn follow(server: Scripted, compress: bool) -> Following {
    let url = serve(server.router("/subscribe")).await;
    let place = Place::sqlite();
    let index = place.open().await;
    let nobody = Arc::new(StaticResolver::default());
    let identities = IdentityResolver::new(Arc::clone(&nobody) as Arc<_>, nobody);
    let mut options = IngestOptions::default();
    assert!(options.jetstream_compress, "unless it is switched off");
    options.jetstream_compress = compress;
    options.sources = vec![Source::Jetstream(url)];
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let ingest = Ingest::new(index.clone(), egress, identities, options);
    Following { index, server, running: tokio::spawn(ingest.run()), _place: place }
}

impl Following {
    async fn has_tags(&self, count: usize) {
        let wanted: Vec<_> = (0..count).map(tag).collect();
        let waiting = async {
            while self.index.tags(&did(0), &name(0), None, 9).await.unwrap().unwrap_or_default() != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the tags are not there in time");
    }

    fn asked_to_compress(&self) -> Vec<bool> {
        self.server.queries().iter().map(|query| query.contains("compress=true")).collect()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tokio::test]
async fn compressed_events_are_taken_in() {
    let server = Scripted::default();
    server.says(vec![compressed(&tagged(0)), compressed(&tagged(1)), compressed(&tagged(2))], false);
    let following = follow(server, true).await;
    following.has_tags(3).await;
    assert_eq!(following.asked_to_compress(), [true]);
}

#[tokio::test]
async fn a_server_that_does_not_compress_is_understood_and_nobody_is_asked_to_who_need_not() {
    for compress in [true, false] {
        let server = Scripted::default();
        server.says(vec![Message::text(tagged(0)), Message::text(tagged(1))], false);
        let following = follow(server, compress).await;
        following.has_tags(2).await;
        assert_eq!(following.asked_to_compress(), [compress]);
    }
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_connection_and_the_stream_goes_on_without_compression() {
    let bomb = compressed(&" ".repeat(50 << 20));
    let mut other = DICTIONARY.to_vec();
    other[4] ^= 1;
    let unknown = zstd::bulk::Compressor::with_dictionary(3, &other).unwrap().compress(b"{}").unwrap();
    for broken in [bomb, Message::Binary(b"garbage".to_vec().into()), Message::Binary(unknown.into())] {
        let server = Scripted::default();
        server.says(vec![compressed(&tagged(0)), broken, compressed(&tagged(1))], false);
        server.says(vec![Message::text(tagged(0))], true);
        server.says((0..3).map(|n| Message::text(tagged(n))).collect(), false);
        let following = follow(server, true).await;
        following.has_tags(3).await;
        assert_eq!(following.asked_to_compress(), [true, false, false]);
    }
}

#[tokio::test]
async fn an_event_that_is_no_event_is_passed_over() {
    let server = Scripted::default();
    let strange = ["{}", "null", r#"{"did":"did:plc:alice","time_us":"?"}"#, "\"", ""];
    let mut messages: Vec<Message> = strange.into_iter().map(compressed).collect();
    messages.push(compressed(&tagged(0)));
    server.says(messages, false);
    let following = follow(server, true).await;
    following.has_tags(1).await;
    assert_eq!(following.asked_to_compress(), [true]);
}
