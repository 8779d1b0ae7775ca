//! Taking in events: one transaction for a batch of them and the cursor behind them.
//!
//! Each record keeps the revision that it was last written at, also when it is gone. So events may come twice, late
//! and from several sources at once: what is older than what is there changes nothing. For each repo the index knows up
//! to which revision it has everything; a commit that does not follow that one leaves a note that the repo must be read
//! whole (`need`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use atcr_core::syntax::{Did, Tid};
use sqlx::{Any, Transaction};

use super::database::{Dialect, all, first, run};
use super::event::{Event, IdentityChange, RecordOp, RepoCommit, Since};
use super::pending::{Pending, Place};
use super::record_state::{Known, RecordStates};
use super::refresh::Move;
use super::rows;
use super::schema::BY_RECORD;
use super::{AccountStatus, Index, IndexError};

/// Two transactions that get into each other's way are tried again this often.
const ATTEMPTS: usize = 5;

/// Where a stream of events is, to be kept with what they did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The source, by its URL.
    pub source: String,
    /// The place in its sequence.
    pub seq: i64,
}

/// What became of a batch of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Changes of records that were made.
    pub changed: usize,
    /// Changes that the index had already, or newer ones.
    pub stale: usize,
    /// Records that cannot be read; they are not shown.
    pub unreadable: usize,
    /// Repos of which something was missed, so that they must be read whole.
    pub missed: usize,
}

/// A revision as the database has it.
pub(super) fn number(rev: Tid) -> i64 {
    i64::try_from((rev.micros() << 10) | u64::from(rev.clock())).unwrap_or(i64::MAX)
}

/// The revision behind a number.
pub(super) fn revision(number: i64) -> Tid {
    let number = u64::try_from(number).unwrap_or_default();
    Tid::new(number >> 10, u16::try_from(number & 0x3ff).unwrap_or_default())
}

/// When a revision was made, in milliseconds.
pub(super) fn made_at(rev: i64) -> i64 {
    (rev >> 10) / 1000
}

