//! Shared access signatures of the service, version 2020-12-06 and later.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use url::Url;

use super::AzureConfig;

/// The version of the service that is spoken.
const VERSION: &str = "2021-12-02";

/// What the bearer of a URL may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    Read,
    Write,
    Delete,
    /// List the container.
    List,
}

impl Right {
    fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
            Self::Delete => "d",
            Self::List => "l",
        }
    }

    /// A blob, or the container.
    fn resource(self) -> &'static str {
        if self == Self::List { "c" } else { "b" }
    }
}

/// Signs the URL of the blob `name`, or of the container when that is empty, until `expiry`.
///
/// No beginning is named: a hold whose clock is ahead of Azure's would hand out URLs that are not good yet.
pub(super) fn sign(config: &AzureConfig, mut url: Url, name: &str, right: Right, expiry: Timestamp) -> Url {
    let expiry = expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let protocol = if url.scheme() == "https" { "https" } else { "https,http" };
    let (account, container) = (&config.account, &config.container);
    let slash = if name.is_empty() { "" } else { "/" };
    let resource = format!("/blob/{account}/{container}{slash}{name}");
    let fields = [
        right.letter(),
        "", // start
        &expiry,
        &resource,
        "", // identifier of a stored policy
        "", // address range
        protocol,
        VERSION,
        right.resource(),
        "", // time of a snapshot
        "", // encryption scope
        "", // headers of the answer: Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Content-Type
        "",
        "",
        "",
        "",
    ];
    let mut mac = Hmac::<Sha256>::new_from_slice(&config.account_key.0).expect("a key of any length is good");
    mac.update(fields.join("\n").as_bytes());
    let signature = data_encoding::BASE64.encode(&mac.finalize().into_bytes());
    url.query_pairs_mut()
        .append_pair("sv", VERSION)
        .append_pair("spr", protocol)
        .append_pair("se", &expiry)
        .append_pair("sr", right.resource())
        .append_pair("sp", right.letter())
        .append_pair("sig", &signature);
    url
}

/// The end of the present window, and `life` more.
pub(super) fn expiry(config: &AzureConfig, life: Duration, window: Duration) -> Timestamp {
    let now = config.clock.unix().unsigned_abs();
    let window = window.as_secs();
    let start = now.checked_rem(window).map_or(now, |into| now - into);
    let end = start.saturating_add(window).saturating_add(life.as_secs());
    i64::try_from(end).ok().and_then(|end| Timestamp::from_second(end).ok()).unwrap_or(Timestamp::MAX)
}
