//! Telling other programs of pushes and scans: webhooks.
//!
//! Somebody names an address and what to be told of ([`NewHook`]); [`Webhooks::run`] finds what has happened in the
//! index and sends it there.
//!
//! - **What is sent is derived from the index**, not remembered at a push: whatever way a push came, and whether or not
//!   this program ran then. Each event has a key, and what was told of once is in the store, so that a restart, a second
//!   replica and an index that is made anew change nothing. A tag that points where it pointed before is no event, nor is
//!   what is older than the hook, or than an hour when it is first seen.
//! - **At least once.** A delivery is a row before it is sent and until it is answered; it keeps its id over all
//!   attempts, so that a receiver can drop a repetition.
//! - **Attempts** are made at once and after 30 seconds, 2 minutes and 8 minutes. 2xx is a success. Redirects are not
//!   followed, bodies of answers are not read, and each receiver is sent one thing at a time.
//! - **The store is durable**, other than the index: an SQLite file that processes of one machine share, addresses and
//!   secrets encrypted under a key that is not in it.

mod deliver;
mod error;
mod find;
mod hook;
mod payload;
mod store;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::pds_session::SealingKey;
use atcr_core::AUDIT;
use atcr_core::egress::Egress;
use atcr_core::syntax::Did;
use atcr_pds::Clock;
use http::Method;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use url::Url;

use crate::index::Index;

pub use error::WebhookError;
pub use hook::{Delivery, DeliveryState, Hook, HookUrl, NewHook, Secret, Trigger, Triggers};

use store::Store;

/// How deliveries are made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookOptions {
    /// How long a receiver may take. Default: 10 s.
    pub timeout: Duration,
    /// Deliveries under way at the same time, no more than one for each hook. Default: 64.
    pub at_once: usize,
    /// Hooks that an account may have. Default: 10.
    pub hooks: usize,
    /// The whole index is looked through so often; what this process takes in by itself is told of at once.
    /// Default: 30 s.
    pub interval: Duration,
    /// The time of day.
    pub clock: Clock,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            at_once: 64,
            hooks: 10,
            interval: Duration::from_secs(30),
            clock: Clock::system(),
        }
    }
}

/// The webhooks of a registry. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    store: Store,
    index: Index,
    egress: Egress,
    base: Url,
    options: WebhookOptions,
    /// There is something to send.
    work: Notify,
    /// Hooks have changed.
    hooks: watch::Sender<()>,
    tests: Semaphore,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// Tests of hooks that are under way at the same time.
const TESTS: usize = 16;

impl Webhooks {
    /// Opens the store at `path`, or makes it: what happens in `index` is told of, with addresses of the pages at `base`.
    ///
    /// Hooks that do not open with `key` stay, and nothing can be sent to them.
    pub async fn open(
        path: &Path,
        key: SealingKey,
        index: Index,
        egress: Egress,
        base: &Url,
        options: WebhookOptions,
    ) -> Result<Self, WebhookError> {
        let store = Store::open(path, key).await?;
        Ok(Self(Arc::new(Inner {
            store,
            index,
            egress,
            base: base.clone(),
            options,
            work: Notify::new(),
            hooks: watch::Sender::new(()),
            tests: Semaphore::new(TESTS),
        })))
    }

    /// Finds and sends, for ever. It ends when it is dropped; what was being sent then is sent again, under the same id,
    /// by the next one to run, half a minute later.
    pub async fn run(self) {
        let this = &self.0;
        tokio::join!(this.pushes_for_ever(), this.scans_for_ever(), Inner::deliver_for_ever(this));
    }

    /// Looks once through what has happened, for every account with hooks: for those who do not [`run`](Self::run) it.
    pub async fn find(&self) -> Result<(), WebhookError> {
        self.0.find_all().await
    }

    /// Sends once what is due, and says how much that was: for those who do not [`run`](Self::run) it.
    pub async fn deliver(&self) -> Result<usize, WebhookError> {
        Inner::deliver_due(&self.0).await
    }

    /// The hooks of an account, the oldest first, each with its newest delivery.
    pub async fn list(&self, did: &Did) -> Result<Vec<(Hook, Option<Delivery>)>, WebhookError> {
        self.0.store.listed(did).await
    }

    /// Adds a hook to an account.
    ///
    /// # Errors
    /// When the address is not one that may be called, nothing is to be told, or the account has too many.
    pub async fn add(&self, did: &Did, hook: NewHook) -> Result<Hook, WebhookError> {
        if hook.triggers.is_empty() {
            return Err(WebhookError::NoTrigger);
        }
        // Names are resolved when something is sent, each time.
        let allowed = self.0.egress.request(Method::POST, hook.url.url().clone());
        if let Err(error) = allowed {
            return Err(WebhookError::Url(error::reason(&error)));
        }
        let hook = self.0.store.add(did, hook, self.0.now(), self.0.options.hooks).await?;
        tracing::info!(target: AUDIT, event = "webhook_added", %did, webhook = hook.id());
        self.0.hooks.send_replace(());
        Ok(hook)
    }

    /// Removes a hook of an account, and what was to be sent to it.
    pub async fn remove(&self, did: &Did, id: &str) -> Result<(), WebhookError> {
        if !self.0.store.remove(did, id).await? {
            return Err(WebhookError::NotFound);
        }
        tracing::info!(target: AUDIT, event = "webhook_removed", %did, webhook = id);
        self.0.hooks.send_replace(());
        Ok(())
    }

    /// Sends a test to a hook of an account, once, and waits for the answer. One that succeeds switches a hook on again
    /// that was switched off. A hook can be tested every ten seconds.
    pub async fn test(&self, did: &Did, id: &str) -> Result<Delivery, WebhookError> {
        let _turn = self.0.tests.try_acquire().map_err(|_| WebhookError::TooSoon)?;
        let done = self.0.test(did, id).await?;
        self.0.hooks.send_replace(());
        Ok(done)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.options.clock.now()
    }
}
