use super::{Tid, string_format};

/// The key of a record in its collection, 1 to 512 bytes of `A-Z a-z 0-9 . - _ : ~` (specification, Record Key).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Box<str>);

impl RecordKey {
    const FORMAT: &'static str = "record key";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() || text.len() > 512 {
            return Err("a record key has 1 to 512 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:~".contains(&b)) {
            return Err("it has a character outside A-Z a-z 0-9 . - _ : ~");
        }
        if text == "." || text == ".." {
            return Err("'.' and '..' are not record keys");
        }
        Ok(())
    }

    /// The key of a collection's only record (lexicon key `literal:self`).
    pub fn this() -> Self {
        Self("self".into())
    }
}

string_format!(RecordKey);

impl From<Tid> for RecordKey {
    fn from(tid: Tid) -> Self {
        Self(tid.to_string().into())
    }
}
