//! What becomes of a frame of `subscribeRepos`.

use std::time::Duration;

use atcr_core::crypto::PublicKey;
use atcr_core::syntax::Did;
use atcr_pds::cbor;
use atcr_pds::repo::{CommitEvent, Frame, NewEvent, SequencedEvent};
use atcr_pds::store::RepoStatus;
use jiff::Timestamp;
use serde::Deserialize;

use super::verify::{VerifyError, verify_commit};
use super::{IngestError, Inner, Known, Source};
use crate::index::{AccountStatus, Event};

/// How long the stream waits for one account's identity. An account that takes longer is read by itself, later.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a frame of a stream is worth looking at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An event that has nothing for the index, with its place in the sequence.
    Pass(i64),
    /// Anything else: it is to be decoded.
    Look,
}

#[derive(Deserialize)]
struct Header<'a> {
    op: i64,
    #[serde(borrow)]
    t: Option<&'a str>,
}

/// The few fields by which an event is passed over.
#[derive(Deserialize)]
struct Glance<'a> {
    seq: i64,
    #[serde(borrow)]
    repo: Option<&'a str>,
    #[serde(borrow)]
    did: Option<&'a str>,
    #[serde(borrow, default)]
    ops: Vec<OpGlance<'a>>,
}

#[derive(Deserialize)]
struct OpGlance<'a> {
    #[serde(borrow)]
    path: &'a str,
}

/// Looks at a frame only as far as it takes to see that it is of no account that is known, and writes none of our
/// records. That is nearly every event of the network.
pub fn passes(frame: &[u8], known: &Known) -> Verdict {
    glance(frame, known).unwrap_or(Verdict::Look)
}

fn glance(frame: &[u8], known: &Known) -> Option<Verdict> {
    let Glance { seq, repo, did, ops } = event_of(frame)?;
    let is_known = known.contains(repo.or(did)?);
    let is_ours = ops.iter().any(|op| op.path.starts_with("io.atcr."));
    Some(if is_known || is_ours { Verdict::Look } else { Verdict::Pass(seq) })
}

/// What came of a message, in its place.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Its place in the sequence.
    pub(super) seq: Option<i64>,
    /// What the index is to take in.
    pub(super) events: Vec<Event>,
    /// The source has lost events that we have not seen.
    pub(super) lost: bool,
    /// The stream ends here.
    pub(super) end: Option<(String, String)>,
}

impl Inner {
    pub(super) async fn judge(&self, source: &Source, frame: &[u8]) -> Judged {
        if let Verdict::Pass(seq) = passes(frame, &self.known) {
            return Judged { seq: Some(seq), ..Judged::default() };
        }
        match Frame::decode(frame) {
            Ok(Frame::Event(SequencedEvent { seq, event, .. })) => {
                let events = self.event(source, event).await;
                Judged { seq: i64::try_from(seq).ok(), events, ..Judged::default() }
            }
            Ok(Frame::Info { name, message }) => {
                tracing::warn!(%name, message, "the source says");
                Judged { lost: name == "OutdatedCursor", ..Judged::default() }
            }
            Ok(Frame::Error { error, message }) => {
                Judged { end: Some((error, message.unwrap_or_default())), ..Judged::default() }
            }
            Ok(_) => Judged::default(),
            Err(error) => self.malformed(frame, &error),
        }
    }

    /// An event that the protocol does not allow. If it says whose it is, that repo is read.
    fn malformed(&self, frame: &[u8], error: &dyn std::fmt::Display) -> Judged {
        let glance = event_of(frame);
        let seq = glance.as_ref().map(|glance| glance.seq);
        let did: Option<Did> = glance
            .and_then(|glance| glance.repo.or(glance.did)?.parse().ok())
            .filter(|did: &Did| self.known.contains(did.as_str()));
        tracing::debug!(%error, ?did, "an event that cannot be read");
        Judged {
            seq,
            events: did.map(|did| Event::Missed { did, rev: None }).into_iter().collect(),
            ..Judged::default()
        }
    }

