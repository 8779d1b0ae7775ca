//! Repos that are read whole, from their own PDS.

use std::time::Duration;

use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::Did;
use atcr_core::xrpc::{XrpcClient, XrpcError};
use atcr_pds::repo::car::CarLimits;
use atcr_pds::repo::{Commit, CommitError, Import};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Method;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio_util::io::StreamReader;

use super::verify::{place, record};
use super::{IngestError, Inner};
use crate::index::{AccountStatus, Event, RecordOp};

/// The longest that reading one repo may take.
const LONGEST: Duration = Duration::from_secs(900);
/// How often it is looked whether there is something to read, beside being told.
const LOOK: Duration = Duration::from_secs(2);
/// Records of one transaction.
const PIECE: usize = 500;
const GET_REPO: &str = "com.atproto.sync.getRepo";

impl Inner {
    /// Reads whatever must be read, for ever.
    pub(super) async fn read_repos(self: std::sync::Arc<Self>) {
        let mut reading = JoinSet::new();
        loop {
            while let Some(ended) = reading.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a reading broke off");
                }
            }
            let room = self.options.readers.saturating_sub(reading.len());
            let claimed = if room == 0 { Ok(Vec::new()) } else { self.index.claim(room, LONGEST).await };
            let claimed = claimed.unwrap_or_else(|error| {
                tracing::warn!(%error, "the index does not say what must be read");
                Vec::new()
            });
            let found = !claimed.is_empty();
            for did in claimed {
                let this = std::sync::Arc::clone(&self);
                reading.spawn(async move { this.read_claimed(&did).await });
            }
            if found {
                continue;
            }
            tokio::select! {
                () = self.work.notified() => {}
                _ = reading.join_next(), if !reading.is_empty() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn read_claimed(&self, did: &Did) {
        let read = tokio::time::timeout(LONGEST, self.read_repo(did)).await;
        let failure = match read {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        tracing::info!(%did, error = %failure, "a repo could not be read; it is tried again later");
        if let Err(error) = self.index.reading_failed(did, &failure).await {
            tracing::warn!(%error, "the index does not take note of it");
        }
    }

    pub(super) async fn read_repo(&self, did: &Did) -> Result<(), IngestError> {
        let refuse = |reason: &dyn std::fmt::Display| IngestError::Repo {
            did: did.clone(),
            reason: reason.to_string(),
        };
        self.known.insert(did.as_str());
        // Always as it is now: an account that has moved has its repo elsewhere.
        let document = self.identities.dids().refresh(did).await?;
        // A hold of did:web need not name a PDS beside itself.
        let service = document.pds().or_else(|_| document.service("atcr_hold")).map_err(|e| refuse(&e))?;
        let client = XrpcClient::new(self.egress.clone(), service);
        let request = client.begin(Method::GET, GET_REPO)?.query(&[("did", did.as_str())]);
        let response = self.egress.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = self.egress.read(response, 64 * 1024).await?;
            let refusal = client.refusal(GET_REPO, status, &body);
            if let Some(status) = away(&refusal) {
                self.index.apply(&[Event::Account { did: did.clone(), status }], None).await?;
            }
            return Err(refusal.into());
        }
        let bytes = response.bytes_stream().map_err(std::io::Error::other).boxed();
        let limited = StreamReader::new(bytes).take(self.options.max_repo_bytes);
        let mut import = Import::new();
        let commit = import.read(limited, CarLimits::default()).await.map_err(|e| refuse(&e))?;
        self.check(did, &document, &commit).await?;

        if let Ok(identity) = self.identity(did).await {
            self.index.apply(&[identity], None).await?;
        }
        let Some(reading) = self.index.begin_reading(did, commit.rev).await? else {
            return Err(refuse(&"the PDS is behind what its stream said"));
        };
        let mut records = import.into_records().ok_or_else(|| refuse(&"an empty file"))?;
        let mut piece: Vec<RecordOp> = Vec::new();
        let mut count = 0_usize;
        while let Some((key, cid, bytes)) = records.next().await.map_err(|e| refuse(&e))? {
            let Some((collection, rkey)) = place(&key) else { continue };
            piece.push(record(collection, rkey, &cid, &bytes));
            if piece.len() >= PIECE {
                count += piece.len();
                reading.put(&piece).await?;
                piece.clear();
            }
        }
        count += piece.len();
        reading.put(&piece).await?;
        reading.finish(commit.data.to_string()).await?;
        if self.index.account(did).await?.is_none_or(|account| !account.complete) {
            return Err(refuse(&"the PDS is behind what its stream said"));
        }
        tracing::debug!(%did, rev = %commit.rev, records = count, "read whole");
        Ok(())
    }

    async fn check(&self, did: &Did, document: &DidDocument, commit: &Commit) -> Result<(), IngestError> {
        let refuse = |reason: &dyn std::fmt::Display| IngestError::Repo {
            did: did.clone(),
            reason: reason.to_string(),
        };
        let key = document.signing_key().map_err(|e| refuse(&e))?;
        match commit.verify(did, &key) {
            Err(error @ CommitError::Signature) => {
                // The key may have been rotated while the file was read.
                let document = self.identities.dids().refresh(did).await?;
                let key = document.signing_key().map_err(|e| refuse(&e))?;
                commit.verify(did, &key).map_err(|_| refuse(&error))
            }
            other => other.map_err(|e| refuse(&e)),
        }
    }
}

/// What a PDS says about an account whose repo it does not give.
fn away(refusal: &XrpcError) -> Option<AccountStatus> {
    match refusal.name()? {
        "RepoDeactivated" => Some(AccountStatus::Deactivated),
        "RepoTakendown" => Some(AccountStatus::TakenDown),
        "RepoSuspended" => Some(AccountStatus::Suspended),
        _ => None,
    }
}
