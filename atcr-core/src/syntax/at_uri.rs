use super::{AtIdentifier, Nsid, RecordKey, string_format};

/// An `at://` URI in the restricted form that lexicons use: an authority, then optionally a collection and a
/// record key; no query, no fragment, no trailing slash (specification, AT URI).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtUri(Box<str>);

impl AtUri {
    const FORMAT: &'static str = "AT URI";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.len() > 8192 {
            return Err("longer than 8 KB");
        }
        let rest = text.strip_prefix("at://").ok_or("it does not begin with at://")?;
        let mut parts = rest.split('/');
        let authority = parts.next().unwrap_or_default();
        authority.parse::<AtIdentifier>().map_err(|_| "the authority is neither a DID nor a handle")?;
        if let Some(collection) = parts.next() {
            collection.parse::<Nsid>().map_err(|_| "the collection is not an NSID")?;
        }
        if let Some(rkey) = parts.next() {
            rkey.parse::<RecordKey>().map_err(|_| "the last part is not a record key")?;
        }
        if parts.next().is_some() {
            return Err("more than a collection and a record key");
        }
        Ok(())
    }

    /// The URI of a record.
    pub fn record(authority: impl Into<AtIdentifier>, collection: &Nsid, rkey: &RecordKey) -> Self {
        Self(format!("at://{}/{collection}/{rkey}", authority.into()).into())
    }

    fn part(&self, n: usize) -> Option<&str> {
        self.0["at://".len()..].split('/').nth(n)
    }

    /// Whose repo it points into.
    pub fn authority(&self) -> Option<AtIdentifier> {
        self.part(0)?.parse().ok()
    }

    /// The collection, if the URI goes that far.
    pub fn collection(&self) -> Option<Nsid> {
        self.part(1)?.parse().ok()
    }

    /// The record key, if the URI goes that far.
    pub fn rkey(&self) -> Option<RecordKey> {
        self.part(2)?.parse().ok()
    }
}

string_format!(AtUri);
