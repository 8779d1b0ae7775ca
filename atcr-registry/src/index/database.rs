//! One database behind two drivers.
//!
//! `sqlx::Any` chooses the driver by the URL at run time, so that every statement and every row type is written and
//! compiled once. It costs a copy of each value, which the caches in front make up for. An enum over two typed pools
//! would have everything twice. What `Any` has no type for (times, JSON, booleans) is kept as integers and text,
//! which both databases compare alike.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor as _, Transaction};

use super::{IndexError, schema};

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

#[derive(Debug)]
pub(super) struct Database {
    pub(super) dialect: Dialect,
    pub(super) read: AnyPool,
    /// SQLite has one writer at a time; one connection waits for itself better than several for each other.
    write: AnyPool,
    /// Held as long as the file is open.
    lock: Mutex<Option<File>>,
}

/// Readers of SQLite keep what they read at the least: the operating system caches the file already.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10000; \
     PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 67108864;";
/// The one that writes needs more: keys are digests, which lie anywhere. For the same reason its log is brought into the
/// file less often than usual: so many pages are then written once that many transactions have changed.
const WRITER_CACHE: &str = "PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 8192";
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 16;

impl Database {
    pub(super) async fn open(url: &str) -> Result<Self, IndexError> {
        sqlx::any::install_default_drivers();
        let bad = || IndexError::Url(without_password(url));
        let database = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options: AnyConnectOptions = url.parse().map_err(|_| bad())?;
            let pool =
                AnyPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).connect_with(options).await?;
            Self { dialect: Dialect::Postgres, read: pool.clone(), write: pool, lock: Mutex::default() }
        } else if url == "sqlite::memory:" {
            let pool = sqlite("sqlite::memory:", 1, WRITER_CACHE).await?;
            Self { dialect: Dialect::Sqlite, read: pool.clone(), write: pool, lock: Mutex::default() }
        } else {
            let path =
                url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).ok_or_else(bad)?;
            let path = path.split('?').next().unwrap_or_default();
            if path.is_empty() {
                return Err(bad());
            }
            let lock = lock(Path::new(path))?;
            let url = format!("sqlite://{path}?mode=rwc");
            // The writer first: it is the one that makes the file.
            let write = sqlite(&url, 1, WRITER_CACHE).await?;
            let read = sqlite(&url, READERS, "PRAGMA query_only = ON").await?;
            Self { dialect: Dialect::Sqlite, read, write, lock: Mutex::new(Some(lock)) }
        };
        schema::migrate(&database).await?;
        if database.dialect == Dialect::Sqlite {
            // Whoever held them is gone: the file is one process's.
            let mut tx = database.begin().await?;
            run!(tx, "DELETE FROM leases");
            tx.commit().await?;
        }
        Ok(database)
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, IndexError> {
        Ok(match self.dialect {
            Dialect::Sqlite => self.write.begin_with("BEGIN IMMEDIATE").await?,
            Dialect::Postgres => self.write.begin().await?,
        })
    }

    pub(super) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

async fn sqlite(url: &str, connections: u32, pragma: &'static str) -> Result<AnyPool, IndexError> {
    let options: AnyConnectOptions = url.parse().map_err(|_| IndexError::Url(url.to_owned()))?;
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(AssertSqlSafe(format!("{PRAGMAS}{pragma}"))).await?;
                Ok(())
            })
        });
    Ok(pool.connect_with(options).await?)
}

/// What is answered from memory is right only while nobody else writes to the file.
fn lock(path: &Path) -> Result<File, IndexError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: std::io::Error| IndexError::Database(sqlx::Error::Io(error));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(failed)?;
    file.try_lock().map_err(|_| IndexError::InUse(path.display().to_string()))?;
    Ok(file)
}

fn without_password(url: &str) -> String {
    match url.split_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

/// Runs a statement with arguments; gives how many rows it changed.
macro_rules! run {
    ($connection:expr, $sql:expr $(, $argument:expr)* $(,)?) => {
        sqlx::query::<sqlx::Any>($sql)$(.bind($argument))*.execute(&mut *$connection).await?.rows_affected()
    };
}
/// The first row of a query, as a tuple.
macro_rules! first {
    ($executor:expr, $sql:expr $(, $argument:expr)* $(,)?) => {
        sqlx::query_as::<sqlx::Any, _>($sql)$(.bind($argument))*.fetch_optional($executor).await?
    };
}
/// All rows of a query, as tuples. The query has a limit, or is of one thing.
macro_rules! all {
    ($executor:expr, $sql:expr $(, $argument:expr)* $(,)?) => {
        sqlx::query_as::<sqlx::Any, _>($sql)$(.bind($argument))*.fetch_all($executor).await?
    };
}
pub(super) use {all, first, run};
