use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atcr_core::syntax::Did;
use jiff::SignedDuration;
use url::Url;

use super::{ClientDocuments, RateLimits};
use crate::Clock;
use crate::blobs::DEFAULT_BLOB_LIMIT;
use crate::plc::PlcDirectory;
use crate::xrpc::SubscribeOptions;

/// How far ahead the expiry of a service token bound to a method may be asked for.
pub const MAX_SERVICE_TOKEN: SignedDuration = SignedDuration::from_hours(1);

/// How a [`Pds`](super::Pds) is set up.
#[derive(Clone)]
#[non_exhaustive]
pub struct PdsConfig {
    /// Under which URL clients reach the server; its DID is made from the host.
    pub public_url: Url,
    /// Where everything is kept. `None`: in memory.
    pub data_dir: Option<PathBuf>,
    /// Where the DIDs of new accounts are registered.
    pub plc: Arc<dyn PlcDirectory>,
    /// Domains under which handles are given out, each with a leading dot. Default: `.test`.
    pub available_user_domains: Vec<String>,
    /// The largest blob, in bytes. Default: 5 MiB.
    pub blob_limit: u64,
    /// How long a refresh token still works after it was used, giving the same successor again, so that a client
    /// that lost the answer can repeat the call. Default: not at all; a second use ends the session.
    pub refresh_grace: Duration,
    /// How much clients and accounts may do. Default: no limits.
    pub rate_limits: Option<RateLimits>,
    /// How the documents of OAuth clients are fetched. Default: not at all; then only programs on the same computer,
    /// with a `client_id` of `http://localhost`, can sign in.
    pub client_documents: Option<Arc<dyn ClientDocuments>>,
    /// An account of this server in whose repo the permission sets of every namespace are looked up, so that
    /// `include:` scopes work without the DNS. Those of `io.atcr.*` are built in.
    pub lexicon_authority: Option<Did>,
    /// Bounds for the subscribers of the event stream.
    pub subscribe: SubscribeOptions,
    /// The time.
    pub clock: Clock,
}

impl PdsConfig {
    /// A server in memory under this URL, with the defaults.
    pub fn new(public_url: Url, plc: Arc<dyn PlcDirectory>) -> Self {
        Self {
            public_url,
            data_dir: None,
            plc,
            available_user_domains: vec![".test".into()],
            blob_limit: DEFAULT_BLOB_LIMIT,
            refresh_grace: Duration::ZERO,
            rate_limits: None,
            client_documents: None,
            lexicon_authority: None,
            subscribe: SubscribeOptions::default(),
            clock: Clock::system(),
        }
    }
}

impl fmt::Debug for PdsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PdsConfig")
            .field("public_url", &self.public_url.as_str())
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
