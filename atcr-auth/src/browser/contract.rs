//! What every [`BrowserStore`] must do, as a function that a test calls with an implementation.

use std::sync::Arc;

use atcr_core::syntax::Did;

use super::{BrowserStore, RowName};

/// Runs the suite. The stores are views of one and the same rows, as several processes have them.
pub async fn check(stores: &[Arc<dyn BrowserStore>], account: &Did) {
    let (Some(first), Some(last)) = (stores.first(), stores.last()) else { panic!("a store to check") };
    let (one, two) = (RowName([1; 32]), RowName([2; 32]));
    let look = async |name, now| last.look(name, now).await.expect("reading works");
    assert_eq!(look(one, 0).await, None);
    first.keep(one, None, b"a", 100, 200).await.expect("writing works");
    first.keep(two, Some(account), b"b", 100, 200).await.expect("writing works");
    assert_eq!(look(one, 199).await.as_deref(), Some(&b"a"[..]));
    assert_eq!(look(one, 200).await, None, "a row ends at its time");
    assert_eq!(last.take(one, 200).await.expect("taking works"), None, "a row ends at its time");
    first.keep(one, None, b"c", 100, 200).await.expect("writing works");

    let mut taking = tokio::task::JoinSet::new();
    for store in stores.iter().cycle().take(16) {
        let store = Arc::clone(store);
        taking.spawn(async move { store.take(one, 150).await.expect("taking works") });
    }
    let got: Vec<_> = taking.join_all().await.into_iter().flatten().collect();
    assert_eq!(got, [b"c"], "one of many gets it");

    first.keep(one, None, b"d", 100, 200).await.expect("writing works");
    last.drop_all(account).await.expect("dropping works");
    assert_eq!(look(two, 150).await, None);
    assert_eq!(look(one, 150).await.as_deref(), Some(&b"d"[..]), "another's stays");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pds_session::MemorySessionStore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn memory_keeps_the_contract() {
        check(&[Arc::new(MemorySessionStore::default())], &"did:plc:alice".parse().unwrap()).await;
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn sqlite_keeps_the_contract_for_several_processes() {
        use crate::pds_session::{SealingKey, SqliteSessionStore};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions");
        let open = async || -> Arc<dyn BrowserStore> {
            let store = SqliteSessionStore::open(&path, SealingKey::new(&[1; 32])).await.unwrap();
            Arc::new(store) as Arc<dyn BrowserStore>
        };
        check(&[open().await, open().await], &"did:plc:alice".parse().unwrap()).await;
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"\"handle\""), "rows are encrypted");
    }
}
