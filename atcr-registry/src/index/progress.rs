//! What the replicas of a registry share beside the records: where streams are, who reads them, what is still to be
//! read.

use std::time::Duration;

use atcr_core::syntax::Did;

use super::database::{all, first, run};
use super::{Index, IndexError};

/// The longest that a repo waits that could not be read.
const MAX_WAIT: i64 = 3600 * 1000;
const FIRST_WAIT: i64 = 2000;

/// A stream of events, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceState {
    /// The last event that the index has; `None` before the first.
    pub seq: Option<i64>,
    /// How far a list that goes with it was read.
    pub page: Option<String>,
    /// When it was seen at work last, in milliseconds since 1970.
    pub alive_at: i64,
}

/// How much of the network the index has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Repos that it knows of.
    pub repos: u64,
    /// Repos that must still be read whole.
    pub waiting: u64,
    /// Of those, the ones that could not be read so far.
    pub failing: u64,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Index {
    /// Takes or keeps a piece of work, for so long. One holder has it at a time; who does not renew it loses it.
    pub async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, IndexError> {
        let (now, mut tx) = (self.now(), self.database().begin().await?);
        let taken = run!(
            tx,
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
             SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.holder = excluded.holder OR leases.expires_at < $4",
            name,
            holder,
            now + millis(ttl),
            now
        );
        tx.commit().await?;
        Ok(taken > 0)
    }

    /// Gives every piece of work back that somebody holds.
    pub async fn release(&self, holder: &str) -> Result<(), IndexError> {
        let mut tx = self.database().begin().await?;
        run!(tx, "DELETE FROM leases WHERE holder = $1", holder);
        tx.commit().await?;
        Ok(())
    }

    /// How far a source was read.
    pub async fn source(&self, source: &str) -> Result<SourceState, IndexError> {
        let found: Option<(Option<i64>, Option<String>, i64)> = first!(
            &self.database().read,
            "SELECT seq, page, alive_at FROM cursors WHERE source = $1",
            source
        );
        Ok(found.map(|(seq, page, alive_at)| SourceState { seq, page, alive_at }).unwrap_or_default())
    }

    /// When each source was seen at work last.
    pub async fn sources(&self) -> Result<Vec<(String, i64)>, IndexError> {
        Ok(all!(&self.database().read, "SELECT source, alive_at FROM cursors"))
    }

    /// Notes that a source is connected and says what there is to say.
    pub async fn source_is_alive(&self, source: &str) -> Result<(), IndexError> {
        let (now, mut tx) = (self.now(), self.database().begin().await?);
        run!(
            tx,
            "INSERT INTO cursors (source, alive_at) VALUES ($1, $2) \
             ON CONFLICT (source) DO UPDATE SET alive_at = excluded.alive_at",
            source,
            now
        );
        tx.commit().await?;
        Ok(())
    }

    /// Forgets where a source was: its sequence has begun anew.
    pub async fn forget_cursor(&self, source: &str) -> Result<(), IndexError> {
        let mut tx = self.database().begin().await?;
        run!(tx, "UPDATE cursors SET seq = NULL WHERE source = $1", source);
        tx.commit().await?;
        Ok(())
    }

    /// Keeps how far a list was read; `None` at its end.
    pub async fn keep_page(&self, source: &str, page: Option<&str>) -> Result<(), IndexError> {
        let mut tx = self.database().begin().await?;
        run!(
            tx,
            "INSERT INTO cursors (source, page) VALUES ($1, $2) ON CONFLICT (source) DO UPDATE SET page = excluded.page",
            source,
            page.map(str::to_owned)
        );
        tx.commit().await?;
        Ok(())
    }

    /// Every repo must be read again: a source has lost events, and nobody knows whose.
    pub async fn read_all_again(&self) -> Result<u64, IndexError> {
        let mut tx = self.database().begin().await?;
        let marked = run!(tx, "UPDATE repos SET need = 0 WHERE need IS NULL AND status = 'active'");
        tx.commit().await?;
        Ok(marked)
    }

    /// Takes repos that must be read whole, to be read within `time`; after it somebody else may take them.
    pub async fn claim(&self, limit: usize, time: Duration) -> Result<Vec<Did>, IndexError> {
        let (now, mut tx) = (self.now(), self.database().begin().await?);
        // The condition stands twice: PostgreSQL judges it anew for a row that another replica has just taken.
        let taken: Vec<(String,)> = all!(
            &mut *tx,
            "UPDATE repos SET retry_at = $2 WHERE need IS NOT NULL AND retry_at <= $1 AND id IN \
             (SELECT id FROM repos WHERE need IS NOT NULL AND retry_at <= $1 AND status = 'active' \
             ORDER BY retry_at LIMIT $3) RETURNING did",
            now,
            now + millis(time),
            i64::try_from(limit).unwrap_or(1)
        );
        tx.commit().await?;
        taken.into_iter().map(|(did,)| did.parse().map_err(IndexError::corrupt)).collect()
    }

    /// A repo could not be read: it waits, each time twice as long.
    pub async fn reading_failed(&self, did: &Did, why: &str) -> Result<(), IndexError> {
        let (now, mut tx) = (self.now(), self.database().begin().await?);
        let found: Option<(i64,)> =
            first!(&mut *tx, "SELECT attempts FROM repos WHERE did = $1", did.as_str());
        let attempts = found.map_or(0, |(attempts,)| attempts).clamp(0, 20);
        let wait = (FIRST_WAIT << attempts).min(MAX_WAIT);
        run!(
            tx,
            "UPDATE repos SET attempts = $2, retry_at = $3, failure = $4 WHERE did = $1",
            did.as_str(),
            attempts + 1,
            now + wait,
            super::write::clean(why, 512)
        );
        tx.commit().await?;
        Ok(())
    }

    /// How much of the network the index has.
    pub async fn progress(&self) -> Result<Progress, IndexError> {
        let found: Option<(i64, i64, i64)> = first!(
            &self.database().read,
            "SELECT (SELECT count(*) FROM repos), \
             (SELECT count(*) FROM repos WHERE need IS NOT NULL AND status = 'active'), \
             (SELECT count(*) FROM repos WHERE need IS NOT NULL AND status = 'active' AND attempts > 0)"
        );
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        Ok(found
            .map(|(repos, waiting, failing)| Progress {
                repos: count(repos),
                waiting: count(waiting),
                failing: count(failing),
            })
            .unwrap_or_default())
    }

    /// The repos that the index knows, some at a time: those after a number, with the number to go on from.
    pub async fn known(&self, after: i64) -> Result<Vec<(i64, String)>, IndexError> {
        Ok(all!(
            &self.database().read,
            "SELECT id, did FROM repos WHERE id > $1 ORDER BY id LIMIT 5000",
            after
        ))
    }
}
