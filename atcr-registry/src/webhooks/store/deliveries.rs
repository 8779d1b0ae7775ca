//! What is to be told, and how that went.

use atcr_core::syntax::Did;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Store, Tx, millis, moment, random};
use crate::webhooks::WebhookError;
use crate::webhooks::hook::{Delivery, DeliveryState, Hook, Target};
use crate::webhooks::payload::{Event, TEST};

/// Attempts that may fail before the next one, and how long after it.
const PAUSES: [i64; 3] = [30_000, 90_000, 360_000];
/// Deliveries in a row that are given up before a hook is switched off.
const FAILURES: i64 = 20;
/// Deliveries of a hook that wait, at most; what comes up then is not told.
const WAITING: i64 = 1000;
/// Deliveries of a hook that are kept when they are over.
const KEPT: i64 = 20;
/// How often a hook is tested, at most.
const BETWEEN_TESTS: i64 = 10_000;

pub(super) type DeliveryRow = (String, String, i64, i64, Option<i64>, i64, Option<String>);

/// What somebody has taken to send.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) id: String,
    pub(crate) target: Option<Target>,
    /// Nothing when a version that is newer has written it.
    pub(crate) event: Option<Event>,
    hook: String,
    lease: i64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) delivered: bool,
    pub(crate) answer: String,
}

/// The same for an event and a hook for ever, also where the store was lost and came back from a backup.
fn delivery_id(hook: &str, key: &str) -> String {
    let hash = Sha256::new().chain_update(hook).chain_update([0]).chain_update(key).finalize();
    HEXLOWER.encode(&hash[..16])
}

pub(super) fn delivery(row: DeliveryRow) -> Delivery {
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
    /// Makes a delivery, unless the hook has it or is off, or too many wait. Gives how many were made.
    pub(super) async fn put(
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

    /// Takes what is due, for so long: one delivery of each hook that has none under way, those first whose hooks were
    /// served longest ago.
    pub(crate) async fn claim(
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
    pub(crate) async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, WebhookError> {
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
    pub(crate) async fn begin_test(
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
    pub(crate) async fn finish(
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
}
