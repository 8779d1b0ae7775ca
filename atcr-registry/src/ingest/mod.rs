//! Keeping an [`Index`] current: event streams, verified commits, and repos that are read whole.
//!
//! ```no_run
//! # async fn example(index: atcr_registry::index::Index, egress: atcr_core::egress::Egress,
//! #     identities: atcr_core::did_resolver::IdentityResolver) -> Result<(), Box<dyn std::error::Error>> {
//! use atcr_registry::ingest::{Ingest, IngestOptions, Source};
//!
//! let mut options = IngestOptions::default();
//! options.sources.push(Source::Relay("https://relay.example".parse()?));
//! let ingest = Ingest::new(index, egress, identities, options);
//! tokio::spawn(ingest.run());
//! # Ok(())
//! # }
//! ```
//!
//! - A stream of a relay, a PDS or a hold (`com.atproto.sync.subscribeRepos`) is believed in nothing: the signature of
//!   each commit is checked with the account's key, and its changes are undone to see whether they lead to the tree
//!   before. Jetstream is believed, as it has no proofs.
//! - What cannot be verified, or does not follow what is known, makes the repo to be read whole from its own PDS.
//! - Where a stream has no cursor, or its source has lost what came after it, the accounts that have records of ours
//!   are listed and read (`listReposByCollection`); the list is taken up again where it was left.
//! - Several replicas share one index. Each stream and each list is one replica's at a time, by a lease; repos to be
//!   read are handed out to whoever asks.

mod backfill;
mod fresh;
mod jetstream;
mod judge;
mod known;
mod read_repo;
mod socket;
mod stream;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use atcr_core::did_resolver::IdentityResolver;
use atcr_core::egress::Egress;
use atcr_core::syntax::Did;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use url::Url;

use crate::index::{Event, IdentityChange, Index, IndexError};

pub use fresh::Freshness;
pub use judge::{Verdict, passes};
pub use known::Known;
pub use verify::{VerifyError, verify_commit};

/// Where events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A relay, which has the events of every account of the network.
    Relay(Url),
    /// A PDS or a hold, which has those of its own accounts.
    Host(Url),
    /// A Jetstream server, which has those of every account, without proofs.
    Jetstream(Url),
}

impl Source {
    /// Its URL.
    pub fn url(&self) -> &Url {
        match self {
            Self::Relay(url) | Self::Host(url) | Self::Jetstream(url) => url,
        }
    }

    /// What it is called in the database.
    pub(crate) fn name(&self) -> String {
        let kind = match self {
            Self::Relay(_) => "relay",
            Self::Host(_) => "host",
            Self::Jetstream(_) => "jetstream",
        };
        format!("{kind} {}", self.url().as_str().trim_end_matches('/'))
    }
}

/// How an index is kept current.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IngestOptions {
    /// Where events come from.
    pub sources: Vec<Source>,
    /// Repos that are read at the same time. Default: 4.
    pub readers: usize,
    /// The largest repo that is read, in bytes. Default: 1 GiB.
    pub max_repo_bytes: u64,
    /// A stream that says nothing for so long, not even a ping, is connected anew. Default: 90 s.
    pub silence: Duration,
    /// Whether Jetstream servers are asked to compress what they send. One that sends it as it is all the same is
    /// understood, and one whose compression is not is asked again without. Default: true.
    pub jetstream_compress: bool,
    /// What is known counts as current for so long after its stream was last seen at work. Default: 60 s.
    pub freshness: Duration,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            readers: 4,
            max_repo_bytes: 1 << 30,
            silence: Duration::from_secs(90),
            jetstream_compress: true,
            freshness: Duration::from_secs(60),
        }
    }
}

/// Keeps an index current. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    index: Index,
    egress: Egress,
    identities: IdentityResolver,
    options: IngestOptions,
    known: Known,
    freshness: Freshness,
    /// There is a repo to be read.
    work: Notify,
    /// This process, in leases.
    holder: String,
}

