//! Uploads past the hold as a state machine, under faults in any order: what was acknowledged is never lost, nobody gets
//! other bytes than the digest says, and nothing is left over.

use std::collections::BTreeSet;
use std::time::Duration;

use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::oci::Digest;
use bytes::Bytes;
use http::Method;
use proptest::prelude::*;
use serde_json::json;
use strict_s3::{Fault, Operation};

use crate::direct::{Bucket, Target};
use crate::world::{User, World, bytes};

/// Uploads that go on at the same time.
const SLOTS: usize = 3;
/// Different contents.
const CONTENTS: u32 = 2;

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    /// Sends the part with this content, by a new address.
    Send(usize, u32),
    /// As that, by the first address that the upload got, whatever has become of it.
    SendLate(usize, u32),
    /// The storage loses the parts of all open uploads.
    Lose,
    /// Completes the upload as this content, so many times at once.
    Complete(usize, u32, usize),
    Abort(usize),
    /// The next such request fails, and so do those that repeat it.
    Fail(Operation, Fault, u32),
    Verify,
    /// The process is killed and started again.
    Kill,
    /// Time passes, in hours, and idle uploads are swept.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let operations = prop::sample::select(vec![
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::ListParts,
        Operation::CompleteMultipartUpload,
        Operation::AbortMultipartUpload,
        Operation::HeadObject,
        Operation::GetObject,
        Operation::PutObject,
        Operation::DeleteObject,
    ]);
    let faults = prop::sample::select(vec![Fault::Unavailable, Fault::AnswerLost]);
    prop_oneof![
        2 => (0..SLOTS).prop_map(Step::Begin),
        5 => (0..SLOTS, 0..CONTENTS).prop_map(|(slot, content)| Step::Send(slot, content)),
        1 => (0..SLOTS, 0..CONTENTS).prop_map(|(slot, content)| Step::SendLate(slot, content)),
        1 => Just(Step::Lose),
        6 => (0..SLOTS, 0..CONTENTS, 1..3_usize).prop_map(|(slot, content, n)| Step::Complete(slot, content, n)),
        1 => (0..SLOTS).prop_map(Step::Abort),
        4 => (operations, faults, 1..5_u32).prop_map(|(operation, fault, n)| Step::Fail(operation, fault, n)),
        3 => Just(Step::Verify),
        1 => Just(Step::Kill),
        1 => (1..30_u64).prop_map(Step::Pass),
    ]
}

fn content(n: u32) -> Bytes {
    bytes(n, 1000)
}

fn digest(n: u32) -> Digest {
    Digest::sha256(&content(n))
}

/// What a client knows of its upload.
#[derive(Default)]
struct Slot {
    upload: Option<String>,
    first_address: Option<Target>,
    /// The content that was acknowledged last, and its receipt.
    sent: Option<(u32, String)>,
}

struct Run {
    bucket: Bucket,
    slots: Vec<Slot>,
    /// What was acknowledged, and is what was said.
    right: BTreeSet<u32>,
}

impl Target {
    /// Sends the part; `None` when that was not acknowledged.
    async fn try_put(&self, content: &Bytes) -> Option<String> {
        let egress = Egress::new(EgressPolicy::development()).unwrap();
        let request = egress.request(Method::PUT, self.url.clone()).unwrap().body(content.clone());
        let response = egress.send(request).await.ok()?;
        let etag = response.headers().get("etag")?.to_str().ok()?.to_owned();
        response.status().is_success().then_some(etag)
    }
}

impl Run {
    /// Two slots are alice's, who is the owner; the others are bob's.
    fn user(world: &World, slot: usize) -> &User {
        if slot < 2 { &world.alice } else { &world.bob }
    }

    async fn step(mut self, step: Step) -> Self {
        let Bucket { server, world } = &self.bucket;
        match step {
            Step::Begin(slot) => {
                let input = json!({"digest": "uploads/temp-1"});
                let user = Self::user(world, slot);
                let begun = world.post(user, "io.atcr.hold.initiateUpload", input).await;
                if begun.status.is_success() {
                    let upload = begun.json()["uploadId"].as_str().unwrap().to_owned();
                    self.slots[slot] = Slot { upload: Some(upload), ..Slot::default() };
                }
            }
            Step::Send(slot, n) => {
                let Some(upload) = &self.slots[slot].upload else { return self };
                let input = json!({"uploadId": upload, "partNumber": 1});
                let user = Self::user(world, slot);
                let answer = world.post(user, "io.atcr.hold.getPartUploadUrl", input).await;
                if answer.status.is_success() {
                    let target = Target::of(&answer.json());
                    if let Some(etag) = target.try_put(&content(n)).await {
                        self.slots[slot].sent = Some((n, etag));
                    }
                    self.slots[slot].first_address.get_or_insert(target);
                }
            }
            Step::SendLate(slot, n) => {
                if let Some(target) = &self.slots[slot].first_address
                    && let Some(etag) = target.try_put(&content(n)).await
                {
                    self.slots[slot].sent = Some((n, etag));
                }
            }
            Step::Lose => server.lose_part(1),
            Step::Complete(slot, n, times) => {
                let Slot { upload: Some(upload), sent: Some((sent, etag)), .. } = &self.slots[slot] else {
                    return self;
                };
                let (user, parts) = (Self::user(world, slot), json!([{"partNumber": 1, "etag": etag}]));
                let digest = digest(n);
                let completions = (0..times).map(|_| world.complete(user, upload, &digest, parts.clone()));
                for answer in futures_util::future::join_all(completions).await {
                    if answer.status.is_success() && *sent == n {
                        self.right.insert(n);
                    }
                }
            }
            Step::Abort(slot) => {
                if let Some(upload) = &self.slots[slot].upload {
                    let input = json!({"uploadId": upload});
                    world.post(Self::user(world, slot), "io.atcr.hold.abortUpload", input).await;
                }
            }
            Step::Fail(operation, fault, times) => {
                for _ in 0..times {
                    server.fail(operation, 1, fault);
                }
            }
            Step::Verify => {
                let _ = world.hold.verify_pending().await;
            }
            Step::Kill => {
                let Bucket { server, world } = self.bucket;
                self.bucket = Bucket { server, world: world.reopened().await };
            }
            Step::Pass(hours) => {
                world.clock.advance(Duration::from_secs(hours * 3600));
                let _ = world.hold.sweep().await;
            }
        }
        self
    }

