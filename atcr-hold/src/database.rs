use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlitePool};

/// Everything a hold knows that is not in its repo, in the order in which it was added. Times are seconds since 1970.
/// `PRAGMA user_version` counts the steps that a database has.
const SCHEMA: &[&str] = &[FIRST, CLAIMS, VERIFICATION, UPKEEP];

const FIRST: &str = "
create table if not exists meta (
    key text primary key,
    value text not null
) without rowid;

create table if not exists uploads (
    id text primary key,
    uploader text not null,
    storage_upload text not null,
    algorithm text not null,
    created integer not null,
    used integer not null,
    -- open, completing (digest and parts are fixed), verified (object_key and size too), completed, ending
    state text not null default 'open',
    digest text,
    parts integer,
    object_key text,
    size integer
);
create index if not exists uploads_used on uploads (used);

create table if not exists parts (
    upload text not null references uploads (id) on delete cascade,
    number integer not null,
    size integer not null,
    etag text not null,
    -- the hash of all parts up to and including this one
    hash_state blob,
    primary key (upload, number)
) without rowid;

create table if not exists blobs (
    digest text primary key,
    object_key text not null,
    size integer not null,
    verified_at integer not null
);

create table if not exists layers (
    manifest text not null,
    digest text not null,
    rkey text not null unique,
    user_did text not null,
    size integer not null,
    primary key (manifest, digest)
) without rowid;
create index if not exists layers_user on layers (user_did, digest);
";

const CLAIMS: &str = "
-- Which repository has which blob.
create table claims (
    digest text not null,
    owner text not null,
    -- without the owner; empty where the uploader did not say
    repository text not null,
    -- when it was deleted from the repository
    removed integer,
    primary key (digest, owner, repository)
) without rowid;
create index layers_digest on layers (digest);
alter table uploads add column repository text not null default '';
-- since when nobody has had it; any use sets it back to null
alter table blobs add column unused_since integer;
";

const VERIFICATION: &str = "
-- An address was given at which the storage takes parts from anybody: what the hold hashed on the way is no proof.
alter table uploads add column direct integer not null default 0;
-- How many bytes the uploader may store; null is no limit.
alter table uploads add column allowed integer;

-- Sizes that were announced of parts which go to the storage directly.
create table promised (
    upload text not null references uploads (id) on delete cascade,
    number integer not null,
    size integer not null,
    primary key (upload, number)
) without rowid;

-- Blobs whose bytes nobody has hashed yet: their uploaders alone have them.
create table pending (
    upload text primary key,
    storage_upload text not null,
    digest text not null,
    uploader text not null,
    object_key text not null,
    size integer not null,
    added integer not null,
    -- who hashes it, and until when the others leave it alone
    worker text,
    leased integer not null default 0,
    failures integer not null default 0
) without rowid;
create index pending_digest on pending (digest);
create index pending_uploader on pending (uploader);
create index pending_storage on pending (storage_upload);

-- Bytes that are not what was said of them: nobody gets them.
create table quarantine (
    id integer primary key,
    -- of blobs that went bad in the storage: empty
    upload text not null,
    storage_upload text not null,
    digest text not null,
    -- null: they could not be read
    actual text,
    uploader text not null,
    object_key text not null,
    size integer not null,
    found integer not null,
    -- when the bytes were removed; the record stays
    removed integer
);
create index quarantine_digest on quarantine (digest);
create index quarantine_uploader on quarantine (uploader);

-- Objects in whose place another one was put, to be removed.
create table superseded (object_key text primary key) without rowid;

create index claims_owner on claims (owner, digest);
create index uploads_uploader on uploads (uploader);
create index uploads_storage on uploads (storage_upload);
";

const UPKEEP: &str = "
-- Service tokens that are good for one call and were shown.
create table used_tokens (
    key blob primary key,
    expires integer not null
) without rowid;
create index used_tokens_expires on used_tokens (expires);

-- Blobs that the scrub that goes on has hashed.
create table scrubbed (
    digest text primary key,
    -- what is wrong with it; null when nothing is
    finding text
) without rowid;

-- Blobs on their way to another storage, and those that are there.
create table migrated (
    -- the name of that storage
    target text not null,
    digest text not null,
    -- the upload there
    storage_upload text not null,
    -- empty until the bytes were hashed and are there
    object_key text not null,
    size integer not null,
    -- the object has its last key
    placed integer not null default 0,
    primary key (target, digest)
) without rowid;
";

/// Opens the hold's own database.
pub(crate) async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10));
    // A file does not go away; asking it whether it is there costs as much as a query.
    let pool =
        SqlitePoolOptions::new().max_connections(4).test_before_acquire(false).connect_with(options).await?;
    upgrade(&pool).await?;
    Ok(pool)
}

/// Brings the schema up to date, in one transaction.
async fn upgrade(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut tx = write(pool).await?;
    let has: i64 = sqlx::query_scalar("pragma user_version").fetch_one(&mut *tx).await?;
    let knows = i64::try_from(SCHEMA.len()).unwrap_or(i64::MAX);
    if has > knows {
        let message = format!(
            "the database is of a newer version of atcr (schema {has}, this program knows {knows}); update the program"
        );
        return Err(sqlx::Error::Configuration(message.into()));
    }
    for step in SCHEMA.iter().skip(usize::try_from(has).unwrap_or_default()) {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    sqlx::raw_sql(AssertSqlSafe(format!("pragma user_version = {knows}"))).execute(&mut *tx).await?;
    tx.commit().await
}

/// Begins a transaction that writes: it takes the lock at once, so that it cannot fail half-way for want of it.
pub(crate) async fn write(
    pool: &SqlitePool,
) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
    pool.begin_with("begin immediate").await
}

/// The value of a key in `meta`.
pub(crate) async fn meta(pool: &SqlitePool, key: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select value from meta where key = ?").bind(key).fetch_optional(pool).await
}

/// Sets the value of a key in `meta`.
pub(crate) async fn set_meta(pool: &SqlitePool, key: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into meta (key, value) values (?, ?) on conflict (key) do update set value = excluded.value",
    )
    .bind(key)
    .bind(value)
    .execute(pool)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_of_before_goes_on_and_one_of_the_future_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hold.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let old = SqlitePool::connect_with(options).await.unwrap();
        sqlx::raw_sql(FIRST).execute(&old).await.unwrap();
        sqlx::raw_sql("insert into blobs values ('sha256:0', 'key', 1, 0)").execute(&old).await.unwrap();

        for _ in 0..2 {
            let pool = open(&path).await.unwrap();
            let unused: Option<i64> =
                sqlx::query_scalar("select unused_since from blobs").fetch_one(&pool).await.unwrap();
            assert_eq!(unused, None);
            pool.close().await;
        }
        sqlx::raw_sql("pragma user_version = 99").execute(&old).await.unwrap();
        let error = open(&path).await.unwrap_err().to_string();
        assert!(error.contains("update the program"), "{error}");
    }
}
