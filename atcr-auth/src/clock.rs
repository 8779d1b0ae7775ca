use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// The time of day that tokens are made and judged by: the system's, or one that a test moves. Clones of a manual
/// clock move together.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at this moment (seconds since 1970) until it is moved.
    pub fn manual(unix: i64) -> Self {
        Self { manual: Some(Arc::new(AtomicI64::new(unix))) }
    }

    /// Moves a manual clock forward by whole seconds; the system's is not moved.
    pub fn advance(&self, by: Duration) {
        if let Some(seconds) = &self.manual {
            seconds.fetch_add(whole_seconds(by), Ordering::SeqCst);
        }
    }

    /// Seconds since 1970, UTC.
    pub fn unix(&self) -> i64 {
        match &self.manual {
            Some(seconds) => seconds.load(Ordering::SeqCst),
            None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, whole_seconds),
        }
    }
}

/// A duration in the unit of a token's times.
pub(crate) fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The time left until `unix`; nothing when it has passed.
pub(crate) fn until(unix: i64, now: i64) -> Duration {
    Duration::from_secs(u64::try_from(unix.saturating_sub(now)).unwrap_or(0))
}
