use std::collections::HashMap;

use async_trait::async_trait;
use atcr_core::syntax::Tid;
use bytes::Bytes;
use ipld_core::cid::Cid;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlitePool};
use tokio::io::AsyncRead;

use super::car::{CarError, CarLimits, CarReader};
use super::source::{Load, LoadRecords};
use super::walk::Walk;
use super::{Commit, Head, RepoError};
use crate::cbor;
use crate::store::{StoreError, StoredBlock};

/// Blocks of one statement.
const PIECE: usize = 128;

/// CAR files that were read, to be taken over by [`Repos::import`](super::Repos::import).
///
/// Their blocks wait in a temporary database: the system's temporary folder must have room for them. A later file
/// prevails over an earlier one.
#[derive(Debug, Default)]
pub struct Import {
    pub(super) files: Vec<(Stage, Cid)>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The commit that was made; `None` when nothing changed.
    pub commit: Option<Head>,
    /// Records that were made.
    pub created: u64,
    /// Records that were replaced.
    pub updated: u64,
    /// Records that were there as they are in the files.
    pub unchanged: u64,
}

impl Import {
    /// No files so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file and returns its commit, so that the caller can judge whose it is: neither the account nor the
    /// signature is checked here. The blocks may come in any order; each is checked against its CID.
    pub async fn read(
        &mut self,
        file: impl AsyncRead + Unpin + Send,
        limits: CarLimits,
    ) -> Result<Commit, RepoError> {
        let mut reader = CarReader::open(file, limits).await?;
        let root = *reader.roots().first().ok_or_else(|| CarError::Header("no root".into()))?;
        let mut stage = Stage::new().await?;
        stage.fill(&mut reader).await?;
        let commit = stage.load(&[root]).await?.pop().ok_or(CarError::Missing(root))?;
        let commit = Commit::decode(&commit.bytes)?;
        self.files.push((stage, commit.data));
        Ok(commit)
    }
}

impl Import {
    /// The records of the file that was read last, for a caller who looks at them instead of taking them over. `None`
    /// when there is no file.
    pub fn into_records(mut self) -> Option<RepoRecords> {
        let (stage, data) = self.files.pop()?;
        Some(RepoRecords(Walk::tree(stage, data)))
    }
}

/// The records of a CAR file in the order of their keys. The tree is checked on the way: its nodes are the canonical
/// ones, and every record has the CID that the tree says.
pub struct RepoRecords(Walk<Stage>);

impl std::fmt::Debug for RepoRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RepoRecords")
    }
}

impl RepoRecords {
    /// The next record: its key in the tree (`collection/rkey`, as the repo has it), its CID and its bytes. `None`
    /// after the last one: then the file has the whole repo.
    pub async fn next(&mut self) -> Result<Option<(Box<str>, Cid, Bytes)>, RepoError> {
        while let Some(step) = self.0.next().await? {
            if let Some(key) = step.key {
                return Ok(Some((key, step.block.cid, step.block.bytes)));
            }
        }
        Ok(None)
    }
}

/// Blocks in a temporary database, which SQLite removes when it is closed.
#[derive(Debug)]
pub(super) struct Stage(SqlitePool);

impl Stage {
    async fn new() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename("")
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off)
            .pragma("cache_size", "-8192");
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let schema = "CREATE TABLE blocks (id INTEGER PRIMARY KEY, cid BLOB NOT NULL, bytes BLOB NOT NULL)";
        sqlx::raw_sql(schema).execute(&pool).await?;
        Ok(Self(pool))
    }

    async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut CarReader<R>) -> Result<(), RepoError> {
        let mut tx = self.0.begin().await.map_err(StoreError::from)?;
        let mut piece: Vec<(Cid, Bytes)> = Vec::with_capacity(PIECE);
        let mut size = 0;
        loop {
            let block = reader.next().await?;
            let ended = block.is_none();
            if let Some(block) = block {
                size += block.1.len();
                piece.push(block);
            }
            if ended || piece.len() == PIECE || size > 1024 * 1024 {
                let rows = vec!["(?, ?)"; piece.len()].join(", ");
                let sql = AssertSqlSafe(format!("INSERT INTO blocks (cid, bytes) VALUES {rows}"));
                let mut query = sqlx::query(sql).persistent(piece.len() == PIECE);
                for (cid, bytes) in &piece {
                    query = query.bind(cid.to_bytes()).bind(bytes.as_ref());
                }
                if !piece.is_empty() {
                    query.execute(&mut *tx).await.map_err(StoreError::from)?;
                }
                piece.clear();
                size = 0;
            }
            if ended {
                break;
            }
        }
        // After the rows: sorting once is cheaper than keeping random keys in order. Blocks may come twice.
        sqlx::raw_sql("CREATE INDEX blocks_cid ON blocks (cid)")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }
}

#[async_trait]
impl Load for Stage {
    async fn load(&mut self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        let mut found = Vec::with_capacity(cids.len());
        for piece in cids.chunks(PIECE) {
            let list = vec!["?"; piece.len()].join(", ");
            let sql = AssertSqlSafe(format!("SELECT cid, bytes FROM blocks WHERE cid IN ({list})"));
            let mut query = sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(sql).persistent(piece.len() == PIECE);
            for cid in piece {
                query = query.bind(cid.to_bytes());
            }
            for (cid, bytes) in query.fetch_all(&self.0).await? {
                let cid = Cid::try_from(&*cid).map_err(|_| cbor::CborError::Cid)?;
                found.push(StoredBlock { cid, rev: Tid::new(0, 0), bytes: bytes.into() });
            }
        }
        Ok(found)
    }

    fn missing(&self, cid: &Cid) -> RepoError {
        CarError::Missing(*cid).into()
    }
}

#[async_trait]
impl LoadRecords for Stage {
    async fn load_records(
        &mut self,
        records: &[(Box<str>, Cid)],
    ) -> Result<Vec<(Box<str>, StoredBlock)>, StoreError> {
        let cids: Vec<Cid> = records.iter().map(|(_, cid)| *cid).collect();
        let found: HashMap<Cid, StoredBlock> =
            self.load(&cids).await?.into_iter().map(|b| (b.cid, b)).collect();
        let known = records.iter().filter_map(|(key, cid)| Some((key.clone(), found.get(cid)?.clone())));
        Ok(known.collect())
    }
}
