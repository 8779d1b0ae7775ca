use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// Everything a hold knows that is not in its repo. Times are seconds since 1970.
const SCHEMA: &str = "
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

/// Opens the hold's own database.
pub(crate) async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10));
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    Ok(pool)
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
