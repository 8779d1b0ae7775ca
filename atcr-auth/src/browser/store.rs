use std::fmt::Debug;

use async_trait::async_trait;
use atcr_core::syntax::Did;

use crate::pds_session::SessionStoreError;

/// The name of a row: the hash of a secret that is not in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowName(pub [u8; 32]);

/// Keeps what is known of browsers (who is signed in, and sign-ins under way) for any number of processes.
///
/// Contract, checked by the suite in the module `contract` (feature of that name): of several
/// [`BrowserStore::take`] calls for one row, wherever they are made, one gets it; a row is not there any more at the
/// second at which it expires.
#[async_trait]
pub trait BrowserStore: Debug + Send + Sync + 'static {
    /// Keeps a row until `expires` (seconds since 1970), in the place of one with the same name. Drops rows that
    /// have expired by `now`.
    async fn keep(
        &self,
        name: RowName,
        account: Option<&Did>,
        value: &[u8],
        now: i64,
        expires: i64,
    ) -> Result<(), SessionStoreError>;

    /// The value of a row.
    async fn look(&self, name: RowName, now: i64) -> Result<Option<Vec<u8>>, SessionStoreError>;

    /// Takes a row out and gives its value.
    async fn take(&self, name: RowName, now: i64) -> Result<Option<Vec<u8>>, SessionStoreError>;

    /// Takes out all rows of an account.
    async fn drop_all(&self, account: &Did) -> Result<(), SessionStoreError>;
}
