//! Hooks, what was told, and what is to be told.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use atcr_auth::pds_session::SealingKey;
use atcr_core::oci::Digest;
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::Did;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use super::hook::{Delivery, DeliveryState, Hook, NewHook, Target, Triggers};
use super::payload::{Event, TEST};
use super::{Trigger, WebhookError};
use crate::index::{RecentMove, RecentScan};

/// Times are milliseconds since 1970. Addresses and secrets are in `sealed` and nowhere else; `event` is public.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS hook (
    id TEXT PRIMARY KEY NOT NULL,
    did TEXT NOT NULL,
    triggers INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    since INTEGER NOT NULL,
    off_since INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    served_at INTEGER NOT NULL DEFAULT 0,
    scans_read_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS hook_did ON hook (did);
CREATE TABLE IF NOT EXISTS delivery (
    id TEXT PRIMARY KEY NOT NULL,
    hook TEXT NOT NULL REFERENCES hook (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    event TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER,
    leased_until INTEGER NOT NULL DEFAULT 0,
    lease INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    answer TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS delivery_hook ON delivery (hook);
CREATE TABLE IF NOT EXISTS told_move (
    did TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, rev TEXT NOT NULL,
    digest TEXT, at INTEGER NOT NULL,
    PRIMARY KEY (did, repository, tag, rev)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS told_move_at ON told_move (did, at);
CREATE TABLE IF NOT EXISTS told_scan (
    did TEXT NOT NULL, hold TEXT NOT NULL, digest TEXT NOT NULL, scanned_at INTEGER NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (did, hold, digest)
) STRICT, WITHOUT ROWID";

/// Attempts that may fail before the next one, and how long after it.
const PAUSES: [i64; 3] = [30_000, 90_000, 360_000];
/// Deliveries in a row that are given up before a hook is switched off.
const FAILURES: i64 = 20;
/// Deliveries of a hook that wait, at most; what comes up then is not told.
const WAITING: i64 = 1000;
/// Deliveries of a hook that are kept when they are over.
const KEPT: i64 = 20;
/// Moves that were told of are remembered for so long: far longer than they are looked for.
const MEMORY: i64 = 24 * 3600 * 1000;
/// Manifests of an account whose last scan is remembered.
const SCANS: i64 = 10_000;
/// How often a hook is tested, at most.
const BETWEEN_TESTS: i64 = 10_000;

type Tx = Transaction<'static, Sqlite>;
type HookRow = (String, i64, Vec<u8>, i64, i64, Option<i64>);
type DeliveryRow = (String, String, i64, i64, Option<i64>, i64, Option<String>);

/// What somebody has taken to send.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) id: String,
    pub(super) target: Option<Target>,
    /// Nothing when a version that is newer has written it.
    pub(super) event: Option<Event>,
    hook: String,
    lease: i64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) delivered: bool,
    pub(super) answer: String,
}

/// What an account's hooks are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) pushes: bool,
    pub(super) scans: bool,
    /// When all scans of the account were last read; 1970 while that is still to be done for one of its hooks.
    pub(super) scans_read_at: Timestamp,
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
    key: SealingKey,
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn random<const N: usize>() -> Result<[u8; N], WebhookError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| WebhookError::store(error.to_string()))?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Nothing that is written to a string fails.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// The same for an event and a hook for ever, also where the store was lost and came back from a backup.
fn delivery_id(hook: &str, key: &str) -> String {
    let hash = Sha256::new().chain_update(hook).chain_update([0]).chain_update(key).finalize();
    hex(&hash[..16])
}

/// What is encrypted for a hook does not open for another one.
fn owner(id: &str) -> String {
    format!("webhook {id}")
}

