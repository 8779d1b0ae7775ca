/// Why the index could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The URL names no database that an index can be in.
    #[error(
        "{0:?} is not a database of an index; write sqlite:///path/to/index.sqlite or postgres://user@host/database"
    )]
    Url(String),
    /// Another process has the SQLite file open.
    #[error("{0} is in use by another registry; several registries share one index in PostgreSQL")]
    InUse(String),
    /// The database was written by a newer version.
    #[error(
        "the index has schema {found}, and this version knows {known}; use the newer version, or an empty database"
    )]
    Newer {
        /// The schema in the database.
        found: i64,
        /// The newest one that is known.
        known: i64,
    },
    /// The database does not answer or refuses.
    #[error("the database of the index failed")]
    Database(#[from] sqlx::Error),
    /// A row that this program did not write.
    #[error("the index holds what it cannot: {0}; delete it, it is made anew from the network")]
    Corrupt(String),
    /// The text is not a cursor that a list gave.
    #[error("{0:?} is not a cursor of this list")]
    Cursor(String),
}

impl IndexError {
    pub(super) fn corrupt(what: impl ToString) -> Self {
        Self::Corrupt(what.to_string())
    }

    /// Whether two transactions got into each other's way, so that doing it again helps.
    pub(super) fn is_conflict(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // PostgreSQL: serialization_failure, deadlock_detected. SQLite: SQLITE_BUSY and its extended form.
        matches!(error.code().as_deref(), Some("40001" | "40P01" | "5" | "517"))
    }
}

impl From<IndexError> for atcr_core::StoreError {
    fn from(error: IndexError) -> Self {
        Self::unavailable("the registry's index", error)
    }
}
