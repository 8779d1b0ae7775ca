use atcr_core::syntax::Nsid;
use serde_json::Value;

/// Lexicons of record types that a server checks on write.
pub trait RecordSchemas: Send + Sync + 'static {
    /// What the lexicon of `collection` says of a record. `$type` is there and is the collection.
    fn check(&self, collection: &Nsid, record: &Value) -> Validity;
}

/// What a lexicon says of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validity {
    /// It follows its lexicon.
    Valid,
    /// The lexicon is not known here. The record is taken unless the caller insists on validation.
    Unknown,
    /// It breaks its lexicon; the reason.
    Invalid(String),
}

/// Knows no lexicon: every record is `unknown`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSchemas;

impl RecordSchemas for NoSchemas {
    fn check(&self, _collection: &Nsid, _record: &Value) -> Validity {
        Validity::Unknown
    }
}
