use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use atcr_auth::Clock;
use url::Url;

use super::super::{Layout, ObjectKey};

/// Which container, and how it is reached.
#[derive(Clone)]
#[non_exhaustive]
pub struct AzureConfig {
    /// The storage account.
    pub account: String,
    /// One of the two keys of the account.
    pub account_key: AzureAccountKey,
    /// The container.
    pub container: String,
    /// What all names of blobs begin with. Default: nothing.
    pub prefix: Option<ObjectKey>,
    /// The root of the account's blob service. Default: `https://<account>.blob.core.windows.net`. One with the account
    /// in its path, as emulators have it, is good too.
    pub endpoint: Option<Url>,
    /// Whether others get signed URLs. Without them all bytes pass through the hold, streamed, and nothing is copied.
    /// Default: yes.
    pub presign: bool,
    /// A CDN in front of the container: its scheme, host and path stand in the URLs that blobs are read at, in place of
    /// the storage's. It must pass the query on. Parts never go there.
    pub pull_zone: Option<Url>,
    /// For how long the same object has the same signed URL, so that a CDN can keep it. A URL is good for so much
    /// longer. Default: 15 minutes.
    pub url_window: Duration,
    /// Where completed blobs stand. Default: where they were uploaded.
    pub layout: Layout,
    /// The size of the parts of an upload in bytes. Default: 16 MiB.
    pub part_size: u64,
    /// Where parts are gathered that are sent through the hold in chunked transfer coding, because Azure wants to know
    /// a part's size first. Each takes its size there while it is on its way. Default: the system's folder for such
    /// files.
    pub spool_dir: PathBuf,
    /// How long a request that carries no blob may take. Default: 60 seconds.
    pub timeout: Duration,
    /// The time, for the expiry of URLs. Default: the system's clock.
    pub clock: Clock,
}

/// The key of a storage account.
#[derive(Clone)]
pub struct AzureAccountKey(pub(super) Vec<u8>);

/// A text that is not an [`AzureAccountKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key of an Azure storage account is base64, as the portal shows it")]
pub struct AzureKeyError;

impl AzureAccountKey {
    /// Reads a key as Azure's portal shows it, in base64.
    pub fn from_base64(text: &str) -> Result<Self, AzureKeyError> {
        let key = data_encoding::BASE64.decode(text.trim().as_bytes()).map_err(|_| AzureKeyError)?;
        if key.is_empty() { Err(AzureKeyError) } else { Ok(Self(key)) }
    }
}

impl fmt::Debug for AzureAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AzureAccountKey")
    }
}

impl fmt::Debug for AzureConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, container, prefix, endpoint, presign, layout, .. } = self;
        f.debug_struct("AzureConfig")
            .field("account", account)
            .field("container", container)
            .field("prefix", prefix)
            .field("endpoint", endpoint)
            .field("presign", presign)
            .field("layout", layout)
            .finish_non_exhaustive()
    }
}

impl AzureConfig {
    /// A container of an account, with the defaults.
    pub fn new(
        account: impl Into<String>,
        account_key: AzureAccountKey,
        container: impl Into<String>,
    ) -> Self {
        Self {
            account: account.into(),
            account_key,
            container: container.into(),
            prefix: None,
            endpoint: None,
            presign: true,
            pull_zone: None,
            url_window: Duration::from_secs(15 * 60),
            layout: Layout::default(),
            part_size: 16 << 20,
            spool_dir: std::env::temp_dir(),
            timeout: Duration::from_secs(60),
            clock: Clock::system(),
        }
    }
}
