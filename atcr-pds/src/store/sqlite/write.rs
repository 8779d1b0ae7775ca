use std::collections::HashSet;

use async_trait::async_trait;
use atcr_core::syntax::{Datetime, Did};
use ipld_core::cid::Cid;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::{read, row};
use crate::cbor::BlobRef;
use crate::repo::{Event, NewEvent};
use crate::store::{
    BlobRow, NewHead, RecordChange, RepoChange, RepoId, RepoInfo, StoreError, StoreWrite, StoredBlock,
};

/// Blocks that are gone wait until there are this many.
const CLEAR: i64 = 2048;

struct Writing {
    tx: Transaction<'static, Sqlite>,
    /// The repos that were changed.
    changed: HashSet<Did>,
    /// Whether blocks were dropped.
    dropped: bool,
}

/// Immediate: a transaction that begins by reading could not become a writing one while another process writes.
pub(super) async fn begin(pool: &SqlitePool) -> Result<Box<dyn StoreWrite>, StoreError> {
    let tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    Ok(Box::new(Writing { tx, changed: HashSet::new(), dropped: false }))
}

#[async_trait]
impl StoreWrite for Writing {
    async fn repo(&mut self, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
        read::repo(&mut self.tx, did).await
    }

    async fn blocks(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        read::blocks(&mut self.tx, repo, cids).await
    }