fn delivery(row: DeliveryRow) -> Delivery {
    let (id, event, created_at, attempts, next_at, delivered, answer) = row;
    Delivery {
        id,
        event,
        created_at: moment(created_at),
        state: match next_at {
            Some(next_at) => DeliveryState::Waiting(moment(next_at)),
            None if delivered != 0 => DeliveryState::Delivered,
            None => DeliveryState::GivenUp,
        },
        attempts: u32::try_from(attempts).unwrap_or_default(),
        answer,
    }
}

impl Store {
    pub(super) async fn open(path: &Path, key: SealingKey) -> Result<Self, WebhookError> {
        atcr_core::files::open_private(path).map_err(WebhookError::store)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool =
            |connections| SqlitePoolOptions::new().test_before_acquire(false).max_connections(connections);
        let writer = pool(1).connect_with(options.clone()).await?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await?;
        let readers = pool(4).connect_with(options.read_only(true)).await?;
        Ok(Self { readers, writer, key })
    }

    async fn begin(&self) -> Result<Tx, WebhookError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    fn target(&self, id: &str, sealed: &[u8]) -> Option<Target> {
        Target::from_bytes(&self.key.open(&owner(id), sealed).ok()?)
    }

    fn hook(&self, row: HookRow) -> Hook {
        let (id, triggers, sealed, created_at, since, off_since) = row;
        Hook {
            target: self.target(&id, &sealed),
            id,
            triggers: Triggers::from_bits(triggers),
            created_at: moment(created_at),
            since: moment(since),
            off_since: off_since.map(moment),
        }
    }

    pub(super) async fn add(
        &self,
        did: &Did,
        new: NewHook,
        now: Timestamp,
        most: usize,
    ) -> Result<Hook, WebhookError> {
        let id = hex(&random::<16>()?);
        let target = Target { url: new.url, secret: new.secret };
        let plain = target.to_bytes().map_err(WebhookError::store)?;
        let sealed = self.key.seal(&owner(&id), &plain).map_err(WebhookError::store)?;
        let done = sqlx::query(
            "INSERT INTO hook (id, did, triggers, sealed, created_at, since) SELECT ?1, ?2, ?3, ?4, ?5, ?5 \
             WHERE (SELECT count(*) FROM hook WHERE did = ?2) < ?6",
        )
        .bind(&id)
        .bind(did.as_str())
        .bind(new.triggers.bits())
        .bind(sealed)
        .bind(millis(now))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .execute(&self.writer)
        .await?;
        if done.rows_affected() == 0 {
            return Err(WebhookError::TooMany(most));
        }
        let (triggers, target) = (new.triggers, Some(target));
        Ok(Hook { id, triggers, target, created_at: now, since: now, off_since: None })
    }

    /// Removes a hook with its deliveries, and with the last one what an account was told.
    pub(super) async fn remove(&self, did: &Did, id: &str) -> Result<bool, WebhookError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("DELETE FROM hook WHERE id = ?1 AND did = ?2")
            .bind(id)
            .bind(did.as_str())
            .execute(&mut *tx)
            .await?;
        for sql in [
            "DELETE FROM told_move WHERE did = ?1 AND NOT EXISTS (SELECT 1 FROM hook WHERE hook.did = ?1)",
            "DELETE FROM told_scan WHERE did = ?1 AND NOT EXISTS (SELECT 1 FROM hook WHERE hook.did = ?1)",
        ] {
            sqlx::query(sql).bind(did.as_str()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(super) async fn hooks(&self, did: &Did) -> Result<Vec<Hook>, WebhookError> {
        let rows: Vec<HookRow> = sqlx::query_as(
            "SELECT id, triggers, sealed, created_at, since, off_since FROM hook WHERE did = ? ORDER BY created_at, id",
        )
        .bind(did.as_str())
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(|row| self.hook(row)).collect())
    }

    pub(super) async fn listed(&self, did: &Did) -> Result<Vec<(Hook, Option<Delivery>)>, WebhookError> {
        let mut listed = Vec::new();
        for hook in self.hooks(did).await? {
            let row: Option<DeliveryRow> = sqlx::query_as(
                "SELECT id, name, created_at, attempts, next_at, delivered, answer FROM delivery WHERE hook = ? \
                 ORDER BY rowid DESC LIMIT 1",
            )
            .bind(hook.id())
            .fetch_optional(&self.readers)
            .await?;
            listed.push((hook, row.map(delivery)));
        }
        Ok(listed)
    }

    /// The accounts that have hooks which are on.
    pub(super) async fn accounts(&self) -> Result<Vec<(Did, Interest)>, WebhookError> {
        let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "SELECT did, max(triggers & 8), max(triggers & 7), \
             min(iif(triggers & 7, scans_read_at, 9000000000000)) FROM hook WHERE off_since IS NULL GROUP BY did",
        )
        .fetch_all(&self.readers)
        .await?;
        let account = |(did, push, scan, read): (String, i64, i64, i64)| {
            let interest = Interest { pushes: push != 0, scans: scan != 0, scans_read_at: moment(read) };
            Ok((did.parse().map_err(WebhookError::store)?, interest))
        };
        rows.into_iter().map(account).collect()
    }