    async fn event(&self, source: &Source, event: NewEvent) -> Vec<Event> {
        let did = event.did().clone();
        if let NewEvent::Commit(commit) = event {
            return self.commit(&commit).await;
        }
        // What is not a commit matters of those alone whom the index knows.
        if !self.known.contains(did.as_str()) {
            return Vec::new();
        }
        match event {
            NewEvent::Sync { did, rev, .. } => vec![Event::Missed { did, rev: Some(rev) }],
            NewEvent::Identity { did, .. } => self.identity_event(&did).await,
            NewEvent::Account { did, status } if self.may_say(source, &did).await => {
                vec![Event::Account { did, status: account_status(status) }]
            }
            _ => Vec::new(),
        }
    }

    /// The identity of an account has changed, perhaps: it is looked up past every cache.
    pub(super) async fn identity_event(&self, did: &Did) -> Vec<Event> {
        let look_up = async {
            self.identities.dids().refresh(did).await?;
            self.identity(did).await
        };
        match tokio::time::timeout(PATIENCE, look_up).await {
            Ok(Ok(event)) => vec![event],
            Ok(Err(error)) => {
                tracing::debug!(%did, %error, "an identity that cannot be resolved");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Whether the source may say whether an account is there: a relay may, and a host of its own accounts.
    async fn may_say(&self, source: &Source, did: &Did) -> bool {
        let Source::Host(url) = source else { return true };
        match tokio::time::timeout(PATIENCE, self.identities.pds(did)).await {
            Ok(Ok(pds)) => pds.origin() == http_origin(url),
            // An account whose DID is gone is gone; any other is where its document was last seen to be.
            Ok(Err(atcr_core::did_resolver::ResolveError::NotFound(_))) => true,
            _ => false,
        }
    }

    async fn commit(&self, commit: &CommitEvent) -> Vec<Event> {
        let did = &commit.did;
        let missed = || vec![Event::Missed { did: did.clone(), rev: Some(commit.head.rev) }];
        let mut events = Vec::with_capacity(2);
        match tokio::time::timeout(PATIENCE, self.verified(commit)).await {
            Ok(Ok(verified)) => {
                if self.known.insert(did.as_str()) {
                    // The first that is heard of them.
                    let identity = tokio::time::timeout(PATIENCE, self.identity(did)).await;
                    events.extend(identity.ok().and_then(Result::ok));
                }
                events.push(Event::Commit(verified));
            }
            Ok(Err(error)) => {
                tracing::debug!(%did, %error, "a commit that is not believed");
                // Anybody can send anything in the name of somebody whom nobody knows here.
                if self.known.contains(did.as_str()) {
                    events = missed();
                }
            }
            Err(_) if self.known.contains(did.as_str()) => events = missed(),
            Err(_) => tracing::debug!(%did, "whose identity takes too long; it is passed over"),
        }
        events
    }

    async fn verified(&self, commit: &CommitEvent) -> Result<crate::index::RepoCommit, IngestError> {
        let did = &commit.did;
        let refuse = |reason: &dyn std::fmt::Display| IngestError::Repo {
            did: did.clone(),
            reason: reason.to_string(),
        };
        let dids = self.identities.dids();
        let key: PublicKey = dids.resolve(did).await?.signing_key().map_err(|e| refuse(&e))?;
        match verify_commit(commit, &key, Timestamp::now()) {
            Err(VerifyError::Commit(_)) => {
                // The key may have been rotated.
                let fresh = dids.refresh(did).await?.signing_key().map_err(|e| refuse(&e))?;
                verify_commit(commit, &fresh, Timestamp::now()).map_err(|e| refuse(&e))
            }
            other => other.map_err(|e| refuse(&e)),
        }
    }
}

fn event_of(frame: &[u8]) -> Option<Glance<'_>> {
    let (header, body) = cbor::split_first(frame).ok()?;
    let header: Header<'_> = serde_ipld_dagcbor::from_slice(header).ok()?;
    if header.op != 1 || header.t.is_none() {
        return None;
    }
    serde_ipld_dagcbor::from_slice(body).ok()
}

pub(super) fn http_origin(url: &url::Url) -> url::Origin {
    let mut url = url.clone();
    let scheme = if matches!(url.scheme(), "ws" | "http") { "http" } else { "https" };
    url.set_scheme(scheme).ok();
    url.origin()
}

fn account_status(status: RepoStatus) -> AccountStatus {
    AccountStatus::parse(status == RepoStatus::Active, Some(status.as_str()))
}
