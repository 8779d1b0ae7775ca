//! The hold's own repo: captain, crew, layers and counters as signed records.

mod captain;
mod changes;
mod layers;
mod stats;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use atcr_auth::Clock;
use atcr_core::records::Record;
use atcr_core::syntax::{Datetime, Did, RecordKey, Tid, TidClock};
use atcr_pds::repo::{Page, RecordPath};
use atcr_pds::{Applied, Expect, RepoError, Repos, Swap, Write, cbor};
use sqlx::SqlitePool;
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) use captain::{CaptainSettings, captain_rkey};
pub(crate) use changes::Changes;
pub(crate) use layers::NewLayer;

use crate::HoldError;
use crate::hold::blocking;

/// Records of a collection that are read at once.
const PAGE: usize = 500;

/// The hold's repo, with an index of its layer records. Cloning shares it.
#[derive(Clone)]
pub(crate) struct HoldRepo {
    did: Did,
    repos: Repos,
    pool: SqlitePool,
    clock: Clock,
    rkeys: Arc<TidClock>,
    /// Held from a look at the records until the write that builds on it.
    writing: Arc<Mutex<()>>,
    /// As `writing`, among processes; `None` when there is only this one.
    replicas: Option<Arc<Path>>,
    /// The second in which somebody last looked for what other processes wrote.
    noticed: Arc<AtomicI64>,
}

/// The right to look at the records and to write what follows from them: nobody else does meanwhile.
pub(crate) struct Alone {
    _here: OwnedMutexGuard<()>,
    /// The system gives it back when the file is closed, however the process ends.
    _among_processes: Option<File>,
}

impl HoldRepo {
    /// `replicas` is a file that the processes which share the repo lock, when there may be several.
    pub(crate) fn new(
        did: Did,
        repos: Repos,
        pool: SqlitePool,
        clock: Clock,
        last: Tid,
        replicas: Option<&Path>,
    ) -> Self {
        let mut id = last.clock().to_be_bytes();
        if replicas.is_some() {
            // Two processes choose different keys in the same microsecond. They write one after the other anyway.
            let _ = getrandom::fill(&mut id);
        }
        let rkeys = Arc::new(TidClock::after(Some(last), u16::from_be_bytes(id)));
        Self {
            did,
            repos,
            pool,
            clock,
            rkeys,
            writing: Arc::default(),
            replicas: replicas.map(Arc::from),
            noticed: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    /// Waits until nobody else writes records that follow from others.
    pub(crate) async fn alone(&self) -> Result<Alone, HoldError> {
        let here = Arc::clone(&self.writing).lock_owned().await;
        let Some(path) = self.replicas.clone() else {
            return Ok(Alone { _here: here, _among_processes: None });
        };
        let file = blocking(move || crate::hold::wait_for(&path)).await?;
        // What others wrote meanwhile counts.
        self.notice().await?;
        Ok(Alone { _here: here, _among_processes: Some(file) })
    }

    /// Takes note of what other processes wrote.
    pub(crate) async fn notice(&self) -> Result<(), HoldError> {
        if self.replicas.is_some() {
            let now = self.clock.unix();
            self.repos.notice().await?;
            self.noticed.store(now, Ordering::Relaxed);
        }
        Ok(())
    }

    /// As [`HoldRepo::notice`], but looks once a second only: what others wrote may be so old.
    pub(crate) async fn notice_lately(&self) -> Result<(), HoldError> {
        if self.noticed.load(Ordering::Relaxed) == self.clock.unix() {
            return Ok(());
        }
        self.notice().await
    }

    pub(crate) fn repos(&self) -> &Repos {
        &self.repos
    }

    pub(crate) fn now(&self) -> Datetime {
        jiff::Timestamp::from_second(self.clock.unix()).unwrap_or_default().into()
    }

    /// One record. One that cannot be read as what it should be counts as missing, with a line in the log.
    pub(crate) async fn get<R: Record>(&self, rkey: &RecordKey) -> Result<Option<R>, HoldError> {
        let path = RecordPath::new(&R::collection(), rkey).map_err(RepoError::from)?;
        let record = self.repos.get_record(&self.did, &path).await?;
        Ok(record.and_then(|record| self.read(&record)))
    }

    /// All records of a type with their keys, in order.
    pub(crate) async fn all<R: Record>(&self) -> Result<Vec<(RecordKey, R)>, HoldError> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let (page, next) = self.page(cursor).await?;
            all.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Some records of a type behind `cursor`, and the cursor for more.
    async fn page<R: Record>(
        &self,
        cursor: Option<RecordKey>,
    ) -> Result<(Vec<(RecordKey, R)>, Option<RecordKey>), HoldError> {
        let page = Page { limit: PAGE, cursor, reverse: true };
        let records = self.repos.list_records(&self.did, &R::collection(), page).await?;
        let next = records.last().filter(|_| records.len() == PAGE).map(|record| record.path.rkey());
        let read = records.iter().filter_map(|record| Some((record.path.rkey(), self.read(record)?)));
        Ok((read.collect(), next))
    }

    fn read<R: Record>(&self, record: &atcr_pds::repo::Record) -> Option<R> {
        let json = record.to_json().map_err(HoldError::from);
        match json.and_then(|json| serde_json::from_value(json).map_err(HoldError::from)) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(uri = %record.path.to_uri(&self.did), %error, "a record is not readable");
                None
            }
        }
    }

    /// A write that puts this record.
    pub(crate) fn put<R: Record>(rkey: RecordKey, record: &R) -> Result<Write, HoldError> {
        let value = cbor::json::record_from_json(&serde_json::to_value(record)?)?;
        Ok(Write::Put { collection: R::collection(), rkey, value, expect: Expect::Anything })
    }

    /// Makes one commit.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<Applied, HoldError> {
        Ok(self.repos.apply_writes(&self.did, writes, Swap::Anything).await?)
    }
}
