use super::StoreError;

/// Repos in one SQLite database.
#[derive(Debug, Clone)]
pub struct SqliteStore {}

impl SqliteStore {
    /// Opens the database at `path`, making or upgrading it as needed.
    pub async fn open(_path: &std::path::Path) -> Result<Self, StoreError> {
        Err(StoreError::Corrupt("not built yet".into()))
    }

    /// A database in memory, gone with its last handle.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Err(StoreError::Corrupt("not built yet".into()))
    }
}