    /// Nobody gets anything but what the digest says.
    async fn check(&self) {
        let Bucket { server, world } = &self.bucket;
        for n in 0..CONTENTS {
            for answer in
                [world.get(&world.blob_path(&digest(n))).await, world.blob_as(&world.bob, &digest(n)).await]
            {
                if answer.status != 307 || answer.header("cache-control") != "no-store" {
                    continue;
                }
                let url: url::Url = answer.header("location").parse().unwrap();
                let key = url.path().split_once("/bucket/").unwrap().1;
                let bytes = server.object(key).expect("what is pointed to is there");
                let everybody = world.get(&world.blob_path(&digest(n))).await.status == 307;
                assert!(!everybody || bytes == content(n), "other bytes under a digest");
            }
        }
    }

    /// Everything comes to an end: what is left is what was acknowledged, and nothing else.
    async fn settle(self) {
        let Bucket { server, world } = &self.bucket;
        for _ in 0..40 {
            world.clock.advance(Duration::from_secs(1200));
            let _ = world.hold.verify_pending().await;
            let swept = world.hold.sweep().await.is_ok();
            if swept && world.hold.unverified().await.unwrap() == 0 {
                break;
            }
        }
        assert_eq!(world.hold.unverified().await.unwrap(), 0);
        for _ in 0..8 {
            world.clock.advance(Duration::from_secs(8 * 24 * 3600));
            let mut tries = 0;
            while world.hold.sweep().await.is_err() {
                tries += 1;
                assert!(tries < 40, "the sweep never succeeds");
            }
            world.hold.verify_pending().await.unwrap();
        }
        let mut there = BTreeSet::new();
        for n in 0..CONTENTS {
            let mut answer = world.get(&world.blob_path(&digest(n))).await;
            for _ in 0..10 {
                if answer.status != 503 {
                    break;
                }
                answer = world.get(&world.blob_path(&digest(n))).await;
            }
            if answer.status == 307 {
                let url: url::Url = answer.header("location").parse().unwrap();
                let key = url.path().split_once("/bucket/").unwrap().1;
                assert!(server.object(key).unwrap() == content(n));
                there.insert(n);
            }
        }
        assert!(self.right.is_subset(&there), "{:?} was acknowledged, and there is {there:?}", self.right);
        let objects: Vec<_> =
            server.objects().into_iter().filter(|(key, _)| key.ends_with("/data")).collect();
        assert_eq!(objects.len(), there.len(), "{objects:?}");
        assert_eq!(server.open_uploads(), 0);
    }
}

fn run(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut run = Run {
            bucket: Bucket::new().await,
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            right: BTreeSet::new(),
        };
        for step in steps {
            run = run.step(step).await;
            run.check().await;
        }
        run.settle().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_nothing_is_wrong_and_nothing_is_left(steps in prop::collection::vec(step(), 1..40)) {
        run(steps);
    }
}

/// The places where a process can be killed or an answer lost, one by one.
#[test]
fn each_loss_on_the_way_is_made_good() {
    use Step::{Begin, Complete, Fail, Kill, Pass, Send, Verify};
    let upload = || vec![Begin(0), Send(0, 0)];
    let lost = |operation| Fail(operation, Fault::AnswerLost, 3);
    let away = |operation| Fail(operation, Fault::Unavailable, 4);
    for broken in [
        vec![lost(Operation::CompleteMultipartUpload), Complete(0, 0, 1), Kill, Complete(0, 0, 1)],
        vec![away(Operation::CompleteMultipartUpload), Complete(0, 0, 1), Complete(0, 0, 2)],
        vec![Complete(0, 0, 2), Kill, Verify],
        vec![Complete(0, 0, 1), lost(Operation::PutObject), Verify, Kill, Verify],
        vec![Complete(0, 0, 1), away(Operation::GetObject), Verify, Kill],
        vec![lost(Operation::CompleteMultipartUpload), Complete(0, 0, 1), Pass(25)],
        vec![Complete(0, 0, 1), Complete(0, 1, 1), Send(0, 1), Complete(0, 0, 1)],
        vec![Complete(0, 1, 1), Verify, Begin(1), Send(1, 1), Complete(1, 1, 1), Verify],
    ] {
        run([upload(), broken].concat());
    }
}
