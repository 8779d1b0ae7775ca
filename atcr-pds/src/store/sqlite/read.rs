use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use atcr_core::syntax::{Did, Nsid, Tid};
use futures_util::TryStreamExt as _;
use ipld_core::cid::Cid;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::row;
use crate::cbor::BlobRef;
use crate::repo::{Event, EventKind, Head, RecordPath};
use crate::store::{
    BlobRow, RecordRange, RepoId, RepoInfo, RepoStatus, StoreError, StoredBlock, StoredRecord,
};

/// Bodies of events that are read at once, in bytes: an event may have two million.
const EVENT_BYTES: usize = 8 * 1024 * 1024;
/// Records that are read at once, in bytes.
const RECORD_BYTES: usize = 16 * 1024 * 1024;

fn info(row: &SqliteRow) -> Result<RepoInfo, StoreError> {
    let status: &str = row.try_get("status")?;
    Ok(RepoInfo {
        id: RepoId(row.try_get("id")?),
        did: row::did(row.try_get("did")?)?,
        head: Head { cid: row::cid(row.try_get("head")?)?, rev: row::tid(row.try_get("rev")?)? },
        data: row::cid(row.try_get("data")?)?,
        status: RepoStatus::parse(status).ok_or_else(|| row::corrupt(format!("status {status:?}")))?,
    })
}

pub(super) async fn repo(db: &mut SqliteConnection, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
    let row = sqlx::query("SELECT * FROM repos WHERE did = ?").bind(did.as_str()).fetch_optional(db).await?;
    row.as_ref().map(info).transpose()
}

pub(super) async fn repos(
    db: &mut SqliteConnection,
    after: Option<RepoId>,
    limit: usize,
) -> Result<Vec<RepoInfo>, StoreError> {
    let rows = sqlx::query("SELECT * FROM repos WHERE id > ? ORDER BY id LIMIT ?")
        .bind(after.map_or(0, |id| id.0))
        .bind(row::limit(limit))
        .fetch_all(db)
        .await?;
    rows.iter().map(info).collect()
}

pub(super) async fn repos_with_collection(
    db: &mut SqliteConnection,
    collection: &Nsid,
    after: Option<RepoId>,
    limit: usize,
) -> Result<Vec<RepoInfo>, StoreError> {
    let (low, high) = bounds(collection);
    let sql = "SELECT * FROM repos WHERE id > ?
        AND EXISTS (SELECT 1 FROM records WHERE repo = repos.id AND path > ? AND path < ?)
        ORDER BY id LIMIT ?";
    let rows = sqlx::query(sql)
        .bind(after.map_or(0, |id| id.0))
        .bind(low)
        .bind(high)
        .bind(row::limit(limit))
        .fetch_all(db)
        .await?;
    rows.iter().map(info).collect()
}

/// All paths of a collection lie between these two; `0` is the character after `/`.
fn bounds(collection: &Nsid) -> (String, String) {
    (format!("{collection}/"), format!("{collection}0"))
}

/// Nodes and commits.
pub(super) async fn blocks(
    db: &mut SqliteConnection,
    repo: RepoId,
    cids: &[Cid],
) -> Result<Vec<StoredBlock>, StoreError> {
    by_key(db, "SELECT cid, rev, bytes FROM blocks WHERE repo = ? AND key IN", repo, cids).await
}

/// Nodes, commits and records.
pub(super) async fn all_blocks(
    db: &mut SqliteConnection,
    repo: RepoId,
    cids: &[Cid],
) -> Result<Vec<StoredBlock>, StoreError> {
    let mut found = blocks(&mut *db, repo, cids).await?;
    let known: HashSet<Cid> = found.iter().map(|block| block.cid).collect();
    let rest: Vec<Cid> = cids.iter().filter(|cid| !known.contains(cid)).copied().collect();
    let sql = "SELECT cid, rev, bytes FROM records WHERE repo = ? AND key IN";
    found.extend(by_key(db, sql, repo, &rest).await?);
    Ok(found)
}

