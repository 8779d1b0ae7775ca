use atcr_core::lexicon::{LexiconError, Lexicons};
use atcr_core::syntax::Nsid;
use serde_json::Value;

/// Lexicons of record types that a server checks on write.
///
/// As in the reference server, `validate` of a call decides what becomes of it:
///
/// | | left out | `true` | `false` |
/// |---|---|---|---|
/// | follows its lexicon | taken, `valid` | taken, `valid` | taken, without a status |
/// | breaks it | 400 `InvalidRequest` | 400 `InvalidRequest` | taken, without a status |
/// | lexicon not known | taken, `unknown` | 400 `InvalidRequest` | taken, without a status |
///
/// Only what comes in as an XRPC call is checked: not an import, nor what the program writes to
/// [`Repos`](crate::Repos) itself.
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

/// Knows the lexicons of `io.atcr.*` that are built into atcr-core.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltinSchemas;

impl RecordSchemas for BuiltinSchemas {
    fn check(&self, collection: &Nsid, record: &Value) -> Validity {
        Lexicons::builtin().check(collection, record)
    }
}

impl RecordSchemas for Lexicons {
    fn check(&self, collection: &Nsid, record: &Value) -> Validity {
        match self.validate_record(collection, record) {
            Ok(()) => Validity::Valid,
            Err(LexiconError::Unknown(_)) => Validity::Unknown,
            Err(error) => Validity::Invalid(error.to_string()),
        }
    }
}