/// Why a source could not be followed to the end, or a repo not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The source cannot be reached.
    #[error(transparent)]
    Egress(#[from] atcr_core::egress::EgressError),
    /// The source refused.
    #[error(transparent)]
    Xrpc(#[from] atcr_core::xrpc::XrpcError),
    /// The connection broke, or says what it may not.
    #[error("the stream broke: {0}")]
    Stream(String),
    /// A compressed message is not what its compression promises, or too long.
    #[error("a compressed message cannot be read: {0}")]
    Compressed(String),
    /// The source ended the stream, and said why.
    #[error("the source ended the stream: {error}: {message}")]
    Ended {
        /// The name of the reason.
        error: String,
        /// For a human.
        message: String,
    },
    /// The account's identity cannot be resolved.
    #[error(transparent)]
    Resolve(#[from] atcr_core::did_resolver::ResolveError),
    /// The repo is not what its account signed.
    #[error("the repo of {did} is refused: {reason}")]
    Repo {
        /// Whose repo.
        did: Did,
        /// What is wrong with it.
        reason: String,
    },
    /// Another replica does it.
    #[error("another replica has taken this over")]
    Lease,
}

impl Ingest {
    /// Ready to run.
    pub fn new(index: Index, egress: Egress, identities: IdentityResolver, options: IngestOptions) -> Self {
        let freshness = Freshness::new(options.freshness);
        let holder = uuid::Uuid::new_v4().to_string();
        let work = Notify::new();
        Self(Arc::new(Inner {
            index,
            egress,
            identities,
            options,
            known: Known::default(),
            freshness,
            work,
            holder,
        }))
    }

    /// What is current, for those who answer from the index.
    pub fn freshness(&self) -> Freshness {
        self.0.freshness.clone()
    }

    /// Wakes the readers: a repo is to be read.
    pub fn wake(&self) {
        self.0.work.notify_one();
    }

    /// Follows every source and reads what must be read, for ever. It ends when it is dropped; whatever was under way
    /// is taken up again at the next start.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let this = Arc::clone(&self.0);
        tasks.spawn(async move { this.watch_freshness().await });
        // Which accounts are known decides what is passed over, so that comes first.
        while let Err(error) = self.0.load_known().await {
            tracing::error!(%error, "the index cannot be read; it is tried again");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        for source in self.0.options.sources.clone() {
            let this = Arc::clone(&self.0);
            tasks.spawn(async move { this.follow(source).await });
        }
        let this = Arc::clone(&self.0);
        tasks.spawn(async move { this.read_repos().await });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the ingest ended");
            }
        }
    }

    /// Lets other replicas go on at once where this one was, after [`Ingest::run`] was dropped. Without it they wait until
    /// its leases run out, fifteen seconds.
    pub async fn hand_over(&self) -> Result<(), IndexError> {
        self.0.index.release(&self.0.holder).await
    }

    /// Reads one repo whole, now.
    pub async fn read_repo(&self, did: &Did) -> Result<(), IngestError> {
        self.0.read_repo(did).await
    }
}

impl Inner {
    async fn load_known(&self) -> Result<(), IndexError> {
        let mut after = 0;
        loop {
            let piece = self.index.known(after).await?;
            let Some((last, _)) = piece.last() else { return Ok(()) };
            after = *last;
            for (_, did) in &piece {
                self.known.insert(did);
            }
        }
    }

    /// Who an account is now, as the network says.
    async fn identity(&self, did: &Did) -> Result<Event, IngestError> {
        let identity = self.identities.resolve(&did.clone().into()).await?;
        let handle = (identity.handle != atcr_core::syntax::Handle::invalid()).then_some(identity.handle);
        let document = serde_json::to_string(&*identity.document).ok();
        let pds = Some(identity.pds.as_str().trim_end_matches('/').to_owned());
        Ok(Event::Identity(IdentityChange { did: did.clone(), handle, pds, document }))
    }
}

/// A pause before the next attempt: twice as long each time, and never the same for all who wait.
pub(crate) fn pause(attempt: u32) -> Duration {
    let longest = Duration::from_secs(60);
    let pause = Duration::from_millis(250).saturating_mul(1 << attempt.min(10)).min(longest);
    let mut random = [0; 2];
    // Without randomness all wait the same.
    getrandom::fill(&mut random).ok();
    pause.mul_f64(0.5 + f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 2.0)
}
