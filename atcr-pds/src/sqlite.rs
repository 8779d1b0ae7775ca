use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// Opens a small database (accounts, blob references, PLC logs) and brings `schema` (idempotent statements) into
/// it. Without a path the database lives in memory, on one connection that is never closed while the pool lives.
pub(crate) async fn open(path: Option<&Path>, schema: &'static str) -> Result<SqlitePool, sqlx::Error> {
    let options = match path {
        Some(path) => SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full),
        None => SqliteConnectOptions::new().in_memory(true),
    }
    .foreign_keys(true)
    .busy_timeout(Duration::from_secs(10));
    let pool = SqlitePoolOptions::new()
        .max_connections(if path.is_some() { 4 } else { 1 })
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    sqlx::raw_sql(schema).execute(&pool).await?;
    Ok(pool)
}
