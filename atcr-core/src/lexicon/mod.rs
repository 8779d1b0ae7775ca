//! Lexicons: the schemas of records and methods.

mod format;

pub(crate) use format::is_uri;
