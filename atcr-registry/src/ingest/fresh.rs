use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use url::Url;

use super::{Inner, Source};
use crate::index::IndexError;

/// How often a replica looks which streams are at work.
const LOOK: Duration = Duration::from_secs(2);

/// Which streams are at work, so that what they would have told is known. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Freshness(Arc<State>);

#[derive(Debug)]
struct State {
    bound: i64,
    /// When each source was seen at work last, in milliseconds since 1970.
    alive: RwLock<HashMap<String, i64>>,
}

impl Freshness {
    pub(super) fn new(bound: Duration) -> Self {
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        Self(Arc::new(State { bound, alive: RwLock::default() }))
    }

    pub(super) fn set(&self, sources: impl IntoIterator<Item = (String, i64)>) {
        let mut alive = self.0.alive.write().unwrap_or_else(PoisonError::into_inner);
        for (source, at) in sources {
            let known = alive.entry(source).or_default();
            *known = at.max(*known);
        }
    }

    fn is_alive(&self, source: &str, now: i64) -> bool {
        let alive = self.0.alive.read().unwrap_or_else(PoisonError::into_inner);
        alive.get(source).is_some_and(|at| now - at <= self.0.bound)
    }

    /// Whether this server's own stream is at work: then the server is, too.
    pub fn follows(&self, host: &Url) -> bool {
        let now = jiff::Timestamp::now().as_millisecond();
        self.is_alive(&Source::Host(host.clone()).name(), now)
    }

    /// Whether changes of an account at this PDS would have been heard of.
    pub fn covers(&self, pds: Option<&str>) -> bool {
        let now = jiff::Timestamp::now().as_millisecond();
        let alive = self.0.alive.read().unwrap_or_else(PoisonError::into_inner);
        alive.iter().any(|(source, at)| {
            let (kind, url) = source.split_once(' ').unwrap_or_default();
            now - at <= self.0.bound
                && (kind != "host" || pds.is_some_and(|pds| pds.trim_end_matches('/') == url))
        })
    }
}

impl Inner {
    pub(super) async fn watch_freshness(&self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the state of the streams cannot be read");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<(), IndexError> {
        let sources = self.index.sources().await?;
        let wanted: Vec<String> = self.options.sources.iter().map(Source::name).collect();
        // A source that is configured no longer says nothing about today.
        self.freshness.set(sources.into_iter().filter(|(name, _)| wanted.contains(name)));
        Ok(())
    }
}