    async fn blobs(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError> {
        read::blobs(&mut self.tx, repo, cids).await
    }

    async fn apply(&mut self, change: &RepoChange) -> Result<(), StoreError> {
        let again = !self.changed.insert(change.did.clone());
        self.dropped |= !change.drop_blocks.is_empty();
        apply(&mut self.tx, change, again).await
    }

    async fn forget_blobs(&mut self, before: &Datetime, limit: usize) -> Result<Vec<(Did, Cid)>, StoreError> {
        forget_blobs(&mut self.tx, before, limit).await
    }

    async fn commit(
        mut self: Box<Self>,
        events: Vec<NewEvent>,
        time: &Datetime,
    ) -> Result<Vec<Event>, StoreError> {
        let events = put_events(&mut self.tx, &events, time).await?;
        if self.dropped {
            clear_dropped(&mut self.tx).await?;
        }
        self.tx.commit().await?;
        Ok(events)
    }
}

async fn put_events(
    db: &mut SqliteConnection,
    events: &[NewEvent],
    time: &Datetime,
) -> Result<Vec<Event>, StoreError> {
    let mut seq = if events.is_empty() { 0 } else { read::newest_event(&mut *db).await? };
    let mut sequenced = Vec::with_capacity(events.len());
    for event in events {
        seq += 1;
        sequenced.push(event.sequence(seq, time)?);
    }
    for piece in row::pieces(&sequenced) {
        let sql = row::values("INSERT INTO events (seq, did, kind, time, body) VALUES", piece.len(), 5, "");
        let mut query = sqlx::query(sql);
        for event in piece {
            query = query
                .bind(i64::try_from(event.seq).unwrap_or(i64::MAX))
                .bind(event.did.as_str())
                .bind(event.kind.as_str())
                .bind(row::millis(time))
                .bind(event.body.as_ref());
        }
        query.execute(&mut *db).await?;
    }
    Ok(sequenced)
}

/// Makes a change of a repo; `again` when the transaction has changed it before.
async fn apply(db: &mut SqliteConnection, change: &RepoChange, again: bool) -> Result<(), StoreError> {
    let repo = head(&mut *db, change).await?;
    if let Some(before) = &change.before {
        drop_blocks(&mut *db, before, &change.drop_blocks, again).await?;
    }
    put_blocks(&mut *db, repo, &change.put_blocks).await?;
    put_records(&mut *db, repo, &change.records).await?;
    if change.delete {
        for table in ["blocks", "dropped", "records", "blob_refs", "blobs"] {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE repo = ?"));
            sqlx::query(sql).bind(repo.0).execute(&mut *db).await?;
        }
        sqlx::query("DELETE FROM repos WHERE id = ?").bind(repo.0).execute(&mut *db).await?;
    }
    Ok(())
}

/// Makes the repo or moves its head.
async fn head(db: &mut SqliteConnection, change: &RepoChange) -> Result<RepoId, StoreError> {
    let missing = || row::corrupt(format!("the repo of {} begins without a commit", change.did));
    let Some(before) = &change.before else {
        let head = change.head.as_ref().ok_or_else(missing)?;
        let sql = "INSERT INTO repos (did, head, rev, data, status) VALUES (?, ?, ?, ?, ?) RETURNING id";
        let id = sqlx::query_scalar(sql)
            .bind(change.did.as_str())
            .bind(row::cid_bytes(&head.head.cid))
            .bind(row::from_tid(head.head.rev))
            .bind(row::cid_bytes(&head.data))
            .bind(change.status.unwrap_or_default().as_str())
            .fetch_one(&mut *db)
            .await?;
        return Ok(RepoId(id));
    };
    let (status, head) = (change.status.unwrap_or(before.status), change.head);
    let head = head.unwrap_or(NewHead { head: before.head, data: before.data });
    if change.status.is_some() || change.head.is_some() {
        let sql = "UPDATE repos SET head = ?, rev = ?, data = ?, status = ? WHERE id = ? AND head = ?";
        let moved = sqlx::query(sql)
            .bind(row::cid_bytes(&head.head.cid))
            .bind(row::from_tid(head.head.rev))
            .bind(row::cid_bytes(&head.data))
            .bind(status.as_str())
            .bind(before.id.0)
            .bind(row::cid_bytes(&before.head.cid))
            .execute(&mut *db)
            .await?;
        if moved.rows_affected() != 1 {
            return Err(StoreError::Conflict(change.did.clone()));
        }
    }
    Ok(before.id)
}

/// Notes blocks that are gone: the rows with revisions up to where the repo was. They are deleted later.
///
/// A transaction that changes a repo several times may drop what it has put itself; that is deleted at once.
async fn drop_blocks(
    db: &mut SqliteConnection,
    before: &RepoInfo,
    cids: &[Cid],
    again: bool,
) -> Result<(), StoreError> {
    let (repo, rev) = (before.id, row::from_tid(before.head.rev));
    let mut old = Vec::with_capacity(cids.len());
    for cid in cids {
        let new = again && {
            let sql = "DELETE FROM blocks WHERE repo = ? AND key = ? AND cid = ? AND rev > ?";
            let query = sqlx::query(sql).bind(repo.0).bind(row::key(cid)).bind(row::cid_bytes(cid));
            query.bind(rev).execute(&mut *db).await?.rows_affected() > 0
        };
        if !new {
            old.push(*cid);
        }
    }
    for piece in row::pieces(&old) {
        let sql = row::values("INSERT INTO dropped (repo, key, cid, rev) VALUES", piece.len(), 4, "");
        let mut query = sqlx::query(sql);
        for cid in piece {
            query = query.bind(repo.0).bind(row::key(cid)).bind(row::cid_bytes(cid)).bind(rev);
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// Deletes the blocks that are gone, once there are enough of them to make it worth while.
async fn clear_dropped(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let span = "SELECT COALESCE(MAX(id) - MIN(id), 0) FROM dropped";
    let waiting: i64 = sqlx::query_scalar(span).fetch_one(&mut *db).await?;
    if waiting < CLEAR {
        return Ok(());
    }
    let delete = "DELETE FROM blocks WHERE id IN (SELECT b.id FROM dropped d CROSS JOIN blocks b
        ON b.repo = d.repo AND b.key = d.key AND b.cid = d.cid AND b.rev <= d.rev)";
    sqlx::query(delete).execute(&mut *db).await?;
    sqlx::query("DELETE FROM dropped").execute(db).await?;
    Ok(())
}

async fn put_blocks(
    db: &mut SqliteConnection,
    repo: RepoId,
    blocks: &[StoredBlock],
) -> Result<(), StoreError> {
    for piece in row::pieces(blocks) {
        let sql = row::values("INSERT INTO blocks (repo, key, cid, rev, bytes) VALUES", piece.len(), 5, "");
        let mut query = sqlx::query(sql);
        for block in piece {
            query = query
                .bind(repo.0)
                .bind(row::key(&block.cid))
                .bind(row::cid_bytes(&block.cid))
                .bind(row::from_tid(block.rev))
                .bind(block.bytes.as_ref());
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

async fn put_records(
    db: &mut SqliteConnection,
    repo: RepoId,
    records: &[RecordChange],
) -> Result<(), StoreError> {
    for piece in row::pieces(records) {
        let sql = row::list("DELETE FROM blob_refs WHERE repo = ? AND path IN", piece.len(), "");
        let mut query = sqlx::query(sql).bind(repo.0);
        for record in piece {
            query = query.bind(record.path.as_str());
        }
        query.execute(&mut *db).await?;
    }
    let (set, removed): (Vec<&RecordChange>, Vec<_>) = records.iter().partition(|r| r.record.is_some());
    for piece in row::pieces(&removed) {
        let sql = row::list("DELETE FROM records WHERE repo = ? AND path IN", piece.len(), "");
        let mut query = sqlx::query(sql).bind(repo.0);
        for record in piece {
            query = query.bind(record.path.as_str());
        }
        query.execute(&mut *db).await?;
    }
    for piece in row::pieces(&set) {
        let tail = "ON CONFLICT (repo, path) DO UPDATE
            SET key = excluded.key, cid = excluded.cid, rev = excluded.rev, bytes = excluded.bytes";
        let head = "INSERT INTO records (repo, path, key, cid, rev, bytes) VALUES";
        let mut query = sqlx::query(row::values(head, piece.len(), 6, tail));
        for change in piece {
            let record = change.record.as_ref();
            query = query
                .bind(repo.0)
                .bind(change.path.as_str())
                .bind(record.map(|(cid, _)| row::key(cid)))
                .bind(record.map(|(cid, _)| row::cid_bytes(cid)))
                .bind(row::from_tid(change.rev))
                .bind(record.map(|(_, bytes)| bytes.as_ref()));
        }
        query.execute(&mut *db).await?;
    }
    let refs: Vec<(&RecordChange, &Cid)> =
        set.iter().flat_map(|record| record.blobs.iter().map(move |blob| (*record, blob))).collect();
    for piece in row::pieces(&refs) {
        let tail = "ON CONFLICT (repo, cid, path) DO UPDATE SET rev = excluded.rev";
        let sql = row::values("INSERT INTO blob_refs (repo, cid, path, rev) VALUES", piece.len(), 4, tail);
        let mut query = sqlx::query(sql);
        for (record, blob) in piece {
            query = query
                .bind(repo.0)
                .bind(row::cid_bytes(blob))
                .bind(record.path.as_str())
                .bind(row::from_tid(record.rev));
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

pub(super) async fn put_blob(
    db: &mut SqliteConnection,
    repo: RepoId,
    blob: &BlobRef,
    at: &Datetime,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO blobs (repo, cid, mime, size, noted) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (repo, cid) DO UPDATE SET noted = excluded.noted, mime = CASE
            WHEN EXISTS (SELECT 1 FROM blob_refs r WHERE r.repo = blobs.repo AND r.cid = blobs.cid)
            THEN mime ELSE excluded.mime END";
    sqlx::query(sql)
        .bind(repo.0)
        .bind(row::cid_bytes(&blob.cid))
        .bind(&blob.mime_type)
        .bind(i64::try_from(blob.size).unwrap_or(i64::MAX))
        .bind(row::millis(at))
        .execute(db)
        .await?;
    Ok(())
}

async fn forget_blobs(
    db: &mut SqliteConnection,
    before: &Datetime,
    limit: usize,
) -> Result<Vec<(Did, Cid)>, StoreError> {
    let sql = "DELETE FROM blobs WHERE id IN (
            SELECT id FROM blobs b WHERE noted < ?
            AND NOT EXISTS (SELECT 1 FROM blob_refs r WHERE r.repo = b.repo AND r.cid = b.cid) LIMIT ?)
        RETURNING (SELECT did FROM repos WHERE id = blobs.repo), cid";
    let rows: Vec<(Option<String>, Vec<u8>)> =
        sqlx::query_as(sql).bind(row::millis(before)).bind(row::limit(limit)).fetch_all(db).await?;
    let known = rows.into_iter().filter_map(|(did, cid)| did.map(|did| (did, cid)));
    known.map(|(did, cid)| Ok((row::did(&did)?, row::cid(&cid)?))).collect()
}

pub(super) async fn prune_events(db: &mut SqliteConnection, before: &Datetime) -> Result<u64, StoreError> {
    // By number, not by time: what goes is a beginning of the sequence, even if the clock was once set back.
    let sql = "DELETE FROM events WHERE seq < COALESCE(
        (SELECT MIN(seq) FROM events WHERE time >= ?), (SELECT MAX(seq) + 1 FROM events), 0)";
    Ok(sqlx::query(sql).bind(row::millis(before)).execute(db).await?.rows_affected())
}
