//! Whether the holds that are in use answer: asked in the background, for pages to show. Nothing waits for it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use atcr_core::Source;
use atcr_core::did_resolver::DidResolver;
use atcr_core::egress::Egress;
use atcr_core::syntax::Did;
use atcr_core::xrpc::XrpcClient;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::index::Index;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How many intervals an answer counts for.
const STALE: u32 = 3;

/// How holds are asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HoldHealthOptions {
    /// How long a hold is left alone between two questions; each pause is up to a quarter longer or shorter, so that
    /// replicas do not ask together.
    pub interval: Duration,
    /// How long a hold may take to answer.
    pub timeout: Duration,
    /// Holds that are asked at the same time.
    pub concurrency: usize,
    /// Holds that are asked at all: those that most accounts use.
    pub holds: usize,
}

impl Default for HoldHealthOptions {
    /// Every two minutes, five seconds for an answer, eight at a time, 500 holds.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(120),
            timeout: Duration::from_secs(5),
            concurrency: 8,
            holds: 500,
        }
    }
}

/// How a hold was when it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it answered.
    pub answers: bool,
    /// Since when that is so, as far as it was asked here.
    pub since: Timestamp,
    /// When it was last asked.
    pub checked_at: Timestamp,
}

/// Asks the holds that are in use whether they answer (`_health`), and remembers it in memory: each replica asks for
/// itself. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct HoldHealth(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    index: Index,
    egress: Egress,
    dids: Arc<dyn DidResolver>,
    default_hold: Did,
    options: HoldHealthOptions,
    known: RwLock<HashMap<Did, (Health, Instant)>>,
}

impl HoldHealth {
    /// Asks `default_hold` and the holds that the index knows to be in use, all of them through the egress gate.
    pub fn new(
        index: Index,
        egress: Egress,
        dids: Arc<dyn DidResolver>,
        default_hold: Did,
        options: HoldHealthOptions,
    ) -> Self {
        let known = RwLock::default();
        Self(Arc::new(Inner { index, egress, dids, default_hold, options, known }))
    }

    /// How a hold is; `None` when it was not asked lately.
    pub fn of(&self, hold: &Did) -> Option<Health> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let (health, at) = known.get(hold)?;
        (at.elapsed() < self.0.options.interval * STALE + self.0.options.timeout).then_some(*health)
    }

    /// Asks all holds over and over. It ends when it is dropped.
    pub async fn run(self) {
        loop {
            self.check().await;
            tokio::time::sleep(pause(self.0.options.interval)).await;
        }
    }

    /// Asks every hold once.
    pub async fn check(&self) {
        let Inner { index, default_hold, options, known, .. } = &*self.0;
        let mut holds = match index.holds_in_use(options.holds).await {
            Ok(holds) => holds,
            Err(error) => {
                tracing::warn!(%error, "the holds in use are not known; they are asked later");
                return;
            }
        };
        if !holds.contains(default_hold) {
            holds.truncate(options.holds.saturating_sub(1));
            holds.push(default_hold.clone());
        }
        stream::iter(&holds).for_each_concurrent(options.concurrency.max(1), |hold| self.ask(hold)).await;
        // What is in use no more is forgotten.
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|hold, _| holds.contains(hold));
    }

    async fn ask(&self, hold: &Did) {
        let answer = tokio::time::timeout(self.0.options.timeout, self.answer(hold)).await;
        let (answers, error) = match answer {
            Ok(Ok(())) => (true, None),
            Ok(Err(error)) => (false, Some(error)),
            Err(elapsed) => (false, Some(Source::from(elapsed))),
        };
        let now = Timestamp::now();
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(hold).map(|(health, _)| *health);
        let since = before.filter(|before| before.answers == answers).map_or(now, |before| before.since);
        known.insert(hold.clone(), (Health { answers, since, checked_at: now }, Instant::now()));
        drop(known);
        match (before.is_none_or(|before| before.answers), error) {
            (true, Some(error)) => tracing::info!(%hold, %error, "a hold does not answer"),
            (false, None) => tracing::info!(%hold, "a hold answers again"),
            _ => {}
        }
    }

    async fn answer(&self, hold: &Did) -> Result<(), Source> {
        let document = self.0.dids.resolve(hold).await?;
        let url = document.service("atcr_hold").or_else(|_| document.pds())?;
        let url = XrpcClient::new(self.0.egress.clone(), url).method_url("_health");
        self.0.egress.get(url, MAX_ANSWER).await?;
        Ok(())
    }
}

/// An interval, up to a quarter longer or shorter.
fn pause(interval: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness it is the interval.
    let _ = getrandom::fill(&mut byte);
    interval * 3 / 4 + interval / 512 * u32::from(byte[0])
}
