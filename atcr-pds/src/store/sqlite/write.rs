use async_trait::async_trait;
use atcr_core::syntax::{Datetime, Did};
use ipld_core::cid::Cid;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::{read, row};
use crate::cbor::BlobRef;
use crate::repo::{Event, NewEvent};
use crate::store::{RecordChange, RepoChange, RepoId, RepoStatus, StoreError, StoreWrite, StoredBlock};

struct Writing(Transaction<'static, Sqlite>);

/// Immediate: a transaction that begins by reading could not become a writing one while another process writes.
pub(super) async fn begin(pool: &SqlitePool) -> Result<Box<dyn StoreWrite>, StoreError> {
    Ok(Box::new(Writing(pool.begin_with("BEGIN IMMEDIATE").await?)))
}

#[async_trait]
impl StoreWrite for Writing {
    async fn blocks(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        read::blocks(&mut self.0, repo, cids).await
    }

    async fn apply(&mut self, change: &RepoChange) -> Result<(), StoreError> {
        apply(&mut self.0, change).await
    }

    async fn commit(
        mut self: Box<Self>,
        events: Vec<NewEvent>,
        time: &Datetime,
    ) -> Result<Vec<Event>, StoreError> {
        let events = put_events(&mut self.0, &events, time).await?;
        self.0.commit().await?;
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

async fn apply(db: &mut SqliteConnection, change: &RepoChange) -> Result<(), StoreError> {
    let repo = head(db, change).await?;
    delete_blocks(db, repo, &change.drop_blocks, "").await?;
    put_blocks(db, repo, &change.put_blocks).await?;
    put_records(db, repo, &change.records).await?;
    let unused = "AND NOT EXISTS (SELECT 1 FROM records r WHERE r.repo = blocks.repo AND r.cid = blocks.cid)";
    delete_blocks(db, repo, &change.drop_records, unused).await?;
    if change.delete {
        for table in ["blocks", "records", "blob_refs", "blobs"] {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE repo = ?"));
            sqlx::query(sql).bind(repo.0).execute(&mut *db).await?;
        }
        sqlx::query("DELETE FROM repos WHERE id = ?").bind(repo.0).execute(&mut *db).await?;
    }
    Ok(())
}

/// Makes the repo or moves its head, if it is where the change expects it.
async fn head(db: &mut SqliteConnection, change: &RepoChange) -> Result<RepoId, StoreError> {
    let conflict = || StoreError::Conflict(change.did.clone());
    let found = read::repo(db, &change.did).await?;
    let repo = match (found, &change.expect) {
        (None, None) => {
            let head = change.head.as_ref().ok_or_else(conflict)?;
            let status = change.status.unwrap_or(RepoStatus::Active);
            let sql = "INSERT INTO repos (did, head, rev, data, status) VALUES (?, ?, ?, ?, ?) RETURNING id";
            let id = sqlx::query_scalar(sql)
                .bind(change.did.as_str())
                .bind(head.head.cid.to_bytes())
                .bind(row::from_tid(head.head.rev))
                .bind(head.data.to_bytes())
                .bind(status.as_str())
                .fetch_one(&mut *db)
                .await?;
            return Ok(RepoId(id));
        }
        (Some(found), Some(expected)) if found.head.cid == *expected => found.id,
        _ => return Err(conflict()),
    };
    if let Some(head) = &change.head {
        sqlx::query("UPDATE repos SET head = ?, rev = ?, data = ? WHERE id = ?")
            .bind(head.head.cid.to_bytes())
            .bind(row::from_tid(head.head.rev))
            .bind(head.data.to_bytes())
            .bind(repo.0)
            .execute(&mut *db)
            .await?;
    }
    if let Some(status) = change.status {
        sqlx::query("UPDATE repos SET status = ? WHERE id = ?")
            .bind(status.as_str())
            .bind(repo.0)
            .execute(&mut *db)
            .await?;
    }
    Ok(repo)
}

async fn delete_blocks(
    db: &mut SqliteConnection,
    repo: RepoId,
    cids: &[Cid],
    only: &str,
) -> Result<(), StoreError> {
    for piece in row::pieces(cids) {
        let sql = row::list("DELETE FROM blocks WHERE repo = ? AND cid IN", piece.len(), only);
        let mut query = sqlx::query(sql).bind(repo.0);
        for cid in piece {
            query = query.bind(cid.to_bytes());
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

async fn put_blocks(
    db: &mut SqliteConnection,
    repo: RepoId,
    blocks: &[StoredBlock],
) -> Result<(), StoreError> {
    for piece in row::pieces(blocks) {
        // A block that is there already keeps its revision: everybody at that revision has it.
        let tail = "ON CONFLICT (repo, cid) DO NOTHING";
        let sql = row::values("INSERT INTO blocks (repo, cid, rev, bytes) VALUES", piece.len(), 4, tail);
        let mut query = sqlx::query(sql);
        for block in piece {
            query = query
                .bind(repo.0)
                .bind(block.cid.to_bytes())
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
    let (set, removed): (Vec<&RecordChange>, Vec<_>) = records.iter().partition(|r| r.cid.is_some());
    for piece in row::pieces(&removed) {
        let sql = row::list("DELETE FROM records WHERE repo = ? AND path IN", piece.len(), "");
        let mut query = sqlx::query(sql).bind(repo.0);
        for record in piece {
            query = query.bind(record.path.as_str());
        }
        query.execute(&mut *db).await?;
    }
    for piece in row::pieces(&set) {
        let tail = "ON CONFLICT (repo, path) DO UPDATE SET cid = excluded.cid";
        let sql = row::values("INSERT INTO records (repo, path, cid) VALUES", piece.len(), 3, tail);
        let mut query = sqlx::query(sql);
        for record in piece {
            let cid = record.cid.as_ref().map(Cid::to_bytes);
            query = query.bind(repo.0).bind(record.path.as_str()).bind(cid);
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
                .bind(blob.to_bytes())
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
        .bind(blob.cid.to_bytes())
        .bind(&blob.mime_type)
        .bind(i64::try_from(blob.size).unwrap_or(i64::MAX))
        .bind(row::millis(at))
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn forget_blobs(
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
