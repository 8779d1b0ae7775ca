use super::string_format;

/// A handle: a host name that names an account, such as `alice.bsky.social` (specification, Handle).
///
/// Held in lower case. The type follows the syntax only: top-level domains that never resolve in public
/// (`.local`, `.test`, ...) are syntactically valid and are refused, if at all, where a handle is resolved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(Box<str>);

impl Handle {
    const FORMAT: &'static str = "handle";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.len() > 253 {
            return Err("longer than 253 bytes");
        }
        let mut labels = 0;
        let mut last = "";
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err("a label is empty or longer than 63 bytes");
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err("a label has a character outside A-Z a-z 0-9 -");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err("a label begins or ends with a hyphen");
            }
            labels += 1;
            last = label;
        }
        if labels < 2 {
            return Err("fewer than two labels");
        }
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("the last label begins with a digit");
        }
        Ok(())
    }

    /// The handle shown for an account whose handle does not resolve back to it.
    pub fn invalid() -> Self {
        Self("handle.invalid".into())
    }
}

string_format!(Handle, |mut text: String| {
    text.make_ascii_lowercase();
    text
});
