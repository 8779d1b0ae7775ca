use crate::syntax::string_format;

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution specification, Pulling manifests).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    const FORMAT: &'static str = "tag";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() || text.len() > 128 {
            return Err("a tag has 1 to 128 characters");
        }
        if text.starts_with(['.', '-']) {
            return Err("a tag begins with a letter, a digit or '_'");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err("it has a character outside A-Z a-z 0-9 . _ -");
        }
        Ok(())
    }
}

string_format!(Tag);

// Order and equality are those of the text.
impl std::borrow::Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}
