//! Lexicons: the schemas of records and methods, and the check of a value against them (specification, Lexicon).
//!
//! The lexicons of `io.atcr.*` are built in; [`Lexicons::parse`] reads others. What is checked: objects, arrays,
//! strings with their formats and lengths, integers, booleans, bytes, links, blobs, references, unions and `unknown`.
//! An attribute of a schema that is not known here is an error when the lexicon is read, so no rule is passed over
//! in silence. Record keys are not checked: the published lexicon of manifests names another key type than the one
//! in use.
//!
//! ```
//! use atcr_core::lexicon::{LexiconError, validate_record};
//! use serde_json::json;
//!
//! let nsid = "io.atcr.sailor.star".parse()?;
//! let mut star = json!({
//!     "$type": "io.atcr.sailor.star",
//!     "subject": "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/io.atcr.repo.page/app",
//!     "createdAt": "2026-08-01T00:00:00Z",
//! });
//! validate_record(&nsid, &star)?;
//! star["subject"] = "app".into();
//! let error = validate_record(&nsid, &star).unwrap_err();
//! assert!(error.to_string().starts_with("subject: "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builtin;
#[cfg(test)]
pub(crate) mod example;
mod format;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

pub use builtin::BUILTIN;
pub(crate) use format::is_uri;
use schema::{Def, Document, MethodDef};
use validate::Check;

use crate::syntax::Nsid;

/// Why a value does not fit its lexicon, or a lexicon cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LexiconError {
    /// There is no lexicon of that name here, or it has no such definition.
    #[error("there is no lexicon of {0} here")]
    Unknown(String),
    /// A lexicon is not one, or uses what is not known here.
    #[error("the lexicon cannot be read: {0}")]
    Document(String),
    /// The value does not fit.
    #[error("{path}: {reason}")]
    Invalid {
        /// Where: names and indices joined by dots; `the value` for the whole.
        path: String,
        /// What is wrong there.
        reason: String,
    },
}

/// A set of lexicons that may refer to each other.
#[derive(Debug, Default)]
pub struct Lexicons {
    documents: HashMap<String, Document>,
}

impl Lexicons {
    /// Reads lexicons from their JSON.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, LexiconError> {
        let mut documents = HashMap::new();
        for text in texts {
            let document = Document::parse(text)?;
            documents.insert(document.id.as_str().to_owned(), document);
        }
        Ok(Self { documents })
    }

    /// The lexicons of `io.atcr.*`.
    pub fn builtin() -> &'static Self {
        static PARSED: LazyLock<Lexicons> = LazyLock::new(|| {
            Lexicons::parse(BUILTIN.iter().map(|(_, text)| *text))
                .expect("a test reads every built-in lexicon")
        });
        &PARSED
    }

    /// Whether there is a lexicon of this name.
    pub fn contains(&self, nsid: &Nsid) -> bool {
        self.documents.contains_key(nsid.as_str())
    }

    /// Checks a record, whose `$type` must be the collection.
    pub fn validate_record(&self, nsid: &Nsid, record: &Value) -> Result<(), LexiconError> {
        let Def::Record { record: object, .. } = self.def(nsid.as_str(), "main")? else {
            return Err(LexiconError::Unknown(format!("the record {nsid}")));
        };
        match record.get("$type").and_then(Value::as_str) {
            Some(found) if found == nsid.as_str() => {}
            Some(_) => return Err(invalid("$type", "it names another collection")),
            None => return Err(invalid("$type", "a record says its collection here")),
        }
        Check::new(self, nsid.as_str()).object(object, record)
    }

    /// Checks the input of a procedure. One without a schema, such as bytes, takes anything.
    pub fn validate_input(&self, nsid: &Nsid, input: &Value) -> Result<(), LexiconError> {
        let schema = self.method(nsid)?.input.as_ref().and_then(|body| body.schema.as_ref());
        schema.map_or(Ok(()), |schema| Check::new(self, nsid.as_str()).schema(schema, input))
    }

    /// Checks the output of a query or procedure. One without a schema takes anything.
    pub fn validate_output(&self, nsid: &Nsid, output: &Value) -> Result<(), LexiconError> {
        let schema = self.method(nsid)?.output.as_ref().and_then(|body| body.schema.as_ref());
        schema.map_or(Ok(()), |schema| Check::new(self, nsid.as_str()).schema(schema, output))
    }

    /// Checks the parameters of a method, as a JSON object of typed values.
    pub fn validate_params(&self, nsid: &Nsid, params: &Value) -> Result<(), LexiconError> {
        let object = self.method(nsid)?.parameters.as_ref();
        object.map_or(Ok(()), |object| Check::new(self, nsid.as_str()).object(object, params))
    }

    /// Checks a value against a named definition, such as `scanJob` of `io.atcr.hold.subscribeScanJobs`.
    pub fn validate_def(&self, nsid: &Nsid, name: &str, value: &Value) -> Result<(), LexiconError> {
        match self.def(nsid.as_str(), name)? {
            Def::Schema(schema) => Check::new(self, nsid.as_str()).schema(schema, value),
            _ => Err(LexiconError::Unknown(format!("the value {nsid}#{name}"))),
        }
    }

    fn def(&self, nsid: &str, name: &str) -> Result<&Def, LexiconError> {
        let def = self.documents.get(nsid).and_then(|document| document.defs.get(name));
        def.ok_or_else(|| LexiconError::Unknown(format!("{nsid}#{name}")))
    }

    fn method(&self, nsid: &Nsid) -> Result<&MethodDef, LexiconError> {
        match self.def(nsid.as_str(), "main")? {
            Def::Method(method) => Ok(method),
            _ => Err(LexiconError::Unknown(format!("the method {nsid}"))),
        }
    }
}

/// Checks a record of `io.atcr.*` against its built-in lexicon.
///
/// [`LexiconError::Unknown`] says that the collection is none of ours; every other error, that the record is wrong.
pub fn validate_record(nsid: &Nsid, record: &Value) -> Result<(), LexiconError> {
    Lexicons::builtin().validate_record(nsid, record)
}

fn invalid(path: impl Into<String>, reason: impl Into<String>) -> LexiconError {
    LexiconError::Invalid { path: path.into(), reason: reason.into() }
}