impl Index {
    /// Takes events in, in their order, and moves the cursor behind them: all of it, or nothing.
    ///
    /// A cursor never moves backwards. Events that the index has already change nothing, so that a source may be read
    /// again from any place.
    pub async fn apply(&self, events: &[Event], cursor: Option<&Cursor>) -> Result<Applied, IndexError> {
        let mut attempt = 1;
        loop {
            match self.try_apply(events, cursor).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                Ok(applied) => {
                    if events.iter().any(|event| matches!(event, Event::Identity(_))) {
                        self.identities_changed();
                    }
                    self.announce(events.iter().map(Event::did));
                    return Ok(applied);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_apply(&self, events: &[Event], cursor: Option<&Cursor>) -> Result<Applied, IndexError> {
        let mut writing = Writing::begin(self).await?;
        // In one order everywhere, so that two batches wait for each other and never both.
        let dids: BTreeSet<&Did> = events.iter().map(Event::did).collect();
        for did in dids {
            writing.lock(did).await?;
        }
        writing.recall_records(events).await?;
        for event in events {
            match event {
                Event::Commit(commit) => writing.commit(commit).await?,
                Event::Identity(change) => writing.identity(change, self.now()).await?,
                Event::Account { did, status } => writing.account(did, *status).await?,
                Event::Missed { did, rev } => writing.missed(did, *rev).await?,
            }
        }
        if let Some(Cursor { source, seq }) = cursor {
            run!(
                writing.tx,
                "INSERT INTO cursors (source, seq) VALUES ($1, $2) ON CONFLICT (source) DO UPDATE \
                 SET seq = excluded.seq WHERE cursors.seq IS NULL OR cursors.seq < excluded.seq",
                source.as_str(),
                *seq
            );
        }
        let also = std::mem::take(&mut writing.also);
        let applied = writing.finish().await?;
        self.announce(&also);
        Ok(applied)
    }
}

/// Where a record is.
pub(super) fn place(repo: i64, op: &RecordOp) -> Place {
    (repo, op.collection.code(), op.rkey.as_str().to_owned())
}

/// What is known of a repo while a transaction lasts.
#[derive(Debug, Clone)]
pub(super) struct RepoState {
    pub(super) id: i64,
    /// Nothing is known but that it is there.
    fresh: bool,
    rev: Option<i64>,
    data: Option<String>,
    need: Option<i64>,
    /// The newest revision at which nothing was missing; what is older is stale.
    pub(super) whole: i64,
    status: String,
    /// It is not in the database yet.
    changed: bool,
}

/// A transaction with what must be brought up to date before it ends.
pub(super) struct Writing {
    pub(super) tx: Transaction<'static, Any>,
    pub(super) dialect: Dialect,
    pub(super) repos: HashMap<Did, RepoState>,
    pub(super) records: RecordStates,
    pub(super) pending: Pending,
    /// The numbers of repositories by owner and name, and back.
    pub(super) repositories: HashMap<(i64, String), i64>,
    pub(super) names: HashMap<i64, (i64, String)>,
    /// Repositories whose figures are to be made anew; `true` where words to search for changed.
    pub(super) touched: BTreeMap<i64, bool>,
    /// Tags that may point elsewhere by the commit that is being taken in.
    pub(super) moving: BTreeSet<(i64, String)>,
    /// The same of commits before it, in their order; each tag once.
    pub(super) moves: Vec<Move>,
    pub(super) moved: HashSet<(i64, String)>,
    /// Repositories, by owner and name, whose stars or counters changed.
    pub(super) starred: BTreeSet<(String, String)>,
    pub(super) counted: BTreeSet<(String, String)>,
    pub(super) applied: Applied,
    /// Accounts of which something changed although nothing was heard of them.
    also: Vec<Did>,
}

impl Writing {
    pub(super) async fn begin(index: &Index) -> Result<Self, IndexError> {
        let database = index.database();
        Ok(Self {
            tx: database.begin().await?,
            dialect: database.dialect,
            repos: HashMap::new(),
            records: RecordStates::default(),
            pending: Pending::default(),
            repositories: HashMap::new(),
            names: HashMap::new(),
            touched: BTreeMap::new(),
            moving: BTreeSet::new(),
            moves: Vec::new(),
            moved: HashSet::new(),
            starred: BTreeSet::new(),
            counted: BTreeSet::new(),
            applied: Applied::default(),
            also: Vec::new(),
        })
    }

    /// Makes this transaction the only one that changes the repo, and learns where it is.
    pub(super) async fn lock(&mut self, did: &Did) -> Result<(), IndexError> {
        if self.repos.contains_key(did) {
            return Ok(());
        }
        let sql = match self.dialect {
            Dialect::Sqlite => "SELECT id, rev, data, need, whole, status FROM repos WHERE did = $1",
            Dialect::Postgres => {
                "SELECT id, rev, data, need, whole, status FROM repos WHERE did = $1 FOR UPDATE"
            }
        };
        let mut row: Option<(i64, Option<i64>, Option<String>, Option<i64>, i64, String)> =
            first!(&mut *self.tx, sql, did.as_str());
        let mut made = 0;
        if row.is_none() {
            made = run!(
                self.tx,
                "INSERT INTO repos (did, need) VALUES ($1, 0) ON CONFLICT (did) DO NOTHING",
                did.as_str()
            );
            row = first!(&mut *self.tx, sql, did.as_str());
        }
        let (id, rev, data, need, whole, status) =
            row.ok_or_else(|| IndexError::corrupt("a repo that is gone at once"))?;
        let state = RepoState { id, fresh: made > 0, rev, data, need, whole, status, changed: false };
        self.repos.insert(did.clone(), state);
        Ok(())
    }

    pub(super) async fn state(&mut self, did: &Did) -> Result<RepoState, IndexError> {
        self.lock(did).await?;
        self.repos.get(did).cloned().ok_or_else(|| IndexError::corrupt("a repo that was not locked"))
    }

    fn save(&mut self, did: &Did, state: RepoState) {
        self.repos.insert(did.clone(), RepoState { fresh: false, changed: true, ..state });
    }

    async fn save_repos(&mut self) -> Result<(), IndexError> {
        let changed: Vec<&RepoState> = self.repos.values().filter(|state| state.changed).collect();
        let update = "WITH states (id, rev, data, need, whole, status) AS (VALUES {rows}) UPDATE repos SET \
             rev = states.rev, data = states.data, need = states.need, whole = states.whole, status = states.status \
             FROM states WHERE repos.id = states.id";
        rows::write(&mut self.tx, self.dialect, (update, 6), &changed, |query, state| {
            query
                .bind(state.id)
                .bind(state.rev)
                .bind(state.data.as_deref())
                .bind(state.need)
                .bind(state.whole)
                .bind(state.status.as_str())
        })
        .await
    }

    /// Learns what is known of the records that these events change.
    async fn recall_records(&mut self, events: &[Event]) -> Result<(), IndexError> {
        let mut places = Vec::new();
        for event in events {
            if let Event::Commit(commit) = event {
                let state = self.state(&commit.did).await?;
                if number(commit.rev) > state.whole {
                    places.extend(commit.ops.iter().map(|op| place(state.id, op)));
                }
            }
        }
        self.recall(places).await
    }

    async fn commit(&mut self, commit: &RepoCommit) -> Result<(), IndexError> {
        let rev = number(commit.rev);
        let mut state = self.state(&commit.did).await?;
        let was = (state.rev, state.need);
        if rev <= state.whole {
            self.applied.stale += commit.ops.len();
            return Ok(());
        }
        if state.rev.is_none_or(|known| rev > known) {
            match &commit.since {
                Since::Unknown => {}
                Since::Nothing if state.fresh => {
                    (state.rev, state.need) = (Some(rev), None);
                    state.data.clone_from(&commit.data);
                }
                Since::Nothing => {
                    state.need = state.need.max(Some(rev));
                    state.rev = Some(rev);
                    state.data.clone_from(&commit.data);
                }
                Since::Rev(since, before) => {
                    let since = number(*since);
                    let same_tree = match (before, &state.data) {
                        (Some(before), Some(known)) => before == known,
                        _ => true,
                    };
                    if state.rev != Some(since) || !same_tree {
                        state.need = state.need.max(Some(since));
                    }
                    state.rev = Some(rev);
                    state.data.clone_from(&commit.data);
                }
            }
        }
        match state.need {
            None if state.rev == Some(rev) => state.whole = rev,
            Some(_) if was.1 != state.need => self.applied.missed += 1,
            _ => {}
        }
        let id = state.id;
        if was != (state.rev, state.need) || state.fresh {
            self.save(&commit.did, state);
        }
        for op in &commit.ops {
            self.op(id, rev, op).await?;
        }
        self.note_moves(made_at(rev), rev);
        Ok(())
    }

    /// One change, unless the index has it or something newer.
    async fn op(&mut self, repo: i64, rev: i64, op: &RecordOp) -> Result<(), IndexError> {
        let place = place(repo, op);
        let known = self.known(&place).await?;
        if known.as_ref().is_some_and(|(known, _)| *known >= rev) {
            self.applied.stale += 1;
            return Ok(());
        }
        self.change(place, rev, op, known).await
    }

    /// Writes a change over what is known of the record.
    pub(super) async fn change(
        &mut self,
        place: Place,
        rev: i64,
        op: &RecordOp,
        known: Known,
    ) -> Result<(), IndexError> {
        let cid = op.cid.map(|cid| cid.to_vec());
        self.records.set(place.clone(), rev, cid.clone());
        let before = known.and_then(|(_, cid)| cid);
        if before.is_some() && before == cid {
            self.applied.stale += 1;
            return Ok(());
        }
        self.applied.changed += 1;
        if before.is_some() {
            self.remove(op.collection, &place).await?;
        }
        match &op.record {
            Some(record) => self.insert(place, record).await?,
            None if cid.is_some() => self.applied.unreadable += 1,
            None => {}
        }
        Ok(())
    }

    async fn identity(&mut self, change: &IdentityChange, now: i64) -> Result<(), IndexError> {
        let state = self.state(&change.did).await?;
        let handle = change.handle.as_ref().map(|handle| handle.as_str().to_ascii_lowercase());
        if let Some(handle) = &handle {
            // A handle is one account's. Whoever had it before has none until it is looked up.
            let others: Vec<(i64, String)> = all!(
                &mut *self.tx,
                "UPDATE repos SET handle = NULL WHERE handle = $1 AND id <> $2 RETURNING id, did",
                handle.as_str(),
                state.id
            );
            for (id, did) in others {
                self.touch_all(id).await?;
                self.also.push(did.parse().map_err(IndexError::corrupt)?);
            }
        }
        run!(
            self.tx,
            "UPDATE repos SET handle = $2, pds = $3, document = coalesce($4, document), identity_at = $5 WHERE id = $1",
            state.id,
            handle,
            change.pds.clone(),
            change.document.clone(),
            now
        );
        self.touch_all(state.id).await
    }

    async fn account(&mut self, did: &Did, status: AccountStatus) -> Result<(), IndexError> {
        let mut state = self.state(did).await?;
        if state.status == status.as_str() {
            return Ok(());
        }
        status.as_str().clone_into(&mut state.status);
        match status {
            // Nothing was heard of it while it was away.
            AccountStatus::Active => {
                state.need = state.need.max(Some(0));
                self.applied.missed += 1;
            }
            AccountStatus::Deleted => {
                self.purge(state.id).await?;
                (state.rev, state.data, state.need, state.whole) = (None, None, None, 0);
            }
            _ => {}
        }
        self.save(did, state);
        Ok(())
    }

    async fn missed(&mut self, did: &Did, rev: Option<Tid>) -> Result<(), IndexError> {
        let mut state = self.state(did).await?;
        let rev = rev.map_or(0, number);
        if !state.fresh && rev > 0 && state.rev >= Some(rev) && state.need.is_none() {
            return Ok(());
        }
        state.need = state.need.max(Some(rev));
        self.applied.missed += 1;
        self.save(did, state);
        Ok(())
    }

    /// Removes everything that came out of a repo.
    async fn purge(&mut self, repo: i64) -> Result<(), IndexError> {
        self.flush().await?;
        self.records.forget(repo);
        self.touch_all(repo).await?;
        let starred: Vec<(String, String)> =
            all!(&mut *self.tx, "SELECT owner, repository FROM stars WHERE repo = $1", repo);
        self.starred.extend(starred);
        let counted: Vec<(String, String)> =
            all!(&mut *self.tx, "SELECT owner, repository FROM stats WHERE repo = $1", repo);
        self.counted.extend(counted);
        for sql in [
            "DELETE FROM layers WHERE manifest IN (SELECT id FROM manifests WHERE repo = $1)",
            "DELETE FROM children WHERE manifest IN (SELECT id FROM manifests WHERE repo = $1)",
            "DELETE FROM manifest_repositories WHERE manifest IN (SELECT id FROM manifests WHERE repo = $1)",
            "DELETE FROM bodies WHERE digest IN (SELECT digest FROM manifests WHERE repo = $1) AND NOT EXISTS \
             (SELECT 1 FROM manifests WHERE manifests.digest = bodies.digest AND manifests.repo <> $1)",
            "DELETE FROM tag_history WHERE repo = $1",
        ] {
            run!(self.tx, sql, repo);
        }
        for table in BY_RECORD {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE repo = $1"));
            run!(self.tx, sql, repo);
        }
        Ok(())
    }

    /// The repo has been read whole at this revision.
    pub(super) async fn complete(
        &mut self,
        did: &Did,
        rev: i64,
        data: Option<String>,
        now: i64,
    ) -> Result<(), IndexError> {
        let mut state = self.state(did).await?;
        if state.rev.is_none_or(|known| rev >= known) {
            (state.rev, state.data) = (Some(rev), data);
        }
        if state.need.is_some_and(|need| need <= rev) {
            state.need = None;
        }
        state.whole = state.whole.max(if state.need.is_none() { state.rev.unwrap_or(rev) } else { rev });
        let id = state.id;
        self.save(did, state);
        run!(
            self.tx,
            "UPDATE repos SET read_at = $2, retry_at = 0, attempts = 0, failure = NULL WHERE id = $1",
            id,
            now
        );
        Ok(())
    }

    /// Brings up to date what depends on what was written, and commits.
    pub(super) async fn finish(mut self) -> Result<Applied, IndexError> {
        self.flush().await?;
        self.save_records().await?;
        self.refresh().await?;
        self.save_repos().await?;
        self.tx.commit().await?;
        Ok(self.applied)
    }
}
