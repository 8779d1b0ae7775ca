//! Reading fields that an older or another writer may have filled with something else.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::syntax::{Datetime, Did};

#[derive(Deserialize)]
#[serde(untagged)]
enum Maybe<T> {
    Read(T),
    Unreadable(IgnoredAny),
}

impl<T> Maybe<T> {
    fn read(self) -> Option<T> {
        match self {
            Self::Read(value) => Some(value),
            Self::Unreadable(_) => None,
        }
    }
}

/// What cannot be read counts as absent.
pub(super) fn option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Maybe<T>>::deserialize(deserializer)?.and_then(Maybe::read))
}

/// `null` and what cannot be read is the default.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(option(deserializer)?.unwrap_or_default())
}

/// `null` is the default; anything else must be readable.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A time that cannot be read is the Unix epoch.
pub(super) fn datetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Datetime, D::Error> {
    Ok(option(deserializer)?.unwrap_or_else(epoch))
}

pub(super) fn epoch() -> Datetime {
    jiff::Timestamp::UNIX_EPOCH.into()
}

/// The strings of a map; other values are dropped.
pub(super) fn string_map<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let map: BTreeMap<String, Maybe<String>> = or_default(deserializer)?;
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, value.read()?))).collect())
}

/// A hold, as its DID or as the URL that records of 2025 used.
pub(super) fn hold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Did>, D::Error> {
    let text: Option<String> = option(deserializer)?;
    Ok(text.and_then(|text| match text.parse() {
        Ok(did) => Some(did),
        Err(_) => Did::web_from_url(&http_url(&text)?),
    }))
}

/// The URL, if it is one of a web server.
pub(super) fn http_url(text: &str) -> Option<url::Url> {
    text.parse().ok().filter(|url: &url::Url| matches!(url.scheme(), "http" | "https"))
}

/// Whether a flag is written at all: `false` is what its absence says.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}
