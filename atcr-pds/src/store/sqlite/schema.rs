use sqlx::{Connection as _, SqliteConnection};

use crate::store::StoreError;

/// The version of the schema that this program writes; kept in `PRAGMA user_version`.
const VERSION: i64 = 1;

/// What leads from each version to the next.
///
/// Random keys are what makes a table slow: a CID is never the key that orders one, and its index holds only the first
/// eight bytes of the hash (`key`), so that it is small and its pages are written less often. Blocks that are gone are
/// noted in `dropped` and deleted many at a time, for the same reason. Paths sort as the tree does (`collection/rkey`
/// by bytes).
const STEPS: &[&str] = &["
    CREATE TABLE repos (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        did    TEXT NOT NULL UNIQUE,
        head   BLOB NOT NULL,
        rev    INTEGER NOT NULL,
        data   BLOB NOT NULL,
        status TEXT NOT NULL
    );
    CREATE TABLE blocks (
        id    INTEGER PRIMARY KEY,
        repo  INTEGER NOT NULL,
        key   INTEGER NOT NULL,
        cid   BLOB NOT NULL,
        rev   INTEGER NOT NULL,
        bytes BLOB NOT NULL
    );
    CREATE INDEX blocks_key ON blocks (repo, key);
    CREATE TABLE dropped (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        repo INTEGER NOT NULL,
        key  INTEGER NOT NULL,
        cid  BLOB NOT NULL,
        rev  INTEGER NOT NULL
    );
    CREATE TABLE records (
        id    INTEGER PRIMARY KEY,
        repo  INTEGER NOT NULL,
        path  TEXT NOT NULL,
        key   INTEGER NOT NULL,
        cid   BLOB NOT NULL,
        rev   INTEGER NOT NULL,
        bytes BLOB NOT NULL
    );
    CREATE UNIQUE INDEX records_path ON records (repo, path);
    CREATE INDEX records_key ON records (repo, key);
    CREATE TABLE blobs (
        id    INTEGER PRIMARY KEY,
        repo  INTEGER NOT NULL,
        cid   BLOB NOT NULL,
        mime  TEXT NOT NULL,
        size  INTEGER NOT NULL,
        noted INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX blobs_cid ON blobs (repo, cid);
    CREATE TABLE blob_refs (
        id   INTEGER PRIMARY KEY,
        repo INTEGER NOT NULL,
        cid  BLOB NOT NULL,
        path TEXT NOT NULL,
        rev  INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX blob_refs_cid ON blob_refs (repo, cid, path);
    CREATE INDEX blob_refs_path ON blob_refs (repo, path);
    CREATE TABLE events (
        seq  INTEGER PRIMARY KEY AUTOINCREMENT,
        did  TEXT NOT NULL,
        kind TEXT NOT NULL,
        time INTEGER NOT NULL,
        body BLOB NOT NULL
    );
"];

/// Brings the schema of a database up to date, in one transaction.
pub(super) async fn upgrade(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *tx).await?;
    let done = match usize::try_from(found) {
        Ok(done) if found <= VERSION => done,
        _ => return Err(StoreError::TooNew { found, known: VERSION }),
    };
    for step in &STEPS[done..] {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    if found < VERSION {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {VERSION}")))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}
