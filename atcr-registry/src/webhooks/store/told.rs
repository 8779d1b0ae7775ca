//! What an account's hooks were told.

use std::collections::HashSet;

use atcr_core::oci::Digest;
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::Did;
use jiff::Timestamp;

use super::{Store, Tx, millis, moment};
use crate::index::{RecentMove, RecentScan};
use crate::webhooks::hook::Hook;
use crate::webhooks::payload::Event;
use crate::webhooks::{Trigger, WebhookError};

impl Store {
    /// Those of some moves that nobody has looked at yet.
    pub(crate) async fn new_moves(
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
    pub(crate) async fn note_moves(
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

    /// The newest scans of manifests that an account's hooks know of: when, and what was found.
    pub(crate) async fn last_scan(
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
    pub(crate) async fn note_scans(
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
}
