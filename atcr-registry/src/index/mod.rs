//! What the network's repos hold, for a registry and its pages: manifests, tags, repositories, stars, holds.
//!
//! An [`Index`] is made of nothing but public records, so that it can be deleted and comes again. It is fed with
//! [`Event`]s, by [`ingest`](crate::ingest) or by hand, and asked with the queries below. It stands in an SQLite file, or
//! in a PostgreSQL database that several registries share; the URL decides.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), atcr_registry::index::IndexError> {
//! use atcr_registry::index::{Index, PageRequest};
//!
//! let index = Index::open("sqlite::memory:").await?;
//! for repository in index.recent(&PageRequest::first(20)).await?.items {
//!     println!("{}/{}", repository.owner, repository.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | what a page shows | query |
//! |---|---|
//! | the front page | [`Index::recent`], [`Index::popular`] |
//! | search | [`Index::search`] |
//! | an account | [`Index::account`], [`Index::account_by_handle`], [`Index::repositories_of`], [`Index::starred_by`] |
//! | a repository | [`Index::repository`], [`Index::tags_by_date`], [`Index::manifests`], [`Index::history`], [`Index::has_starred`] |
//! | a manifest | [`Index::manifest`], [`Index::layers`], [`Index::children`], [`Index::referrers`], [`Index::tags_of`], [`Index::scans`] |
//! | settings | [`Index::profile`], [`Index::holds_for`], [`Index::captain`], [`Index::crew`] |
//! | what has just happened | [`Index::moves_since`], [`Index::scans_since`] |
//!
//! Accounts that are deactivated, suspended or taken down are in none of the answers. Texts are those of strangers: at
//! most as long as their lexicon allows, and not to be shown as HTML.

#![expect(clippy::type_complexity, reason = "sqlx without its macros reads rows as tuples")]

mod apply;
mod cache;
mod database;
mod error;
mod event;
mod lookup;
mod page;
mod pending;
mod progress;
mod query;
mod reading;
mod record_state;
mod refresh;
mod rows;
mod schema;
mod search;
mod write;

use std::fmt;
use std::sync::Arc;

use atcr_core::syntax::Did;
use atcr_pds::Clock;
use tokio::sync::broadcast;

pub use apply::{Applied, Cursor};
pub use error::IndexError;
pub use event::{AccountStatus, Collection, Event, IdentityChange, Indexed, RecordOp, RepoCommit, Since};
pub use lookup::{Account, Lookup, StoredManifest};
pub use page::{Listed, PageRequest};
pub use progress::{Progress, SourceState};
pub use query::{
    Captain, Child, CrewMember, HoldChoice, HoldRelation, Layer, ManifestEntry, Profile, RecentMove,
    RecentScan, RepositoryEntry, Scan, TagEntry, TagMove,
};
pub use reading::Reading;

use cache::Caches;
use database::{Database, Dialect};

/// The index. Cheap to clone; clones are the same index.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    database: Database,
    clock: Clock,
    caches: Caches,
    changes: broadcast::Sender<Did>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("dialect", &self.0.database.dialect).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens an index, or makes one: `sqlite:///path/to/file`, `sqlite::memory:` or `postgres://user@host/database`.
    ///
    /// An SQLite file is one process's at a time.
    pub async fn open(url: &str) -> Result<Self, IndexError> {
        Self::open_with(url, Clock::system()).await
    }

    /// As [`Index::open`], with another clock than the system's.
    pub async fn open_with(url: &str, clock: Clock) -> Result<Self, IndexError> {
        let database = Database::open(url).await?;
        // Another replica's writes are not heard of, so nothing is answered from memory beside PostgreSQL.
        let caches = Caches::new(database.dialect == Dialect::Sqlite);
        let (changes, _) = broadcast::channel(1024);
        Ok(Self(Arc::new(Inner { database, clock, caches, changes })))
    }

    /// Hears whose repos change, as this process takes it in: for pages that are open. Who is slow misses some and is
    /// told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Did> {
        self.0.changes.subscribe()
    }

    /// Closes the database for every clone, and lets go of an SQLite file.
    pub async fn close(&self) {
        self.0.database.close().await;
    }

    fn database(&self) -> &Database {
        &self.0.database
    }

    fn now(&self) -> i64 {
        self.0.clock.now().as_millisecond()
    }

    fn caches(&self) -> &Caches {
        &self.0.caches
    }

    /// Counts what this process took in of a repo, so that somebody who remembers an answer knows when it is old.
    pub(crate) fn changes(&self, did: &Did) -> u64 {
        self.0.caches.count(did)
    }

    fn identities_changed(&self) {
        self.0.caches.identities.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    }

    /// What was kept in memory of these repos is not right any more.
    fn announce<'d>(&self, dids: impl IntoIterator<Item = &'d Did>) {
        for did in dids {
            self.0.caches.changed(did);
            // Nobody listens, most of the time.
            let _ = self.0.changes.send(did.clone());
        }
    }
}