async fn by_key(
    db: &mut SqliteConnection,
    sql: &str,
    repo: RepoId,
    cids: &[Cid],
) -> Result<Vec<StoredBlock>, StoreError> {
    let wanted: HashSet<&Cid> = cids.iter().collect();
    let mut found: HashMap<Cid, StoredBlock> = HashMap::with_capacity(cids.len());
    for piece in row::pieces(cids) {
        let sql = row::list(sql, piece.len(), "");
        let mut query = sqlx::query_as::<_, (Vec<u8>, i64, Vec<u8>)>(sql).bind(repo.0);
        for cid in piece {
            query = query.bind(row::key(cid));
        }
        let mut rows = query.fetch(&mut *db);
        while let Some((cid, rev, bytes)) = rows.try_next().await? {
            if !wanted.contains(&row::cid(&cid)?) {
                continue;
            }
            let (cid, bytes) = row::block(&cid, bytes)?;
            let block = StoredBlock { cid, rev: row::tid(rev)?, bytes };
            // A block that went and came back may be there twice until the old one is cleared away.
            if found.get(&cid).is_none_or(|other| other.rev < block.rev) {
                found.insert(cid, block);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn path(text: &str) -> Result<RecordPath, StoreError> {
    text.parse().map_err(|e| row::corrupt(format!("a column does not hold a record path: {e}")))
}

type RecordRow = (String, Vec<u8>, i64, Vec<u8>);

fn stored((text, cid, rev, bytes): RecordRow) -> Result<StoredRecord, StoreError> {
    let (cid, bytes) = row::block(&cid, bytes)?;
    Ok(StoredRecord { path: path(&text)?, cid, rev: row::tid(rev)?, bytes })
}

pub(super) async fn record(
    db: &mut SqliteConnection,
    repo: RepoId,
    path: &RecordPath,
) -> Result<Option<StoredRecord>, StoreError> {
    let sql = "SELECT path, cid, rev, bytes FROM records WHERE repo = ? AND path = ?";
    let row = sqlx::query_as(sql).bind(repo.0).bind(path.as_str()).fetch_optional(db).await?;
    row.map(stored).transpose()
}

pub(super) async fn records_at(
    db: &mut SqliteConnection,
    repo: RepoId,
    paths: &[&str],
) -> Result<Vec<StoredRecord>, StoreError> {
    let mut found = Vec::with_capacity(paths.len());
    for piece in row::pieces(paths) {
        let sql = row::list(
            "SELECT path, cid, rev, bytes FROM records WHERE repo = ? AND path IN",
            piece.len(),
            "",
        );
        let mut query = sqlx::query_as::<_, RecordRow>(sql).bind(repo.0);
        for path in piece {
            query = query.bind(*path);
        }
        let mut rows = query.fetch(&mut *db);
        while let Some(row) = rows.try_next().await? {
            found.push(stored(row)?);
        }
    }
    Ok(found)
}

pub(super) async fn records(
    db: &mut SqliteConnection,
    repo: RepoId,
    range: &RecordRange,
) -> Result<Vec<StoredRecord>, StoreError> {
    let (mut low, mut high) = bounds(&range.collection);
    if let Some(after) = &range.after {
        let after = format!("{}/{after}", range.collection);
        if range.ascending { low = after } else { high = after }
    }
    let sql = if range.ascending {
        "SELECT path, cid, rev, bytes FROM records WHERE repo = ? AND path > ? AND path < ?
         ORDER BY path LIMIT ?"
    } else {
        "SELECT path, cid, rev, bytes FROM records WHERE repo = ? AND path > ? AND path < ?
         ORDER BY path DESC LIMIT ?"
    };
    let mut rows =
        sqlx::query_as(sql).bind(repo.0).bind(low).bind(high).bind(row::limit(range.limit)).fetch(db);
    let (mut found, mut size) = (Vec::new(), 0);
    while size < RECORD_BYTES
        && let Some(row) = rows.try_next().await?
    {
        let record = stored(row)?;
        size += record.bytes.len();
        found.push(record);
    }
    Ok(found)
}

pub(super) async fn index(
    db: &mut SqliteConnection,
    repo: RepoId,
    after: Option<&RecordPath>,
    limit: usize,
) -> Result<Vec<(RecordPath, Cid)>, StoreError> {
    let sql = "SELECT path, cid FROM records WHERE repo = ? AND path > ? ORDER BY path LIMIT ?";
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(sql)
        .bind(repo.0)
        .bind(after.map_or("", RecordPath::as_str))
        .bind(row::limit(limit))
        .fetch_all(db)
        .await?;
    rows.into_iter().map(|(text, cid)| Ok((path(&text)?, row::cid(&cid)?))).collect()
}

pub(super) async fn collections(db: &mut SqliteConnection, repo: RepoId) -> Result<Vec<Nsid>, StoreError> {
    let mut found = Vec::new();
    let mut after = String::new();
    // One seek per collection, however many records it has.
    let sql = "SELECT path FROM records WHERE repo = ? AND path > ? ORDER BY path LIMIT 1";
    while let Some(next) =
        sqlx::query_scalar::<_, String>(sql).bind(repo.0).bind(&after).fetch_optional(&mut *db).await?
    {
        let collection = path(&next)?.collection();
        (_, after) = bounds(&collection);
        found.push(collection);
    }
    Ok(found)
}

pub(super) async fn blobs(
    db: &mut SqliteConnection,
    repo: RepoId,
    cids: &[Cid],
) -> Result<Vec<BlobRow>, StoreError> {
    let mut found = Vec::new();
    for piece in row::pieces(cids) {
        let sql = row::list(
            "SELECT cid, mime, size, EXISTS (SELECT 1 FROM blob_refs r WHERE r.repo = b.repo AND r.cid = b.cid)
             FROM blobs b WHERE repo = ? AND cid IN",
            piece.len(),
            "",
        );
        let mut query = sqlx::query_as::<_, (Vec<u8>, String, i64, bool)>(sql).bind(repo.0);
        for cid in piece {
            query = query.bind(row::cid_bytes(cid));
        }
        for (cid, mime_type, size, referenced) in query.fetch_all(&mut *db).await? {
            let size = u64::try_from(size).map_err(|_| row::corrupt("a blob has a negative size"))?;
            found.push(BlobRow { blob: BlobRef { cid: row::cid(&cid)?, mime_type, size }, referenced });
        }
    }
    Ok(found)
}

pub(super) async fn list_blobs(
    db: &mut SqliteConnection,
    repo: RepoId,
    since: Option<Tid>,
    after: Option<&Cid>,
    limit: usize,
) -> Result<Vec<Cid>, StoreError> {
    let sql =
        "SELECT DISTINCT cid FROM blob_refs WHERE repo = ? AND cid > ? AND rev > ? ORDER BY cid LIMIT ?";
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql)
        .bind(repo.0)
        .bind(after.map(row::cid_bytes).unwrap_or_default())
        .bind(since.map_or(-1, row::from_tid))
        .bind(row::limit(limit))
        .fetch_all(db)
        .await?;
    rows.iter().map(|cid| row::cid(cid)).collect()
}

pub(super) async fn events(
    db: &mut SqliteConnection,
    after: u64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let sql = "SELECT seq, did, kind, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?";
    let mut rows = sqlx::query_as::<_, (i64, String, String, Vec<u8>)>(sql)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(row::limit(limit))
        .fetch(db);
    let (mut found, mut size) = (Vec::new(), 0);
    while size < EVENT_BYTES
        && let Some((seq, did, kind, body)) = rows.try_next().await?
    {
        size += body.len();
        let seq = u64::try_from(seq).map_err(|_| row::corrupt("a sequence number is negative"))?;
        let kind =
            EventKind::parse(&kind).ok_or_else(|| row::corrupt(format!("an event of kind {kind:?}")))?;
        found.push(Event::new(seq, row::did(&did)?, kind, &body));
    }
    Ok(found)
}

/// The newest sequence number that was ever given; SQLite remembers it when the row is gone.
pub(super) async fn newest_event(db: &mut SqliteConnection) -> Result<u64, StoreError> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'events'";
    let newest: i64 = sqlx::query_scalar(sql).fetch_optional(db).await?.unwrap_or(0);
    u64::try_from(newest).map_err(|_| row::corrupt("a sequence number is negative"))
}

pub(super) async fn event_window(db: &mut SqliteConnection) -> Result<RangeInclusive<u64>, StoreError> {
    let oldest: Option<i64> = sqlx::query_scalar("SELECT MIN(seq) FROM events").fetch_one(&mut *db).await?;
    let newest = newest_event(db).await?;
    let oldest = oldest.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(newest + 1);
    Ok(oldest..=newest)
}
