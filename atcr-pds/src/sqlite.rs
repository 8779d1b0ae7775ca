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
        // Of a file's connections the pool would make the first one twice, at the same time.
        .min_connections(u32::from(path.is_none()))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    sqlx::raw_sql(schema).execute(&pool).await?;
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second connection at the moment at which the first one makes the file a WAL database finds it locked, and
    /// SQLite does not wait then.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_new_database_is_opened_by_one_connection() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..200 {
            let path = directory.path().join(n.to_string());
            let pool = open(Some(&path), "create table if not exists t (x)").await.unwrap();
            assert_eq!(pool.size(), 1);
        }
    }
}