    /// All scans of an account have been read.
    pub(super) async fn scans_read(&self, did: &Did, now: Timestamp) -> Result<(), WebhookError> {
        sqlx::query("UPDATE hook SET scans_read_at = ? WHERE did = ?")
            .bind(millis(now))
            .bind(did.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Those of some moves that nobody has looked at yet.
    pub(super) async fn new_moves(
        &self,
        did: &Did,
        since: Timestamp,
        moves: Vec<RecentMove>,
    ) -> Result<Vec<RecentMove>, WebhookError> {
        if moves.is_empty() {
            return Ok(moves);
        }
        // The time is that of the revision, so that what is asked for is what is compared.
        let known: Vec<(String, String, String)> =
            sqlx::query_as("SELECT repository, tag, rev FROM told_move WHERE did = ? AND at >= ?")
                .bind(did.as_str())
                .bind(millis(since))
                .fetch_all(&self.readers)
                .await?;
        let known: HashSet<(String, String, String)> = known.into_iter().collect();
        let name =
            |moved: &RecentMove| (moved.repository.to_string(), moved.tag.to_string(), moved.rev.to_string());
        Ok(moves.into_iter().filter(|moved| !known.contains(&name(moved))).collect())
    }

    /// Takes note of moves, in their order, and of what is to be told of them: all of it, or nothing. What somebody else
    /// has noted meanwhile changes nothing.
    pub(super) async fn note_moves(
        &self,
        did: &Did,
        moves: &[(RecentMove, Option<Event>)],
        hooks: &[Hook],
        now: Timestamp,
    ) -> Result<usize, WebhookError> {
        let (mut tx, mut made) = (self.begin().await?, 0);
        for (moved, event) in moves {
            let rev = moved.rev.to_string();
            let digest = moved.digest.map(|digest| digest.to_string());
            let noted = sqlx::query(
                "INSERT INTO told_move (did, repository, tag, rev, digest, at) VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(did.as_str())
            .bind(moved.repository.as_str())
            .bind(moved.tag.as_str())
            .bind(&rev)
            .bind(&digest)
            .bind(millis(moved.at))
            .execute(&mut *tx)
            .await?;
            let Some(event) = event.as_ref().filter(|_| noted.rows_affected() > 0) else { continue };
            if digest.is_some() && digest == self.before(&mut tx, did, moved, &rev).await? {
                // An index that was made anew finds the tag at another revision.
                continue;
            }
            let told_since = moved.at.min(moved.written_at);
            let key = format!("push {} {} {rev}", moved.repository, moved.tag);
            for hook in hooks {
                if hook.triggers.contains(Trigger::Push) && told_since >= hook.since {
                    made += self.put(&mut tx, hook, &key, event, now).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(made)
    }

    /// Where a tag pointed before a move.
    async fn before(
        &self,
        tx: &mut Tx,
        did: &Did,
        moved: &RecentMove,
        rev: &str,
    ) -> Result<Option<String>, WebhookError> {
        let row: Option<(Option<String>,)> = sqlx::query_as(
            "SELECT digest FROM told_move WHERE did = ? AND repository = ? AND tag = ? AND rev < ? \
             ORDER BY rev DESC LIMIT 1",
        )
        .bind(did.as_str())
        .bind(moved.repository.as_str())
        .bind(moved.tag.as_str())
        .bind(rev)
        .fetch_optional(&mut **tx)
        .await?;
        Ok(row.and_then(|(digest,)| digest))
    }

    async fn put(
        &self,
        tx: &mut Tx,
        hook: &Hook,
        key: &str,
        event: &Event,
        now: Timestamp,
    ) -> Result<usize, WebhookError> {
        let json = serde_json::to_string(event).map_err(WebhookError::store)?;
        let done = sqlx::query(
            "INSERT INTO delivery (id, hook, name, event, created_at, next_at) \
             SELECT ?1, id, ?3, ?4, ?5, ?5 FROM hook WHERE id = ?2 AND off_since IS NULL \
             AND (SELECT count(*) FROM delivery WHERE hook = ?2 AND next_at IS NOT NULL) < ?6 \
             ON CONFLICT DO NOTHING",
        )
        .bind(delivery_id(hook.id(), key))
        .bind(hook.id())
        .bind(event.name())
        .bind(json)
        .bind(millis(now))
        .bind(WAITING)
        .execute(&mut **tx)
        .await?;
        Ok(usize::from(done.rows_affected() > 0))
    }

    /// The newest scans of manifests that an account's hooks know of: when, and what was found.
    pub(super) async fn last_scan(
        &self,
        did: &Did,
        hold: &Did,
        digest: &Digest,
    ) -> Result<Option<(Timestamp, SeverityCounts)>, WebhookError> {
        let row: Option<(i64, String)> = sqlx::query_as(
            "SELECT scanned_at, counts FROM told_scan WHERE did = ? AND hold = ? AND digest = ?",
        )
        .bind(did.as_str())
        .bind(hold.as_str())
        .bind(digest.to_string())
        .fetch_optional(&self.readers)
        .await?;
        let row = row.map(|(at, counts)| Ok((moment(at), serde_json::from_str(&counts)?)));
        row.transpose().map_err(|error: serde_json::Error| WebhookError::store(error))
    }

    /// Takes note of scans, and of what each hook is to be told of them: all of it, or nothing.
    pub(super) async fn note_scans(
        &self,
        did: &Did,
        scans: &[(RecentScan, Vec<(&Hook, Event)>)],
        now: Timestamp,
    ) -> Result<usize, WebhookError> {
        if scans.is_empty() {
            return Ok(0);
        }
        let (mut tx, mut made) = (self.begin().await?, 0);
        for (scan, told) in scans {
            let noted = sqlx::query(
                "INSERT INTO told_scan (did, hold, digest, scanned_at, counts) VALUES (?, ?, ?, ?, ?) \
                 ON CONFLICT (did, hold, digest) DO UPDATE SET scanned_at = excluded.scanned_at, \
                 counts = excluded.counts WHERE told_scan.scanned_at < excluded.scanned_at",
            )
            .bind(did.as_str())
            .bind(scan.hold.as_str())
            .bind(scan.digest.to_string())
            .bind(millis(scan.scanned_at))
            .bind(serde_json::to_string(&scan.counts).map_err(WebhookError::store)?)
            .execute(&mut *tx)
            .await?;
            if noted.rows_affected() == 0 {
                continue;
            }
            let key = format!("scan {} {} {}", scan.hold, scan.digest, millis(scan.scanned_at));
            for (hook, event) in told {
                made += self.put(&mut tx, hook, &key, event, now).await?;
            }
        }
        tx.commit().await?;
        Ok(made)
    }

    /// Takes what is due, for so long: one delivery of each hook that has none under way, those first whose hooks were
    /// served longest ago.
    pub(super) async fn claim(
        &self,
        now: Timestamp,
        until: Timestamp,
        most: usize,
    ) -> Result<Vec<Claimed>, WebhookError> {
        let (mut tx, lease) = (self.begin().await?, i64::from_be_bytes(random()?));
        let rows: Vec<(String, String, String, Vec<u8>)> = sqlx::query_as(
            "SELECT id, hook, event, sealed FROM (SELECT d.id, d.hook, d.event, h.sealed, h.served_at, \
             row_number() OVER (PARTITION BY d.hook ORDER BY d.next_at, d.rowid) AS place \
             FROM delivery d JOIN hook h ON h.id = d.hook \
             WHERE d.next_at <= ?1 AND h.off_since IS NULL AND NOT EXISTS \
             (SELECT 1 FROM delivery b WHERE b.hook = d.hook AND b.next_at IS NOT NULL AND b.leased_until > ?1)) \
             WHERE place = 1 ORDER BY served_at, id LIMIT ?2",
        )
        .bind(millis(now))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for (id, hook, event, sealed) in rows {
            sqlx::query("UPDATE delivery SET lease = ?, leased_until = ? WHERE id = ?")
                .bind(lease)
                .bind(millis(until))
                .bind(&id)
                .execute(&mut *tx)
                .await?;
            sqlx::query("UPDATE hook SET served_at = ? WHERE id = ?")
                .bind(millis(now))
                .bind(&hook)
                .execute(&mut *tx)
                .await?;
            let target = self.target(&hook, &sealed);
            claimed.push(Claimed { id, target, event: serde_json::from_str(&event).ok(), hook, lease });
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// When something is due next that nobody has taken.
    pub(super) async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, WebhookError> {
        let (due,): (Option<i64>,) = sqlx::query_as(
            "SELECT min(d.next_at) FROM delivery d JOIN hook h ON h.id = d.hook \
             WHERE d.next_at IS NOT NULL AND h.off_since IS NULL AND NOT EXISTS \
             (SELECT 1 FROM delivery b WHERE b.hook = d.hook AND b.next_at IS NOT NULL AND b.leased_until > ?)",
        )
        .bind(millis(now))
        .fetch_one(&self.readers)
        .await?;
        Ok(due.map(moment))
    }

    /// Makes a test and takes it.
    pub(super) async fn begin_test(
        &self,
        did: &Did,
        id: &str,
        event: Event,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Claimed, WebhookError> {
        let (mut tx, lease) = (self.begin().await?, i64::from_be_bytes(random()?));
        let row: Option<(Vec<u8>,)> = sqlx::query_as("SELECT sealed FROM hook WHERE id = ? AND did = ?")
            .bind(id)
            .bind(did.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        let (sealed,) = row.ok_or(WebhookError::NotFound)?;
        let last: Option<(i64,)> =
            sqlx::query_as("SELECT created_at FROM delivery WHERE hook = ? AND name = ? AND created_at > ?")
                .bind(id)
                .bind(TEST)
                .bind(millis(now) - BETWEEN_TESTS)
                .fetch_optional(&mut *tx)
                .await?;
        if last.is_some() {
            return Err(WebhookError::TooSoon);
        }
        let delivery = delivery_id(id, &format!("test {}", millis(now)));
        sqlx::query(
            "INSERT INTO delivery (id, hook, name, event, created_at, next_at, lease, leased_until) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
        )
        .bind(&delivery)
        .bind(id)
        .bind(TEST)
        .bind(serde_json::to_string(&event).map_err(WebhookError::store)?)
        .bind(millis(now))
        .bind(lease)
        .bind(millis(until))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        let target = self.target(id, &sealed);
        Ok(Claimed { id: delivery, target, event: Some(event), hook: id.to_owned(), lease })
    }

    /// Keeps how an attempt ended, unless somebody else has taken the delivery since, or it is gone.
    pub(super) async fn finish(
        &self,
        claimed: &Claimed,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<Option<Delivery>, WebhookError> {
        let mut tx = self.begin().await?;
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT attempts, name FROM delivery WHERE id = ? AND lease = ?")
                .bind(&claimed.id)
                .bind(claimed.lease)
                .fetch_optional(&mut *tx)
                .await?;
        let Some((attempts, name)) = row else { return Ok(None) };
        let is_test = name == TEST;
        let pause = usize::try_from(attempts).ok().and_then(|attempt| PAUSES.get(attempt));
        let next_at = pause.filter(|_| !outcome.delivered && !is_test).map(|pause| millis(now) + pause);
        let row: DeliveryRow = sqlx::query_as(
            "UPDATE delivery SET attempts = attempts + 1, next_at = ?2, delivered = ?3, answer = ?4, \
             lease = 0, leased_until = 0 WHERE id = ?1 \
             RETURNING id, name, created_at, attempts, next_at, delivered, answer",
        )
        .bind(&claimed.id)
        .bind(next_at)
        .bind(i64::from(outcome.delivered))
        .bind(&outcome.answer)
        .fetch_one(&mut *tx)
        .await?;
        if outcome.delivered {
            // What came up while it was off is not told.
            sqlx::query(
                "UPDATE hook SET failures = 0, since = iif(off_since IS NULL, since, ?2), off_since = NULL \
                 WHERE id = ?1",
            )
            .bind(&claimed.hook)
            .bind(millis(now))
            .execute(&mut *tx)
            .await?;
        } else if next_at.is_none() && !is_test {
            self.given_up(&mut tx, &claimed.hook, now).await?;
        }
        sqlx::query(
            "DELETE FROM delivery WHERE hook = ?1 AND next_at IS NULL AND id NOT IN \
             (SELECT id FROM delivery WHERE hook = ?1 AND next_at IS NULL ORDER BY rowid DESC LIMIT ?2)",
        )
        .bind(&claimed.hook)
        .bind(KEPT)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(delivery(row)))
    }

    async fn given_up(&self, tx: &mut Tx, hook: &str, now: Timestamp) -> Result<(), WebhookError> {
        sqlx::query("UPDATE hook SET failures = failures + 1 WHERE id = ?")
            .bind(hook)
            .execute(&mut **tx)
            .await?;
        let off = sqlx::query(
            "UPDATE hook SET off_since = ?2 WHERE id = ?1 AND failures >= ?3 AND off_since IS NULL",
        )
        .bind(hook)
        .bind(millis(now))
        .bind(FAILURES)
        .execute(&mut **tx)
        .await?;
        if off.rows_affected() > 0 {
            tracing::info!(webhook = hook, "a webhook is switched off: nothing can be delivered");
            sqlx::query("DELETE FROM delivery WHERE hook = ? AND next_at IS NOT NULL")
                .bind(hook)
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }

    /// Forgets what is looked for no more.
    pub(super) async fn tidy(&self, now: Timestamp) -> Result<(), WebhookError> {
        sqlx::query("DELETE FROM told_move WHERE at < ?")
            .bind(millis(now) - MEMORY)
            .execute(&self.writer)
            .await?;
        // A test of a hook that is off, and whose sender is gone.
        sqlx::query(
            "DELETE FROM delivery WHERE next_at < ? AND hook IN (SELECT id FROM hook WHERE off_since IS NOT NULL)",
        )
        .bind(millis(now) - MEMORY)
        .execute(&self.writer)
        .await?;
        sqlx::query(
            "DELETE FROM told_scan WHERE (did, hold, digest) IN (SELECT did, hold, digest FROM \
             (SELECT did, hold, digest, row_number() OVER (PARTITION BY did ORDER BY scanned_at DESC) AS place \
             FROM told_scan) WHERE place > ?)",
        )
        .bind(SCANS)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}
